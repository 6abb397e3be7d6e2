"""A candidate in the shadow of what is served.

Invariants:
- a swap waits until so many requests were copied, and tells how alike the answers were and how much longer the candidate took; the
  share of common answers is that of the two Runs;
- a candidate that is too unlike, too slow, fails, or is shown too little is refused with the figure, and the served model stays; a
  judgment that finds everything good (the control) is noticed;
- requests are answered as without a shadow; a copy is computed only when nobody waits, and one at a time; of all requests the share
  that was asked for is copied;
- what is told meanwhile the candidate knows; a service that ends waits for no copies; a watched link is shadowed as the service was
  started.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.serving.conftest import MODEL, Asked, started, trained
from tests.serving.test_changes import ADMIN, back
from tests.serving.test_online import tell
from tests.serving.test_questions import offline

from towerkit.run import Run

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]")
WIDE = {"share": 1.0, "requests": 6, "seconds": 100.0, "overlap": 0.0, "slowdown": 1000.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A candidate."""
    root = tmp_path_factory.mktemp("candidates")
    trained(root / "good", MODEL, {"kind": "one_backprop", "beta": 0.8}, seed=3)
    return root


@pytest.fixture
def service(serve: Any, folder: Path, tmp_path: Path) -> Asked:
    found: Asked = serve("shop", events=str(tmp_path / "e.db"), candidates=folder, admin_token=ADMIN)
    return found


@contextlib.contextmanager
def asking(service: Asked, **body: Any) -> Generator[list[dict[str, Any]]]:
    """Ask without pause while the block lasts; the answers."""
    ending, found = threading.Event(), list[dict[str, Any]]()

    def ask() -> None:
        while not ending.is_set():
            found.append(service.post("/v1/recommend", **(body or {"query": "u5"})))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield found
    finally:
        ending.set()
        thread.join(100)


def shadowed(service: Asked, **bar: Any) -> tuple[int, dict[str, Any]]:
    """Ask for a swap with a shadow."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN}"}
    body = {"candidate": "good", "shadow": WIDE | bar}
    status, content, _ = service.send("POST", "/v1/models/shop:swap", body, headers)
    return status, content


def overlap(runs: Mapping[str, Run], folder: Path) -> float:
    """Of the two Runs' answers to the question of this file."""
    one, other = (
        {item for item, _ in offline(run.recommend("u5"))} for run in (runs["shop"], Run.load(folder / "good"))
    )
    return len(one & other) / len(one)


def test_a_swap_tells_what_the_copies_have_shown(service: Asked, runs: Mapping[str, Run], folder: Path) -> None:
    before = service.post("/v1/recommend", query="u5")
    with asking(service) as found:
        status, told = shadowed(service)
    assert status == 200, told
    assert (told["shadow"]["compared"], told["shadow"]["overlap"]) == (6, round(overlap(runs, folder), 4))
    assert told["shadow"]["slowdown"] > 0.0
    after = service.post("/v1/recommend", query="u5")
    assert told["model_version"] == after["model_version"] != before["model_version"]
    assert [each for each in found if each not in (before, after)] == []
    assert len([each for each in found if each == before]) >= 6
    assert back(service)[0] == 200


def check_refusal(service: Asked, found: float) -> None:
    """A candidate that must be more alike than it is."""
    before = service.post("/v1/recommend", query="u5")
    with asking(service):
        status, content = shadowed(service, overlap=min(1.0, found + 0.05))
    assert status == 409, content
    assert content["error"]["received"] == f"{found:.1%} of them, over 6 requests"
    assert service.post("/v1/recommend", query="u5") == before


def test_a_candidate_that_is_too_unlike_is_refused(service: Asked, runs: Mapping[str, Run], folder: Path) -> None:
    check_refusal(service, overlap(runs, folder))


def test_a_judgment_that_finds_everything_good_would_be_noticed(
    service: Asked, runs: Mapping[str, Run], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from towerkit.serving.shadow import Found

    monkeypatch.setattr(Found, "check", lambda found, _: found.told())
    with pytest.raises(AssertionError):
        check_refusal(service, overlap(runs, folder))


def test_a_candidate_that_nobody_asked_is_refused(service: Asked) -> None:
    status, content = shadowed(service, seconds=0.2)
    assert (status, content["error"]["received"]) == (409, "0")
    assert content["error"]["rule"] == "A candidate is shown 6 copies of requests within 0.2 s."
    assert shadowed(service, share=0.0)[0] == 200  # not to be shown any is a choice


def test_a_candidate_that_fails_or_is_slow_is_refused(service: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    from towerkit.serving import shadow
    from towerkit.serving.problems import Problem

    recommend, served = shadow.recommend, service.service.fleet.engines["shop"]
    how: list[Any] = []

    def asked(engine: Any, bodies: Any) -> Any:
        return recommend(engine, bodies) if engine is served else how[0](recommend(engine, bodies))

    def slow(found: Any) -> Any:
        time.sleep(0.2)
        return found

    monkeypatch.setattr(shadow, "recommend", asked)
    for each, bar, part in (
        (lambda _: 1 / 0, {}, "a failure, ZeroDivisionError"),
        (lambda _: [Problem(422, "It knows no u5.", "u5")], {}, "It knows no u5. Received u5"),
        (slow, {"slowdown": 1.5}, "times, over 6 requests"),
    ):
        how[:] = [each]
        with asking(service):
            status, content = shadowed(service, **bar)
        assert (status, part in content["error"]["received"]) == (409, True), content
    assert service.service.fleet.engines["shop"] is served


def test_requests_that_are_refused_are_not_copied(service: Asked) -> None:
    ending = threading.Event()

    def ask() -> None:
        while not ending.is_set():
            service.refused("/v1/recommend", query="u5", where="never < 1000")

    thread = threading.Thread(target=ask)
    thread.start()
    status, content = shadowed(service, seconds=0.5)
    ending.set()
    thread.join(100)
    assert (status, content["error"]["received"]) == (409, "0")


def test_the_candidate_knows_what_is_told_meanwhile(service: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    from towerkit.serving import shadow

    recommend, places = shadow.recommend, list[Any]()

    def asked(engine: Any, bodies: Any) -> Any:
        answers = recommend(engine, bodies)
        places.append(answers[0]["as_of"])
        return answers

    monkeypatch.setattr(shadow, "recommend", asked)
    ending = threading.Event()

    def write() -> None:
        for number in range(1_000):
            if ending.is_set():
                return
            tell(service, "u5", [f"i{number % 40}"], start=number)

    writer = threading.Thread(target=write)
    writer.start()
    with asking(service):
        status, told = shadowed(service)
    ending.set()
    writer.join(100)
    assert status == 200, told
    assert places[-1] > 1  # of the candidate, after the last copy
    assert places[-1] > (places[1] or 0)


@pytest.mark.parametrize("share", [0.25, 0.3, 1.0])
def test_the_share_that_is_copied(share: float) -> None:
    from towerkit.serving.requests import Recommend, Shadow
    from towerkit.serving.shadow import Shadowing

    class Counting(Shadowing):
        count = 0

        async def _compare(self, name: str, body: Recommend) -> None:
            self.count += 1

    async def counted() -> int:
        never: Any = None
        bar = Shadow(share=share)
        shadowing = Counting({"shop": (never, never)}, bar, never, never)
        for _ in range(1_000):
            shadowing.offer("shop", Recommend(query="u1"))
            shadowing.offer("other", Recommend(query="u1"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return shadowing.count

    assert asyncio.run(counted()) == pytest.approx(1_000 * share, abs=1)


def test_one_copy_at_a_time() -> None:
    from towerkit.serving.requests import Recommend, Shadow
    from towerkit.serving.shadow import Shadowing

    async def counted() -> int:
        go, begun = asyncio.Event(), 0

        async def follow() -> None:
            nonlocal begun
            begun += 1
            await go.wait()

        async def ask(*_: Any, **__: Any) -> None:
            return

        never: Any = None
        worker: Any = SimpleNamespace(ask=ask)
        shadowing = Shadowing({"shop": (never, never)}, Shadow(share=1.0), worker, follow)
        for _ in range(50):
            shadowing.offer("shop", Recommend(query="u1"))
            await asyncio.sleep(0)
        go.set()
        await asyncio.sleep(0.01)
        return begun

    assert asyncio.run(counted()) == 1


def test_a_service_that_ends_waits_for_no_copies(service: Asked) -> None:
    told = list[Any]()
    thread = threading.Thread(target=lambda: told.append(shadowed(service)))
    thread.start()
    until = time.monotonic() + 60
    while service.service.swaps._shadowing is None and time.monotonic() < until:
        time.sleep(0.01)
    began = time.monotonic()
    service.stop()
    thread.join(60)
    assert time.monotonic() - began < 50  # a copy would have been waited for 100 s
    assert (told[0][0], told[0][1]["error"]["rule"]) == (503, "The service is stopping.")


def test_a_watched_link_is_shadowed_as_the_service_was_started(
    runs: Mapping[str, Run], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from towerkit.serving import app
    from towerkit.serving.requests import Shadow
    from towerkit.serving.settings import Settings

    monkeypatch.setattr(app, "_WATCHED_EVERY_S", 0.05)
    link = tmp_path / "current"
    link.symlink_to(runs["shop"].path)
    bar = Shadow(share=1.0, requests=5, overlap=0.0, slowdown=1000.0)
    service = started({"shop": link}, Settings(port=0, watch=True, shadow=bar))
    try:
        before = service.post("/v1/recommend", query="u5")
        (tmp_path / "next").symlink_to(folder / "good")
        (tmp_path / "next").rename(link)
        until = time.monotonic() + 60
        while service.service.swaps._shadowing is None and time.monotonic() < until:
            time.sleep(0.01)
        assert service.post("/v1/recommend", query="u5") == before
        with asking(service) as found:
            while (not found or found[-1] == before) and time.monotonic() < until:
                time.sleep(0.01)
        assert found[-1] != before
    finally:
        service.stop()

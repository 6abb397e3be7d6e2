"""What changes while requests go on: candidates, and the Run itself.

Invariants:
- a new item has the vector that the Run gives its row, is an answer, and is one after a new start and under another Run; a known
  one changes in the columns that are given; rows that do not fit are refused and change nothing;
- an item that is taken out is no answer in any way of asking, after a new start and a swap too, until it is told of again; what
  it was to queries stays; the version of answers changes with the candidates, and is the same after a new start;
- a swap answers as the other Run does, with its version, and knows of the events; one can go back, and events count there too;
- under requests without pause, every answer during swaps is a success whose version is that of the scores; a swap in two steps
  (the control) is noticed;
- a candidate that is damaged, of another sort, worse, or not there is refused with the reason, and the served model stays;
- with an index in place of all candidates the answers are the same, new items included; one of other candidates is refused;
- a name is never a path; without the admin token nothing is swapped;
- a link that is watched takes in the Run that it points to, and stays with the old one if that is none.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.recommend.conftest import NUM_ITEMS
from tests.serving.conftest import MODEL, Asked, trained
from tests.serving.test_online import tell
from tests.serving.test_questions import answers, offline

from towerkit.run import Run

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]")
ADMIN = "an-admin-token-of-this-test"


@pytest.fixture(scope="module")
def folder(runs: Mapping[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Candidates: a good one, and others that must be refused."""
    root = tmp_path_factory.mktemp("candidates")
    trained(root / "good", MODEL, {"kind": "one_backprop", "beta": 0.8}, seed=3)
    shutil.copytree(runs["still"].path, root / "still")
    shutil.copytree(runs["stars"].path, root / "stars")
    for name in ("changed", "cut"):
        shutil.copytree(root / "good", root / name)
        weights = next((root / name).rglob("*.safetensors"))
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] if name == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    (root / "empty").mkdir()
    (root / "outside").symlink_to("/etc")
    return root


def swapped(service: Asked, candidate: str, token: str = ADMIN) -> tuple[int, dict[str, Any]]:
    """Ask for a swap."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    body = json.dumps({"candidate": candidate}).encode()
    status, content, _ = service.send("POST", "/v1/models/shop:swap", body, headers)
    return status, content


def back(service: Asked) -> tuple[int, dict[str, Any]]:
    """Ask to go back."""
    status, content, _ = service.send("POST", "/v1/models/shop:rollback", None, {"Authorization": f"Bearer {ADMIN}"})
    return status, content


def test_new_items(serve: Any, runs: Mapping[str, Run], folder: Path, tmp_path: Path) -> None:
    settings = {"events": str(tmp_path / "e.db"), "candidates": folder, "admin_token": ADMIN}
    service = serve("shop", **settings)
    row = {"item": "i-new", "name": "Fresh", "price": 12.5, "kind": "book"}
    told = service.post("/v1/items", items=[row, {"item": "i3", "price": 3.5}])
    assert (told["model"], told["candidates"], told["durable"]) == ("shop", NUM_ITEMS + 1, True)
    assert told["model_version"] == service.post("/v1/recommend", query="u5")["model_version"]
    expected = runs["shop"].embed([row], side="candidate").column("vector")[0].as_py()
    live = service.service.fleet.engines["shop"].live
    assert live.model.candidate_vectors[live.candidate_rows["i-new"]].tolist() == pytest.approx(expected)
    everything = {"query": "u5", "k": 99, "exclude_seen": False}

    def titles(which: Asked) -> dict[str, str]:
        return {item["item"]: item["title"] for item in which.post("/v1/recommend", **everything)["items"]}

    assert titles(service)["i-new"] == "Fresh"
    cheap = service.post("/v1/recommend", **everything, where="price == 3.5")["items"]
    assert [(item["item"], item["title"]) for item in cheap] == [("i3", "Item 3")]
    assert tell(service, "u5", ["i-new"]) == ["counted"]
    assert "i-new" not in {i["item"] for i in service.post("/v1/recommend", query="u5", k=99)["items"]}
    for bad, part in (
        ({"name": "no key"}, "key"),
        ({"item": "i-x", "name": "no price"}, "price"),
        ({"item": "i-x", "prise": 1.0}, "prise"),
        ({"item": "i3", "price": "dear"}, "price"),
        ({"item": True, "price": 1.0}, "True"),
    ):
        status, error = service.refused("/v1/items", items=[{"item": "i4", "price": 1.0}, bad])
        assert status == 422
        assert part in str(error)
    assert service.post("/v1/recommend", **everything, where="price == 1.0")["items"] == []
    assert swapped(service, "good")[0] == 200
    assert titles(service)["i-new"] == "Fresh"
    service.stop()
    assert titles(serve("shop", **settings))["i-new"] == "Fresh"


def test_an_item_that_is_taken_out(serve: Any, folder: Path, tmp_path: Path) -> None:
    settings = {"events": str(tmp_path / "e.db"), "candidates": folder, "admin_token": ADMIN}
    service = serve("shop", **settings)
    everything = {"query": "u5", "k": 99, "exclude_seen": False}

    def items(which: Asked, path: str = "/v1/recommend", **asked: Any) -> list[str]:
        return [item["item"] for item in which.post(path, **(asked or everything))["items"]]

    before = service.post("/v1/recommend", **everything)
    status, told, _ = service.send("DELETE", "/v1/items/i3")
    assert (status, told["candidates"], told["durable"]) == (200, NUM_ITEMS - 1, True)
    after = service.post("/v1/recommend", **everything)
    assert answers(after) == [pair for pair in answers(before) if pair[0] != "i3"]
    assert before["model_version"] != after["model_version"] == told["model_version"]
    assert "of the 39 candidates are left" in after["notes"][-1]
    assert "i3" not in items(service, **everything, where="price < 1000")
    assert items(service, **everything, allow=["i3", "i4"]) == ["i4"]
    assert "i3" not in items(service, **everything, rules={"pinned": [{"item": "i3", "place": 1}], "diversity": 0.5})
    assert "i3" not in items(service, "/v1/similar", item="i4", k=99)
    assert "i4" in items(service, "/v1/similar", item="i3", k=99)  # it is still known
    assert items(service, history=["i3"], k=3)
    assert service.post("/v1/score", pairs=[{"query": "u5", "item": "i3"}])["scores"][0]["cold"] is False
    assert tell(service, "u7", ["i3"]) == ["counted"]
    assert service.send("DELETE", "/v1/models/shop/items/i3")[1]["model_version"] == told["model_version"]
    assert service.send("DELETE", "/v1/items/never")[0] == 404
    assert service.send("DELETE", "/v1/models/never/items/i3")[0] == 404
    assert swapped(service, "good")[1]["model_version"] == service.post("/v1/recommend", **everything)["model_version"]
    assert "i3" not in items(service)
    service.stop()
    again = serve("shop", **settings)
    assert again.post("/v1/recommend", **everything) == after
    for change in ({"price": 7.25}, {"name": "Back"}):  # each keeps what the other said
        again.post("/v1/items", items=[{"item": "i3", **change}])
    last = again.post("/v1/recommend", **everything, where="price == 7.25")
    assert [(item["item"], item["title"]) for item in last["items"]] == [("i3", "Back")]
    again.stop()
    assert serve("shop", **settings).post("/v1/recommend", **everything, where="price == 7.25") == last


def test_a_swap_and_the_way_back(serve: Any, runs: Mapping[str, Run], folder: Path, tmp_path: Path) -> None:
    service = serve("shop", events=str(tmp_path / "e.db"), candidates=folder, admin_token=ADMIN)
    tell(service, "newcomer", ["i3", "i7"])
    before = service.post("/v1/recommend", query="u5")
    status, error = back(service)
    assert (status, error["error"]["received"]) == (409, "no swap so far")
    status, told = swapped(service, "good")
    assert (status, told["previous_version"]) == (200, before["model_version"])
    after = service.post("/v1/recommend", query="u5")
    assert after["model_version"] == told["model_version"]
    assert answers(after) == offline(Run.load(folder / "good").recommend("u5"))
    assert not service.post("/v1/recommend", query="newcomer")["cold"]
    tell(service, "late", ["i3"])
    assert back(service)[1]["model_version"] == before["model_version"]
    assert service.post("/v1/recommend", query="u5") == before
    assert not service.post("/v1/recommend", query="late")["cold"]


class Seen:
    """What requests without pause were answered: status, version and items; and the items that each version should give."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str, Any]] = []
        self.right: dict[str, Any] = {}

    def check(self) -> None:
        """Every answer is a success whose items are those of its version."""
        assert {status for status, _, _ in self.answers} == {200}
        assert {version for _, version, _ in self.answers} == set(self.right)
        assert all(items == self.right[version] for _, version, items in self.answers)


def asked_while_swapping(service: Asked, swaps: int, seen: Seen) -> Seen:
    """Ask in two threads without pause, and swap there and back meanwhile."""
    ending = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection(service.host, service.port, timeout=120)
        while not ending.is_set():
            connection.request("POST", "/v1/recommend", b'{"query": "u5"}', {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = json.loads(answer.read())
            seen.answers.append((answer.status, content.get("model_version", ""), content.get("items")))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    first = service.post("/v1/recommend", query="u5")
    seen.right[first["model_version"]] = first["items"]
    for thread in threads:
        thread.start()
    try:
        for number in range(swaps):
            status, told = swapped(service, "good") if number % 2 == 0 else back(service)
            assert status == 200
            if told["model_version"] not in seen.right:
                seen.right[told["model_version"]] = service.post("/v1/recommend", query="u5")["items"]
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    return seen


def test_requests_without_pause_see_one_run_or_the_other(serve: Any, folder: Path) -> None:
    asked_while_swapping(serve("shop", candidates=folder, admin_token=ADMIN), 5, Seen()).check()


def test_a_swap_in_two_steps_would_be_noticed(
    serve: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from towerkit.serving.fleet import Fleet

    seen, switch = Seen(), Fleet.switch

    def by_halves(fleet: Fleet, name: str, fresh: Any) -> Any:
        fleet.engines[name].version = fresh[0].engine.version  # the version first,
        until = len(seen.answers) + 4
        while len(seen.answers) < until:
            time.sleep(0.01)
        return switch(fleet, name, fresh)  # and what it is the version of a little later

    monkeypatch.setattr(Fleet, "switch", by_halves)
    service = serve("shop", candidates=folder, admin_token=ADMIN, events=str(tmp_path / "e.db"))
    asked_while_swapping(service, 1, seen)
    with pytest.raises(AssertionError):
        seen.check()


def test_a_bad_candidate_leaves_the_old_one(serve: Any, runs: Mapping[str, Run], folder: Path, tmp_path: Path) -> None:
    service = serve("shop", candidates=folder, admin_token=ADMIN)
    before = service.post("/v1/recommend", query="u5")
    for name, status, part in (
        ("changed", 409, "safetensors"),
        ("cut", 409, "safetensors"),
        ("empty", 409, "manifest"),
        ("still", 409, "learns from events"),
        ("stars", 409, "tower_model"),
        ("outside", 409, "candidate"),
        ("absent", 404, "absent"),
    ):
        found, content = swapped(service, name)
        assert (found, part in str(content)) == (status, True), content
        assert str(folder) not in str(content)
    for name in ("../good", "/etc", "good/../good", "GOOD", ".", "http://x", "good\n"):
        assert swapped(service, name)[0] == 422
    for token in ("", "wrong-token-wrong-token"):
        assert swapped(service, "good", token)[0] == 403
    assert service.post("/v1/recommend", query="u5") == before


def test_a_much_worse_candidate_is_refused(serve: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from towerkit.serving import candidates

    service = serve("shop", candidates=folder, admin_token=ADMIN)
    monkeypatch.setattr(candidates, "LEAST_QUALITY", 50.0)
    status, content = swapped(service, "good")
    assert (status, "ndcg" in content["error"]["rule"]) == (409, True), content
    monkeypatch.setattr(candidates, "LEAST_QUALITY", 0.0)
    monkeypatch.setattr(candidates, "LEAST_RECALL", 1.1)
    status, content = swapped(service, "good")
    assert (status, "recall" in content["error"]["rule"]) == (409, True), content


def test_a_watched_link(runs: Mapping[str, Run], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.serving.conftest import started

    from towerkit.serving import app
    from towerkit.serving.settings import Settings

    monkeypatch.setattr(app, "_WATCHED_EVERY_S", 0.05)
    link = tmp_path / "current"
    link.symlink_to(runs["shop"].path)
    service = started({"shop": link}, Settings(port=0, watch=True))

    def point(path: Path) -> None:
        (tmp_path / "next").symlink_to(path)
        (tmp_path / "next").rename(link)

    def version() -> str:
        found: str = service.post("/v1/recommend", query="u5")["model_version"]
        return found

    try:
        before = version()
        point(folder / "cut")
        time.sleep(0.5)
        assert version() == before
        point(folder / "good")
        until = time.monotonic() + 120
        while version() == before and time.monotonic() < until:
            time.sleep(0.05)
        assert version() != before
    finally:
        service.stop()


def test_an_index_in_place_of_all_candidates(serve: Any, runs: Mapping[str, Run], tmp_path: Path) -> None:
    from tests.serving.conftest import started

    from towerkit.core.errors import RunError
    from towerkit.index.exact import ExactIndex
    from towerkit.index.files import save_index
    from towerkit.index.specs import ExactIndexSpec
    from towerkit.serving.engine import engines_of
    from towerkit.serving.settings import Settings

    model: Any = runs["shop"].model
    keys = model.candidate.keys.to_pylist()
    index = ExactIndex.of(keys, model.candidate_vectors[1:], "dot", space=runs["shop"].space)
    save_index(tmp_path / "shop.index", index, ExactIndexSpec())
    plain, service = (
        serve("shop"),
        started({"shop": runs["shop"].path}, Settings(port=0), None, {"shop": tmp_path / "shop.index"}),
    )
    try:
        for question in ({"query": "u5"}, {"query": "u6", "where": "price < 30", "k": 4}, {"history": ["i1", "i2"]}):
            found, right = (answers(each.post("/v1/recommend", **question)) for each in (service, plain))
            assert [item for item, _ in found] == [item for item, _ in right]
            assert [score for _, score in found] == pytest.approx([score for _, score in right], rel=1e-5)
        assert service.send("GET", "/v1/models")[1]["models"][0]["index"] == "exact"
        row = {"item": "i-new", "name": "Fresh", "price": 12.5, "kind": "book"}
        for each in (service, plain):
            each.post("/v1/items", items=[row, {"item": "i3", "price": 45.0}])
        everything = {"query": "u5", "k": 99, "exclude_seen": False}
        found, right = (answers(each.post("/v1/recommend", **everything)) for each in (service, plain))
        assert [item for item, _ in found] == [item for item, _ in right]
        assert "i-new" in [item for item, _ in found]
    finally:
        service.stop()
    with pytest.raises(RunError, match="space"):
        engines_of("past", runs["past"], tmp_path / "shop.index")
    few = ExactIndex.of(keys[::-1], model.candidate_vectors[:0:-1], "dot", space=runs["shop"].space)
    save_index(tmp_path / "turned.index", few, ExactIndexSpec())
    with pytest.raises(RunError, match="candidates of its Run"):
        engines_of("shop", runs["shop"], tmp_path / "turned.index")
    with pytest.raises(RunError, match="tower_model"):
        engines_of("stars", runs["stars"], tmp_path / "shop.index")

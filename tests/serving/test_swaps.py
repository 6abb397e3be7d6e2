"""What happens while a candidate is looked at, and the way back.

Invariants:
- what is told, taken out and forgotten meanwhile holds for the candidate that is switched in, the first event of a log among it;
- a candidate changes nothing of the log, whether it is taken or refused; one swap at a time;
- the way back brings the index with it; one that is gone is done without, with the same answers;
- what was loaded in the place of something else lets that go;
- a folder that was replaced or removed changes neither what is served nor what a candidate is compared with;
- a link that leads to itself or nowhere ends no watch; items of the log that a Run has no columns for are left out;
- a service whose index finds too little ends with the reason.
"""

from __future__ import annotations

import gc
import importlib.util
import math
import shutil
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.serving.conftest import MODEL, Asked, started, trained
from tests.serving.test_changes import ADMIN, back, swapped
from tests.serving.test_online import tell
from tests.serving.test_questions import answers

from towerkit.core.errors import RunError
from towerkit.run import Run

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]")
EVERYTHING = {"query": "u5", "k": 99, "exclude_seen": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Candidates: ``good``, and ``hasty``, which forgets sooner."""
    root = tmp_path_factory.mktemp("candidates")
    trained(root / "good", MODEL, {"kind": "one_backprop", "beta": 0.8}, seed=3)
    trained(root / "hasty", MODEL, {"kind": "one_backprop", "beta": 0.1}, seed=3)
    return root


@pytest.fixture
def service(serve: Any, folder: Path, tmp_path: Path) -> Asked:
    found: Asked = serve("shop", events=str(tmp_path / "e.db"), candidates=folder, admin_token=ADMIN)
    return found


def meanwhile(monkeypatch: pytest.MonkeyPatch, job: Callable[[], Any]) -> list[Any]:
    """Do something while a candidate is looked at, in the thread that computes; what it gave."""
    from towerkit.serving.candidates import Gate

    ask, found = Gate.ask_served, list[Any]()

    def asked(gate: Gate) -> None:
        found.append(job())
        ask(gate)

    monkeypatch.setattr(Gate, "ask_served", asked)
    return found


def test_the_first_event_of_a_log_may_come_during_a_swap(service: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    told = meanwhile(monkeypatch, lambda: tell(service, "newcomer", ["i3"]))
    assert swapped(service, "good")[0] == 200
    assert told == [["counted"]]
    found = service.post("/v1/recommend", query="newcomer")
    assert (found["cold"], found["as_of"]) == (False, 1)


def test_what_is_let_go_after_a_swap(service: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process keeps what it loaded away from the collector of cycles; after a swap that is something else."""
    from towerkit.serving.server import _keep

    told = list[bool]()
    monkeypatch.setattr(service.service, "settled", told.append)
    assert swapped(service, "nobody")[0] == 404
    assert swapped(service, "good")[0] == 200
    assert back(service)[0] == 200
    assert told == [True, True]
    try:
        _keep(False)
        gone = weakref.ref(_Cycle())
        gc.freeze()
        assert gone() is not None
        assert gc.get_freeze_count() > 0
        _keep(True)
        assert gone() is None
    finally:
        gc.unfreeze()


class _Cycle:
    def __init__(self) -> None:
        self.own = self


def test_who_is_forgotten_during_a_swap_stays_forgotten(service: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = service.post("/v1/recommend", query="newcomer")
    tell(service, "newcomer", ["i3", "i7"])
    gone = meanwhile(monkeypatch, lambda: service.send("DELETE", "/v1/users/newcomer")[1])
    assert swapped(service, "good")[0] == 200
    assert gone == [{"events": 2}]
    found = service.post("/v1/recommend", query="newcomer")
    assert (found["cold"], found["as_of"]) == (stranger["cold"], None)


def test_items_that_come_and_go_during_a_swap(service: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    from towerkit.serving.fleet import Fleet

    follow, row = Fleet.follow, {"item": "i-new", "name": "Fresh", "price": 12.5, "kind": "book"}

    def followed(fleet: Fleet, fresh: Any) -> None:  # in the thread that writes the log
        follow(fleet, fresh)
        assert fleet.journal is not None
        fleet.journal.put_items("shop", [("i-new", row)])
        fleet.journal.remove_item("shop", "i4")

    monkeypatch.setattr(Fleet, "follow", followed)
    assert swapped(service, "good")[0] == 200
    found = {item["item"] for item in service.post("/v1/recommend", **EVERYTHING)["items"]}
    assert ("i-new" in found, "i4" in found, "i5" in found) == (True, False, True)


def test_a_candidate_changes_nothing_of_the_log(
    service: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from towerkit.serving import candidates

    count = math.ceil(math.log(1e-4) / math.log(0.8))
    tell(service, "newcomer", [f"i{n % 40}" for n in range(count)])
    before = service.post("/v1/recommend", query="newcomer")
    monkeypatch.setattr(candidates, "LEAST_QUALITY", 50.0)
    assert swapped(service, "hasty")[0] == 409
    monkeypatch.setattr(candidates, "LEAST_QUALITY", 0.0)
    assert swapped(service, "hasty")[0] == 200
    assert back(service)[0] == 200
    assert service.post("/v1/recommend", query="newcomer") == before


def test_one_swap_at_a_time(service: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    told = meanwhile(monkeypatch, lambda: (swapped(service, "good"), back(service)))
    assert swapped(service, "good")[0] == 200
    (refused,) = told
    assert [status for status, _ in refused] == [409, 409]
    assert refused[0][1]["error"]["received"] == "one of 'shop' is under way"
    assert back(service)[0] == 200


def test_the_way_back_brings_the_index(runs: Mapping[str, Run], folder: Path, tmp_path: Path) -> None:
    from towerkit.index.specs import FaissIndexSpec
    from towerkit.serving.settings import Settings

    pytest.importorskip("faiss")
    index = tmp_path / "shop.index"
    runs["shop"].index(FaissIndexSpec(factory="Flat"), out=index)
    settings = Settings(port=0, events=str(tmp_path / "e.db"), candidates=folder, admin_token=ADMIN)
    service = started({"shop": runs["shop"].path}, settings, None, {"shop": index})

    def kind() -> tuple[str, int]:
        told = service.send("GET", "/v1/models")[1]["models"][0]
        return told["index"], told["candidates"]

    try:
        service.post("/v1/items", items=[{"item": "i-new", "name": "Fresh", "price": 12.5, "kind": "book"}])
        before = service.post("/v1/recommend", **EVERYTHING)
        assert swapped(service, "good")[0] == 200
        service.post("/v1/items", items=[{"item": "a-new", "name": "Later", "price": 2.5, "kind": "book"}])
        service.send("DELETE", "/v1/items/a-new")
        assert kind() == ("exact", 41)
        assert back(service)[0] == 200
        assert kind() == ("faiss", 41)
        assert answers(service.post("/v1/recommend", **EVERYTHING)) == answers(before)
        assert swapped(service, "good")[0] == 200
        shutil.rmtree(index)
        assert back(service)[0] == 200
        assert kind() == ("exact", 41)
        found = service.post("/v1/recommend", **EVERYTHING)
        assert [item for item, _ in answers(found)] == [item for item, _ in answers(before)]
    finally:
        service.stop()


def test_a_folder_that_is_gone_is_still_served_and_compared(
    runs: Mapping[str, Run], serve: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from towerkit.serving import candidates

    shutil.copytree(runs["shop"].path, tmp_path / "shop")
    service = serve("mine", own={"mine": Run.load(tmp_path / "shop")}, candidates=folder, admin_token=ADMIN)
    questions: list[dict[str, Any]] = [{"query": "u5"}, {"features": {"age": 33.0}}, {"history": ["i1"], "why": True}]
    before = [service.post("/v1/recommend", **question) for question in questions]
    shutil.rmtree(tmp_path / "shop")
    assert [service.post("/v1/recommend", **question) for question in questions] == before
    monkeypatch.setattr(candidates, "LEAST_QUALITY", 50.0)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN}"}
    status, content, _ = service.send("POST", "/v1/models/mine:swap", {"candidate": "good"}, headers)
    assert (status, "ndcg" in content["error"]["rule"]) == (409, True), content
    monkeypatch.setattr(candidates, "LEAST_QUALITY", 0.0)
    assert service.send("POST", "/v1/models/mine:swap", {"candidate": "good"}, headers)[0] == 200
    assert service.send("POST", "/v1/models/mine:rollback", None, headers)[0] == 200
    assert [service.post("/v1/recommend", **question) for question in questions] == before


def test_a_link_that_leads_nowhere_ends_no_watch(
    runs: Mapping[str, Run], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from towerkit.serving import app
    from towerkit.serving.fleet import Fleet
    from towerkit.serving.settings import Settings
    from towerkit.serving.sources import Source

    monkeypatch.setattr(app, "_WATCHED_EVERY_S", 0.05)
    link = tmp_path / "current"

    def point(path: Path) -> None:
        (tmp_path / "next").symlink_to(path)
        (tmp_path / "next").rename(link)

    point(link)
    with pytest.raises(RunError, match=r"leads back to itself\. Point it to the folder of a Run"):
        Fleet([Source("shop", link)]).load()
    point(runs["shop"].path)
    service = started({"shop": link}, Settings(port=0, watch=True))
    try:
        before = service.post("/v1/recommend", query="u5")
        for nowhere in (link, tmp_path / "absent"):
            point(nowhere)
            time.sleep(0.3)
            assert service.post("/v1/recommend", query="u5") == before
        point(folder / "good")
        until = time.monotonic() + 120
        while service.post("/v1/recommend", query="u5") == before and time.monotonic() < until:
            time.sleep(0.05)
        assert service.post("/v1/recommend", query="u5") != before
    finally:
        service.stop()


def test_a_name_may_begin_as_another_one_does(serve: Any, runs: Mapping[str, Run], folder: Path) -> None:
    service = serve("shop", "shop.b", own={"shop.b": runs["still"]}, candidates=folder, admin_token=ADMIN)
    other = service.post("/v1/recommend", model="shop.b", query="u5")
    assert swapped(service, "good")[0] == 200
    assert back(service)[0] == 200
    assert service.post("/v1/recommend", model="shop.b", query="u5") == other
    assert [each["name"] for each in service.send("GET", "/v1/models")[1]["models"]] == ["shop", "shop.b"]


def test_items_that_a_run_has_no_columns_for_are_left_out(serve: Any, tmp_path: Path) -> None:
    from towerkit.serving.journal import Journal

    log = str(tmp_path / "e.db")
    journal = Journal(log)
    fits = {"item": "i-new", "name": "Fresh", "price": 12.5, "kind": "book"}
    journal.put_items("shop", [("i-old", {"item": "i-old", "weight": 3.0, "price": 1.0}), ("i-new", fits)])
    journal.close()
    service = serve("shop", events=log)
    found = {item["item"] for item in service.post("/v1/recommend", **EVERYTHING)["items"]}
    assert ("i-new" in found, "i-old" in found) == (True, False)


def test_an_index_that_finds_too_little_ends_the_service(
    runs: Mapping[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from towerkit.serving import candidates
    from towerkit.serving.fleet import Fleet
    from towerkit.serving.server import server_of
    from towerkit.serving.settings import Settings
    from towerkit.serving.sources import Source

    runs["shop"].index(out=tmp_path / "shop.index", with_queries=False)
    monkeypatch.setattr(candidates, "LEAST_RECALL", 1.1)
    fleet = Fleet([Source("shop", runs["shop"].path)], None, None, {"shop": tmp_path / "shop.index"})
    server = server_of(fleet, Settings(port=0))
    server.run()
    with pytest.raises(RunError, match=r"The index of 'shop' .* recall of 1\.1 of the exact ones\. Received 1\.000\."):
        server.check_started()

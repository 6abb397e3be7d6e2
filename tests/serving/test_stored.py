"""A service that starts from an index which keeps the queries' vectors.

Invariants:
- known keys are answered without PyTorch in the process; a question that needs the model loads it, and then PyTorch is there;
- answers are the same before and after, for every key, an unknown one among them, and the list of models is the same;
- a log that knows of the model, an index without queries, and one of other queries load the model at once;
- an approximate index that finds too little is refused; a model that cannot be loaded leaves known keys answered;
- filters, seen candidates and new items hold behind an index of faiss as they do without one;
- the short way and the web framework answer alike, whatever is sent.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serving.conftest import Asked, started

from towerkit.core.errors import RunError
from towerkit.run import Run

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]")
WITHOUT_TORCH = """
import asyncio, json, sys
from towerkit.serving.app import make_app
from towerkit.serving.fleet import Fleet
from towerkit.serving.settings import Limits, Settings
from towerkit.serving.sources import Source
from pathlib import Path

async def ask(app, **body):
    data, got = json.dumps(body).encode(), {}
    async def receive():
        return {"type": "http.request", "body": data, "more_body": False}
    async def send(message):
        got.update(message)
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/recommend", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    return got["status"], len(json.loads(got["body"]).get("items", [])), "torch" in sys.modules

async def main(run, index):
    fleet = Fleet([Source("shop", Path(run))], None, None, {"shop": Path(index)})
    app = make_app(fleet, Settings(limits=Limits(deadline_s=100.0, body_s=100.0)))
    await app.state.start()
    print(json.dumps([await ask(app, query="u5", k=3), await ask(app, query="u5", k=3, deny=["i1"])]))
    await app.state.stop()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def index(runs: Mapping[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexes") / "shop.index"
    runs["shop"].index(out=folder)
    return folder


@pytest.fixture
def asleep(runs: Mapping[str, Run], index: Path) -> Iterator[Asked]:
    from towerkit.serving.settings import Settings

    service = started({"shop": runs["shop"].path}, Settings(port=0), None, {"shop": index})
    yield service
    service.stop()


def test_known_keys_need_no_torch(runs: Mapping[str, Run], index: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(runs["shop"].path), str(index)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == [[200, 3, False], [200, 3, True]]


def test_answers_are_the_same_when_the_model_is_there(asleep: Asked) -> None:
    keys = [*(f"u{number}" for number in range(0, 30, 3)), "nobody"]
    more: list[dict[str, Any]] = [{"k": 3}, {"k": 50}, {"k": 9, "exclude_seen": False}]
    questions = [{"query": key, **each} for key in keys for each in more]
    before = [asleep.post("/v1/recommend", **question) for question in questions]
    models = asleep.send("GET", "/v1/models")[1]
    assert asleep.service.fleet.stored
    assert asleep.post("/v1/recommend", query="u5", k=3, where="price < 30")["items"]
    assert not asleep.service.fleet.stored
    assert [asleep.post("/v1/recommend", **question) for question in questions] == before
    assert asleep.send("GET", "/v1/models")[1] == models
    assert before[-1]["cold"]
    assert not before[0]["cold"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/similar", {"item": "i3"}),
        ("/v1/score", {"pairs": [{"query": "u1", "item": "i1"}]}),
        ("/v1/embed", {"side": "query", "rows": [{"user": "u1"}]}),
        ("/v1/recommend", {"history": ["i1"]}),
        ("/v1/items", {"items": [{"item": "i3", "price": 2.0}]}),
    ],
)
def test_whatever_else_is_asked_wakes_the_model(asleep: Asked, path: str, body: dict[str, Any]) -> None:
    assert asleep.post(path, **body)
    assert list(asleep.service.fleet.engines) == ["shop"]


def test_what_loads_the_model_at_once(runs: Mapping[str, Run], index: Path, tmp_path: Path) -> None:
    from towerkit.serving.fleet import Fleet
    from towerkit.serving.journal import Happened, Journal
    from towerkit.serving.sources import Source

    sources = [Source("shop", runs["shop"].path)]
    runs["shop"].index(out=tmp_path / "without", with_queries=False)
    journal = Journal(str(tmp_path / "events.db"))
    for told, folder, is_stored in ((False, index, True), (False, tmp_path / "without", False), (True, index, False)):
        if told:
            journal.append([Happened("shop", "e1", "u1", "i1", 1.0)])
        fleet = Fleet(sources, journal, None, {"shop": folder})
        fleet.load()
        assert (list(fleet.stored), list(fleet.engines)) == ((["shop"], []) if is_stored else ([], ["shop"]))
    journal.close()


def test_what_cannot_be_served_from_vectors(
    asleep: Asked, runs: Mapping[str, Run], index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from towerkit.serving import stored as module

    model = module.StoredModel.open("shop", runs["shop"].path, index)
    assert model is not None
    monkeypatch.setattr(module, "recall_of", lambda *_: 0.5)
    with pytest.raises(RunError, match=r"finds 0\.98 of the exact answers; that of 'shop' finds 0\.500"):
        model._check_recall(model.index)

    tried, wake = [], asleep.service.fleet.wake

    def broken(_: Any) -> None:
        tried.append(1)
        raise RunError("nothing there")

    monkeypatch.setattr(asleep.service.fleet, "wake", broken)
    for _ in range(3):
        status, error = asleep.refused("/v1/similar", item="i3")
        assert (status, error["rule"]) == (503, "The model of 'shop' must be loaded for this.")
    assert asleep.post("/v1/recommend", query="u5")["items"]
    assert len(tried) == 1  # what takes seconds is not tried again for everyone who asks
    monkeypatch.setattr(asleep.service.fleet, "wake", wake)
    asleep.service._not_before.clear()
    assert asleep.post("/v1/similar", item="i3")["items"]


def test_behind_faiss_everything_else_holds(serve: Any, runs: Mapping[str, Run], tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    from towerkit.index.specs import FaissIndexSpec
    from towerkit.serving.settings import Settings

    # One that proposes all it is asked for: what is tested is everything but which candidates a graph finds.
    runs["shop"].index(FaissIndexSpec(factory="Flat"), out=tmp_path / "faiss")
    plain, through = (
        serve("shop"),
        started({"shop": runs["shop"].path}, Settings(port=0), None, {"shop": tmp_path / "faiss"}),
    )
    row = {"item": "i-new", "name": "Fresh", "price": 12.5, "kind": "book"}
    questions: list[dict[str, Any]] = [
        {"query": "u5"},
        {"query": "u5", "k": 40, "exclude_seen": False},
        {"query": "u6", "where": "price < 30", "k": 4},
        {"query": "u6", "allow": ["i1", "i2", "i3"], "deny": ["i2"], "exclude_seen": False},
        {"history": ["i1", "i2"], "k": 40},
    ]
    try:
        for _ in range(2):
            for question in questions:
                found, right = (each.post("/v1/recommend", **question) for each in (through, plain))
                assert [each["item"] for each in found["items"]] == [each["item"] for each in right["items"]]
                scores = [[each["score"] for each in answer["items"]] for answer in (found, right)]
                np.testing.assert_allclose(*scores, rtol=1e-5)
                assert found["notes"] == right["notes"]
            for each in (through, plain):
                each.post("/v1/items", items=[row, {"item": "i3", "price": 45.0}])
        assert through.send("GET", "/v1/models")[1]["models"][0]["index"] == "faiss"
    finally:
        through.stop()


BODIES: list[Any] = [
    {"query": "u5", "k": 3},
    {"query": 5, "k": 3},
    {"query": "u5", "k": 0},
    {"query": "u5", "k": "3"},
    {"query": "u5", "k": 2.0},
    {"query": "u5", "k": 1e400},
    {"query": "u5", "model": "nope"},
    {"query": "u5", "model": "../x"},
    {"query": "u5", "more": 1},
    {"query": "u5", "history": ["i1"]},
    {"history": ["never"]},
    {"query": "a\u0000b"},
    {"query": True},
    {"where": "price <", "query": "u5"},
    {},
    [],
    "u5",
    5,
    None,
]


def test_both_ways_answer_alike(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = serve("shop")
    monkeypatch.setattr("towerkit.serving.app.Quick", lambda app, _: app)
    through = serve("shop")
    for body in BODIES:
        for path in ("/v1/recommend", "/v1/events"):
            one, other = (each.send("POST", path, body)[:2] for each in (quick, through))
            assert one == other, body
    for body in (b"", b"{", b'{"query": "u5", "query": "u6"}'):
        one, other = (each.send("POST", "/v1/recommend", body)[:2] for each in (quick, through))
        assert one == other, body

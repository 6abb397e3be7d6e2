"""Users that learn while they are served.

Invariants:
- an event of a known user moves its id vector as ``one_backprop`` says, ``e <- β e + (1 - β) c``; a newcomer's is the average with
  the same weights, summed to 1, so that the first event sets it; the answer after a call
  knows of its events and leaves their items out;
- where towers read histories, the answer is the one of the Run for the stored history and the events behind it;
- the shares of the events sum to the share of the tower that averages them;
- a service that is started again, also after a kill, answers as before, after more events than count too; an event that is sent
  again changes nothing; one that comes while a vector is made is in the next answer;
- a forgotten user is served as before the first event, and stays forgotten after a new start, also if the events are sent again;
  what happens later counts;
- Runs that do not learn from events refuse them, as does a service without a log; events of unknown items are kept;
- with a log that cannot be written events are refused with 503 and everything else is answered.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serving.conftest import Asked
from tests.serving.test_questions import answers, check_shares, offline

from towerkit.run import Run

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]")
BETA = 0.8


def tell(service: Asked, query: str, items: list[str], model: str = "shop", start: int = 0) -> list[str]:
    """Events of a user, one after the other; what became of each."""
    events = [
        {"id": f"{model}-{query}-{n}", "query": query, "item": item, "time": 1_800_000_000 + n}
        for n, item in enumerate(items, start=start)
    ]
    return [each["status"] for each in service.post("/v1/events", model=model, events=events)["events"]]


def vector(service: Asked, key: str, model: str = "shop") -> Any:
    """The user's id vector now."""
    return service.service.fleet.engines[model].users.user(key).ids


def assert_close(found: list[tuple[Any, float]], expected: list[tuple[Any, float]]) -> None:
    """The same items, and scores that differ by rounding."""
    assert [item for item, _ in found] == [item for item, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], rel=1e-4, abs=1e-6)


@pytest.fixture
def learning(serve: Any, tmp_path: Path) -> Asked:
    """A service with a log of its own."""
    started: Asked = serve("shop", "past", "pool", "still", events=str(tmp_path / "events.db"))
    return started


def test_a_known_user_moves_as_the_update_says(learning: Asked, runs: Mapping[str, Run]) -> None:
    model: Any = runs["shop"].model
    tower = model.model.query.id_towers()["id"]
    row = int(model.query.rows(model.query.keys.slice(4, 1))[0])
    key = model.query.keys[row - 1].as_py()
    codes = model.encoder.encode("user", model.query.table)["id"]
    expected = tower.table[codes[row]].detach().numpy()
    for item in ("i3", "i9"):
        place = model.candidate.keys.to_pylist().index(item) + 1
        expected = BETA * expected + (1 - BETA) * model.candidate_vectors[place]
    before = learning.post("/v1/recommend", query=key, k=40)
    assert tell(learning, key, ["i3", "i9"]) == ["counted", "counted"]
    np.testing.assert_allclose(vector(learning, key), expected, rtol=1e-5, atol=1e-6)
    after = learning.post("/v1/recommend", query=key, k=40, why=True)
    assert answers(after) != answers(before)
    assert not {"i3", "i9"} & {item["item"] for item in after["items"]}
    assert {"i3", "i9"} <= {
        i["item"] for i in learning.post("/v1/recommend", query=key, k=40, exclude_seen=False)["items"]
    }
    check_shares(after)
    pair = [{"query": key, "item": after["items"][0]["item"]}]
    assert learning.post("/v1/score", pairs=pair)["scores"][0]["score"] == pytest.approx(after["items"][0]["score"])


def test_a_newcomer_is_served_from_the_first_event(learning: Asked, runs: Mapping[str, Run]) -> None:
    stranger = learning.post("/v1/recommend", query="newcomer", k=5)
    assert stranger["cold"]
    tell(learning, "newcomer", ["i3"])
    found = learning.post("/v1/recommend", query="newcomer", k=5, why=True)
    assert not found["cold"]
    assert_close(answers(found), offline(runs["shop"].recommend(history=["i3"], k=5)))
    tell(learning, "newcomer", ["i7", "i7"], start=1)
    model: Any = runs["shop"].model
    c3, c7 = (model.candidate_vectors[model.candidate.keys.to_pylist().index(item) + 1] for item in ("i3", "i7"))
    weights = np.array([BETA**2, BETA, 1.0]) / (BETA**2 + BETA + 1.0)
    np.testing.assert_allclose(
        vector(learning, "newcomer"), weights[0] * c3 + (weights[1] + weights[2]) * c7, rtol=1e-5, atol=1e-6
    )
    found = learning.post("/v1/recommend", query="newcomer", k=5, why=True)
    check_shares(found)
    for item in found["items"]:
        assert sum(s["share"] for s in item["why"]["history"]) == pytest.approx(item["why"]["towers"]["id"], abs=1e-5)


def test_histories_go_on_where_the_training_ended(learning: Asked, runs: Mapping[str, Run]) -> None:
    model: Any = runs["pool"].model
    tell(learning, "newcomer", ["i3", "i7", "i3"], "pool")
    found = learning.post("/v1/recommend", model="pool", query="newcomer", k=5)
    assert_close(answers(found), offline(runs["pool"].recommend(history=["i3", "i7", "i3"], k=5)))
    key = model.query.keys[7].as_py()
    start, stop = model.events.starts[8:10]
    codes = model.candidate_codes.tolist()
    stored = [model.candidate.keys[codes.index(code) - 1].as_py() for code in model.events.codes[start:stop]]
    tell(learning, key, ["i1", "i2"], "pool")
    found = learning.post("/v1/recommend", model="pool", query=key, k=5, why=True)
    offline_rows = runs["pool"].recommend(rows=[{"user": key, "history": [*stored, "i1", "i2"]}], k=5)
    assert_close(answers(found), offline(offline_rows))
    check_shares(found)
    tell(learning, key, ["i1", "i2"], "past")
    check_shares(learning.post("/v1/recommend", model="past", query=key, k=5, why=True))


def test_a_new_start_and_repeats_change_nothing(serve: Any, tmp_path: Path) -> None:
    log = str(tmp_path / "events.db")
    first = serve("shop", "pool", events=log)
    for model in ("shop", "pool"):
        tell(first, "newcomer", ["i3", "i7", "i3"], model)
        tell(first, "u4", ["i1", "i2"], model)
    questions = [{"model": model, "query": query} for model in ("shop", "pool") for query in ("newcomer", "u4")]
    before = [first.post("/v1/recommend", **question) for question in questions]
    assert tell(first, "newcomer", ["i3", "i7"]) == ["repeated", "repeated"]
    changed = {"id": "shop-newcomer-0", "query": "newcomer", "item": "i9"}
    told = first.post("/v1/events", model="shop", events=[changed])["events"][0]
    assert (told["status"], "another content" in told["reason"]) == ("refused", True)
    assert [first.post("/v1/recommend", **question) for question in questions] == before
    first.stop()
    second = serve("shop", "pool", events=log)
    assert [second.post("/v1/recommend", **question) for question in questions] == before


def test_a_forgotten_user_is_a_stranger(serve: Any, tmp_path: Path) -> None:
    log = str(tmp_path / "events.db")
    service = serve("shop", events=log)
    before = [service.post("/v1/recommend", query=key) for key in ("somebody", "u4")]
    for key in ("somebody", "u4"):
        tell(service, key, ["i3", "i7"])
        assert service.post("/v1/recommend", query=key) not in before
        assert service.send("DELETE", f"/v1/users/{key}")[1] == {"events": 2}
    assert [service.post("/v1/recommend", query=key) for key in ("somebody", "u4")] == before
    assert tell(service, "other/one", ["i3"]) == ["counted"]
    assert service.send("DELETE", "/v1/users/other%2Fone")[1] == {"events": 1}
    service.stop()
    again = serve("shop", events=log)
    assert [again.post("/v1/recommend", query=key) for key in ("somebody", "u4")] == before
    assert b"somebody" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_what_a_forgotten_user_did_is_not_taken_again(serve: Any, tmp_path: Path) -> None:
    log = str(tmp_path / "events.db")
    service = serve("shop", events=log)
    stranger = service.post("/v1/recommend", query="somebody")
    assert stranger["as_of"] is None
    tell(service, "somebody", ["i3", "i7"])
    assert service.post("/v1/recommend", query="somebody")["as_of"] == 2
    service.send("DELETE", "/v1/users/somebody")
    assert tell(service, "somebody", ["i3", "i7"]) == ["refused", "refused"]
    assert service.post("/v1/recommend", query="somebody") == stranger
    service.stop()
    again = serve("shop", events=log)
    assert tell(again, "somebody", ["i3", "i7", "i9"]) == ["refused", "refused", "counted"]
    found = again.post("/v1/recommend", query="somebody", k=99)
    assert (found["cold"], {"i3", "i7", "i9"} - {item["item"] for item in found["items"]}) == (False, {"i9"})
    answer = again.post("/v1/recommend", query="somebody")
    again.stop()
    assert serve("shop", events=log).post("/v1/recommend", query="somebody") == answer


def test_events_that_cannot_count(learning: Asked, serve: Any) -> None:
    status, error = learning.refused("/v1/events", model="still", events=[{"id": "a", "query": "u1", "item": "i1"}])
    assert (status, "learn by gradient" in error["rule"], "one_backprop" in error["next"]) == (422, True, True)
    assert tell(learning, "u1", ["not-yet"]) == ["kept"]
    without = serve("shop")
    status, error = without.refused("/v1/events", events=[{"id": "a", "query": "u1", "item": "i1"}])
    assert (status, "--events" in error["next"]) == (409, True)


def test_a_log_that_cannot_be_written_stops_nothing_else(learning: Asked, tmp_path: Path) -> None:
    tell(learning, "u1", ["i1"])
    journal = learning.service.fleet.journal
    with journal._store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    many = [{"id": f"x{n}", "query": "u2", "item": "i" + "9" * 200} for n in range(900)]
    status, error = learning.refused("/v1/events", events=many)
    assert (status, error["received"]) == (503, "it is not now")
    assert learning.post("/v1/recommend", query="u2")["items"]
    with journal._store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1073741823")
    assert tell(learning, "u2", ["i1"]) == ["counted"]
    assert {event.query for event in journal.read("shop")} == {"u1", "u2"}
    (tmp_path / "events.db").rename(tmp_path / "gone.db")
    refused = learning.refused("/v1/events", events=[{"id": "y", "query": "u3", "item": "i1"}])
    assert (refused[0], learning.send("DELETE", "/v1/users/u2")[0]) == (503, 503)
    assert learning.refused("/v1/items", items=[{"item": "i3", "price": 1.0}])[0] == 503
    assert learning.post("/v1/recommend", query="u2")["as_of"] == 2
    (tmp_path / "gone.db").rename(tmp_path / "events.db")
    assert tell(learning, "u3", ["i1"]) == ["counted"]


def test_what_weighs_nothing_is_taken_out_of_the_log(serve: Any, tmp_path: Path) -> None:
    log = str(tmp_path / "events.db")
    service = serve("shop", events=log)
    keep = math.ceil(math.log(1e-4) / math.log(BETA))
    tell(service, "u4", [f"i{n % 40}" for n in range(keep + 30)])
    before = vector(service, "u4")
    service.stop()
    again = serve("shop", events=log)
    assert len(again.service.fleet.journal.read("shop")) == keep
    np.testing.assert_allclose(vector(again, "u4"), before, atol=2e-4)
    assert tell(again, "u4", ["i0"]) == ["repeated"]


def test_what_was_met_long_ago_is_left_out_after_a_new_start(serve: Any, tmp_path: Path) -> None:
    log = str(tmp_path / "events.db")
    service = serve("pool", events=log)  # reads six events
    events = [
        {"id": f"e{n}", "query": "newcomer", "item": f"i{n}", "time": 1_000.0 + (50 if n == 3 else n)}
        for n in range(20)
    ]
    service.post("/v1/events", events=events)
    before = service.post("/v1/recommend", query="newcomer", k=40)
    assert len(before["items"]) == 20
    for _ in range(2):
        service.stop()
        service = serve("pool", events=log)
        assert service.post("/v1/recommend", query="newcomer", k=40) == before


def test_an_event_that_comes_while_a_vector_is_made(runs: Mapping[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    from towerkit.serving.live import Live
    from towerkit.serving.users import OnlineUsers

    model: Any = runs["pool"].model
    live, users = Live(runs["pool"], model), OnlineUsers(model, None)
    for number in range(users.keep):
        users.apply(live, "u5", f"i{number}", 2e9 + number)
    parts = OnlineUsers.parts

    def slow(self: OnlineUsers, live: Live, user: Any) -> Any:
        found = parts(self, live, user)
        monkeypatch.setattr(OnlineUsers, "parts", parts)
        self.apply(live, "u5", "i30", 3e9)
        return found

    monkeypatch.setattr(OnlineUsers, "parts", slow)
    old = users.vector(live, "u5")
    new = users.vector(live, "u5")
    users.apply(live, "u6", "i30", 1.0)  # nobody else's vector is made again
    assert not np.array_equal(old, new)
    np.testing.assert_array_equal(users.vector(live, "u5"), new)

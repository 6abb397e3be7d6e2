"""What the service answers.

Invariants:
- served is offline: recommendations by key, by raw row, after a history, under every choice of candidates, likeness, scores,
  predictions and vectors are those of the Run, to the bit where the ranking is by vectors;
- requests that are answered together get the answers that each gets alone, whatever the k and the choice of each;
- the shares of towers sum to the score, of pooled towers those of what was met to their tower's, and under a backbone that is no
  sum the shares and the base do; a share of nothing is told where nothing is known;
- a question that a model cannot answer is refused with the next step, and no path of this machine is told.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.recommend.conftest import NUM_ITEMS
from tests.serving.conftest import MODEL, Asked, trained

from towerkit.run import Run

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]")


def answers(content: dict[str, Any]) -> list[tuple[Any, float]]:
    """Items and scores."""
    return [(item["item"], item["score"]) for item in content["items"]]


def offline(table: Any, column: str = "item") -> list[tuple[Any, float]]:
    """The same of a Run's answer."""
    return list(zip(table.column(column).to_pylist(), table.column("score").to_pylist(), strict=True))


CHOICES: list[dict[str, Any]] = [
    {},
    {"exclude_seen": False, "k": NUM_ITEMS},
    {"where": "price < 20"},
    {"allow": ["i1", "i2", "i3", "i4", "nobody"]},
    {"deny": ["i1", "i2"], "where": "kind == 'book'"},
]


@pytest.mark.parametrize("name", ["shop", "past", "still"])
@pytest.mark.parametrize("choice", CHOICES)
def test_served_is_offline_for_known_queries(
    service: Asked, runs: Mapping[str, Run], name: str, choice: dict[str, Any]
) -> None:
    for key in ("u0", "u7", "stranger"):
        found = service.post("/v1/recommend", model=name, query=key, **choice)
        assert answers(found) == offline(runs[name].recommend(key, **choice))
        assert found["cold"] == (key == "stranger")
        assert found["model_version"] == service.service.fleet.engines[name].version


def test_served_is_offline_for_rows_and_histories(service: Asked, runs: Mapping[str, Run]) -> None:
    for row in ({"age": 33.0}, {"user": "u3", "age": 70.0}, {"user": "u3"}, {"age": 20.0, "history": ["i1", "i2"]}):
        found = service.post("/v1/recommend", model="shop", features=row)
        assert answers(found) == offline(runs["shop"].recommend(rows=[row]))
    for name in ("shop", "past"):
        found = service.post("/v1/recommend", model=name, history=["i1", "i5", "i1"], k=4)
        assert answers(found) == offline(runs[name].recommend(history=["i1", "i5", "i1"], k=4))


def test_served_is_offline_for_the_other_questions(service: Asked, runs: Mapping[str, Run]) -> None:
    found = service.post("/v1/similar", model="shop", item="i3", k=5, where="price < 20")
    assert answers(found) == offline(runs["shop"].similar("i3", k=5, where="price < 20"))
    found = service.post("/v1/similar", model="shop", query="u3", k=5)
    assert answers(found) == offline(runs["shop"].similar(query="u3", k=5), "user")
    pairs = [{"query": "u1", "item": "i1"}, {"query": "nobody", "item": "i2"}]
    scored = service.post("/v1/score", model="shop", pairs=pairs)["scores"]
    table = runs["shop"].predict({"user": ["u1", "nobody"], "item": ["i1", "i2"]})
    assert [(each["score"], each["cold"]) for each in scored] == [
        (row["score"], row["cold"]) for row in table.to_pylist()
    ]
    rows = [{"text": "good lamp"}, {"text": None}, {"text": "bad"}]
    assert service.post("/v1/predict", model="stars", rows=rows)["rows"] == runs["stars"].predict(rows).to_pylist()
    vectors = service.post("/v1/embed", model="shop", rows=[{"user": "u1"}], side="query")
    table = runs["shop"].embed([{"user": "u1"}], side="query")
    assert vectors["vectors"] == table.column("vector").to_pylist()
    assert vectors["space"] == runs["shop"].space
    states = service.post("/v1/embed", model="stars", rows=rows)["vectors"]
    assert states == runs["stars"].embed(rows).column("vector").to_pylist()


def test_questions_at_once_are_answered_as_alone(service: Asked) -> None:
    asked = [{"model": "shop", "query": f"u{n % 50}", "k": 1 + n % 7, **CHOICES[2 * (n % 2)]} for n in range(60)]
    before = service.service.worker.batches
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda body: service.post("/v1/recommend", **body), asked))
    assert service.service.worker.batches - before <= len(asked)
    assert together == [service.post("/v1/recommend", **body) for body in asked]


def check_shares(answer: dict[str, Any]) -> None:
    """They sum to what they are shares of."""
    for item in answer["items"]:
        why = item["why"]
        assert sum(why["towers"].values()) + why.get("base", 0.0) == pytest.approx(item["score"], abs=1e-5)


@pytest.mark.parametrize("name", ["shop", "past"])
def test_shares_sum_to_the_score(service: Asked, name: str) -> None:
    for question in ({"query": "u5"}, {"history": ["i1", "i2", "i1"]}, {"query": "stranger"}):
        found = service.post("/v1/recommend", model=name, why=True, **question)
        check_shares(found)
        for item in found["items"]:
            told = {share["item"]: share["share"] for share in item["why"]["history"]}
            if "history" in question:
                tower = "id" if name == "shop" else "id_history"
                assert told.keys() == {"i1", "i2"}
                assert sum(told.values()) == pytest.approx(item["why"]["towers"][tower], abs=1e-5)
            if "query" in question and name == "shop":
                assert told == {}
    check_shares(service.post("/v1/recommend", model="shop", why=True, features={"age": 31.0, "history": ["i9"]}))


def test_shares_under_a_backbone_that_is_no_sum(serve: Any, tmp_path: Any) -> None:
    query = MODEL["query"] | {"backbone": {"kind": "gated", "dim": 6}}
    model = MODEL | {"query": query, "match": {"kind": "euclidean"}}
    service = serve("gated", own={"gated": trained(tmp_path / "gated", model)})
    found = service.post("/v1/recommend", query="u5", why=True)
    assert all("base" in item["why"] for item in found["items"])
    check_shares(found)
    stranger = service.post("/v1/recommend", query="nobody", why=True)
    for item in stranger["items"]:
        assert item["why"]["towers"] == pytest.approx({"id": 0.0, "about": 0.0}, abs=1e-6)


def test_what_a_model_cannot_answer_is_refused(service: Asked, runs: Mapping[str, Run]) -> None:
    status, error = service.refused("/v1/recommend", model="still", history=["i1"])
    assert (status, "one_backprop" in error["next"]) == (422, True)
    status, error = service.refused("/v1/recommend", model="stars", query="u1")
    assert (status, error["next"]) == (422, "Use /v1/predict.")
    status, error = service.refused("/v1/predict", model="shop", rows=[{"a": 1}])
    assert (status, "recommend" in error["next"]) == (422, True)
    status, error = service.refused("/v1/recommend", model="nobody", query="u1")
    assert (status, error["received"]) == (404, "nobody")
    for body in (
        {"features": {"agee": 3}},
        {"query": "u1", "where": "nothing < 3"},
        {"query": "u1", "where": "price <"},
    ):
        status, error = service.refused("/v1/recommend", model="shop", **body)
        assert status == 422
        assert str(runs["shop"].path) not in str(error)
    status, error = service.refused("/v1/recommend", model="shop", history=["i1", "i999"])
    assert (status, error["received"]) == (422, "'i999'")


def test_what_the_service_tells_of_itself(service: Asked) -> None:
    status, content, headers = service.send("GET", "/v1/models")
    assert [model["name"] for model in content["models"]][:5] == ["shop", "past", "still", "pool", "stars"]
    assert (status, headers["x-content-type-options"], headers["cache-control"]) == (200, "nosniff", "no-store")
    assert service.send("GET", "/health/live")[1] == {"status": "alive"}
    assert service.send("GET", "/health/ready")[1] == {"status": "ready"}
    service.post("/v1/recommend", query="u1")
    metrics = service.send("GET", "/metrics")[1]
    assert 'towerkit_requests_total{call="/v1/recommend",status="200"}' in metrics
    calls = set(service.send("GET", "/openapi.json")[1]["paths"])
    assert {"/v1/recommend", "/v1/events", "/v1/models/{name}:swap", "/v1/users/{query}"} <= calls

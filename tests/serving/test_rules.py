"""What the business wants.

Invariants:
- boosts, caps and stock are exact: the answer is that of a plain sort of all scores, whatever stands deep in the ranking; the
  score that is told stays the model's;
- with diversity 0 and no other rule nothing changes; with 1 no answer is chosen for its score after the first; each answer is the
  best by the formula given those above it;
- pinned candidates stand where they were put, each candidate stands once, and there are k answers if there can be;
- every change is told in the ``why`` of the answer.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.recommend.conftest import ITEMS, NUM_ITEMS
from tests.serving.conftest import Asked

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]")
KIND = dict(zip(ITEMS["item"], ITEMS["kind"], strict=True))
PRICE = dict(zip(ITEMS["item"], ITEMS["price"], strict=True))


def asked(service: Asked, **rules: Any) -> list[dict[str, Any]]:
    """The answers of one user under rules."""
    found: list[dict[str, Any]] = service.post("/v1/recommend", query="u5", k=8, rules=rules, why=True)["items"]
    assert [item["rank"] for item in found] == list(range(1, len(found) + 1))
    assert len({item["item"] for item in found}) == len(found)
    return found


@pytest.fixture(scope="module")
def scores(service: Asked) -> dict[str, float]:
    """All candidates that the user has not seen, best first."""
    found = service.post("/v1/recommend", query="u5", k=NUM_ITEMS)["items"]
    return {item["item"]: item["score"] for item in found}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(add=st.floats(-2, 2, allow_nan=False), most=st.integers(1, 4), price=st.integers(1, 50))
def test_boosts_and_caps_are_those_of_a_plain_sort(
    service: Asked, scores: dict[str, float], add: float, most: int, price: int
) -> None:
    found = asked(service, boosts=[{"where": f"price < {price}", "add": add}], caps=[{"column": "kind", "most": most}])
    total = {k: s + add * (PRICE[k] is not None and PRICE[k] < price) for k, s in scores.items()}
    counts: Counter[str] = Counter()
    expected = []
    for key in sorted(total, key=lambda key: -total[key]):
        if counts[KIND[key]] < most and len(expected) < 8:
            counts[KIND[key]] += 1
            expected.append(key)
    assert [item["item"] for item in found] == expected
    for item in found:
        assert item["score"] == scores[item["item"]]
        boosted = any(rule["rule"] == "boost" for rule in item["why"]["rules"])
        assert boosted == (PRICE[item["item"]] is not None and PRICE[item["item"]] < price)
    skipped = sum(rule.get("passed_over", 0) for item in found for rule in item["why"]["rules"])
    last = max((sorted(total, key=lambda k: -total[k]).index(item["item"]) for item in found), default=-1)
    assert skipped == last + 1 - len(found)


@pytest.mark.parametrize("diversity", [0.3, 0.9, 1.0])
def test_diversity_is_maximal_marginal_relevance(service: Asked, scores: dict[str, float], diversity: float) -> None:
    found = [item["item"] for item in asked(service, diversity=diversity)]
    live = service.service.fleet.engines["shop"].live
    vectors = {key: live.model.candidate_vectors[live.candidate_rows[key]].astype(float) for key in scores}
    unit = {key: vector / np.linalg.norm(vector) for key, vector in vectors.items()}
    low, high = min(scores.values()), max(scores.values())
    for place, key in enumerate(found):
        left = [other for other in scores if other not in found[:place]]
        value = {
            other: (1 - diversity) * (scores[other] - low) / (high - low)
            - diversity * max([0.0, *(float(unit[other] @ unit[above]) for above in found[:place])])
            for other in left
        }
        assert value[key] == pytest.approx(max(value.values()), abs=1e-9)
    assert asked(service, diversity=0.0)[0]["why"]["rules"] == []
    assert [item["item"] for item in asked(service)] == list(scores)[:8]


def test_pinned_candidates_stand_where_they_were_put(service: Asked, scores: dict[str, float]) -> None:
    seen = next(key for key in ITEMS["item"] if key not in scores)
    pinned = [{"item": seen, "place": 2}, {"item": next(iter(scores)), "place": 5}]
    found = asked(service, pinned=pinned, diversity=0.2)
    assert (found[1]["item"], found[4]["item"], len(found)) == (seen, next(iter(scores)), 8)
    assert found[1]["why"]["rules"] == [{"rule": "pinned", "place": 2}]
    plain = [item["item"] for item in asked(service, pinned=pinned[:1])]
    assert plain == [next(iter(scores)), seen, *list(scores)[1:7]]


def test_stock_follows_new_values_of_items(serve: Any) -> None:
    service = serve("shop")
    best = service.post("/v1/recommend", query="u5", k=3, rules={"in_stock": "price"})["items"]
    sold = best[0]["item"]
    told = service.post("/v1/items", items=[{"item": sold, "price": 0.0}])
    assert (told["model"], told["candidates"], told["durable"]) == ("shop", NUM_ITEMS, False)
    left = service.post("/v1/recommend", query="u5", k=NUM_ITEMS, rules={"in_stock": "price"})["items"]
    assert sold not in {item["item"] for item in left}
    assert all(PRICE[item["item"]] is not None for item in left)
    assert sold in {item["item"] for item in service.post("/v1/recommend", query="u5", k=NUM_ITEMS)["items"]}


def test_rules_that_need_vectors_are_refused_without(service: Asked) -> None:
    status, error = service.refused("/v1/recommend", query="u5", rules={"caps": [{"column": "colour", "most": 1}]})
    assert (status, error["received"]) == (422, "colour")

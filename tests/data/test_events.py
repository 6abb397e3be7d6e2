"""Kinds of event and their weights.

Invariants:
- each row weighs what its kind does, whatever type the kind is written in;
- a kind that is not listed, or missing, is refused with its row and value, or weighs 0 with ``others: drop``;
- weights are at least 0 and not all 0.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.events import EventSpec
from towerkit.data.table import Table


def weighed(values: Any, weights: dict[Any, float], **more: Any) -> list[float]:
    spec = parse(EventSpec, {"column": "kind", "weights": weights, **more})
    return spec.weigh(Table(pa.table({"kind": values}), "log.csv", 2)).tolist()


@pytest.mark.parametrize(
    ("values", "weights", "expected"),
    [
        (["view", "buy", "view"], {"view": 1, "buy": 5}, [1.0, 5.0, 1.0]),
        ([1, 3, 1], {1: 1, 3: 0.5}, [1.0, 0.5, 1.0]),
        ([1.0, 3.0], {"1": 1, 3: 0}, [1.0, 0.0]),
        ([True, False], {True: 2, False: 1}, [2.0, 1.0]),
    ],
)
def test_each_row_weighs_what_its_kind_does(values: Any, weights: Any, expected: list[float]) -> None:
    assert weighed(values, weights) == expected


def test_other_kinds_are_refused_with_their_row() -> None:
    message = (
        r"log\.csv, line 4: the column 'kind' holds 'views', which has no weight \(2 such rows\); did you mean 'view'\?"
    )
    with pytest.raises(DataError, match=message):
        weighed(["view", "view", "views", None], {"view": 1})
    with pytest.raises(DataError, match=r"log\.csv, line 2: the column 'kind' holds None"):
        weighed([None, "view"], {"view": 1})
    assert weighed(["view", "view", "views", None], {"view": 2}, others="drop") == [2.0, 2.0, 0.0, 0.0]


@pytest.mark.parametrize("values", [[1.5, 1.0], [["view"]]])
def test_what_is_no_kind_is_refused(values: list[Any]) -> None:
    with pytest.raises(DataError, match=r"the event column 'kind' holds .* such as"):
        weighed(values, {"view": 1})
    with pytest.raises(DataError, match=r"log\.csv: there is no column 'sort'"):
        parse(EventSpec, {"column": "sort", "weights": {"view": 1}}).weigh(Table(pa.table({"kind": ["a"]}), "log.csv"))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "weights: needs 1 or more"),
        ({"view": -1}, r"weights\.view: .*greater than or equal to 0; received -1"),
        ({"view": float("inf")}, r"weights\.view: .*finite"),
        ({"view": 0, "cart": 0}, "every kind of event weighs 0"),
    ],
)
def test_weights_are_checked(weights: dict[str, float], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        weighed(["view"], weights)

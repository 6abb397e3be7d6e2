"""The baselines of prediction tasks.

Pinned: the majority gives the class frequencies of the labelled training rows; the logistic regression finds a rule that
the columns hold, from example and entity columns; nothing is learned from held-out rows or from rows without a label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from towerkit.api import read
from towerkit.baselines.tasks import task_baselines
from towerkit.core.errors import DataError
from towerkit.core.spec import parse
from towerkit.models.tower_model import TowerModelSpec

ROWS = 200
TRAIN, HELD_OUT = np.arange(0, 150), np.arange(150, ROWS)


def rows(**changed: Any) -> dict[str, Any]:
    """Class a where x > 0, else b where the shop is s1, else c; every tenth label is missing."""
    draw = np.random.default_rng(0)
    x, shop = draw.normal(size=ROWS), draw.integers(0, 4, ROWS)
    grade: list[str | None] = [("a" if one > 0 else "b" if two == 1 else "c") for one, two in zip(x, shop, strict=True)]
    grade[::10] = [None] * (ROWS // 10)
    return {"x": x.tolist(), "shop": [f"s{n}" for n in shop], "grade": grade, **changed}


def baselines(table: dict[str, Any], **towers: Any) -> Any:
    """Both baselines of one multiclass task."""
    shops = {"shop": [f"s{n}" for n in range(4)], "is_first": ["no", "yes", "no", "no"]}
    data = read(table, entities={"shop": shops}, split={"kind": "random", "validation": 0.0, "test": 0.1})
    parts = towers or {"table": {"kind": "table", "columns": ["x", "shop"]}}
    heads = {"grade": {"kind": "multiclass", "column": "grade"}}
    spec = parse(TowerModelSpec, {"towers": parts, "heads": heads})
    return task_baselines(spec.demand(data), data, TRAIN, HELD_OUT)


def truth(table: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Codes of the held-out labels, -1 where missing."""
    return np.array([-1 if label is None else "abc".index(label) for label in table["grade"]])[HELD_OUT]


def test_the_majority_is_the_frequencies_of_labelled_training_rows() -> None:
    table = rows()
    labels = [label for label in table["grade"][:150] if label is not None]
    wanted = [labels.count(name) / len(labels) for name in "abc"]
    found = baselines(table)["majority"]["grade"]
    assert found.shape == (50, 3)
    assert np.allclose(found, wanted)


def test_logistic_regression_finds_the_rule() -> None:
    table = rows()
    known = truth(table) >= 0
    found = baselines(table)["logistic_regression"]["grade"].argmax(axis=1)
    assert (found == truth(table))[known].mean() > 0.9


def test_it_reads_entity_columns_too() -> None:
    table = rows()
    known = truth(table) >= 0
    numbers = {"kind": "table", "columns": ["x"]}
    first = {"kind": "table", "entity": "shop", "columns": ["is_first"]}
    alone = baselines(table, x=numbers)["logistic_regression"]["grade"].argmax(axis=1)
    both = baselines(table, x=numbers, shop=first)["logistic_regression"]["grade"].argmax(axis=1)
    assert (both == truth(table))[known].mean() > 0.9 > (alone == truth(table))[known].mean()


def test_held_out_labels_are_not_read() -> None:
    table = rows()
    other = rows(grade=[*table["grade"][:150], *["c"] * 50])
    for name, values in baselines(table).items():
        assert np.array_equal(values["grade"], baselines(other)[name]["grade"]), name


def test_labels_missing_from_all_training_rows_are_refused() -> None:
    with pytest.raises(DataError, match="The label column 'grade' has no value in the training rows"):
        baselines(rows(grade=[None] * 150 + ["a", "b"] * 25))

"""The baselines of prediction tasks.

Pinned: the majority gives the class frequencies of the labelled training rows; the logistic regression finds a rule that
the columns hold, from example and entity columns; nothing is learned from held-out rows or from rows without a label. Of
several labels per row the frequencies and a regression each; of a number the weighted mean and a ridge regression in the
unit that a head learns in, which are called by that where every task is a number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from towerkit.api import read
from towerkit.baselines.ridge import fit_ridge
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


def mixed(heads: dict[str, Any], **changed: Any) -> Any:
    """Baselines of tags that the columns tell, and of a price that grows by factors; both are missing at times."""
    draw = np.random.default_rng(1)
    x, weight = draw.normal(size=ROWS), draw.integers(1, 4, ROWS).astype(float)
    tags: list[Any] = [[name for name, has in (("big", one > 0), ("huge", one > 1)) if has] for one in x]
    price: list[Any] = np.exp(2 * x).tolist()
    tags[::9], price[::7] = [None] * len(tags[::9]), [None] * len(price[::7])
    table = {"x": x.tolist(), "weight": weight.tolist(), "tags": tags, "price": price, **changed}
    data = read(table, weight="weight", split={"kind": "random", "validation": 0.0, "test": 0.1})
    spec = parse(TowerModelSpec, {"towers": {"table": {"kind": "table", "columns": ["x"]}}, "heads": heads})
    return task_baselines(spec.demand(data), data, TRAIN, HELD_OUT), table


TAGS = {"kind": "multilabel", "column": "tags"}
PRICE = {"kind": "regression", "column": "price", "transform": "log"}


def test_several_labels_have_frequencies_and_a_regression_each() -> None:
    found, table = mixed({"tags": TAGS, "price": PRICE})
    assert set(found) == {"majority", "logistic_regression"}
    known = [row for row in TRAIN if table["tags"][row] is not None]
    weight = np.array(table["weight"])[known]
    wanted = [np.average([name in table["tags"][row] for row in known], weights=weight) for name in ("big", "huge")]
    assert np.allclose(found["majority"]["tags"], [wanted] * 50)
    x = np.array(table["x"])[HELD_OUT]
    linear = found["logistic_regression"]["tags"]
    assert ((linear[:, 0] > 0.5) == (x > 0)).mean() > 0.9 < ((linear[:, 1] > 0.5) == (x > 1)).mean()
    assert (linear.sum(axis=1) > 1.2).any() and (linear.sum(axis=1) < 0.5).any()


def test_numbers_have_the_mean_and_a_ridge_regression() -> None:
    found, table = mixed({"price": PRICE})
    assert set(found) == {"mean", "ridge_regression"}
    known = [row for row in TRAIN if table["price"][row] is not None]
    price, weight = np.array([table["price"][row] for row in known]), np.array(table["weight"])[known]
    assert np.allclose(found["mean"]["price"], np.average(price, weights=weight))
    x = np.array(table["x"])
    scale = x[TRAIN].mean(), x[TRAIN].std()
    standard = (x - scale[0]) / scale[1]
    oracle = fit_ridge(np.stack([standard, 0 * x], axis=1)[known], np.log1p(price), l2=1.0, weight=weight)
    found_log = np.log1p(found["ridge_regression"]["price"])
    assert np.allclose(
        found_log, np.maximum(oracle.predict(np.stack([standard, 0 * x], axis=1)[HELD_OUT]), 0), atol=1e-5
    )


def test_held_out_numbers_and_labels_are_not_read() -> None:
    before, table = mixed({"tags": TAGS, "price": PRICE})
    changed = {"price": table["price"][:150] + [7.0] * 50, "tags": table["tags"][:150] + [["new"]] * 50}
    after, _ = mixed({"tags": TAGS, "price": PRICE}, **changed)
    for name in before:
        for task in ("tags", "price"):
            assert np.array_equal(before[name][task], after[name][task])

"""Graded relevance of example rows (`towerkit.data.grades`, `data.examples.relevance`).

Pinned here:
- grades are the numbers of the column, or what its values stand for; what is none is refused with line and value;
- a pair of grade 0 is in no part, and told; the other grades reach the data set row by row;
- new rows are judged by the training's rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from towerkit.api import read
from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.grades import grades_of
from towerkit.data.spec import DataSpec
from towerkit.data.table import Table
from towerkit.data.usable import rows_to_measure


def table(*values: object) -> Table:
    return Table(pa.table({"grade": list(values)}), "qrels.tsv", first_row=2)


@pytest.mark.parametrize(
    ("values", "codes", "grades"),
    [
        ([2, 0, 1], None, [2.0, 0.0, 1.0]),
        ([0.5, 3.0], None, [0.5, 3.0]),
        ([-1, 4, 1], {"-1": 0, "1": 4, "4": 1}, [0.0, 1.0, 4.0]),
        (["good", "bad"], {"good": 2, "bad": 0}, [2.0, 0.0]),
    ],
)
def test_grades(values: list[object], codes: dict[str, float] | None, grades: list[float]) -> None:
    assert grades_of(table(*values), "grade", codes).tolist() == grades


@pytest.mark.parametrize(
    ("values", "codes", "message"),
    [
        ([1, -1, -2], None, r"qrels.tsv, line 3: the relevance column 'grade' holds -1, .* 0 or more \(2 such rows\)"),
        ([1.0, None], None, r"line 3: the relevance column 'grade' holds None"),
        (["1", "x"], None, r"line 3: the relevance column 'grade' holds 'x'"),
        ([1.0, float("inf")], None, "line 3: .* holds inf"),
        ([1, 5], {"1": 1}, r"line 3: the column 'grade' holds '5', which has no grade \(1 such rows\)"),
        ([[1]], {"1": 1}, r"line 2: the relevance column 'grade' holds \[1\], but a code is one value"),
    ],
)
def test_no_grades(values: list[object], codes: dict[str, float] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        grades_of(table(*values), "grade", codes)


def graded(**settings: Any) -> Dataset:
    rows = Table(
        pa.table(
            {"q": [f"q{n // 4}" for n in range(40)], "d": [f"d{n % 7}" for n in range(40)], "r": [0, 1, 2, 3] * 10}
        ),
        "judged",
    )
    examples = {"path": "judged", "query": "q", "candidate": "d", "relevance": "r", **settings}
    return make_dataset(parse(DataSpec, {"examples": examples, "split": {"kind": "grouped", "test": 0.2}}), rows)


def test_a_pair_of_grade_0_is_in_no_part() -> None:
    dataset = graded()
    rows = np.concatenate([dataset.parts.train, dataset.parts.validation, dataset.parts.test])
    assert dataset.grades is not None
    assert dataset.grades.tolist() == [0.0, 1.0, 2.0, 3.0] * 10
    assert sorted(rows) == [row for row in range(40) if row % 4]
    assert dataset.split["left_out"] == {"not_relevant": 10}
    assert dataset.split["relevance"] == "r"


def test_codes() -> None:
    dataset = graded(grades={0: 2, 1: 0, 2: 1, 3: 0})
    assert dataset.grades is not None
    assert dataset.grades[:4].tolist() == [2.0, 0.0, 1.0, 0.0]
    assert dataset.split["left_out"] == {"not_relevant": 20}


def test_nothing_relevant() -> None:
    with pytest.raises(DataError, match=r"judged: the grade 0 in the column 'r' leaves none of its 40 rows"):
        graded(grades={0: 0, 1: 0, 2: 0, 3: 0})


def test_new_rows_by_the_rule_of_training() -> None:
    split = graded(grades={0: 0, 1: 1, 2: 2, 3: 3}).split
    new = Table(pa.table({"q": ["a", "a", "b"], "d": ["x", "y", "z"], "r": [3, 0, 1]}), "new")
    measured = rows_to_measure(new, split)
    assert measured.table.data.column("d").to_pylist() == ["x", "z"]
    assert measured.left_out == {"not_relevant": 1}
    assert measured.grades is not None
    assert measured.grades.tolist() == [3.0, 1.0]
    without = Table(new.data.drop_columns(["r"]), "new")
    assert rows_to_measure(without, split).grades is None


def test_grades_need_their_column() -> None:
    with pytest.raises(SpecError, match="name it in 'relevance'"):
        graded(relevance=None, grades={"1": 1})
    with pytest.raises(DataError, match="there is no column 'rr'"):
        graded(relevance="rr")


def test_without_grades_there_are_none() -> None:
    assert read({"q": ["a", "b"] * 20, "d": [str(n) for n in range(40)]}, query="q", candidate="d").grades is None

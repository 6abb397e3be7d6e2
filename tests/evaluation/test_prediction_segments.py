"""Segments of predictions.

Pinned: a segment is a column of the rows, or of the table of an entity that they name; unknown keys and missing values stand
apart; a name that is neither, a column of too many values and a task in the way are refused; rows that lack a segment are
measured without it, and the reason is kept.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from towerkit.core.errors import DataError, SpecError
from towerkit.data.roles import EntityTable
from towerkit.data.table import Table
from towerkit.evaluation.prediction_segments import check_no_task_is_called_so, known_segments, prediction_segments

ROWS = Table(pa.table({"user": [7, 8, None, 9], "device": ["phone", None, "web", "web"], "n": range(4)}), "rows.csv", 0)
USERS = {"user": EntityTable("user", "id", Table(pa.table({"id": [8, 7], "city": ["Oslo", "Rome"]}), "users.csv", 0))}


def values(name: str, rows: Table = ROWS) -> list[Any]:
    valued = prediction_segments([name], rows, USERS)[name]
    return [valued.values[code] for code in valued.codes]


def test_columns_of_rows_and_of_entities() -> None:
    assert values("device") == ["phone", "(missing)", "web", "web"]
    assert values("user.city") == ["Rome", "Oslo", "(missing)", "(missing)"], "by key: none, and one that no table has"
    assert values("n") == ["0", "1", "2", "3"]


def test_a_column_with_a_dot_is_a_column_first() -> None:
    dotted = Table(pa.table({"user": [7], "user.city": ["here"]}), "rows.csv", 0)
    assert values("user.city", dotted) == ["here"]


def test_what_is_no_segment_is_refused() -> None:
    with pytest.raises(
        SpecError, match=r"'devise' is no column of rows.csv, nor one of an entity's table; did you mean 'device'"
    ):
        values("devise")
    with pytest.raises(DataError, match=r"users.csv has no column 'town'"):
        values("user.town")
    many = Table(pa.table({"id": [f"x{n}" for n in range(51)]}), "rows.csv", 0)
    with pytest.raises(DataError, match="the column 'id' has 51 different values, and a segment may have 50"):
        prediction_segments(["id"], many, {})
    with pytest.raises(SpecError, match="No task may be called 'segments'"):
        check_no_task_is_called_so(["liked", "segments"], "segments")
    check_no_task_is_called_so(["liked"], "segments")


def test_new_rows_are_measured_by_what_they_have() -> None:
    found, left_out = known_segments(["device", "user.city", "n"], ROWS, {})
    assert set(found) == {"device", "n"}
    assert left_out["user.city"].startswith("'user.city' is no column of rows.csv")

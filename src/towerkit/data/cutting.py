"""From a split spec and the columns it goes by to the three parts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import DataError, listed, nearest
from towerkit.data.roles import Roles
from towerkit.data.split_specs import (
    AnySplit,
    GivenSplit,
    GroupedSplit,
    LeaveLastSplit,
    PerQuerySplit,
    RandomSplit,
    TimeSplit,
)
from towerkit.data.splits import (
    Parts,
    Rows,
    check_times,
    split_grouped,
    split_leave_last,
    split_per_query,
    split_random,
    split_time,
)
from towerkit.data.table import Table, require_columns, shown, values_of
from towerkit.data.times import times_of

_PARTS = ("train", "validation", "test")
LEAVE_LAST_WARNING = (
    "leave_last does not cut at one moment: training holds events that lie after some queries' held-out event, which no "
    "model has when it serves; figures may be too high"
)
UNTIMED_WARNING = "rows without a time are all in training, though some may be later than the held-out rows"


@dataclass(frozen=True)
class Cut:
    """The parts, and what should be known about them."""

    parts: Parts
    left_out: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def cut(examples: Table, roles: Roles, split: AnySplit, seed: int, rows: Rows) -> Cut:
    """Split some rows of the example table.

    Args:
        examples: All rows.
        roles: Which column is the query and the time.
        split: How.
        seed: Draws random splits.
        rows: Row numbers that take part, ascending; without those of tables given apart.

    Raises:
        DataError: If a column that the split goes by is missing, or holds values it cannot go by.
    """
    if isinstance(split, TimeSplit):
        column = _role(roles.time, split.kind, "time", "name the time column, or choose another split")
        times = _times(examples, column, split, rows)
        return _timed(split_time(times, split), times, split, rows)
    if isinstance(split, LeaveLastSplit):
        return _leave_last(examples, roles, split, rows)
    if isinstance(split, PerQuerySplit):
        column = _role(roles.query, split.kind, "query", "name the query column, or use split: {kind: random}")
        by = times_of(examples, roles.time)[rows] if roles.time is not None and split.take == "last" else None
        return Cut(split_per_query(_codes(examples, column, rows), split, seed, by).of(rows))
    if isinstance(split, RandomSplit):
        return Cut(split_random(len(rows), split, seed).of(rows))
    if isinstance(split, GroupedSplit):
        column = split.column or _role(roles.query, split.kind, "query", "or name split.column")
        return Cut(split_grouped(_codes(examples, column, rows), split, seed).of(rows))
    if isinstance(split, GivenSplit):
        return _given(examples, split, seed, rows)
    assert_never(split)


def _role(column: str | None, kind: str, role: str, advice: str) -> str:
    if column is None:
        raise DataError(f"A {kind} split needs data.examples.{role}; {advice}.")
    return column


def _times(examples: Table, column: str, split: TimeSplit | LeaveLastSplit, rows: Rows) -> NDArray[np.float64]:
    require_columns([column], examples.data.column_names, examples.name)
    times = times_of(examples, column)[rows]
    try:
        check_times(times, split, rows)
    except DataError as error:
        raise DataError(f"{examples.name}, column '{column}': {error}") from None
    return times


def _timed(parts: Parts, times: NDArray[np.float64], split: TimeSplit | LeaveLastSplit, rows: Rows) -> Cut:
    missing = int(np.isnan(times).sum())
    if not missing:
        return Cut(parts.of(rows))
    if split.time_missing == "drop":
        return Cut(parts.of(rows), left_out={"no_time": missing})
    return Cut(parts.of(rows), warnings=[f"{missing:,} {UNTIMED_WARNING}"])


def _leave_last(examples: Table, roles: Roles, split: LeaveLastSplit, rows: Rows) -> Cut:
    query = _role(roles.query, split.kind, "query", "name the query column, or choose another split")
    column = split.position or _role(roles.time, split.kind, "time", "name the time column, or split.position")
    times = _times(examples, column, split, rows)
    found = _timed(split_leave_last(_codes(examples, query, rows), times, split), times, split, rows)
    return replace(found, warnings=[LEAVE_LAST_WARNING, *found.warnings])


def _codes(examples: Table, column: str, rows: Rows) -> NDArray[np.int64]:
    """A number per distinct value, by the order of the values and not of the rows."""
    require_columns([column], examples.data.column_names, examples.name)
    values = values_of(examples.data, column).take(pa.array(rows))
    if pa.types.is_nested(values.type):
        raise DataError(
            f"{examples.where(0)}: the column '{column}' holds lists or records ({values.type}) such as "
            f"{shown(values[0].as_py())}, but a split goes by one value per row. Choose another column."
        )
    if values.null_count:
        row = int(rows[np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]])
        raise DataError(
            f"{examples.where(row)}: the column '{column}' is empty ({values.null_count:,} such rows), so it does not say "
            "to which group the row belongs. Fill it, or drop these rows."
        )
    names = pc.unique(values)
    names = names.take(pc.sort_indices(names))
    return np.asarray(pc.index_in(values, value_set=names).to_numpy(zero_copy_only=False), np.int64)


def _given(examples: Table, split: GivenSplit, seed: int, rows: Rows) -> Cut:
    nothing = rows[:0]
    parts = Parts(rows, nothing, nothing)
    if split.column is not None:
        words = _part_words(examples, split.column, rows)
        parts = Parts(*(rows[words == number] for number in range(3)))
    if split.validation and len(parts.validation):
        raise DataError(
            f"{examples.name}: the column '{split.column}' gives {len(parts.validation):,} validation rows, so "
            f"split.validation must be absent or 0; received {split.validation}. Remove one of the two."
        )
    if split.validation:
        drawn = split_random(len(parts.train), RandomSplit(validation=split.validation, test=0.0), seed)
        parts = Parts(parts.train[drawn.train], parts.train[drawn.validation], parts.test)
    return Cut(parts)


def _part_words(examples: Table, column: str, rows: Rows) -> NDArray[np.int64]:
    require_columns([column], examples.data.column_names, examples.name)
    values = values_of(examples.data, column).take(pa.array(rows))
    words = values if pa.types.is_string(values.type) else pa.nulls(len(values), pa.string())
    found = pc.fill_null(pc.index_in(words, value_set=pa.array(_PARTS), skip_nulls=True), -1)
    numbers = np.asarray(found.to_numpy(zero_copy_only=False), np.int64)
    odd = np.flatnonzero(numbers < 0)
    if len(odd):
        word = values[int(odd[0])].as_py()
        raise DataError(
            f"{examples.where(int(rows[odd[0]]))}: the column '{column}' says the part of a row, {listed(_PARTS)}; it holds "
            f"{shown(word)} ({len(odd):,} such rows){nearest(word, _PARTS) or '.'} Write one of the three words."
        )
    return numbers

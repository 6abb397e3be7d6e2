"""Times by their place in the day, the week and the year, on circles where the end meets the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field

from towerkit.core.errors import DataError
from towerkit.data.batch import Column
from towerkit.data.table import values_of
from towerkit.data.times import ISO_TIME, parse_times
from towerkit.features.base import Feature, FeatureSpec, State
from towerkit.features.columns import Floats, numbers

Period: TypeAlias = Literal["hour", "day", "week", "month", "year"]
_EVEN = {"hour": (3600.0, 0.0), "day": (86400.0, 0.0), "week": (7 * 86400.0, 4 * 86400.0)}
"""Period -> its length and a moment at which one began, in seconds since 1970 (a Thursday); weeks begin on Monday."""
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0
"""The years 1 to 9999."""


@dataclass(frozen=True)
class CyclicFeature(Feature):
    """``[rows, 2 * periods + 1]`` float32: sine and cosine of the place in each period, and 1 where missing."""

    name: str
    column: str
    periods: tuple[Period, ...]

    def encode(self, table: pa.Table) -> Column:
        """Circles beside the missing flags."""
        seconds = seconds_of(values_of(table, self.column), self.column)
        missing = np.isnan(seconds)
        found = np.zeros((len(seconds), 2 * len(self.periods) + 1), np.float32)
        found[:, -1] = missing
        known = seconds[~missing]
        for place, period in enumerate(self.periods):
            angle = 2.0 * np.pi * share_of_period(known, period)
            found[~missing, 2 * place], found[~missing, 2 * place + 1] = np.sin(angle), np.cos(angle)
        return torch.from_numpy(found)

    def state(self) -> State:
        """Nothing beside the spec."""
        return State({})

    def sample(self) -> Mapping[str, Any]:
        """A moment in 2001, in seconds, which every other feature of the column can read too."""
        return {self.column: 1e9}


class CyclicSpec(FeatureSpec):
    """A time column as places in periods of the calendar (UTC); nothing is learned from the rows."""

    kind: Literal["cyclic"] = "cyclic"
    column: str
    periods: tuple[Period, ...] = Field(("day", "week", "year"), min_length=1)

    def column_names(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    def fit(self, table: pa.Table) -> CyclicFeature:
        """See that the column is there and holds times."""
        seconds_of(values_of(table, self.column), self.column)
        return self.restore(State({}))

    def restore(self, state: State) -> CyclicFeature:
        """Rebuild from the spec alone."""
        return CyclicFeature(f"cyclic-{'-'.join(self.periods)}:{self.column}", self.column, self.periods)


def share_of_period(seconds: Floats, period: Period) -> Floats:
    """How much of its day, week or other period has gone by at each moment, in ``[0, 1)``.

    Args:
        seconds: ``[rows]`` since 1970, UTC.
        period: Which; months and years have their own lengths.

    Example:
        >>> share_of_period(np.array([0.0, 43200.0]), "day").tolist()
        [0.0, 0.5]
        >>> share_of_period(np.array([0.0]), "week").round(4).tolist()  # a Thursday: three of seven days have gone by
        [0.4286]
    """
    if period in _EVEN:
        length, first = _EVEN[period]
        return np.asarray(np.mod(seconds - first, length) / length)
    unit = "M" if period == "month" else "Y"
    own = np.floor(seconds).astype("datetime64[s]").astype(f"datetime64[{unit}]")
    start, end = ((own + step).astype("datetime64[s]").astype(np.int64).astype(np.float64) for step in (0, 1))
    return np.asarray((seconds - start) / (end - start))


def seconds_of(values: pa.Array, name: str) -> Floats:
    """Times as seconds since 1970 (UTC), NaN where missing.

    Args:
        values: ``[rows]`` dates, timestamps, ISO 8601 texts, or numbers, which are seconds since 1970.
        name: What to call the column in messages.

    Raises:
        DataError: If a value is no time, or lies outside the years 1 to 9999; names column, row and value.
    """
    found = _seconds(values)
    if found is None:
        row = next(row for row in range(len(values)) if _seconds(values.slice(row, 1)) is None)
        raise DataError(
            f"The column '{name}' must hold times; row {row + 1} has {values[row].as_py()!r}. Write times like "
            "2024-05-31T10:00:00, or as seconds since 1970; leave missing ones empty."
        )
    odd = np.flatnonzero((found < _FIRST) | (found > _LAST))
    if len(odd):
        raise DataError(
            f"The column '{name}' must hold times in the years 1 to 9999; row {odd[0] + 1} has "
            f"{values[int(odd[0])].as_py()!r}. Numbers are seconds since 1970; divide milliseconds by 1000."
        )
    return found


def _seconds(values: pa.Array) -> Floats | None:
    """Seconds, or None where some value is no time; each value by itself, whatever stands beside it."""
    try:
        if not pa.types.is_string(values.type):
            return _ticks(values) if _is_calendar(values.type) else numbers(values, "")
        is_time, nothing = pc.match_substring_regex(values, ISO_TIME), pa.scalar(None, pa.string())
        parsed = parse_times(pc.if_else(is_time, values, nothing))
        if parsed is None:  # the shape of a date, but no such day
            return None
        return np.fmax(_ticks(parsed), numbers(pc.if_else(is_time, nothing, values), ""))  # one of the two is NaN
    except DataError:
        return None


def _is_calendar(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _ticks(values: pa.Array) -> Floats:
    ticks = pc.cast(pc.cast(values, pa.timestamp("us"), safe=False), pa.int64())
    return np.asarray(pc.cast(ticks, pa.float64(), safe=False).to_numpy(zero_copy_only=False)) / 1e6

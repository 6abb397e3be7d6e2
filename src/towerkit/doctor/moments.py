"""From when to when: dates, times written as text, and numbers that count from 1970."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from towerkit.data.times import parse_times

_UNITS = (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
_EARLIEST_S, _LATEST_S = 10**8, 41 * 10**8
"""March 1973 to December 2099: smaller numbers may count anything, and the ranges of the four units do not meet."""


@dataclass(frozen=True)
class Span:
    """The first and the last moment of a column."""

    first: str
    last: str
    unit: str | None
    """What a number counts since 1970; None for dates, and for numbers that are no moments."""
    days: float | None


def span_of(values: pa.Array) -> Span | None:
    """The span of a column of times or numbers; None when it holds neither, or nothing.

    Example:
        >>> span_of(pa.array([874724710, 893286638]))
        Span(first='1997-09-20T03:05:10', last='1998-04-22T23:10:38', unit='seconds', days=214.8)
    """
    if pa.types.is_string(values.type):
        parsed = parse_times(values)
        if parsed is None:
            return None
        values = parsed
    is_date = pa.types.is_timestamp(values.type) or pa.types.is_date(values.type)
    if not is_date and not pa.types.is_integer(values.type) and not pa.types.is_floating(values.type):
        return None
    if is_date:
        values = values.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    found = pc.min_max(values).as_py()
    low, high = found["min"], found["max"]
    if low is None or not (abs(low) < float("inf") and abs(high) < float("inf")):
        return None
    if is_date:
        return _between(low / 1e6, high / 1e6, None)
    for unit, per_second in _UNITS:
        if _EARLIEST_S * per_second <= low and high <= _LATEST_S * per_second:
            return _between(low / per_second, high / per_second, unit)
    return Span(str(low), str(high), None, None)


def _between(first: float, last: float, unit: str | None) -> Span:
    return Span(_written(first), _written(last), unit, round((last - first) / 86400, 1))


def _written(seconds: float) -> str:
    """ISO 8601 to the second, by addition: the system's own conversion refuses years before 1970 in places."""
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(seconds))
    except OverflowError:
        return f"{seconds:.0f} s after 1970"
    return moment.isoformat()

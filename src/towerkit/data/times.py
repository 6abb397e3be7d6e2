"""Times written as text: ISO 8601 with or without a clock time and a zone, read alike wherever a time is needed."""

from __future__ import annotations

import contextlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.data.table import Table, shown, values_of

_CLOCK = r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
_ZONE = r"(Z|[+-][0-9]{2}:?[0-9]{2})"
_LOOK = 100_000  # rows that are looked at one by one for a message
ISO_TIME = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}({_CLOCK}{_ZONE}?)?$"
"""What counts as a time in text: ``2024-05-31``, ``2024-05-31T10:00``, ``2024-05-31 10:00:00.5+02:00``."""


def parse_times(text: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array | None:
    """Times in UTC, or None when some value is not a time; a time without a zone is taken as UTC.

    Args:
        text: ``[rows]`` strings; null where missing.

    Returns:
        ``[rows]`` of ``timestamp[us]``; digits below a microsecond are cut.

    Example:
        >>> str(parse_times(pa.array(["2024-05-31T10:00:00+02:00"]))[0])
        '2024-05-31 08:00:00'
        >>> parse_times(pa.array(["2024-05-31", "yesterday"])) is None
        True
    """
    if not pc.all(pc.match_substring_regex(text, ISO_TIME), min_count=0).as_py():
        return None
    text = pc.replace_substring_regex(text, r"(\.[0-9]{6})[0-9]+", r"\1")
    zoned, nothing = pc.match_substring_regex(text, _CLOCK + _ZONE + "$"), pa.scalar(None, pa.string())
    try:
        with_zone = pc.if_else(zoned, text, nothing).cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
        without = pc.if_else(zoned, nothing, text).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:  # the shape of a date, but no such day
        return None
    return pc.coalesce(with_zone, without)


def times_of(table: Table, column: str) -> NDArray[np.float64]:
    """A time column as seconds (or its own number), NaN where missing.

    Args:
        table: The rows.
        column: The time column.

    Returns:
        ``[rows]``.

    Raises:
        DataError: If the values are neither numbers, dates nor ISO-8601 texts.
    """
    values = values_of(table.data, column)
    if pa.types.is_string(values.type):
        parsed = parse_times(values)
        values = values if parsed is None else parsed
    try:
        return _seconds(values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        row = next((row for row in range(min(len(values), _LOOK)) if not _is_time(values[row : row + 1])), 0)
        raise _no_time(table, column, row) from None


def check_times(table: Table, column: str) -> None:
    """Find out at once, and not after a training, that a time cannot be read.

    Raises:
        DataError: As :func:`times_of`, and for an infinite time.
    """
    infinite = np.flatnonzero(np.isinf(times_of(table, column)))
    if len(infinite):
        raise _no_time(table, column, int(infinite[0]))


def _seconds(values: pa.ChunkedArray | pa.Array) -> NDArray[np.float64]:
    if pa.types.is_boolean(values.type):
        raise pa.ArrowInvalid("neither a number nor a date")
    if pa.types.is_temporal(values.type):
        values = pc.cast(pc.cast(values, pa.timestamp("us")), pa.int64())
        numbers = pc.cast(values, pa.float64(), safe=False)  # from the year 2255 on microseconds are rounded
        return np.asarray(numbers.to_numpy(zero_copy_only=False)) / 1e6
    may_round = pa.types.is_integer(values.type)  # nanoseconds since 1970 are rounded to some hundreds of them
    numbers = pc.cast(values, pa.float64(), safe=not may_round)
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


def _is_time(value: pa.ChunkedArray) -> bool:
    """Whether a single value could be a time, of whatever sort."""
    if not pa.types.is_string(value.type):
        return False
    if value.null_count or parse_times(value) is not None:
        return True
    with contextlib.suppress(pa.ArrowInvalid):
        value.cast(pa.float64())
        return True
    return False


def _no_time(table: Table, column: str, row: int) -> DataError:
    value = table.data.column(column)[row].as_py()
    return DataError(
        f"{table.where(row)}: the time column '{column}' must hold finite numbers, dates or texts like 2024-05-31T10:00:00, "
        f"all of one sort; received {shown(value)}. Correct the value, or name another column."
    )


def is_plain_time(table: Table, column: str) -> bool:
    """Whether a time column holds plain numbers, whose unit nobody knows, and not dates."""
    kind = table.data.schema.field(column).type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


_FIRST_S, _LAST_S = 1e8, 1e10


def are_epoch_seconds(times: NDArray[np.float64]) -> bool:
    """Whether plain numbers may be seconds since 1970: all lie between 1973 and 2286.

    Args:
        times: ``[rows]``, NaN where missing.

    Example:
        >>> are_epoch_seconds(np.array([881250949.0, np.nan])), are_epoch_seconds(np.array([1.0, 2.0]))
        (True, False)
    """
    known = times[~np.isnan(times)]
    return bool(not len(known) or (known.min() >= _FIRST_S and known.max() <= _LAST_S))

"""What is odd about keys and times though nothing stops a training: it is said, and the rows stay as they are."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerkit.data.roles import Roles
from towerkit.data.table import Table, shown, values_of
from towerkit.data.times import are_epoch_seconds, is_plain_time, times_of

_FIRST_YEAR, _END_YEAR = 1900, 2100
_MOST = 0.9


def role_notes(table: Table, roles: Roles) -> tuple[str, ...]:
    """A note for each key column with keys that differ only in the blanks around them, and for times far from all others.

    Args:
        table: The example rows, already checked.
        roles: Which columns are keys, and which is the time.

    Example:
        >>> table = Table(pa.table({"user": ["u1", "u1 "], "item": ["a", "b"]}), "clicks", 0)
        >>> role_notes(table, Roles("user", "item", None, None))
        ("'user' holds 'u1 ' (clicks, row 2), which stands elsewhere without the blanks around it: two keys to a model",)
    """
    keys = [name for name in (roles.query, roles.candidate) if name is not None]
    notes = [_blanks(table, name) for name in keys]
    if roles.time is not None:
        notes.append(_far_times(table, roles.time))
    return tuple(note for note in notes if note)


def _blanks(table: Table, column: str) -> str | None:
    values = values_of(table.data, column)
    if not pa.types.is_string(values.type):
        return None
    keys = values.unique()
    trimmed = pc.utf8_trim_whitespace(keys)
    twins = keys.filter(pc.and_(pc.not_equal(keys, trimmed), pc.is_in(trimmed, value_set=keys)))
    if not len(twins):
        return None
    row = int(pc.index(pc.is_in(values, value_set=twins), True).as_py())
    more = f", and {len(twins) - 1:,} more such keys" if len(twins) > 1 else ""
    return (
        f"'{column}' holds {shown(values[row].as_py())} ({table.where(row)}){more}, which stands elsewhere without the "
        "blanks around it: two keys to a model"
    )


def _far_times(table: Table, column: str) -> str | None:
    """Times before 1900 or from 2100 on; of plain numbers only where nearly all are seconds since 1970."""
    times = times_of(table, column)
    known = np.flatnonzero(~np.isnan(times))
    if is_plain_time(table, column):
        usual = np.array([are_epoch_seconds(times[row : row + 1]) for row in known[:1000]])
        if not len(usual) or usual.mean() < _MOST:
            return None
    first, end = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (_FIRST_YEAR, _END_YEAR))
    far = known[(times[known] < first) | (times[known] >= end)]
    if not len(far) or len(far) > (1 - _MOST) * len(known):
        return None
    row = int(far[0])
    return (
        f"'{column}' holds {shown(table.data.column(column)[row].as_py())} ({table.where(row)}), and {len(far):,} of "
        f"{len(known):,} times lie before {_FIRST_YEAR} or after {_END_YEAR - 1}: a split by time will put them first or last; "
        "correct or remove them if they are wrong"
    )

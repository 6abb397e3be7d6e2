"""Which candidates may be answers: those of a list, none of another, and those that hold a condition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.core.errors import DataError, SpecError, listed
from towerkit.data.table import Table, shown, values_of
from towerkit.data.where import parse_where
from towerkit.features.encoded import Catalogue
from towerkit.recommend.keys import did_you_mean, typed_keys


@dataclass(frozen=True)
class Choice:
    """Which candidates may be answers, for all queries alike."""

    exclude_seen: bool = True
    """Leave out what a query had in training, or in its history."""
    allowed: NDArray[np.bool_] | None = None
    """``[candidates]``; None for all of them."""
    reasons: tuple[str, ...] = ()
    """What each setting keeps, in words."""
    notes: tuple[str, ...] = ()
    """What a person should know."""


def choice_of(
    candidate: Catalogue,
    *,
    exclude_seen: bool = True,
    allow: Iterable[Any] | None = None,
    deny: Iterable[Any] | None = None,
    where: str | None = None,
) -> Choice:
    """Read the settings of a question.

    Args:
        candidate: The catalogue.
        exclude_seen: Leave out what a query had.
        allow: Keys; only these may be answers.
        deny: Keys; none of these may be.
        where: A condition on the candidates' columns, see :mod:`towerkit.data.where`.

    Raises:
        DataError: If a list knows no candidate at all, or the condition does not fit the columns.
        SpecError: If the condition is not one.
    """
    number = len(candidate.keys)
    allowed, reasons, notes = np.ones(number, bool), [], []
    for name, given in (("allow", allow), ("deny", deny)):
        if given is None:
            continue
        named, note = _named(candidate, name, list(given))
        allowed &= named if name == "allow" else ~named
        notes += note
        reasons.append(f"{name} {'keeps' if name == 'allow' else 'takes away'} {int(named.sum()):,}")
    if where is not None:
        condition = parse_where(where)
        holds = condition.holds(candidate.table)
        notes += condition.notes(candidate.table)
        allowed &= holds
        reasons.append(f"where keeps {int(holds.sum()):,}")
    if len(reasons) > 1:
        reasons.append(f"together they leave {int(allowed.sum()):,}")
    return Choice(exclude_seen, allowed if reasons else None, tuple(reasons), tuple(notes))


def _named(candidate: Catalogue, name: str, keys: list[Any]) -> tuple[NDArray[np.bool_], list[str]]:
    """``[candidates]`` which of them a list names, and what to say about the rest of the list."""
    rows = candidate.rows(typed_keys(candidate, keys))
    named = np.zeros(len(candidate.keys) + 1, bool)
    named[rows] = True
    unknown = np.flatnonzero(rows == 0)
    if not len(unknown):
        return named[1:], []
    first = keys[int(unknown[0])]
    known = f"the {len(candidate.keys):,} known candidates{did_you_mean(candidate, first)}"
    if len(unknown) == len(keys):
        raise DataError(
            f"{name}: none of its {len(keys):,} keys is known, for example {shown(first)} is not among {known}"
        )
    return named[1:], [
        f"{name}: {len(unknown):,} of its {len(keys):,} keys are unknown, such as {shown(first)}, not among {known}"
    ]


def plain_keys(given: Any) -> list[Any] | None:
    """The keys of a list, set, array or data frame column; None for a path or a table, which has to be read.

    Example:
        >>> plain_keys(("i1", "i2")), plain_keys({"item": ["i1"]})
        (['i1', 'i2'], None)
    """
    if isinstance(given, list | tuple | set | frozenset):
        return None if any(isinstance(row, Mapping) for row in given) else list(given)
    if isinstance(given, pa.ChunkedArray):
        return list(given.to_pylist())
    to_list = getattr(given, "tolist", None) or getattr(given, "to_list", None)
    return list(to_list()) if to_list is not None else None


def key_list(table: Table, names: Sequence[str], setting: str) -> list[Any]:
    """The keys in a file or data frame that was given as a list.

    Args:
        table: What was read.
        names: What the column of candidates' keys may be called.
        setting: ``allow`` or ``deny``, for messages.

    Raises:
        DataError: If it has no such column.
    """
    for name in names:
        if name in table.data.column_names:
            return list(values_of(table.data, name).drop_null().to_pylist())
    raise DataError(
        f"{setting}: {table.name} needs the column '{names[0]}' with keys of candidates; its columns are "
        f"{listed(table.data.column_names)}. The first line of a text file names the columns."
    )


def row_lists(candidate: Catalogue, table: Table, column: str) -> list[NDArray[np.int64] | None] | None:
    """``[rows]`` the rows of the catalogue that each raw row lists, unknown keys left out; None where it lists nothing.

    Args:
        candidate: The catalogue.
        table: Raw rows.
        column: ``history``, ``allow`` or ``deny``.

    Returns:
        None if the table has no such column.

    Raises:
        DataError: If the column holds no lists.
    """
    if column not in table.data.column_names:
        return None
    values = values_of(table.data, column)
    if values.null_count == len(values):
        return [None] * len(values)
    kind = values.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise DataError(
            f"{table.where(0)}: the column '{column}' holds {kind} such as {values.drop_null()[0].as_py()!r}; it is a list of "
            "candidate keys for each row, as Parquet, Arrow or JSON lines have it. Give lists, or rename the column."
        )
    lists: list[list[Any] | None] = values.to_pylist()
    places = candidate.rows(typed_keys(candidate, [key for keys in lists for key in keys or ()]))
    ends = np.cumsum([len(keys or ()) for keys in lists])
    each = np.split(places, ends[:-1])
    return [None if keys is None else found[found > 0] for keys, found in zip(lists, each, strict=True)]


def lists_of(rows: Sequence[NDArray[np.int64] | None]) -> list[NDArray[np.int64]]:
    """The lists, an empty one where there is none."""
    return [np.empty(0, np.int64) if places is None else places for places in rows]


def check_k(k: int, name: str = "k") -> None:
    """Refuse a number of answers that is none.

    Args:
        k: The number.
        name: What it is called.

    Raises:
        SpecError: If ``k`` is not a whole number of at least 1.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise SpecError(f"{name} must be a whole number of at least 1; received {k!r}.")

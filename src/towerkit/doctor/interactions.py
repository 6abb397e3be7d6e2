"""Pairs in a file that nobody has described: how to read it, and which columns are the query and the candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import DataError, listed
from towerkit.core.spec import parse
from towerkit.data.readers import SourceSpec, Table, read_table
from towerkit.data.table import values_of
from towerkit.doctor.guesses import guess_roles
from towerkit.doctor.opening import OpenedFile, open_file

_READING = ("format", "separator", "encoding", "header", "names", "columns", "quoted", "decimal", "sql")
_NEARLY_ALL = 0.9


@dataclass(frozen=True)
class DescribedPairs:
    """What :func:`describe_pairs` found."""

    examples: dict[str, Any]
    """The ``data.examples`` of a spec."""
    in_order: bool
    """Whether the rows of a query may be in the order in which they happened: they are not sorted by candidate."""
    notes: list[str]
    """What a person should know."""


def describe_pairs(path: str, given: Mapping[str, Any], *, with_time: bool) -> DescribedPairs:
    """How a spec reads pairs from a file.

    Args:
        path: The file.
        given: Keys of ``data.examples`` that are known: they are taken as they are, and only the others are guessed.
        with_time: Whether to look for the time of a pair.

    Raises:
        DataError: If the file cannot be read, or does not say who met what.

    Example:
        >>> describe_pairs("builtin:shop-small/purchases", {}, with_time=False).examples
        {'path': 'builtin:shop-small/purchases', 'query': 'user_id', 'candidate': 'product_id'}
    """
    opened = _opened(path, {key: value for key, value in given.items() if key in _READING})
    roles = {role: guess.column for role, guess in guess_roles(opened.table, has_names=opened.has_names).items()}
    found = {**opened.source, **given}
    for role in ("query", "candidate"):
        column = found.setdefault(role, roles.get(role))
        if column is None:
            raise DataError(
                f"{opened.table.name}: no column looks like the {role} of a pair; the columns are "
                f"{listed(opened.table.data.column_names)}. Name it with --{role}."
            )
        if column not in opened.table.data.column_names:
            raise DataError(
                f"{opened.table.name}: has no column '{column}' for --{role}; the columns are "
                f"{listed(opened.table.data.column_names)}. Name one of them."
            )
    if with_time and "time" not in given and "time" in roles:
        found["time"] = roles["time"]
    in_order = not _is_sorted(opened.table, found["query"], found["candidate"])
    return DescribedPairs(found, in_order, [note for note in opened.notes if opened.has_names])


def _opened(path: str, reading: Mapping[str, Any]) -> OpenedFile:
    """The file as it says itself, else as lines of a user and its items."""
    if reading:
        source = {"path": path, **reading}
        table = read_table(parse(SourceSpec, source, "the data"))
        return OpenedFile(table, source, has_names=reading.get("header", True) is True or "names" in reading)
    try:
        return open_file(path)
    except DataError as error:
        why = error
    try:
        table = read_table(parse(SourceSpec, {"path": path, "format": "adjacency"}, "the path"))
    except DataError:
        raise why from None
    if not _is_ragged(table):
        raise why
    note = "each line is read as a user and its items (format: adjacency)"
    return OpenedFile(table, {"path": path, "format": "adjacency"}, True, [note])


def _is_ragged(table: Table) -> bool:
    """Whether users have different numbers of items: lines that are all as long may be columns of something else."""
    counts = np.asarray(pc.value_counts(table.data.column(0)).field("counts"))
    return bool(counts.max() != counts.min() or counts.max() == 1)


def _is_sorted(table: Table, query: str, candidate: str) -> bool:
    """Whether nearly all neighboring rows of a query go the same way by candidate key: the order then says nothing of time."""
    queries, candidates = (_ranks(table, column) for column in (query, candidate))
    order = np.argsort(queries, kind="stable")
    steps = np.diff(candidates[order])[np.diff(queries[order]) == 0]
    steps = steps[steps != 0]
    return len(steps) > 0 and not 1 - _NEARLY_ALL < (steps > 0).mean() < _NEARLY_ALL


def _ranks(table: Table, column: str) -> NDArray[np.int64]:
    """``[rows]`` the place of each value among the distinct ones."""
    values = values_of(table.data, column)
    names = pc.unique(values)
    names = names.take(pc.sort_indices(names))
    return np.asarray(pc.fill_null(pc.index_in(values, value_set=names), -1), np.int64)

"""Segments: figures for a part of the queries or of the right answers, such as cold candidates, or users of a city.

A segment gives every row of a catalogue one of a few values. One over queries measures the queries of each value apart; one
over candidates counts only the right answers of that value, while all candidates are still ranked, and leaves out queries
that have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.errors import DataError, SpecError, listed, nearest
from towerkit.data.column_types import type_of
from towerkit.data.roles import EntityTable
from towerkit.data.table import values_of
from towerkit.features.columns import numbers
from towerkit.features.encoded import Catalogue
from towerkit.features.quantiles import bucket_edges

MISSING = "(missing)"
MOST_VALUES = 50
"""Of a column of categories; more would give figures of a few queries each."""
_FEW_NUMBERS = 8
"""A column of so few different numbers is taken as categories; others are cut into bands."""
_BANDS = 4

TRAINING_SEGMENTS = ("cold_query", "cold_candidate", "activity", "popularity")
"""Segments by what training saw of a query or a candidate."""


@dataclass(frozen=True)
class Segment:
    """One of a few values for each row of a catalogue."""

    name: str
    side: Literal["query", "candidate"]
    values: tuple[str, ...]
    codes: NDArray[np.int64]
    """``[rows + 1]`` the place of each row's value among ``values``; row 0 is unknown to training."""


@dataclass(frozen=True)
class Valued:
    """The values of a column as a segment takes them."""

    values: tuple[str, ...]
    """The last one is :data:`MISSING`, whether or not a row lacks a value."""
    codes: NDArray[np.int64]
    """``[rows]``."""


def ranking_segments(
    names: Sequence[str], query: Catalogue, candidate: Catalogue, seen: csr_array, entities: tuple[str, str]
) -> list[Segment]:
    """The segments of a ranking.

    Args:
        names: Each one of :data:`TRAINING_SEGMENTS`, or ``ENTITY.column``.
        query: The known queries.
        candidate: The known candidates.
        seen: ``[queries, candidates]`` trained pairs, each once.
        entities: The names of the query and the candidate entity.

    Raises:
        DataError: If a column is missing or makes no segment.
        SpecError: If a name is none.
    """
    catalogues = dict(zip(entities, (query, candidate), strict=True))
    found = []
    for name in names:
        if name in TRAINING_SEGMENTS:
            found.append(_of_training(name, seen))
            continue
        entity, column = entity_and_column(name, entities)
        valued = column_segment(catalogues[entity].table.data, column, catalogues[entity].table.name)
        codes = np.concatenate([[len(valued.values) - 1], valued.codes])  # an unknown row has no value
        found.append(Segment(name, "query" if entity == entities[0] else "candidate", valued.values, codes))
    return found


def check_segments(names: Sequence[str], entities: tuple[str, str], tables: Mapping[str, EntityTable]) -> None:
    """Find out before training that a segment of a ranking cannot be measured.

    Args:
        names: As in :func:`ranking_segments`.
        entities: The names of the query and the candidate entity.
        tables: The entity tables there are.

    Raises:
        DataError: If a column is missing or makes no segment, or its entity has no table.
        SpecError: If a name is none.
    """
    for name in names:
        if name in TRAINING_SEGMENTS:
            continue
        entity, column = entity_and_column(name, entities)
        if entity not in tables:
            raise DataError(
                f"evaluation.segments: '{name}' needs a table of '{entity}', and data.entities has {listed(tables) or 'none'}. "
                "Give its table, or remove the segment."
            )
        column_segment(tables[entity].table.data, column, tables[entity].table.name)


def entity_and_column(name: str, entities: Sequence[str]) -> tuple[str, str]:
    """The entity and the column that a segment names.

    Args:
        name: ``ENTITY.column``.
        entities: The query and the candidate entity; their names may have dots.

    Raises:
        SpecError: If it is neither that nor one of :data:`TRAINING_SEGMENTS`.

    Example:
        >>> entity_and_column("user.id.city", ["user.id", "item"])
        ('user.id', 'city')
    """
    for entity in entities:
        if name.startswith(f"{entity}.") and len(name) > len(entity) + 1:
            return entity, name[len(entity) + 1 :]
    known = [*TRAINING_SEGMENTS, *(f"{entity}.COLUMN" for entity in entities)]
    raise SpecError(
        f"evaluation.segments: '{name}' is no segment of a ranking{nearest(name, known) or '.'} Segments are {listed(known)}, "
        "with a column of the entity's table."
    )


def segment_columns(names: Sequence[str], entity: str) -> list[str]:
    """The columns of an entity that segments name.

    Example:
        >>> segment_columns(["activity", "user.city", "item.brand"], "user")
        ['city']
    """
    return [name[len(entity) + 1 :] for name in names if name.startswith(f"{entity}.")]


def column_segment(table: pa.Table, column: str, where: str) -> Valued:
    """The values of a column as a segment takes them: categories as they are, numbers in bands.

    A column of numbers is cut at its quartiles, over the rows given; one of at most eight different numbers is not cut.

    Args:
        table: The rows.
        column: Of categories, texts, truth values or numbers.
        where: What messages call the table.

    Raises:
        DataError: If there is no such column, it holds something else, or more than 50 different categories.

    Example:
        >>> valued = column_segment(pa.table({"city": ["Rome", None, "Oslo", "Rome"]}), "city", "users.csv")
        >>> valued.values, valued.codes.tolist()
        (('Oslo', 'Rome', '(missing)'), [1, 2, 0, 1])
        >>> column_segment(pa.table({"age": list(range(20, 60))}), "age", "users.csv").values
        ('below 29', '29 to below 39', '39 to below 49', '49 or more', '(missing)')
    """
    if column not in table.column_names:
        raise DataError(
            f"evaluation.segments: {where} has no column '{column}'{nearest(column, table.column_names) or '.'} "
            f"The columns are {listed(table.column_names, limit=30)}."
        )
    values = values_of(table, column)
    kind = type_of(pa.chunked_array([values.drop_null()]))
    if kind not in ("category", "text", "bool", "number") or pa.types.is_binary(values.type):
        raise DataError(
            f"evaluation.segments: {where}: a segment needs categories or numbers, and the column '{column}' holds "
            f"{'bytes' if pa.types.is_binary(values.type) else kind} values. Name another column, or add one that groups these."
        )
    distinct = pc.count_distinct(values, mode="only_valid").as_py()
    if kind == "number" and distinct > _FEW_NUMBERS:
        return _number_bands(numbers(values, column))
    if distinct > MOST_VALUES:
        raise DataError(
            f"evaluation.segments: {where}: the column '{column}' has {distinct:,} different values, and a segment may have "
            f"{MOST_VALUES}: most would hold a few rows. Add a column that groups them."
        )
    known = pc.unique(values.drop_null()).sort()
    codes = pc.fill_null(pc.index_in(values, value_set=known), len(known)).to_numpy().astype(np.int64)
    return Valued((*(_text(value) for value in known.to_pylist()), MISSING), codes)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number_bands(values: NDArray[np.float64]) -> Valued:
    edges = bucket_edges(values, _BANDS)
    shown = [f"{edge:.10g}" for edge in edges]
    names = [f"below {shown[0]}", *(f"{low} to below {high}" for low, high in pairwise(shown))]
    codes = np.searchsorted(np.asarray(edges), values, side="right")
    return Valued((*names, f"{shown[-1]} or more", MISSING), np.where(np.isnan(values), len(edges) + 1, codes))


def _of_training(name: str, seen: csr_array) -> Segment:
    side: Literal["query", "candidate"] = "query" if name in ("cold_query", "activity") else "candidate"
    counts = np.diff(seen.indptr) if side == "query" else np.bincount(seen.indices, minlength=seen.shape[1])
    counts = np.concatenate([[0], counts]).astype(np.int64)
    if name.startswith("cold"):
        return Segment(name, side, ("cold", "warm"), (counts > 0).astype(np.int64))
    values, codes = count_bands(counts, np.ones(len(counts)) if side == "query" else counts.astype(np.float64))
    return Segment(name, side, values, codes)


def count_bands(counts: NDArray[np.int64], votes: NDArray[np.float64]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Up to three bands that hold about equally many votes, and one for 0; equal counts are in one band.

    Args:
        counts: ``[rows]`` 0 or more.
        votes: ``[rows]`` what each row weighs in drawing the bands; those of 0 have no say.

    Returns:
        The names of the bands, from 0 upwards, and ``[rows]`` the place of each row's band among them.

    Example:
        >>> count_bands(np.array([0, 1, 1, 2, 5, 9]), np.ones(6))
        (('0', '1', '2 to 5', '6 or more'), array([0, 1, 1, 2, 2, 3]))
    """
    some = counts > 0
    if not some.any():
        return ("0",), np.zeros(len(counts), np.int64)
    distinct, place = np.unique(counts[some], return_inverse=True)
    share = np.cumsum(np.bincount(place, votes[some])) / votes[some].sum()
    last = np.unique(distinct[np.searchsorted(share, [1 / 3 - 1e-9, 2 / 3 - 1e-9])])  # the largest count of a band
    last = last[last < distinct[-1]]
    first = [1, *(int(end) + 1 for end in last)]
    names = [str(low) if low == high else f"{low:,} to {high:,}" for low, high in zip(first, last, strict=False)]
    codes = np.where(some, np.searchsorted(last, counts, side="left") + 1, 0)
    return ("0", *names, f"{first[-1]:,} or more"), codes

"""Vectors as a map: places in the plane of the first two principal components, groups by a column, and what is near a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.random import generator
from towerkit.data.table import values_of
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.reporting.palette import NUM_SERIES
from towerkit.reporting.sections.embedding_map import held_out_table, principal_plane, titled_keys
from towerkit.studio.opened import Missing, Opened

MOST_POINTS = 50_000
_BANDS = 5
OTHER = 255
"""The group of a point that has no color of its own."""
_NEAR = 12


@dataclass(frozen=True)
class Colored:
    """What points are colored by."""

    groups: NDArray[np.uint8]
    """``[points]``."""
    names: tuple[str, ...]
    is_order: bool
    """Whether the groups are bands of numbers, from the lowest on."""


@dataclass(frozen=True, eq=False)
class Space:
    """The vectors of one side, or what a backbone makes of measured rows."""

    which: str
    what: str
    """What a point stands for."""
    vectors: NDArray[np.float32]
    """``[points, dim]``."""
    plane: NDArray[np.float32]
    """``[points, 2]``, between -1 and 1."""
    share: float
    """Of the variance, that lies in the plane."""
    rows: pa.Table
    """``[points, columns]`` what is known of each."""
    names: Sequence[str]
    of: int
    """How many there are; above the most, some are drawn at random."""
    near: Literal["dot", "cosine", "euclidean"]


def spaces_of(opened: Opened) -> list[str]:
    """What maps a Run has: the sides of a two-tower, the candidates of each ranking of a joint one, or ``rows``."""
    run = opened.run
    if run.rankings:
        return [*run.rankings, "query"]
    if isinstance(run.model, Retriever):
        return ["candidate", "query"]
    return ["rows"] if isinstance(run.model, TaskPredictor) else []


def space_of(opened: Opened, which: str) -> Space:
    """A map; worked out once.

    Raises:
        Missing: If the Run has none of that name, or its rows cannot be read again.
    """
    if which not in spaces_of(opened):
        raise Missing(f"{opened.entry.name} has no map of {which}.")
    known = opened.kept.get(("space", which))
    if isinstance(known, Space):
        return known
    model = opened.run.model
    if isinstance(model, TaskPredictor):
        made = _of_rows(opened, model)
    else:
        name = next(iter(opened.run.rankings), "") if which == "query" else which
        retriever: Any = opened.run.ranking(name).model if opened.run.rankings else model
        made = _of_side(retriever, which)
    opened.kept["space", which] = made
    return made


def _of_side(model: Retriever, which: str) -> Space:
    is_query = which == "query"
    catalogue = model.query if is_query else model.candidate
    entity = model.query_entity if is_query else model.candidate_entity
    vectors = (model.query_vectors if is_query else model.candidate_vectors)[1:]
    data, keys = catalogue.table.data, catalogue.keys
    if catalogue.key not in data.column_names:
        data = data.add_column(0, catalogue.key, keys)
    names = titled_keys(data, model.titles.get(entity), keys)
    near = "euclidean" if model.model.match.similarity == "euclidean" else "cosine"
    return _made(which, entity, vectors, data, names, near)


def _of_rows(opened: Opened, model: TaskPredictor) -> Space:
    data = opened.with_data.data
    if data is None:
        raise Missing(f"The map shows measured rows, which are not there: {opened.why_no_rows()}")
    table = held_out_table(data)
    names = [table.where(row) for row in range(table.data.num_rows)]
    return _made("rows", "measured row", model.states(table), table.data, names, "cosine")


def _made(
    which: str, what: str, vectors: NDArray[np.float32], rows: pa.Table, names: Sequence[str], near: Any
) -> Space:
    count = len(vectors)
    if count > MOST_POINTS:
        chosen = np.sort(generator(0, "studio", "points").permutation(count)[:MOST_POINTS])
        vectors, rows, names = (vectors[chosen], rows.take(pa.array(chosen)), [names[place] for place in chosen])
    plane, share = principal_plane(vectors) if count > 1 else (np.zeros((count, 2)), 0.0)
    most = float(np.abs(plane).max(initial=0.0)) or 1.0
    return Space(which, what, vectors, (plane / most).astype(np.float32), share, rows, names, count, near)


def columns_of(space: Space) -> list[str]:
    """The columns that points can be colored by: those that group or order them."""
    return [name for name in space.rows.column_names if _groups(values_of(space.rows, name)) is not None]


def colored(space: Space, column: str) -> Colored:
    """The groups of all points by a column.

    Args:
        space: The map.
        column: One of :func:`columns_of`; empty for none.

    Raises:
        Missing: If points cannot be colored by it.
    """
    if not column:
        return Colored(np.zeros(len(space.names), np.uint8), (), is_order=False)
    found = _groups(values_of(space.rows, column)) if column in space.rows.column_names else None
    if found is None:
        raise Missing(f"Points are not colored by {column}: it neither groups nor orders them.")
    return found


def _groups(values: Any) -> Colored | None:
    """Bands of a column of numbers, the most frequent values of one of few texts; None for any other."""
    kind = values.type
    if pa.types.is_boolean(kind):
        values, kind = values.cast(pa.string()), pa.string()
    counts = pc.value_counts(values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values).to_pylist()
    known = [each for each in counts if each["values"] is not None]
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if is_number and len(known) > NUM_SERIES:
        return _bands(np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False)))
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or is_number
    if (
        not is_text
        or not len(known) >= 2
        or (len(known) > 4 * NUM_SERIES and known[0]["counts"] * 4 * NUM_SERIES < len(values))
    ):
        return None
    order = sorted(known, key=lambda each: (-each["counts"], str(each["values"])))[:NUM_SERIES]
    if is_number:
        order.sort(key=lambda each: float(each["values"]))
    place = {each["values"]: number for number, each in enumerate(order)}
    groups = np.array([place.get(each, OTHER) for each in values.to_pylist()], np.uint8)
    return Colored(groups, tuple(str(each["values"]) for each in order), is_order=False)


def _bands(numbers: NDArray[np.float64]) -> Colored | None:
    finite = numbers[np.isfinite(numbers)]
    ends = np.unique(np.quantile(finite, np.linspace(0, 1, _BANDS + 1))) if len(finite) else finite
    if len(ends) < 3:
        return None
    groups = np.clip(np.searchsorted(ends, numbers, side="right") - 1, 0, len(ends) - 2).astype(np.uint8)
    groups[~np.isfinite(numbers)] = OTHER
    names = tuple(f"{low:.4g} to {high:.4g}" for low, high in pairwise(ends))
    return Colored(groups, names, is_order=True)


def packed(space: Space, column: str) -> bytes:
    """The points as a browser draws them: ``x`` and ``y`` of each as 32-bit floats, then a byte for the group of each."""
    return space.plane.astype("<f4").tobytes() + colored(space, column).groups.tobytes()


def nearest_to(space: Space, place: int) -> list[tuple[int, float]]:
    """The points nearest to one, with their likeness."""
    vectors, one = space.vectors, space.vectors[place]
    if space.near == "euclidean":
        likeness = -((vectors - one) ** 2).sum(axis=1)
    else:
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(one)
        likeness = vectors @ one / np.maximum(lengths, 1e-12)
    likeness = likeness.astype(np.float64)
    likeness[place] = -np.inf
    best = np.argsort(-likeness, kind="stable")[: min(_NEAR, len(vectors) - 1)]
    return [(int(each), float(likeness[each])) for each in best]


def places_with(space: Space, text: str, most: int = 20) -> list[int]:
    """The points whose name holds a text, those that begin with it first."""
    wanted = text.strip().lower()
    found = [place for place, name in enumerate(space.names) if wanted in name.lower()] if wanted else []
    return sorted(found, key=lambda place: not space.names[place].lower().startswith(wanted))[:most]

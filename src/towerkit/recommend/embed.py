"""Vectors of known keys and of raw rows, to keep beside the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.data.readers import Table
from towerkit.data.table import values_of
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.recommend.asked import keyed
from towerkit.recommend.keys import key_column, unknown_key_notes, with_stored_columns
from towerkit.recommend.neighbors import Which
from towerkit.recommend.notes import with_notes

_OURS = ("vector", "cold")


def embedded(model: Retriever, which: Which, table: Table | None) -> pa.Table:
    """Vectors of one side, as the match compares them: under a match by cosine they have length one.

    Args:
        model: A two-tower.
        which: The side.
        table: Raw rows, or rows of keys alone; every known key when not given.

    Returns:
        The key, ``vector`` (a list of float32) and ``cold`` (the key is unknown: the vector comes from the columns alone).

    Raises:
        DataError: If a column is missing or holds values of another kind.
    """
    is_query = which == "query"
    catalogue = model.query if is_query else model.candidate
    entity = model.query_entity if is_query else model.candidate_entity
    notes: tuple[str, ...] = ()
    if table is None:
        keys, vectors = catalogue.keys, (model.query_vectors if is_query else model.candidate_vectors)[1:]
    else:
        table = keyed(catalogue, entity, table)
        notes = unknown_key_notes(catalogue, table)
        table = with_stored_columns(catalogue, model.encoder.columns(entity), table)
        keys = values_of(table.data, catalogue.key)
        vectors = model.vectors_of(model.model.query if is_query else model.model.candidate, entity, table)[1:]
    cold = catalogue.rows(keys) == 0
    columns: dict[str, Any] = {key_column(entity, _OURS): keys, "vector": _lists(vectors), "cold": cold}
    return with_notes(pa.table(columns), notes)


def embedded_rows(predictor: TaskPredictor, table: Table) -> pa.Table:
    """What the backbone of a tower model makes of raw rows: the vector that all its heads read.

    Args:
        predictor: A tower model.
        table: Raw rows with the columns that the towers read.

    Returns:
        The keys that the towers read, ``vector`` and, where there are keys, ``cold`` (one of them is unknown).
    """
    names = [name for name in predictor.key_columns if name in table.data.column_names]
    columns: dict[str, Any] = {key_column(name, _OURS): values_of(table.data, name) for name in names}
    cold = predictor.cold(table)
    columns["vector"] = _lists(predictor.states(table))
    return pa.table(columns if cold is None else columns | {"cold": cold})


def _lists(vectors: NDArray[np.float32]) -> pa.Array:
    rows, dim = vectors.shape
    offsets = pa.array(np.arange(rows + 1) * dim, pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(vectors, np.float32).ravel()))

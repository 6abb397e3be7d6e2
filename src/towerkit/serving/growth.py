"""New candidates, and new values of known ones: their rows, checked and made whole, and the model with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from towerkit.core.errors import DataError, nearest
from towerkit.data.table import Table, values_of
from towerkit.features.encoded import Catalogue
from towerkit.models.answer import Retriever
from towerkit.serving.problems import Problem
from towerkit.storage.hashes import content_hash
from towerkit.trained import RankingModel


def keyed(model: RankingModel, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a candidate with its key in the column of the keys, also where it came under the entity's name.

    Args:
        model: Whose candidate it is.
        row: As it was told.
    """
    key, entity, given = model.candidate.key, model.candidate_entity, dict(row)
    if key not in given and entity in given:
        given[key] = given.pop(entity)
    return given


def whole_row(model: Retriever, rows: Mapping[str, int], row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a candidate with all that the model knows of it so far.

    Args:
        model: Whose candidate it is.
        rows: Key, as a text -> row of the catalogue, from 1.
        row: As it was told.

    Raises:
        Problem: If it has no key, lacks a column that the model reads, or has one that the catalogue does not have.
    """
    catalogue, given = model.candidate, keyed(model, row)
    key = given.get(catalogue.key)
    if key is None or isinstance(key, bool | float | list) or not str(key):
        raise Problem(422, f"A candidate has a key in the column '{catalogue.key}'.", repr(key), "Give it one.")
    table = catalogue.table.data
    for name in given:
        if name not in table.column_names and name != catalogue.key:
            known = (
                f"Candidates have the columns {', '.join(table.column_names[:20])}{nearest(name, table.column_names)}"
            )
            raise Problem(422, known, name, "Leave it out.")
    place = rows.get(str(key), 0)
    if place:
        stored = table.slice(place - 1, 1).to_pylist()[0]
        return stored | given | {catalogue.key: catalogue.keys[place - 1].as_py()}
    read = [name for name in model.encoder.columns(model.candidate_entity) if name != catalogue.key]
    lacking = next((name for name in read if name not in given), None)
    if lacking is not None:
        known = "A new candidate has all columns that the model reads."
        raise Problem(422, known, f"none called '{lacking}'", "Add it; null is fine.")
    return given


def grown(
    model: Retriever, rows: Mapping[str, int], candidates: Mapping[str, dict[str, Any]]
) -> tuple[Retriever, dict[str, str]]:
    """A model with new candidates behind its own, and new values of its own.

    Args:
        model: The model, which stays as it is.
        rows: Key, as a text -> row of the catalogue, from 1.
        candidates: Key -> whole row.

    Returns:
        The model, and a hash of each row.

    Raises:
        DataError: If a value is of another kind than its column.
    """
    catalogue = model.candidate
    fresh = _typed(list(candidates.values()), catalogue)
    vectors = model.vectors_of(model.model.candidate, model.candidate_entity, fresh)[1:]
    known = len(catalogue.keys)
    places, number = [], known
    for key in candidates:
        row = rows.get(key, 0)
        places.append(row - 1 if row else number)
        number += not row
    order = np.arange(number)
    order[places] = known + np.arange(len(places))  # row of both tables, one behind the other
    data = pa.concat_tables([catalogue.table.data, fresh.data]).take(pa.array(order)).combine_chunks()
    all_vectors = np.concatenate([model.candidate_vectors[1:], vectors])[order]
    larger = Catalogue(catalogue.key, values_of(data, catalogue.key), number, replace(catalogue.table, data=data))
    seen = csr_array((model.seen.data, model.seen.indices, model.seen.indptr), shape=(model.seen.shape[0], number))
    other = replace(model, candidate=larger, seen=seen)
    vars(other)["query_vectors"] = model.query_vectors  # what is worked out once stays
    vars(other)["candidate_vectors"] = np.concatenate([model.candidate_vectors[:1], all_vectors])
    pairs = zip(candidates, fresh.data.to_pylist(), strict=True)
    return other, {key: content_hash(str(row)) for key, row in pairs}


def _typed(rows: list[dict[str, Any]], catalogue: Catalogue) -> Table:
    """Rows in the types of a catalogue."""
    columns = {}
    schema = catalogue.table.data.schema
    names = schema.names if catalogue.key in schema.names else [catalogue.key, *schema.names]
    for name in names:
        kind = catalogue.keys.type if name == catalogue.key else schema.field(name).type
        values = [row.get(name) for row in rows]
        if name == catalogue.key and pa.types.is_string(kind):
            values = [str(value) for value in values]
        try:
            columns[name] = pa.array(values, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            wrong = json.dumps(values[0], default=str)
            raise DataError(
                f"The column '{name}' holds {kind}; received {wrong}. {str(error).split('.')[0]}."
            ) from None
    table = pa.table(columns)
    return Table(table.select(schema.names) if set(schema.names) == set(columns) else table, "the request")

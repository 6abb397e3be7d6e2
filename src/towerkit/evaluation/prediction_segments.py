"""Segments of predictions: rows by the value of one of their columns, or of a column of an entity that they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow.compute as pc

from towerkit.core.errors import DataError, SpecError, listed, nearest
from towerkit.data.roles import EntityTable
from towerkit.data.table import Table, values_of
from towerkit.evaluation.segments import MISSING, Valued, column_segment, segment_columns
from towerkit.features.base import as_text


def prediction_segments(names: Sequence[str], rows: Table, entities: Mapping[str, EntityTable]) -> dict[str, Valued]:
    """The value of each row, segment by segment.

    Args:
        names: Each one a column of the rows, or ``ENTITY.column`` with a column of the entity's table.
        rows: What is measured; numbers of their columns are cut into bands at the quartiles of these very rows.
        entities: Column of the rows -> the table that it points to; numbers there are cut at the quartiles of the table.

    Raises:
        DataError: If a column is missing, makes no segment, or its entity has no table.
        SpecError: If a name is neither.

    Example:
        >>> import pyarrow as pa
        >>> rows = Table(pa.table({"user": ["a", "b", "x"], "device": ["phone", "phone", None]}), "rows.csv", 0)
        >>> users = EntityTable("user", "user", Table(pa.table({"user": ["b", "a"], "city": ["Oslo", "Rome"]}), "users.csv", 0))
        >>> found = prediction_segments(["device", "user.city"], rows, {"user": users})
        >>> {name: [valued.values[code] for code in valued.codes] for name, valued in found.items()}
        {'device': ['phone', 'phone', '(missing)'], 'user.city': ['Rome', 'Oslo', '(missing)']}
    """
    return {name: _segment(name, rows, entities) for name in names}


def known_segments(
    names: Sequence[str], rows: Table, entities: Mapping[str, EntityTable]
) -> tuple[dict[str, Valued], dict[str, str]]:
    """The segments that new rows have, and ``name -> why`` for the others.

    Args:
        names: As in :func:`prediction_segments`.
        rows: What is measured.
        entities: The entity tables that the model keeps.
    """
    found: dict[str, Valued] = {}
    left_out: dict[str, str] = {}
    for name in names:
        try:
            found[name] = _segment(name, rows, entities)
        except (DataError, SpecError) as error:
            left_out[name] = str(error).removeprefix("evaluation.segments: ")
    return found, left_out


def check_no_task_is_called_so(tasks: Iterable[str], reserved: str) -> None:
    """Refuse the one task name whose rows would stand where the segments do.

    Raises:
        SpecError: If a task has it.
    """
    if reserved in tasks:
        raise SpecError(
            f"No task may be called '{reserved}' where evaluation.segments are given; give its head another name."
        )


def _segment(name: str, rows: Table, entities: Mapping[str, EntityTable]) -> Valued:
    columns = rows.data.column_names
    if name in columns:
        return column_segment(rows.data, name, rows.name)
    entity = next((entity for entity in entities if segment_columns([name], entity) and entity in columns), None)
    if entity is None:
        known = [*columns, *(f"{entity}.COLUMN" for entity in entities)]
        raise SpecError(
            f"evaluation.segments: '{name}' is no column of {rows.name}, nor one of an entity's table{nearest(name, known) or '.'} "
            f"There are {listed(known, limit=30)}."
        )
    table = entities[entity].table
    valued = column_segment(table.data, segment_columns([name], entity)[0], table.name)
    keys = as_text(values_of(table.data, entities[entity].key))
    place = pc.index_in(as_text(values_of(rows.data, entity)), value_set=keys, skip_nulls=True)
    place = pc.fill_null(place, len(keys)).to_numpy(zero_copy_only=False)
    missing = valued.values.index(MISSING)
    return Valued(valued.values, np.append(valued.codes, missing)[place])

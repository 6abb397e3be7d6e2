"""What a data set must hold before anyone trains on it; every refusal names file, line, column and value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerkit.core.errors import DataError
from towerkit.data.roles import EXAMPLE, EntityTable, Roles
from towerkit.data.schema import Schema
from towerkit.data.split_specs import AnySplit
from towerkit.data.splits import Parts, Rows
from towerkit.data.table import Table, require_columns, shown, values_of
from towerkit.data.times import check_times

_LARGEST_WEIGHT = 1e20
"""Losses are float32: a batch of larger ones would add up to infinity."""


def check_entity(entity: EntityTable, schemas: Mapping[str, Schema], examples: Table) -> None:
    schemas[entity.name].require(entity.key, entity.table.name)
    schemas[EXAMPLE].require(entity.name, examples.name)
    if entity.title is not None:
        schemas[entity.name].require(entity.title, entity.table.name)
    _check_single(entity.table, entity.key)
    keys = values_of(entity.table.data, entity.key)
    if keys.null_count:
        row = int(np.flatnonzero(keys.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"{entity.table.where(row)}: the key column '{entity.key}' is empty; every row needs a key.")
    counts = pc.value_counts(keys)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        first = repeated[0].as_py()
        raise DataError(
            f"{entity.table.name}: the key column '{entity.key}' must hold each key once; {first['values']!r} occurs "
            f"{first['counts']} times, and {len(repeated):,} keys repeat in all. Remove the duplicates."
        )


def check_given_columns(given: Table, roles: Roles) -> None:
    for column in roles.by_column():
        if column != roles.weight:
            require_columns([column], given.data.column_names, given.name)


def check_rows(table: Table, roles: Roles, entities: Mapping[str, EntityTable]) -> None:
    """Refuse a row that cannot be used; the examples and a given test table are looked at one by one, to name the file."""
    for role in ("query", "candidate"):
        column = getattr(roles, role)
        if column is None:
            continue
        _check_single(table, column)
        values = values_of(table.data, column)
        if values.null_count:
            row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
            raise DataError(
                f"{table.where(row)}: the {role} column '{column}' is empty ({values.null_count:,} such rows); "
                "every example needs one. Drop these rows or fill them."
            )
    for entity in entities.values():
        if entity.name in table.data.column_names:
            _check_keys(table, entity)
    if roles.time is not None:
        check_times(table, roles.time)
    if roles.weight is not None and roles.weight in table.data.column_names:  # test rows need no weight
        _check_weights(table, roles.weight)


def _check_single(table: Table, column: str) -> None:
    kind = table.data.schema.field(column).type
    if pa.types.is_nested(kind):
        raise DataError(
            f"{table.where(0)}: the column '{column}' holds lists or records ({kind}) such as "
            f"{shown(table.data.column(column)[0].as_py())}, but a key is one value per row. Write one row per key."
        )


def _check_keys(table: Table, entity: EntityTable) -> None:
    wanted = entity.table.data.schema.field(entity.key).type
    values = values_of(table.data, entity.name)
    try:
        values.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        row = next(row for row in range(len(values)) if not _casts(values[row], wanted))
        raise DataError(
            f"{table.where(row)}: the column '{entity.name}' holds {shown(values[row].as_py())}, but the keys of "
            f"{entity.table.name} in the column '{entity.key}' are {wanted}; write the keys in the same way in both."
        ) from None


def _casts(value: pa.Scalar, wanted: pa.DataType) -> bool:
    try:
        value.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def check_distinct(examples: Table, roles: Roles, rows: Rows) -> None:
    for role in ("query", "candidate"):
        column = getattr(roles, role)
        if column is None:
            continue
        values = values_of(examples.data, column).take(pa.array(rows))
        if pc.count_distinct(values).as_py() < 2:
            raise DataError(
                f"{examples.name}: the {role} column '{column}' holds one value only ({values[0].as_py()!r}); "
                f"a ranking model needs at least two. Is '{column}' the right column?"
            )


def _check_weights(examples: Table, column: str) -> None:
    try:
        weights = pc.cast(values_of(examples.data, column), pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{examples.name}: the weight column '{column}' must hold numbers; {error}.") from None
    bad = np.flatnonzero(~((weights >= 0) & (weights <= _LARGEST_WEIGHT)))
    if len(bad):
        raise DataError(
            f"{examples.where(int(bad[0]))}: the weight column '{column}' must be a number of at least 0 and at most "
            f"{_LARGEST_WEIGHT:g}; "
            f"received {weights[bad[0]]} ({len(bad):,} such rows)."
        )
    if not weights.any():
        raise DataError(
            f"{examples.name}: the weight column '{column}' is zero in every row; nothing would be learned."
        )


def check_parts(parts: Parts, split: AnySplit, examples: Table, rows: Rows) -> None:
    """Refuse an empty part where one was asked for; ``rows`` are those that were split."""
    if not len(parts.train):
        raise DataError(
            f"{examples.name}: the {split.kind} split leaves no training row out of {len(rows):,}; give more rows, or "
            "choose another split (rows of one moment stay together in a time split)."
        )
    for name in ("validation", "test"):
        share = getattr(split, name, None)
        if not share or len(parts.get(name)):
            continue
        if share is True:
            needed = 2 if name == "test" or not getattr(split, "test", False) else 3
            raise DataError(
                f"{examples.name}: the {split.kind} split leaves no {name} row: no query has {needed} rows or more among "
                f"{len(rows):,} rows; give more rows, or set split.{name} to false."
            )
        raise DataError(
            f"{examples.name}: the {split.kind} split leaves no {name} row: {share:.0%} of "
            f"{len(rows):,} rows; give more rows, a larger split.{name}, or set it to 0."
        )


def check_given_parts(parts: Mapping[str, Rows], tables: Mapping[str, Table]) -> None:
    """Refuse a table given apart of which no row counts."""
    for name, rows in parts.items():
        if not len(rows):
            raise DataError(
                f"{tables[name].name}: none of its {tables[name].data.num_rows:,} rows counts by event.weights, positive, "
                f"min_count and k_core, so there is no {name} row. Loosen them, or give other rows."
            )


def check_learned(rows: Rows, removed: Mapping[str, int], before: int, examples: Table) -> None:
    """Refuse filters that leave nothing to learn from."""
    if not len(rows):
        steps = ", ".join(f"{name} takes {count:,}" for name, count in removed.items())
        raise DataError(f"{examples.name}: no row is left to learn from out of {before:,}: {steps}. Lower the counts.")

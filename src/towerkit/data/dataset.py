"""A data set: an example table, entity tables, the role of each column, and the split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.data.readers import Table, read_table
from towerkit.data.schema import Schema, infer_schema
from towerkit.data.spec import DataSpec, ExamplesSpec, PerQuerySplit, RandomSplit, SplitSpec, TimeSplit
from towerkit.data.splits import Parts, Rows, split_per_query, split_random, split_time
from towerkit.data.times import parse_times

EXAMPLE = "example"
"""The entity name of the example rows themselves."""


@dataclass(frozen=True)
class Roles:
    """Which column of the example table plays which part; None where there is none."""

    query: str | None = None
    candidate: str | None = None
    time: str | None = None
    weight: str | None = None

    def by_column(self) -> dict[str, str]:
        """Column -> role, for those that are set."""
        return {column: role for role, column in vars(self).items() if column is not None}


@dataclass(frozen=True)
class EntityTable:
    """Rows that examples point to by key."""

    name: str
    """The example column that points here."""
    key: str
    """The column of this table that holds the key."""
    table: Table
    title: str | None = None
    """Column shown to people beside the key."""


@dataclass(frozen=True)
class Dataset:
    """Raw tables with roles and a split; nothing is fitted yet, so any rows can be held out."""

    examples: Table
    roles: Roles
    entities: Mapping[str, EntityTable]
    schemas: Mapping[str, Schema]
    """``example`` and each entity -> its columns."""
    parts: Parts
    split: Mapping[str, Any]
    """How the parts were made, in plain data, for the protocol."""

    def labelled(self, column: str, rows: Rows) -> pa.Array:
        """The values of an example column at some rows."""
        self.schemas[EXAMPLE].require(column, self.examples.name)
        return _combined(self.examples.data.column(column)).take(pa.array(rows))

    def with_parts(self, parts: Parts) -> Dataset:
        """The same tables under another split, for folds."""
        return replace(self, parts=parts)


def read_dataset(spec: DataSpec, *, base: Path | None = None, seed: int = 0) -> Dataset:
    """Read every table of a data spec, check the roles and split the rows.

    Args:
        spec: What to read.
        base: Folder that relative paths start from.
        seed: Draws random splits.

    Raises:
        DataError: If a file, column or value cannot be used; the message says which.
    """
    examples = read_table(spec.examples, base=base)
    test = None
    if spec.test is not None:
        inherited = spec.examples.model_dump(include={"format", "separator", "encoding", "header", "names", "quoted"})
        given = spec.test.model_dump(exclude_unset=True)
        test = read_table(ExamplesSpec.model_validate({**inherited, **given}), base=base)
    entities = {
        name: EntityTable(name, entity.key or name, read_table(entity, base=base), entity.title)
        for name, entity in spec.entities.items()
    }
    return make_dataset(spec, examples, test=test, entities=entities, seed=seed)


def make_dataset(
    spec: DataSpec,
    examples: Table,
    *,
    test: Table | None = None,
    entities: Mapping[str, EntityTable] | None = None,
    seed: int = 0,
) -> Dataset:
    """Build a data set from tables that are already in memory; see :func:`read_dataset`."""
    roles = Roles(spec.examples.query, spec.examples.candidate, spec.examples.time, spec.examples.weight)
    entities = dict(entities or {})
    schemas = {EXAMPLE: infer_schema(examples, roles.by_column())}
    for entity in entities.values():
        schemas[entity.name] = infer_schema(entity.table, {entity.key: "key"})
        _check_entity(entity, schemas, examples)
    for column in roles.by_column():
        schemas[EXAMPLE].require(column, examples.name)
    num_given_test = 0
    if test is not None:
        examples, num_given_test = _append(examples, test, roles), test.data.num_rows
    _check_roles(examples, roles)
    split = spec.resolved_split()
    parts = _split(examples, roles, split, seed, num_given_test)
    _check_parts(parts, split, examples)
    described = {**split.model_dump(exclude_none=True), "seed": seed}
    if num_given_test:
        described |= {"test": "given"}
    return Dataset(examples, roles, entities, schemas, parts, described)


def times_of(table: Table, column: str) -> NDArray[np.float64]:
    """A time column as seconds (or its own number), NaN where missing.

    Raises:
        DataError: If the values are neither numbers, dates nor ISO-8601 texts.
    """
    values = _combined(table.data.column(column))
    if pa.types.is_string(values.type):
        parsed = parse_times(values)
        values = values if parsed is None else parsed
    try:
        if pa.types.is_temporal(values.type):
            values = pc.cast(pc.cast(values, pa.timestamp("us")), pa.int64())
            return np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)) / 1e6
        return np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{table.name}: the time column '{column}' must hold numbers, dates or texts like "
            f"2024-05-31T10:00:00; {error}."
        ) from None


def _combined(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _check_entity(entity: EntityTable, schemas: Mapping[str, Schema], examples: Table) -> None:
    schemas[entity.name].require(entity.key, entity.table.name)
    schemas[EXAMPLE].require(entity.name, examples.name)
    if entity.title is not None:
        schemas[entity.name].require(entity.title, entity.table.name)
    keys = _combined(entity.table.data.column(entity.key))
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


def _append(examples: Table, test: Table, roles: Roles) -> Table:
    for column in roles.by_column():
        if column not in test.data.column_names and column != roles.weight:
            infer_schema(test, {}).require(column, test.name)
    try:
        joined = pa.concat_tables([examples.data, test.data], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"{test.name} does not fit {examples.name}: {error}. Give both the same columns with the same types."
        ) from None
    return replace(examples, data=joined, name=f"{examples.name} + {test.name}")


def _check_roles(examples: Table, roles: Roles) -> None:
    for role in ("query", "candidate"):
        column = getattr(roles, role)
        if column is None:
            continue
        values = examples.data.column(column)
        if values.null_count:
            row = int(np.flatnonzero(_combined(values).is_null().to_numpy(zero_copy_only=False))[0])
            raise DataError(
                f"{examples.where(row)}: the {role} column '{column}' is empty ({values.null_count:,} such rows); "
                "every example needs one. Drop these rows or fill them."
            )
        if pc.count_distinct(values).as_py() < 2:
            raise DataError(
                f"{examples.name}: the {role} column '{column}' holds one value only ({values[0].as_py()!r}); "
                f"a ranking model needs at least two. Is '{column}' the right column?"
            )
    if roles.weight is not None:
        _check_weights(examples, roles.weight)


def _check_weights(examples: Table, column: str) -> None:
    try:
        weights = pc.cast(_combined(examples.data.column(column)), pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise DataError(f"{examples.name}: the weight column '{column}' must hold numbers; {error}.") from None
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise DataError(
            f"{examples.where(int(bad[0]))}: the weight column '{column}' must be a finite number of at least 0; "
            f"received {weights[bad[0]]} ({len(bad):,} such rows)."
        )


def _split(examples: Table, roles: Roles, split: SplitSpec, seed: int, num_given_test: int) -> Parts:
    num_rows = examples.data.num_rows - num_given_test
    if isinstance(split, TimeSplit):
        if roles.time is None:
            raise DataError("A time split needs data.examples.time; name the time column, or choose another split.")
        parts = split_time(times_of(examples, roles.time)[:num_rows], split)
    elif isinstance(split, PerQuerySplit):
        if roles.query is None:
            raise DataError(
                "A per_query split needs data.examples.query; name the query column, or use split: {kind: random}."
            )
        codes = pc.dictionary_encode(_combined(examples.data.column(roles.query))).indices.to_numpy()
        parts = split_per_query(codes[:num_rows].astype(np.int64), split, seed)
    else:
        assert isinstance(split, RandomSplit)
        parts = split_random(num_rows, split, seed)
    if num_given_test:
        parts = replace(parts, test=np.arange(num_rows, num_rows + num_given_test))
    return parts


def _check_parts(parts: Parts, split: SplitSpec, examples: Table) -> None:
    if not len(parts.train):
        raise DataError(
            f"{examples.name}: the {split.kind} split leaves no training row out of {examples.data.num_rows:,}."
        )
    for name in ("validation", "test"):
        if getattr(split, name) and not len(parts.get(name)):
            raise DataError(
                f"{examples.name}: the {split.kind} split leaves no {name} row: {getattr(split, name):.0%} of "
                f"{examples.data.num_rows:,} rows; give more rows, a larger split.{name}, or set it to 0."
            )

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
from towerkit.data.checks import check_distinct, check_entity, check_parts, check_rows, check_test_columns
from towerkit.data.readers import Table, read_table
from towerkit.data.roles import EXAMPLE, EntityTable, Roles
from towerkit.data.schema import Schema, infer_schema
from towerkit.data.spec import DataSpec, ExamplesSpec, PerQuerySplit, RandomSplit, SplitSpec, TimeSplit
from towerkit.data.splits import Parts, Rows, split_per_query, split_random, split_time
from towerkit.data.table import values_of
from towerkit.data.times import parse_times


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
        return values_of(self.examples.data, column).take(pa.array(rows))

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
        inherited = spec.examples.model_dump(
            include={"format", "separator", "encoding", "header", "names", "quoted", "decimal"}
        )
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
        check_entity(entity, schemas, examples)
    for column in roles.by_column():
        schemas[EXAMPLE].require(column, examples.name)
    num_given_test = 0
    check_rows(examples, roles, entities)
    if test is not None:
        check_test_columns(test, roles)
        check_rows(test, roles, entities)
        examples, num_given_test = _append(examples, test), test.data.num_rows
    check_distinct(examples, roles)
    split = spec.resolved_split()
    parts = _split(examples, roles, split, seed, num_given_test)
    check_parts(parts, split, examples)
    described = {**split.model_dump(exclude_none=True), "seed": seed}
    if num_given_test:
        described |= {"test": "given"}
    return Dataset(examples, roles, entities, schemas, parts, described)


def times_of(table: Table, column: str) -> NDArray[np.float64]:
    """A time column as seconds (or its own number), NaN where missing.

    Raises:
        DataError: If the values are neither numbers, dates nor ISO-8601 texts.
    """
    values = values_of(table.data, column)
    if pa.types.is_string(values.type):
        parsed = parse_times(values)
        values = values if parsed is None else parsed
    try:
        if pa.types.is_temporal(values.type):
            values = pc.cast(pc.cast(values, pa.timestamp("us")), pa.int64())
            return np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)) / 1e6
        return np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{table.name}: the time column '{column}' must hold numbers, dates or texts like "
            f"2024-05-31T10:00:00; {error}."
        ) from None


def _append(examples: Table, test: Table) -> Table:
    """The test rows below the others; a column that one of the two has no value in takes the other's type."""
    kinds = {field.name: field.type for field in examples.data.schema}
    columns = {}
    for name in test.data.column_names:
        values = test.data.column(name)
        empty = values.null_count == len(values) and name in kinds
        columns[name] = pa.nulls(len(values), kinds[name]) if empty else values
    try:
        joined = pa.concat_tables([examples.data, pa.table(columns)], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"{test.name} does not fit {examples.name}: {error}. Give both the same columns with the same types."
        ) from None
    return replace(examples, data=joined, name=f"{examples.name} + {test.name}")


def _split(examples: Table, roles: Roles, split: SplitSpec, seed: int, num_given_test: int) -> Parts:
    num_rows = examples.data.num_rows - num_given_test
    if isinstance(split, TimeSplit):
        if roles.time is None:
            raise DataError("A time split needs data.examples.time; name the time column, or choose another split.")
        parts = _split_time(examples, roles.time, num_rows, split)
    elif isinstance(split, PerQuerySplit):
        if roles.query is None:
            raise DataError(
                "A per_query split needs data.examples.query; name the query column, or use split: {kind: random}."
            )
        codes = pc.dictionary_encode(values_of(examples.data, roles.query)).indices.to_numpy()
        parts = split_per_query(codes[:num_rows].astype(np.int64), split, seed)
    else:
        assert isinstance(split, RandomSplit)
        parts = split_random(num_rows, split, seed)
    if num_given_test:
        parts = replace(parts, test=np.arange(num_rows, num_rows + num_given_test))
    return parts


def _split_time(examples: Table, column: str, num_rows: int, split: TimeSplit) -> Parts:
    try:
        return split_time(times_of(examples, column)[:num_rows], split)
    except DataError as error:
        raise DataError(f"{examples.name}, column '{column}': {error}") from None

"""A data set: an example table, entity tables, the role of each column, and the split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.data.checks import check_entity, check_given_columns, check_rows
from towerkit.data.division import divide
from towerkit.data.learning import Learning
from towerkit.data.logs import EventLog
from towerkit.data.readers import Table, read_table
from towerkit.data.role_notes import role_notes
from towerkit.data.roles import EXAMPLE, EntityTable, Roles
from towerkit.data.schema import Schema, infer_schema
from towerkit.data.search.collection import read_collection, read_judgements
from towerkit.data.search.spec import DOCUMENT, QUERY, CollectionSpec
from towerkit.data.spec import DataSpec
from towerkit.data.splits import Parts, Rows
from towerkit.data.table import require_columns, values_of
from towerkit.data.times import check_times, times_of
from towerkit.data.usable import usable_rows

__all__ = ["Dataset", "make_dataset", "read_dataset", "times_of"]


@dataclass(frozen=True)
class Dataset:
    """Raw tables with roles and a split; nothing is fitted yet, so any rows can be held out."""

    examples: Table
    roles: Roles
    entities: Mapping[str, EntityTable]
    schemas: Mapping[str, Schema]
    """``example`` and each entity -> its columns."""
    parts: Parts
    """What is learned from and what is held out; a row that is left out stands in no part."""
    split: Mapping[str, Any]
    """How the parts were made, in plain data, for the protocol."""
    weights: NDArray[np.float64] | None = None
    """``[examples]`` weight of each row in the loss; None when all weigh one."""
    grades: NDArray[np.float64] | None = None
    """``[examples]`` how well the candidate answers the query; None where the data does not say."""
    learning: Learning = field(default_factory=Learning)
    """How training rows are chosen and weighed."""
    logs: Mapping[str, EventLog] = field(default_factory=dict)
    """Name -> events that features look back on."""
    uncut: Parts | None = None
    """The parts before training rows were chosen, where that is another thing."""

    def labelled(self, column: str, rows: Rows) -> pa.Array:
        """The values of an example column at some rows."""
        self.schemas[EXAMPLE].require(column, self.examples.name)
        return values_of(self.examples.data, column).take(pa.array(rows))

    @property
    def source(self) -> Table:
        """The table whose rows are counted."""
        return self.examples

    def row_numbers(self, chosen: Rows) -> Rows:
        """Rows that are learned from as the source counts them: here they are such numbers."""
        return chosen

    def with_parts(self, parts: Parts) -> Dataset:
        """The same tables and weights under another split, for folds; its rows are taken as they are."""
        return replace(self, parts=parts, learning=Learning(), uncut=None)

    def for_refit(self) -> Dataset:
        """The data set that the final model learns from: validation rows among the training rows, chosen and weighed anew."""
        parts = self.uncut or self.parts
        both = Parts(np.union1d(parts.train, parts.validation), parts.validation[:0], parts.test)
        if self.uncut is None:
            return replace(self, parts=both)
        chosen = self.learning.choose(both.train)
        return replace(self, parts=replace(both, train=chosen.rows), weights=chosen.weights, uncut=both)


def read_dataset(spec: DataSpec, *, base: Path | None = None, seed: int = 0) -> Dataset:
    """Read every table of a data spec, check the roles and split the rows.

    Args:
        spec: What to read.
        base: Folder that relative paths start from.
        seed: Draws random splits.

    Raises:
        DataError: If a file, column or value cannot be used; the message says which.
    """
    if spec.collection is not None:
        return _read_collection(spec, spec.collection, base, seed)
    examples = read_table(spec.examples, base=base)
    validation, test = (
        None if source is None else read_table(source, base=base) for source in (spec.validation, spec.test)
    )
    entities = {
        name: EntityTable(name, entity.key or name, read_table(entity, base=base), entity.title)
        for name, entity in spec.entities.items()
    }
    return make_dataset(
        spec,
        examples,
        validation=validation,
        test=test,
        entities=entities,
        logs=_logs(spec, base),
        seed=seed,
    )


def _logs(spec: DataSpec, base: Path | None) -> dict[str, EventLog]:
    return {name: EventLog(each.key, each.time, read_table(each, base=base)) for name, each in spec.logs.items()}


def _read_collection(spec: DataSpec, collection: CollectionSpec, base: Path | None, seed: int) -> Dataset:
    """A search collection as a data set; what does not fit between its files is told among the warnings."""
    found = read_collection(collection, base=base)
    validation, test = (
        None if source is None else read_judgements(collection, source.path, found.queries, found.documents, base=base)
        for source in (spec.validation, spec.test)
    )
    entities = {
        QUERY: EntityTable(QUERY, QUERY, found.queries, "text"),
        DOCUMENT: EntityTable(DOCUMENT, DOCUMENT, found.documents, "title"),
    }
    dataset = make_dataset(
        spec,
        found.judgements,
        validation=validation,
        test=test,
        more=found.titles,
        entities=entities,
        logs=_logs(spec, base),
        seed=seed,
    )
    notes = [note for table in (found.judgements, validation, test) if table is not None for note in table.notes]
    if not notes:
        return dataset
    return replace(dataset, split={**dataset.split, "warnings": [*dataset.split.get("warnings", []), *notes]})


def make_dataset(
    spec: DataSpec,
    examples: Table,
    *,
    validation: Table | None = None,
    test: Table | None = None,
    more: Table | None = None,
    entities: Mapping[str, EntityTable] | None = None,
    logs: Mapping[str, EventLog] | None = None,
    seed: int = 0,
) -> Dataset:
    """Build a data set from tables that are already in memory; see :func:`read_dataset`.

    Args:
        spec: Roles, split, and how training rows are chosen; its paths are not read.
        examples: The example table.
        validation: A validation table given apart.
        test: A test table given apart.
        more: Pairs to learn from that are never held out.
        entities: Example column -> its table.
        logs: Name -> events that features look back on.
        seed: Draws random splits.
    """
    for log in (logs or {}).values():
        require_columns([log.key, log.time], log.table.data.column_names, log.table.name)
        check_times(log.table, log.time)
    roles = Roles(spec.examples.query, spec.examples.candidate, spec.examples.time, spec.examples.weight)
    entities = dict(entities or {})
    schemas = {EXAMPLE: infer_schema(examples, roles.by_column())}
    for entity in entities.values():
        schemas[entity.name] = infer_schema(entity.table, {entity.key: "key"})
        check_entity(entity, schemas, examples)
    for column in roles.by_column():
        schemas[EXAMPLE].require(column, examples.name)
    check_rows(examples, roles, entities)
    examples = replace(examples, notes=examples.notes + role_notes(examples, roles))
    whole, apart = examples, {}
    for part, table in (("validation", validation), ("test", test), ("train", more)):
        if table is None:
            continue
        check_given_columns(table, roles)
        check_rows(table, roles, entities)
        apart[part] = table, np.arange(whole.data.num_rows, whole.data.num_rows + table.data.num_rows)
        whole = _append(whole, table)
    usable = usable_rows(spec.examples, [examples, *(table for table, _ in apart.values())])
    made = divide(spec, whole, roles, usable, apart, seed)
    return Dataset(
        whole,
        roles,
        entities,
        schemas,
        made.parts,
        made.described,
        made.weights,
        usable.grades,
        made.learning,
        dict(logs or {}),
        made.uncut,
    )


def _append(examples: Table, test: Table) -> Table:
    """The rows of a table given apart below the others; a column that one of the two has no value in takes the other's type."""
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

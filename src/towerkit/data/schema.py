"""What each column of a table is: its type, its role, how much is missing, and an example.

The types and their rules stand in :mod:`towerkit.data.column_types`; contents are judged by the first 100,000 rows.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from towerkit.core.errors import DataError, listed, nearest
from towerkit.data.column_types import ColumnType, first_misfit, fits, type_of
from towerkit.data.table import Table, require_columns, shown

Role = Literal["query", "candidate", "time", "weight", "label", "feature", "key"]

SAMPLE_ROWS = 100_000
"""Rows that distinct counts and the contents rules look at."""

_KEY_ROLES = ("query", "candidate", "key")
_NOT_SERVED = ("label", "weight")


@dataclass(frozen=True)
class ColumnInfo:
    """One column in a few words."""

    name: str
    type: ColumnType
    role: Role
    missing: float
    """Share of all rows without a value, 0 to 1."""
    distinct: int
    """Number of different values among the first 100,000 rows; 0 for lists, vectors, images and sounds."""
    example: str | None
    """The first value that is not missing, cut to 60 characters."""


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order."""

    columns: tuple[ColumnInfo, ...]

    @cached_property
    def by_name(self) -> dict[str, ColumnInfo]:
        """Name -> column."""
        return {column.name: column for column in self.columns}

    def require(self, column: str, table_name: str) -> ColumnInfo:
        """The column of this name.

        Raises:
            DataError: If there is none, with the nearest name.
        """
        require_columns([column], list(self.by_name), table_name)
        return self.by_name[column]

    def rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """Name, role, type, missing, distinct and example of each column as text, for a printed table."""
        return [
            (c.name, c.role, c.type, f"{c.missing:.1%}", f"{c.distinct:,}" if c.distinct else "", c.example or "")
            for c in self.columns
        ]

    def to_json(self) -> str:
        """The schema as JSON text; :meth:`from_json` reads it."""
        return json.dumps({"columns": [asdict(column) for column in self.columns]}, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """Read what :meth:`to_json` wrote.

        Raises:
            DataError: If it is not a schema, or has a type or role that this version does not know.
        """
        try:
            return cls(tuple(_column(data) for data in json.loads(text)["columns"]))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"The schema is not one that towerkit wrote ({error!r}): {shown(text)}.") from None


def infer_schema(table: Table, roles: Mapping[str, str]) -> Schema:
    """Look at a table and say what each column is; the rules are in :mod:`towerkit.data.column_types`.

    Args:
        table: The rows.
        roles: Column -> role; a column not named is a feature, and a name that no column has is ignored here
            (:meth:`Schema.require` refuses it with the nearest one).

    Raises:
        DataError: If a role is unknown.

    Example:
        >>> table = Table(pa.table({"user": ["u1", "u2"], "age": [31, None]}), "a.csv")
        >>> schema = infer_schema(table, {"user": "query"})
        >>> [(column.type, column.missing) for column in schema.columns]
        [('key', 0.0), ('number', 0.5)]
    """
    for column, role in roles.items():
        if role not in get_args(Role):
            raise DataError(
                f"{table.name}: column '{column}' is given the role '{role}'{nearest(role, get_args(Role)) or '.'} "
                f"The roles are {listed(get_args(Role))}."
            )
    return Schema(tuple(_describe(table.data, name, roles.get(name, "feature")) for name in table.data.column_names))


def check_same_columns(schema: Schema, table: Table, *, columns: Iterable[str] | None = None) -> None:
    """Refuse a table that lacks a column of the schema, or in which a column became another type.

    Extra columns and another order are fine, so is a column with no values. Text and categories accept numbers, since
    text that happens to hold only numbers is read as numbers.

    Args:
        schema: Of the training table.
        table: The rows to serve.
        columns: Check these only; all but labels and weights when not given.

    Raises:
        DataError: With all missing columns, or the first row and value of a column that changed.
    """
    expected = [column for column in schema.columns if column.role not in _NOT_SERVED]
    if columns is not None:
        expected = [schema.require(column, table.name) for column in columns]
    known = table.data.column_names
    absent = [column.name for column in expected if column.name not in known]
    if absent:
        raise DataError(
            f"{table.name}: lacks {len(absent)} of the {len(expected)} columns that the model was trained on: "
            f"{listed(absent)}{nearest(absent[0], known) or '.'} Its columns are {listed(known, limit=30)}."
        )
    for column in expected:
        _check_type(column, table)


def _check_type(column: ColumnInfo, table: Table) -> None:
    values = table.data.column(column.name)
    if values.null_count == len(values) or fits(column.type, values):
        return
    row = first_misfit(column.type, values)
    raise DataError(
        f"{table.where(row)}: column '{column.name}' held the type {column.type} in training (for example "
        f"{shown(column.example)}), but here it holds {shown(values[row].as_py())}; correct the value, or train on "
        "data like this."
    )


def _describe(data: pa.Table, name: str, role: str) -> ColumnInfo:
    values = data.column(name)
    present = values.slice(0, SAMPLE_ROWS).drop_null()
    if not len(present):
        present = values.drop_null().slice(0, SAMPLE_ROWS)
    kind: ColumnType = "key" if role in _KEY_ROLES else type_of(present)
    countable = kind not in ("list", "vector", "image", "sound") and not pa.types.is_nested(values.type)
    return ColumnInfo(
        name=name,
        type=kind,
        role=role,  # type: ignore[arg-type]  # infer_schema checked it
        missing=values.null_count / max(len(values), 1),
        distinct=pc.count_distinct(present).as_py() if countable else 0,
        example=_example(present),
    )


def _example(present: pa.ChunkedArray) -> str | None:
    if not len(present):
        return None
    value = present[0].as_py()
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, (datetime.date, datetime.time)):
        value = value.isoformat()
    return (value if len(value) <= 60 else value[:59] + "…") if isinstance(value, str) else shown(value)


def _column(data: Mapping[str, Any]) -> ColumnInfo:
    column = ColumnInfo(**{field.name: data[field.name] for field in fields(ColumnInfo)})
    if column.type not in get_args(ColumnType) or column.role not in get_args(Role):
        raise DataError(
            f"The schema gives column '{column.name}' the type '{column.type}' and the role '{column.role}'; this "
            f"version knows the types {listed(get_args(ColumnType))} and the roles {listed(get_args(Role))}."
        )
    return column

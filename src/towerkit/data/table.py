"""A table in memory with the name that messages call it by, and the few column types the floors above meet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from towerkit.core.errors import DataError, listed, nearest


@dataclass(frozen=True)
class Table:
    """Rows, and what to call them in messages."""

    data: pa.Table
    name: str
    """The path as the user wrote it, or for example "the given data frame"."""
    first_row: int = 0
    """Line number (from 1) of the first data row in a text file; 0 where rows have no lines.

    Row ``i`` (from 0) begins at line ``first_row + i``, unless an earlier value holds a line break or an earlier line
    is blank, in which case it begins further down.
    """
    notes: tuple[str, ...] = ()
    """What the reader noticed that is odd but no fault, in plain sentences."""
    folder: Path | None = None
    """Where paths in its cells start: the folder of its file; None for a table from memory."""

    def where(self, row: int) -> str:
        """What messages call row ``row`` (from 0): its line in a text file, else its number from 1.

        Example:
            >>> Table(pa.table({"a": [1]}), "a.csv", first_row=2).where(0)
            'a.csv, line 2'
            >>> Table(pa.table({"a": [1]}), "the given data frame").where(0)
            'the given data frame, row 1'
        """
        return f"{self.name}, line {self.first_row + row}" if self.first_row else f"{self.name}, row {row + 1}"


def values_of(data: pa.Table, name: str) -> pa.Array:
    """One column as a single array.

    Raises:
        DataError: If the table has no such column.
    """
    if name not in data.column_names:
        raise DataError(
            f"The column '{name}' is missing; the table has {data.column_names}{nearest(name, data.column_names) or '.'} "
            "Add it (empty values are fine)."
        )
    combined = data.column(name).combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def require_columns(wanted: Iterable[str], known: Sequence[str], name: str) -> None:
    """Refuse the first wanted column that the table ``name`` does not have, with the nearest one it has.

    Raises:
        DataError: If a column is missing.
    """
    for column in wanted:
        if column not in known:
            raise DataError(
                f"{name}: there is no column '{column}'{nearest(column, known) or '.'} "
                f"The columns are {listed(known, limit=30)}."
            )


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse an empty or a repeated column name: a spec could not say which column it means.

    Raises:
        DataError: With the position of the column.
    """
    for position, name in enumerate(names):
        if not name.strip():
            after = f" (after '{names[position - 1]}')" if position else ""
            raise DataError(
                f"{where}: every column needs a name, but that of column {position + 1}{after} is empty; "
                "name it, or remove the column."
            )
        if name in names[:position]:
            raise DataError(
                f"{where}: column names must differ, but '{name}' names columns {list(names).index(name) + 1} "
                f"and {position + 1}; rename one of them."
            )


def plain_table(data: pa.Table, name: str) -> pa.Table:
    """The same values in few types: text, integers, floats, booleans, times, bytes and lists of these.

    Records become columns called ``parent.child``. Dictionary (categorical), large and view types are decoded,
    UUIDs become text, other extension types give way to their storage, decimals become floats (whole numbers, if they
    have no decimal places), NaN becomes missing, and a column of nothing but nulls becomes text.

    Args:
        data: Any Arrow table.
        name: What to call it in messages.

    Raises:
        DataError: If column names are empty or repeated, or a value does not survive the conversion.
    """
    while any(pa.types.is_struct(field.type) for field in data.schema):
        data = data.flatten()
    check_names(data.column_names, name)
    columns = {column: _plain(data.column(column), column, name) for column in data.column_names}
    return pa.table(columns) if columns else data


def _plain(values: pa.ChunkedArray, column: str, name: str) -> pa.ChunkedArray:
    target = plain_type(values.type)
    if pa.types.is_floating(values.type) and pc.any(pc.is_nan(values)).as_py():
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    if target == values.type:
        return values
    try:
        if isinstance(values.type, pa.UuidType):
            return _uuid_texts(values)
        if isinstance(values.type, pa.BaseExtensionType):
            chunks = [chunk.storage for chunk in values.chunks]
            return _plain(pa.chunked_array(chunks, type=values.type.storage_type), column, name)
        if pa.types.is_dictionary(values.type):  # cast by hand: Arrow cannot look up view types
            chunks = [chunk.dictionary.cast(target).take(chunk.indices) for chunk in values.chunks]
            return pa.chunked_array(chunks, type=target)
        return values.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{name}: column '{column}' of type {values.type} cannot be read as {target}: {error}. "
            "Convert or drop it before it is given here."
        ) from None


def _uuid_texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """UUIDs as people and other files write them; their 16 bytes would be no key that anyone can type."""
    stored = pa.chunked_array([chunk.storage for chunk in values.chunks], type=pa.binary(16)).combine_chunks()
    coded = (stored.combine_chunks() if isinstance(stored, pa.ChunkedArray) else stored).dictionary_encode()
    texts = pa.array([str(UUID(bytes=value)) for value in coded.dictionary.to_pylist()], pa.string())
    return pa.chunked_array([texts.take(coded.indices)])


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that stands for ``kind`` from here on.

    Example:
        >>> plain_type(pa.dictionary(pa.int8(), pa.large_string()))
        DataType(string)
    """
    is_type = pa.types
    if isinstance(kind, pa.UuidType):
        return pa.string()
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if is_type.is_dictionary(kind) or is_type.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if is_type.is_large_string(kind) or is_type.is_string_view(kind) or is_type.is_null(kind):
        return pa.string()
    if is_type.is_large_binary(kind) or is_type.is_binary_view(kind) or is_type.is_fixed_size_binary(kind):
        return pa.binary()
    if is_type.is_decimal(kind):  # without decimal places it is how many databases keep whole numbers, keys among them
        return pa.float64() if kind.scale > 0 else pa.int64()
    if is_type.is_float16(kind):
        return pa.float32()
    if is_type.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type), kind.list_size)
    if is_type.is_list(kind) or is_type.is_large_list(kind) or is_type.is_list_view(kind):
        inner = plain_type(kind.value_type)
        return kind if is_type.is_list(kind) and inner == kind.value_type else pa.list_(inner)
    return kind


def shown(value: Any, limit: int = 60) -> str:
    """A value for a message: quoted, and cut when long."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"

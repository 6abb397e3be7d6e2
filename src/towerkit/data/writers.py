"""Answers to files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from towerkit.core.errors import DataError, listed, nearest

_KINDS = (".parquet", ".csv", ".arrow")


def check_writable(path: Path) -> None:
    """Refuse a file that answers cannot be written to, before they are made.

    Args:
        path: Ends in ``.parquet``, ``.csv`` or ``.arrow``.

    Raises:
        DataError: If the extension is another one, the folder is missing, or it is a Run.
    """
    if path.suffix not in _KINDS:
        raise DataError(
            f"{path}: the extension says the form of the file, one of {listed(_KINDS)}{nearest(path.suffix, _KINDS) or '.'}"
        )
    if (path.parent / "manifest.json").is_file():
        raise DataError(
            f"{path}: '{path.parent}' is a Run, which holds only what towerkit wrote and would not open any more with "
            "another file in it; choose a place outside."
        )
    if not path.parent.is_dir():
        raise DataError(
            f"{path} cannot be written: there is no folder '{path.parent}'; make it, or choose another one."
        )


@contextmanager
def table_writer(path: Path, schema: pa.Schema) -> Iterator[Any]:
    """A writer of tables, one after the other, in the form that the file's extension names.

    Args:
        path: See :func:`check_writable`; an existing file is replaced.
        schema: Of all tables.

    Yields:
        An object with ``write_table``.

    Raises:
        DataError: If the file cannot be written, or the form has no place for lists.
    """
    check_writable(path)
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if path.suffix == ".csv" and nested:
        raise DataError(
            f"{path}: the column '{nested[0]}' holds lists, which CSV has no place for; write .parquet or .arrow."
        )
    try:
        if path.suffix == ".parquet":
            with pyarrow.parquet.ParquetWriter(path, schema) as writer:
                yield writer
        elif path.suffix == ".csv":
            with pyarrow.csv.CSVWriter(path, schema) as writer:
                yield writer
        else:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                yield writer
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error}); choose a folder that exists and is writable.") from None


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table in the form that the file's extension names.

    Args:
        table: The rows.
        path: Ends in ``.parquet``, ``.csv`` or ``.arrow``; an existing file is replaced.

    Raises:
        DataError: If the extension is another one, the folder is a Run, or the file cannot be written.
    """
    if path.suffix == ".csv":
        table = _joined(table, path)
    with table_writer(path, table.schema) as writer:
        writer.write_table(table)


_BETWEEN = "|"
"""What stands between the texts of a list in CSV, as multi_hot columns and multilabel heads read it."""


def _joined(table: pa.Table, path: Path) -> pa.Table:
    """Lists of texts as one text each, since CSV has no place for lists."""
    for place, field in enumerate(table.schema):
        if not (pa.types.is_list(field.type) and pa.types.is_string(field.type.value_type)):
            continue
        values = table.column(place).combine_chunks()
        texts = pc.list_flatten(values)
        if pc.any(pc.match_substring(texts, _BETWEEN)).as_py():
            first = texts.filter(pc.match_substring(texts, _BETWEEN))[0].as_py()
            raise DataError(
                f"{path}: the column '{field.name}' holds lists, which stand in CSV with '{_BETWEEN}' between their texts, and "
                f"{first!r} has one in it. Write .parquet or .arrow."
            )
        table = table.set_column(place, field.name, pc.binary_join(values, _BETWEEN))
    return table

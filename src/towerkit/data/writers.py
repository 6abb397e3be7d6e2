"""Answers to files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from towerkit.core.errors import DataError, listed, nearest

_KINDS = (".parquet", ".csv", ".arrow")


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table in the form that the file's extension names.

    Args:
        table: The rows.
        path: Ends in ``.parquet``, ``.csv`` or ``.arrow``; an existing file is replaced.

    Raises:
        DataError: If the extension is another one, the folder is a Run, or the file cannot be written.
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
    if path.suffix == ".csv":
        table = _joined(table, path)
    try:
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(table, path)
        elif path.suffix == ".csv":
            pyarrow.csv.write_csv(table, path)
        else:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error}); choose a folder that exists and is writable.") from None


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

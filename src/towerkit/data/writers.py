"""Answers to files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
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

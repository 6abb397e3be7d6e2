"""Arrow files inside a Run."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from towerkit.core.errors import RunError


def save_table(path: Path, table: pa.Table) -> None:
    """Write a table as one Arrow IPC file."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def load_table(path: Path) -> pa.Table:
    """Read and validate an Arrow IPC file.

    Raises:
        RunError: If the file is missing or is not a valid Arrow file.
    """
    try:
        with pa.OSFile(str(path), "rb") as source:
            # From memory: no length that the file names can ask for more than it holds.
            table = pa.ipc.open_file(pa.BufferReader(source.read_buffer())).read_all()
        table.validate(full=True)
    except (OSError, pa.ArrowException, pa.ArrowInvalid) as error:
        raise RunError(
            f"{path} cannot be read as an Arrow file ({error}); train the Run again or restore the file."
        ) from None
    return table

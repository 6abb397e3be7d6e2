"""The Parquet files of a log: their columns and rows by their footers, their values a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from towerkit.core.errors import DataError
from towerkit.data.parquet import ParquetPart, common_field, not_usable, parquet_parts
from towerkit.data.source import SourceSpec
from towerkit.data.stream.arrays import CHUNK_ROWS
from towerkit.data.table import Table, plain_table, require_columns
from towerkit.storage.hashes import sha256_bytes

_FOOTER_BYTES = 8
"""The length of the footer and four letters, at the end of a Parquet file."""


@dataclass(frozen=True)
class LogFiles:
    """One file, or a folder of them, and the columns that are read."""

    name: str
    """The path as the user wrote it."""
    parts: tuple[ParquetPart, ...]
    schema: pa.Schema
    """The columns that are read, in plain types."""

    @classmethod
    def open(cls, source: SourceSpec, columns: tuple[str, ...], base: Path | None = None) -> LogFiles:
        """Look at the footers.

        Args:
            source: A file or a folder.
            columns: What will be read.
            base: Folder that relative paths start from.

        Raises:
            DataError: If there is no Parquet file, or one lacks a column or holds another type than the first.
        """
        name, parts = source.path, tuple(parquet_parts(source.path, base))
        for part in parts:
            for column in columns:
                if column in part.partitions:
                    raise DataError(
                        f"{part.name}: '{column}' is a partition ({column}={part.partitions[column]}), and a stream reads "
                        "columns that stand in the files; write the column into them."
                    )
            require_columns(columns, part.schema.names, part.name)
        fields = [common_field(parts[0].schema.field(column), parts) for column in columns]
        found = cls(name, parts, pa.schema(fields))
        if not found.num_rows:
            raise DataError(f"{name}: has no rows; give a table with rows.")
        return found

    @property
    def num_rows(self) -> int:
        """Of all files."""
        return sum(part.num_rows for part in self.parts)

    def seal(self) -> list[dict[str, Any]]:
        """What tells each file from another; see :func:`seal_of`."""
        return [seal_of(part) for part in self.parts]

    def tables(self, most: int = CHUNK_ROWS) -> Iterator[tuple[str, int, pa.Table]]:
        """The rows in the order of the sorted paths, in pieces of a file.

        Args:
            most: Rows of a piece.

        Yields:
            The file's name, the number of its rows before the piece, and the piece.

        Raises:
            DataError: If a file cannot be read to its end.
        """
        for part in self.parts:
            for before, table in rows_of(part, self.schema, most):
                yield part.name, before, table

    def batches(self, most: int = CHUNK_ROWS) -> Iterator[pa.Table]:
        """The same rows in pieces that go over from one file to the next, so that many small files cost no more than a large.

        Args:
            most: Rows of a piece.

        Raises:
            DataError: Besides, if a key is missing; names file, row and column.
        """
        held: list[pa.Table] = []
        for name, before, table in self.tables(most):
            check_filled(table, name, before)
            held.append(table)
            if sum(map(len, held)) >= most:
                yield pa.concat_tables(held).combine_chunks()
                held = []
        if held:
            yield pa.concat_tables(held).combine_chunks()

    def where(self, row: int) -> str:
        """What messages call row ``row`` (from 0) of the whole log.

        Args:
            row: Its number.
        """
        for part in self.parts:
            if row < part.num_rows:
                return f"{part.name}, row {row + 1:,}"
            row -= part.num_rows
        raise IndexError(row)


def rows_of(
    part: ParquetPart, wanted: pa.Schema, most: int = CHUNK_ROWS, groups: Sequence[int] | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """The rows of a file in its order, in pieces.

    Args:
        part: The file.
        wanted: The columns, in plain types.
        most: Rows of a piece.
        groups: Neighboring row groups of it, ascending; all when not given.

    Yields:
        The number of rows of the file before the piece, and the piece.

    Raises:
        DataError: If the file cannot be read to its end.
    """
    stored = part.stored.names
    top = [each for each in stored if any(f"{name}.".startswith(f"{each}.") for name in wanted.names)]
    try:
        with part.opened() as file:
            parquet = pyarrow.parquet.ParquetFile(file, pre_buffer=part.store is not None)
            before = 0 if groups is None else _rows_before(parquet, groups[0])
            for batch in parquet.iter_batches(most, row_groups=groups, columns=top, use_threads=False):
                table = plain_table(pa.Table.from_batches([batch]), part.name).select(wanted.names).cast(wanted)
                yield before, table
                before += len(table)
    except (pa.ArrowInvalid, OSError) as error:
        raise not_usable(part.name, "Parquet", error) from None


def _rows_before(parquet: pyarrow.parquet.ParquetFile, group: int) -> int:
    return sum(parquet.metadata.row_group(each).num_rows for each in range(group))


def seal_of(part: ParquetPart) -> dict[str, Any]:
    """What tells a file from another: path, size, time of the last change, and the hash of its footer, which says where every
    column of every row group lies and what its bounds are.

    Args:
        part: The file.
    """
    with part.opened() as file:
        size = file.size()
        file.seek(size - _FOOTER_BYTES)
        length = int.from_bytes(file.read(4), "little") + _FOOTER_BYTES
        file.seek(max(0, size - length))
        footer = sha256_bytes(file.read(length))
    return {"path": part.path.as_posix(), "bytes": size, "changed_ns": part.changed_ns, "footer": footer}


def check_filled(table: pa.Table, name: str, before: int) -> None:
    """Refuse a missing or infinite value: every column of a stream plays a role that every row needs.

    Args:
        table: Some rows of a file.
        name: The file.
        before: Rows of the file before them.

    Raises:
        DataError: Names file, row and column.
    """
    for column in table.column_names:
        values = table.column(column)
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_finite(values), values, pa.scalar(None, values.type))
        if values.null_count:
            wrong = int(np.flatnonzero(values.is_null().combine_chunks().to_numpy(zero_copy_only=False))[0])
            value = table.column(column)[wrong].as_py()
            held = "is empty" if value is None else f"holds {value}"
            raise DataError(
                f"{Table(table, name).where(before + wrong)}: the column '{column}' {held}; every row of a stream needs its keys "
                "and its time. Drop such rows or fill them."
            )

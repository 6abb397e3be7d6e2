"""Parquet: one file, or a folder of them with Hive partitions such as ``date=2024-01-01/`` as columns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from towerkit.core.errors import DataError, listed
from towerkit.data.columns import typed
from towerkit.data.locations import locate
from towerkit.data.stores import files_of, is_store, opened_store
from towerkit.data.table import Table, plain_table, require_columns

_NOTHING = "__HIVE_DEFAULT_PARTITION__"
"""How Hive writes a partition whose value is missing."""


def read_parquet(file: pa.NativeFile, name: str, columns: Sequence[str] | None) -> pa.Table:
    """Read one Parquet file, its columns in few plain types.

    Raises:
        DataError: If it is no usable Parquet file, or lacks a column.
    """
    try:
        parquet = pyarrow.parquet.ParquetFile(file)
        require_columns(columns or (), parquet.schema_arrow.names, name)
        data = parquet.read(columns=None if columns is None else list(dict.fromkeys(columns)))
    except (pa.ArrowInvalid, OSError) as error:
        raise not_usable(name, "Parquet", error) from None
    return plain_table(data, name)


def not_usable(name: str, kind: str, error: Exception) -> DataError:
    """What is said of a file that is not what its name or its first bytes promise."""
    return DataError(
        f"{name}: is not a usable {kind} file ({str(error).rstrip('.')}); write it again, or set format: to what it is."
    )


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files below a folder, sorted by path; hidden ones and those of an engine's own (``_x``) are left out."""
    shown = _shown(path.relative_to(folder) for path in folder.rglob("*.parquet"))
    return sorted((path for path in shown if (folder / path).is_file()), key=lambda path: path.parts)


def _shown(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if not any(part.startswith((".", "_")) for part in path.parts)]


def parquet_parts(written: str, base: Path | None = None) -> list[ParquetPart]:
    """The Parquet file at a path or an address, or those of the folder there, sorted by path.

    Args:
        written: A path as of :func:`towerkit.data.locations.locate`, or an address as of :mod:`towerkit.data.stores`.
        base: Folder that a relative path starts from.

    Raises:
        DataError: If there is none, or it lies in an archive.
    """
    if is_store(written):
        store, files = files_of(written)
        found = _shown(path for path in files if path.suffix == ".parquet" or len(files) == 1)
        if not found:
            raise DataError(f"{written}: has no Parquet file (*.parquet) below it; name a folder of such files.")
        return [ParquetPart(Path(), path, store, store) for path in found]
    location = locate(written, base=base)
    folder = Path(os.path.abspath(location.path))
    if location.member is not None:
        raise DataError(f"{written}: a stream reads files as they lie, not inside an archive; unpack it.")
    if not folder.is_dir():
        given = written.removesuffix(folder.name).rstrip("/") or "."
        return [ParquetPart(folder.parent, Path(folder.name), given)]
    paths = parquet_files(folder)
    if not paths:
        raise empty_folder(folder, written)
    return [ParquetPart(folder, path, written) for path in paths]


def read_parquet_folder(folder: Path, name: str, columns: Sequence[str] | None) -> Table:
    """Read every Parquet file below a folder as one table.

    Args:
        folder: Where to look, at any depth.
        name: The folder as the user wrote it.
        columns: Read only these.

    Returns:
        The rows in the order of the sorted paths; partitions are the last columns, typed as text is.

    Raises:
        DataError: If there is no file, or a file does not have the columns, types and partitions of the first.
    """
    files = [ParquetPart(folder, path, name) for path in parquet_files(folder)]
    if not files:
        raise empty_folder(folder, name)
    keys = _partition_keys(files)
    require_columns(columns or (), [*files[0].schema.names, *keys], name)
    chosen = [each for each in files[0].schema if columns is None or each.name in columns] or [files[0].schema.field(0)]
    if columns is None:
        _check_same_columns(files)
    wanted = pa.schema([common_field(field, files) for field in chosen])
    data = pa.concat_tables([_rows(file, wanted) for file in files])
    for key in keys if columns is None else [key for key in keys if key in columns]:
        texts = pa.array([file.partitions[key] for file in files], pa.string())
        rows = np.repeat(np.arange(len(files)), [file.num_rows for file in files])
        data = data.append_column(key, typed(pa.chunked_array([texts])).take(pa.array(rows)))
    return Table(data, name)


def empty_folder(folder: Path, name: str) -> DataError:
    """What is said of a folder that holds no Parquet file."""
    inside = [entry.name for entry in folder.iterdir() if entry.is_file()]
    return DataError(
        f"{name}: is a folder without a Parquet file (*.parquet) below it; name one file in it, or a folder of such files. "
        f"Its files are {listed(inside) or 'none'}."
    )


@dataclass(frozen=True)
class ParquetPart:
    """One file of a folder."""

    folder: Path
    path: Path
    """Below the folder."""
    given: str
    """The folder as the user wrote it."""
    store: str | None = None
    """The address of the folder, where it is none of this machine's."""

    def opened(self) -> pa.NativeFile:
        """Its bytes, mapped where the operating system can do that.

        Raises:
            OSError: If it cannot be opened.
        """
        if self.store is None:
            return pa.memory_map(str(self.folder / self.path))
        system, top = opened_store(self.store)
        return system.open_input_file(f"{top}/{self.path.as_posix()}")

    @property
    def changed_ns(self) -> int:
        """The time of the last change, in nanoseconds."""
        if self.store is None:
            return (self.folder / self.path).stat().st_mtime_ns
        system, top = opened_store(self.store)
        return int(system.get_file_info(f"{top}/{self.path.as_posix()}").mtime_ns or 0)

    @property
    def name(self) -> str:
        return f"{self.given.rstrip('/')}/{self.path.as_posix()}"

    @cached_property
    def partitions(self) -> dict[str, str | None]:
        """Partition -> its value as text, from the folders that are called ``key=value``."""
        pairs = (part.partition("=") for part in self.path.parts[:-1] if "=" in part)
        return {unquote(key): None if value == _NOTHING else unquote(value) for key, _, value in pairs}

    @cached_property
    def _footer(self) -> tuple[pa.Schema, tuple[int, ...]]:
        try:
            with self.opened() as file:
                parquet = pyarrow.parquet.ParquetFile(file)
                footer = parquet.metadata
                return parquet.schema_arrow, tuple(footer.row_group(n).num_rows for n in range(footer.num_row_groups))
        except (pa.ArrowInvalid, OSError) as error:
            raise not_usable(self.name, "Parquet", error) from None

    @cached_property
    def schema(self) -> pa.Schema:
        """Its columns in plain types; a column without any value keeps the type null, which fits every other."""
        plain = plain_table(self.stored.empty_table(), self.name).schema
        return pa.schema([each.with_type(pa.null()) if _is_empty(self.stored, each.name) else each for each in plain])

    @property
    def stored(self) -> pa.Schema:
        """Its columns as they are written."""
        return self._footer[0]

    @property
    def group_rows(self) -> tuple[int, ...]:
        """Rows of each of its row groups."""
        return self._footer[1]

    @property
    def num_rows(self) -> int:
        return sum(self.group_rows)


def _is_empty(stored: pa.Schema, column: str) -> bool:
    return column in stored.names and pa.types.is_null(stored.field(column).type)


def _partition_keys(files: Sequence[ParquetPart]) -> list[str]:
    """The partitions, which all files must have alike and which no file may have as a column."""
    first = files[0]
    for file in files:
        if list(file.partitions) != list(first.partitions):
            raise DataError(
                f"{file.name}: its folders give it the partitions {listed(file.partitions) or 'none'}, but those of "
                f"{first.name} are {listed(first.partitions) or 'none'}; keep one layout below one folder."
            )
        for key in file.partitions:
            if key in file.schema.names:
                raise DataError(
                    f"{file.name}: the column '{key}' stands in the file and in its folder's name "
                    f"({key}={file.partitions[key]}); drop one of them."
                )
    return list(first.partitions)


def _check_same_columns(files: Sequence[ParquetPart]) -> None:
    first = files[0]
    for file in files:
        for lacking, other in ((file, first), (first, file)):
            absent = [column for column in other.schema.names if column not in lacking.schema.names]
            if absent:
                raise DataError(
                    f"{lacking.name}: there is no column '{absent[0]}', which {other.name} has; the files of a folder must "
                    "have the same columns. Add it, or name with columns: those that all files have."
                )


def common_field(field: pa.Field, files: Sequence[ParquetPart]) -> pa.Field:
    """The column in a type that holds what every file has: the wider of two integers or of two floats, else the same."""
    kind, owner = pa.null(), files[0]
    for file in files:
        require_columns([field.name], file.schema.names, file.name)
        other = file.schema.field(field.name).type
        widened = _wider(kind, other)
        if widened is None:
            raise DataError(
                f"{file.name}: the column '{field.name}' holds {other}, but in {owner.name} it holds {kind}; the files of "
                "a folder must have the same types. Write them alike."
            )
        kind, owner = widened, owner if widened == kind else file
    return pa.field(field.name, pa.string() if pa.types.is_null(kind) else kind)


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    for alike in (pa.types.is_signed_integer, pa.types.is_unsigned_integer, pa.types.is_floating):
        if alike(one) and alike(other):
            return max(one, other, key=lambda kind: kind.bit_width)
    return None


def _rows(file: ParquetPart, wanted: pa.Schema) -> pa.Table:
    top = [each for each in file.stored.names if any(f"{name}.".startswith(f"{each}.") for name in wanted.names)]
    with file.opened() as opened:
        return read_parquet(opened, file.name, top).select(wanted.names).cast(wanted)

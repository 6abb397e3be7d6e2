"""Reading a table from anything that holds one: text, Parquet, Arrow, JSON lines, archives, data frames, dicts.

Nothing is trimmed and no key changes: ``007``, `` a`` and ``9007199254740993`` come back as they were written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet
from pydantic import Field, field_validator

from towerkit.core.errors import DataError, listed, nearest
from towerkit.core.spec import Spec, parse
from towerkit.data.delimited import read_delimited
from towerkit.data.frames import table_of
from towerkit.data.json_lines import read_json_lines
from towerkit.data.locations import FORMATS, MAX_BYTES, FileBytes, Location, extension, locate
from towerkit.data.table import Table, plain_table, require_columns
from towerkit.data.text import TextFile

__all__ = ["MAX_BYTES", "SourceSpec", "Table", "read_table"]

_MAGIC = ((b"PAR1", "parquet"), (b"ARROW1", "arrow"))


class SourceSpec(Spec):
    """Where a table lies and how to read it."""

    path: str = Field(min_length=1)
    """A file; ``${TOWERKIT_DATA}`` expands, ``archive.zip::member`` opens, ``builtin:shop/NAME`` is bundled."""
    format: Literal["auto", "delimited", "parquet", "arrow", "jsonl"] = "auto"
    """``auto`` goes by the extension, then by the first bytes."""
    separator: str | None = Field(default=None, min_length=1)
    """What stands between values in a text table; found from the extension and the first lines when not given."""
    encoding: str = "utf-8"
    header: bool = True
    """Whether the first line of a text table names the columns."""
    names: tuple[str, ...] | None = None
    """Column names of a text table without a header."""
    columns: tuple[str, ...] | None = None
    """Read only these columns."""
    quoted: bool | None = None
    """Whether ``"`` encloses values that hold the separator; found from the file when not given."""

    @field_validator("separator")
    @classmethod
    def _separator_splits_lines(cls, separator: str | None) -> str | None:
        if separator is not None and any(character in separator for character in '\r\n"\0'):
            raise ValueError(f"a separator stands between values on one line; received {separator!r}.")
        return separator


def read_table(
    source: SourceSpec | Table | str | os.PathLike[str] | Any, *, base: Path | None = None, max_bytes: int = MAX_BYTES
) -> Table:
    """Read a table from a file, or take one from memory.

    Args:
        source: A spec, a path, or an object: a pandas, Polars or DuckDB table, anything with
            ``__arrow_c_stream__``, a dict of columns, a list of dicts. The index of a data frame is dropped.
        base: Folder that relative paths start from; the current directory when not given.
        max_bytes: Most bytes a compressed file may unpack to.

    Returns:
        The table, its columns in few plain types (see :func:`towerkit.data.table.plain_table`).

    Raises:
        DataError: If it cannot be read, with file, line, column and value where they are known.
        SpecError: If a path given as text is not one.

    Example:
        >>> read_table({"user": ["u1", "u2"], "age": [31, None]}).data.column("age").to_pylist()
        [31, None]
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, (str, os.PathLike)):
        source = parse(SourceSpec, {"path": os.fspath(source)}, "the path")
    table = _read(source, base, max_bytes) if isinstance(source, SourceSpec) else table_of(source)
    if table.data.num_columns == 0 or table.data.num_rows == 0:
        raise DataError(
            f"{table.name}: has no rows (columns: {listed(table.data.column_names) or 'none'}); give a table with rows."
        )
    if isinstance(source, SourceSpec) and source.columns is not None:
        require_columns(source.columns, table.data.column_names, table.name)
        table = Table(table.data.select(list(dict.fromkeys(source.columns))), table.name, table.first_row)
    return table


def _read(source: SourceSpec, base: Path | None, max_bytes: int) -> Table:
    if source.path.startswith("builtin:"):
        return _builtin(source.path)
    location = locate(source.path, base=base)
    kind = _format(source, location, max_bytes)
    if kind in ("parquet", "arrow"):
        return _binary(location, kind, source.columns, max_bytes)
    file = TextFile(location, source.encoding, max_bytes)
    if kind == "jsonl":
        return read_json_lines(file)
    return read_delimited(
        file,
        separator=source.separator,
        header=source.header,
        names=source.names,
        columns=source.columns,
        quoted=source.quoted,
    )


def _format(source: SourceSpec, location: Location, max_bytes: int) -> str:
    if source.format != "auto":
        return source.format
    ending = extension(location.file_name)
    if ending in FORMATS:
        return FORMATS[ending]
    with FileBytes(location, max_bytes=max_bytes) as stream:
        start = stream.read(8)
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    if source.separator is not None or source.names is not None:
        return "delimited"
    raise DataError(
        f"{location.name}: the extension '{ending}' does not tell the format{nearest(ending, FORMATS) or ';'} set "
        f"format: delimited (or parquet, arrow, jsonl). The extensions known are {listed(FORMATS, limit=30)}."
    )


def _binary(location: Location, kind: str, columns: tuple[str, ...] | None, max_bytes: int) -> Table:
    """Read Parquet or Arrow; inside an archive the whole member is unpacked first, for both read from their end."""
    name = location.name
    known: list[str] = []
    try:
        with FileBytes(location, max_bytes=max_bytes) as stream:
            packed = location.member is not None or location.path.suffix.lower() == ".gz"
            file = pa.BufferReader(stream.read()) if packed else pa.memory_map(str(location.path))
        with file:
            if kind == "parquet":
                parquet = pyarrow.parquet.ParquetFile(file)
                known = parquet.schema_arrow.names
                require_columns(columns or (), known, name)
                data = parquet.read(columns=None if columns is None else list(dict.fromkeys(columns)))
            else:
                data = _arrow(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{name}: is not a usable {kind.capitalize()} file ({str(error).rstrip('.')}); "
            "write it again, or set format: to what it is."
        ) from None
    return Table(plain_table(data, name), name)


def _arrow(file: pa.NativeFile) -> pa.Table:
    """Both kinds of Arrow file: the one with an index at its end, and the plain stream."""
    try:
        return pa.ipc.open_file(file).read_all()
    except pa.ArrowInvalid:
        file.seek(0)
        return pa.ipc.open_stream(file).read_all()


def _builtin(path: str) -> Table:
    shops: Mapping[str, str] = {"shop": "full", "shop-small": "small"}
    shop, _, name = path.removeprefix("builtin:").partition("/")
    if shop not in shops or not name:
        raise DataError(
            f"{path}: bundled tables are 'builtin:shop/NAME' and 'builtin:shop-small/NAME'{nearest(shop, shops)}"
        )
    from towerkit.data.shop import shop_table  # only who asks for the shop pays for making it

    return Table(plain_table(shop_table(name, size=shops[shop]), path), path)

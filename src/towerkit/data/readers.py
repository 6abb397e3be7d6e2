"""Reading a table from anything that holds one: text, Parquet, Arrow, JSON lines, archives, databases, frames, dicts.

Nothing is trimmed and no key changes: ``007``, `` a`` and ``9007199254740993`` come back as they were written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from towerkit.core.errors import DataError, listed, nearest
from towerkit.core.spec import parse
from towerkit.data.adjacency import read_pairs
from towerkit.data.databases import is_database, read_query
from towerkit.data.delimited import read_delimited
from towerkit.data.frames import table_of
from towerkit.data.json_lines import read_json_lines
from towerkit.data.locations import FORMATS, MAX_BYTES, FileBytes, Location, extension, locate
from towerkit.data.parquet import not_usable, parquet_files, read_parquet, read_parquet_folder
from towerkit.data.source import SourceSpec
from towerkit.data.table import Table, plain_table, require_columns
from towerkit.data.text import TextFile

__all__ = ["MAX_BYTES", "SourceSpec", "Table", "read_table"]

_MAGIC = ((b"PAR1", "parquet"), (b"ARROW1", "arrow"))
_SQLITE = b"SQLite format 3\0"


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
        table = replace(table, data=table.data.select(list(dict.fromkeys(source.columns))))
    return table


def _read(source: SourceSpec, base: Path | None, max_bytes: int) -> Table:
    if source.path.startswith("builtin:"):
        return _builtin(source.path)
    if is_database(source.path):
        return read_query(source.path, source.sql, base=base)
    if source.sql is not None:
        raise DataError(
            f"{source.path}: sql: asks a database, and this is the path of a file; remove sql:, or name a database such as "
            "duckdb:///file.db, sqlite:///file.db or postgresql://user:${PASSWORD}@host/name."
        )
    location = locate(source.path, base=base)
    folder = location.path if location.path.is_dir() else location.path.parent
    return replace(_at(source, location, max_bytes), folder=folder)


def _at(source: SourceSpec, location: Location, max_bytes: int) -> Table:
    if location.path.is_dir():
        return _folder(source, location)
    kind = _format(source, location, max_bytes)
    if kind in ("parquet", "arrow"):
        return _binary(location, kind, source.columns, max_bytes)
    return _text(source, kind, TextFile(location, source.encoding, max_bytes))


def _text(source: SourceSpec, kind: str, file: TextFile) -> Table:
    if kind == "jsonl":
        return read_json_lines(file)
    if kind in ("adjacency", "sequences"):
        return read_pairs(file, names=source.names, separator=source.separator, in_order=kind == "sequences")
    return read_delimited(
        file,
        separator=source.separator,
        header=source.header,
        names=source.names,
        columns=source.columns,
        quoted=source.quoted,
        decimal=source.decimal,
    )


def _folder(source: SourceSpec, location: Location) -> Table:
    if source.format not in ("auto", "parquet"):
        found = len(parquet_files(location.path))
        raise DataError(
            f"{location.name}: is a folder, which is read as Parquet ({found:,} such files below it), not as "
            f"{source.format}; name one file in it."
        )
    return read_parquet_folder(location.path, location.name, source.columns)


def _format(source: SourceSpec, location: Location, max_bytes: int) -> str:
    if source.format != "auto":
        return source.format
    ending = extension(location.file_name)
    if ending in FORMATS:
        return FORMATS[ending]
    with FileBytes(location, max_bytes=max_bytes) as stream:
        start = stream.read(len(_SQLITE))
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    if start == _SQLITE:
        raise DataError(
            f"{location.name} is an SQLite database; write path: sqlite:///{location.path} and your query as sql:."
        )
    if source.separator is not None or source.names is not None:
        return "delimited"
    raise DataError(
        f"{location.name}: the extension '{ending}' does not tell the format{nearest(ending, FORMATS) or ';'} set "
        f"format: delimited (or parquet, arrow, jsonl). The extensions known are {listed(FORMATS, limit=30)}."
    )


def _binary(location: Location, kind: str, columns: tuple[str, ...] | None, max_bytes: int) -> Table:
    """Read Parquet or Arrow; inside an archive the whole member is unpacked first, for both read from their end."""
    name = location.name
    try:
        with FileBytes(location, max_bytes=max_bytes) as stream:
            packed = location.member is not None or location.path.suffix.lower() == ".gz"
            file = pa.BufferReader(stream.read()) if packed else pa.memory_map(str(location.path))
        with file:
            if kind == "parquet":
                return Table(read_parquet(file, name, columns), name)
            return Table(plain_table(_arrow(file), name), name)
    except (pa.ArrowInvalid, OSError) as error:
        raise not_usable(name, kind.capitalize(), error) from None


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

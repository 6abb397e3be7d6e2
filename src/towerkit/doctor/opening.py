"""Open a file that nobody has described yet: a name that does not tell the format, a first line that is no header."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from towerkit.core.errors import DataError, TowerkitError
from towerkit.core.spec import parse
from towerkit.data.locations import FORMATS, extension
from towerkit.data.readers import SourceSpec, Table, read_table

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True)
class OpenedFile:
    """A table, and the keys with which a spec would read it."""

    table: Table
    source: Mapping[str, Any]
    has_names: bool = True
    notes: list[str] = field(default_factory=list)


def open_file(path: str) -> OpenedFile:
    """Read a file as a spec with its path alone would, and mend what can be mended by looking.

    Raises:
        TowerkitError: If it cannot be read.
    """
    try:
        return _headed({"path": path}, read_table(path))
    except TowerkitError as error:
        why = [str(error)]
    for source in ({"path": path, "format": "delimited"}, {"path": path, "format": "delimited", "header": False}):
        try:
            table = _read(source)
        except TowerkitError as error:
            why.append(str(error))
            continue
        if table.data.num_columns > 1 and (source.get("header", True) or _begin_with_a_number(_first_row(table))):
            return _headed(source, table)
    is_told = extension(path) in FORMATS  # else the second reason says more: the first is only that it does not tell
    raise DataError(
        why[0] if is_told or why[1:] in ([], [why[0]] * 2) else f"{why[0]} Read as delimited text: {why[1]}"
    )


def _headed(source: Mapping[str, Any], table: Table) -> OpenedFile:
    """The table as it is, or read again without a header if its header is a row of values."""
    has_header = source.get("header", True)
    if has_header and not _header_is_a_row(table):
        return OpenedFile(table, source)
    if has_header:
        table = _read({**source, "header": False})
    note = "the first line looks like values, so it is read as a row: give the columns names with names: [...]"
    kept = {key: value for key, value in source.items() if key != "header"}
    return OpenedFile(table, {**kept, "names": list(table.data.column_names)}, False, [note])


def _header_is_a_row(table: Table) -> bool:
    """Whether the names are values: numbers above numbers, or most of them found again in their own columns."""
    names = table.data.column_names
    if not table.first_row:
        return False
    if _begin_with_a_number(names) and _is_number(table.data.column(0).type):
        return True
    again = sum(_holds(table.data.column(name), name) for name in names)
    return len(names) > 1 and 2 * again >= len(names)


def _holds(column: pa.ChunkedArray, text: str) -> bool:
    if not (_is_number(column.type) or pa.types.is_string(column.type)):
        return False
    try:
        value = pa.scalar(text).cast(column.type)
    except pa.ArrowInvalid:
        return False
    return bool(pc.index(column, value).as_py() >= 0)


def _read(source: Mapping[str, Any]) -> Table:
    return read_table(parse(SourceSpec, dict(source), "the path"))


def _first_row(table: Table) -> list[str]:
    return [str(column[0].as_py()) for column in table.data.columns]


def _begin_with_a_number(texts: Sequence[str]) -> bool:
    """Whether half are numbers and the first is one: a table with a column per year begins with a name."""
    return bool(_NUMBER.fullmatch(texts[0])) and 2 * sum(map(bool, map(_NUMBER.fullmatch, texts))) >= len(texts)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))

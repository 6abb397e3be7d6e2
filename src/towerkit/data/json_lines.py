"""JSON lines: one object per line; values keep the type that JSON gives them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from towerkit.core.errors import DataError
from towerkit.data.table import Table, plain_table, shown
from towerkit.data.text import ChunkReader, TextFile

_BLOCK_BYTES = 16 << 20
_LARGE = 2.0**63
_NOT_AN_OBJECT = re.compile(rb"\n[ \t\r]*[^{ \t\r\n]")


def read_json_lines(file: TextFile) -> Table:
    """Read a file of one JSON object per line; a key that a line lacks is missing there.

    Raises:
        DataError: With line, column and value, if a line is not an object or a column changes its type.
    """
    head = file.head()
    if head.lstrip().startswith(b"["):
        raise DataError(
            f"{file.name}, line 1: begins with '[', a JSON list; write one object per line, without the brackets."
        )
    try:
        table = _read(file, None)
        if any(_holds_time(field.type) for field in table.schema):  # text stays text; only the schema speaks of times
            table = _read(file, pa.schema([field.with_type(_without_time(field.type)) for field in table.schema]))
    except pa.ArrowInvalid as error:
        raise _fault(file) or DataError(f"{file.name}: cannot be read as JSON lines: {error}.") from None
    table = plain_table(table, file.name)
    _check_exact(table, file)
    return Table(table, file.name, 1)


def _read(file: TextFile, schema: pa.Schema | None) -> pa.Table:
    options = pyarrow.json.ParseOptions(explicit_schema=schema)  # None lets the parser find the types
    try:
        return pyarrow.json.read_json(
            ChunkReader(_objects(file)), pyarrow.json.ReadOptions(block_size=_BLOCK_BYTES), options
        )
    except pa.ArrowInvalid as error:
        if "straddling" not in str(error):
            raise
        return pyarrow.json.read_json(
            ChunkReader(_objects(file)), pyarrow.json.ReadOptions(block_size=1 << 29), options
        )


def _objects(file: TextFile) -> Iterator[bytes]:
    """The chunks, as long as every line that is not blank opens an object.

    The parser of pyarrow 26 crashes the process on a block of nothing but ``null``, so no such line may reach it.
    """
    before = b"\n"  # the line break, and blanks, that the next chunk goes on from
    for chunk in file.chunks():
        text = before + chunk
        if _NOT_AN_OBJECT.search(text):
            raise _fault(file) or DataError(f"{file.name}: a line does not begin with '{{'; write one object per line.")
        stripped = text.rstrip(b" \t\r")
        before = text[len(stripped) - 1 :] if stripped.endswith(b"\n") else b""
        yield chunk


def _holds_time(kind: pa.DataType) -> bool:
    return pa.types.is_temporal(kind) or any(_holds_time(kind.field(i).type) for i in range(kind.num_fields))


def _without_time(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_time(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_time(field.type)) for field in kind])
    return kind


def _check_exact(table: pa.Table, file: TextFile) -> None:
    """Refuse whole numbers beyond 64 bits: the parser rounds them, and two keys may become one."""
    large = [
        field.name
        for field in table.schema
        if pa.types.is_floating(field.type) and (pc.max(pc.abs(table.column(field.name))).as_py() or 0.0) >= _LARGE
    ]
    for number, line in enumerate(_lines(file) if large else (), start=1):
        record = json.loads(line) if line.strip() else {}
        for column in large:
            if isinstance(value := record.get(column), int) and abs(value) >= _LARGE:
                raise DataError(
                    f"{file.name}, line {number}: column '{column}' holds {value}, which 64 bits cannot hold; "
                    "write such keys as text."
                )


def _fault(file: TextFile) -> DataError | None:
    """The first line that is not an object or does not fit the lines above it."""
    seen: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.strip())
        except json.JSONDecodeError as error:
            return DataError(
                f"{file.name}, line {number}: is not a JSON object ({error.msg} at character {error.colno}): "
                f"{shown(line.strip())}. Write one complete object per line."
            )
        if not isinstance(record, dict):
            return DataError(
                f"{file.name}, line {number}: expected a JSON object, found {shown(record)}; write one per line."
            )
        for column, value in record.items():
            kind = _kind(value)
            before, where = seen.setdefault(column, (kind, number)) if kind else (kind, number)
            if before != kind:
                return DataError(
                    f"{file.name}, line {number}: column '{column}' holds {before} from line {where} on, but here "
                    f"{kind}: {shown(value)}. Write one type, for example all as text."
                )
    return None


def _kind(value: Any) -> str:
    names = {bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "")


def _lines(file: TextFile) -> Iterator[str]:
    yield from io.TextIOWrapper(io.BufferedReader(ChunkReader(file.chunks())), encoding="utf-8", newline="\n")

"""What type a column has for the models, by its values, and whether later values still fit it.

| the type | when the column holds |
|---|---|
| ``key`` | anything, in the role query, candidate or key |
| ``bool`` | true and false |
| ``number`` | integers, floats, durations, times of day |
| ``time`` | dates and timestamps, or text that is ISO 8601 throughout |
| ``image`` | bytes that begin like PNG, JPEG, GIF or WebP |
| ``sound`` | bytes that begin like WAV, FLAC, Ogg or MP3 with a tag |
| ``vector`` | lists of numbers, all of one length |
| ``list`` | other lists |
| ``text`` | text of 4 words or more on average, over 5 % of it distinct; or of over 20 characters, over 50 % distinct |
| ``category`` | other text, other bytes, and columns with no value at all |


The rules are tried from the top.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from towerkit.data.columns import MISSING, looks_typed
from towerkit.data.times import ISO_TIME, parse_times

ColumnType = Literal["number", "category", "text", "time", "bool", "key", "image", "sound", "list", "vector"]

_IMAGE = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8")
_REPEATED = 0.05
_SOUND = (b"fLaC", b"OggS", b"ID3")


def type_of(values: pa.ChunkedArray) -> ColumnType:
    """The type of a column by its values alone, none of which may be missing; see the table of this module."""
    kind = values.type
    is_type = pa.types
    if not len(values):
        return "category"
    if is_type.is_boolean(kind):
        return "bool"
    if _is_time(kind):
        return "time"
    if _is_number(kind):
        return "number"
    if is_type.is_string(kind):
        return _text_type(values)
    if is_type.is_binary(kind):
        return _bytes_type(values[0].as_py())
    return _list_type(values) if is_type.is_nested(kind) else "category"


def _text_type(values: pa.ChunkedArray) -> ColumnType:
    if parse_times(values.slice(0, 100)) is not None and parse_times(values) is not None:
        return "time"
    distinct = pc.count_distinct(values).as_py() / len(values)
    if distinct <= _REPEATED:
        return "category"  # long names of a few things, such as "Never worked or not in the labor force"
    if pc.mean(pc.count_substring_regex(values, r"\S+")).as_py() >= 4:
        return "text"
    return "text" if distinct > 0.5 and pc.mean(pc.utf8_length(values)).as_py() > 20 else "category"


def _bytes_type(value: bytes) -> ColumnType:
    inside = value[8:12] if value.startswith(b"RIFF") else b""
    if value.startswith(_IMAGE) or inside == b"WEBP":
        return "image"
    return "sound" if value.startswith(_SOUND) or inside == b"WAVE" else "category"


def _list_type(values: pa.ChunkedArray) -> ColumnType:
    kind = values.type
    if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
        return "list"
    inner = kind.value_type
    if not (pa.types.is_integer(inner) or pa.types.is_floating(inner)):
        return "list"
    return "vector" if pc.count_distinct(pc.list_value_length(values)).as_py() == 1 else "list"


def fits(column_type: ColumnType, values: pa.ChunkedArray) -> bool:
    """Whether values of this Arrow type can stand in a column of ``column_type``.

    Text and categories accept numbers, since text that happens to hold only numbers is read as numbers.
    """
    if column_type == "time" and pa.types.is_string(values.type):
        return parse_times(values) is not None
    return _FITS[column_type](values.type)


def first_misfit(column_type: ColumnType, values: pa.ChunkedArray) -> int:
    """The first row whose value is to blame: one odd value among numbers turns the whole column into text.

    Args:
        column_type: What the column should hold.
        values: ``[rows]`` that do not fit, not all missing.
    """
    odd = pc.is_valid(values)
    if pa.types.is_string(values.type) and column_type in ("number", "bool", "time"):
        good = pc.match_substring_regex(values, ISO_TIME) if column_type == "time" else looks_typed(values, column_type)
        misfits = pc.and_(odd, pc.invert(pc.or_(good, pc.is_in(values, value_set=pa.array(MISSING)))))
        odd = misfits if pc.any(misfits).as_py() else odd
    return int(pc.index(pc.fill_null(odd, False), True).as_py())


def _is_number(kind: pa.DataType) -> bool:
    is_type = pa.types
    return bool(
        is_type.is_integer(kind) or is_type.is_floating(kind) or is_type.is_duration(kind) or is_type.is_time(kind)
    )


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _is_plain(kind: pa.DataType) -> bool:
    return not pa.types.is_nested(kind)


_FITS: dict[str, Callable[[pa.DataType], bool]] = {
    "number": _is_number,
    "bool": pa.types.is_boolean,
    "time": _is_time,
    "key": _is_plain,
    "category": _is_plain,
    "text": lambda kind: _is_plain(kind) and not pa.types.is_binary(kind),
    "image": pa.types.is_binary,
    "sound": pa.types.is_binary,
    "list": pa.types.is_nested,
    "vector": pa.types.is_nested,
}

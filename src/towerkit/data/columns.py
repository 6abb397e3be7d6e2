"""From text to typed columns: numbers and booleans where every value is one, and nothing that looks like a key changed.

| a column of text becomes | when every value that is not missing is |
|---|---|
| integers | written exactly as Python would print it: ``7``, ``-3``; never ``007``, ``+7`` or `` 7`` |
| floats | a decimal number without leading zeros or a plus sign, or ``inf``: ``0.5``, ``1e-3`` |
| booleans | ``true`` or ``false``, in any of the usual cases |
| (text) | anything else; only the empty text is missing, so a city called ``NA`` stays |

Whole numbers that neither 64-bit integers nor floats hold exactly also stay text, since they are keys. Where the file
says so, a comma stands for the point of a decimal number; a point then makes a text, for it may part thousands.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None")
"""Spellings of a missing value among numbers and booleans; in text only the empty one counts."""

_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_DECIMAL = r"^-?((0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?|inf|Inf|INF)$"
_TOO_LONG = r"^-?[1-9][0-9]{15,}$"
_SAMPLE = 256


def typed(text: pa.ChunkedArray, decimal: str = ".") -> pa.ChunkedArray:
    """The column as integers, floats or booleans where the table above allows it, else unchanged.

    Args:
        text: ``[rows]`` strings; null where the file had nothing.
        decimal: What stands before the decimal places of a number, ``.`` or ``,``.

    Example:
        >>> typed(pa.chunked_array([["1", "NA", "3"]])).to_pylist()
        [1, None, 3]
        >>> typed(pa.chunked_array([["7", "007"]])).to_pylist()
        ['7', '007']
    """
    if not _may_be_typed(text):
        return text
    values = pc.if_else(pc.is_in(text, value_set=pa.array(MISSING)), pa.scalar(None, pa.string()), text)
    if values.null_count == len(values):
        return text
    found = whole_numbers(values)
    found = _floats(values, decimal) if found is None else found
    found = _booleans(values) if found is None else found
    return text if found is None else found


def _may_be_typed(text: pa.ChunkedArray) -> bool:
    """Look at a few values first: most columns of text show it at once, and a full scan costs more than reading."""
    sample = text.slice(0, _SAMPLE).to_pylist()
    known = {*MISSING, *_TRUE, *_FALSE}
    return all(value is None or value in known or value[:1] in "-.,iI0123456789" for value in sample)


def whole_numbers(values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The texts as 64-bit integers if each is written as Python prints one, so that no key changes; else None."""
    try:
        integers = values.cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    return integers if pc.all(pc.equal(integers.cast(pa.string()), values)).as_py() else None


def _floats(values: pa.ChunkedArray, decimal: str) -> pa.ChunkedArray | None:
    if decimal != ".":
        if pc.any(pc.match_substring(values, ".")).as_py():
            return None
        values = pc.replace_substring(values, decimal, ".")
    if not pc.all(pc.match_substring_regex(values, _DECIMAL)).as_py():
        return None
    if pc.any(pc.match_substring_regex(values, _TOO_LONG)).as_py():
        return None
    return values.cast(pa.float64())


def _booleans(values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    is_true = pc.is_in(values, value_set=pa.array(_TRUE))
    is_false = pc.is_in(values, value_set=pa.array(_FALSE))
    if not pc.all(pc.or_(pc.or_(is_true, is_false), pc.is_null(values))).as_py():
        return None
    return pc.if_else(pc.is_valid(values), is_true, pa.scalar(None, pa.bool_()))


def looks_typed(text: pa.ChunkedArray, kind: str) -> pa.ChunkedArray:
    """``[rows]``: whether each text is a ``number`` (or else a boolean) by itself; null where missing."""
    if kind == "number":
        return pc.match_substring_regex(text, _DECIMAL)
    return pc.is_in(text, value_set=pa.array(_TRUE + _FALSE))

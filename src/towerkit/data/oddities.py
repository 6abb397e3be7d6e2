"""What is odd in a text column but no fault: the reader changes nothing, and says so in a note.

Both oddities end in a column of text that a person would take for numbers: a comma before the decimal places, and a few
words among numbers.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from towerkit.data.columns import MISSING, looks_typed
from towerkit.data.table import Table, shown

DECIMAL_COMMA = r"^-?[0-9]+,[0-9]+$"
"""A number with a comma before its decimal places."""

_LOOK, _SAMPLE_ROWS = 256, 100_000
_NEARLY_ALL = 0.9
_FEW_WORDS = 5
"""A column that is text for more than so many different words holds names, such as postal codes, and needs no note."""


def text_notes(table: Table, decimal: str) -> tuple[str, ...]:
    """A note for each column of text that most likely was meant to hold numbers.

    Args:
        table: As read; the first 100,000 rows are looked at.
        decimal: What was taken to stand before decimal places.
    """
    notes = []
    for field in table.data.schema:
        if pa.types.is_string(field.type):
            values = table.data.column(field.name).slice(0, _SAMPLE_ROWS)
            note = _decimal_comma(values, field.name, decimal) or _odd_words(values, field.name, table)
            notes += [note] if note else []
    return tuple(notes)


def _decimal_comma(values: pa.ChunkedArray, column: str, decimal: str) -> str | None:
    if decimal == "," or not _mostly(pc.match_substring_regex(values.slice(0, _LOOK), DECIMAL_COMMA), 0.5):
        return None
    found = pc.match_substring_regex(values, DECIMAL_COMMA)
    if not _mostly(found, 0.5):
        return None
    example = values.filter(pc.fill_null(found, False))[0].as_py()
    return (
        f"'{column}' is text, but {pc.sum(found).as_py():,} of its {len(values) - values.null_count:,} values look like "
        f"numbers with a comma, such as {example!r}: set decimal: ',' to read them as numbers"
    )


def _odd_words(values: pa.ChunkedArray, column: str, table: Table) -> str | None:
    """A column that is text because of a few values, all others being numbers."""
    if not _mostly(looks_typed(values.slice(0, _LOOK), "number"), 0.5):
        return None
    missing = pc.is_in(values, value_set=pa.array(MISSING))
    number = pc.or_(looks_typed(values, "number"), missing)
    odd = pc.fill_null(pc.invert(number), False)
    if not _mostly(number, _NEARLY_ALL) or not pc.any(odd).as_py():
        return None
    words = values.filter(odd)
    if pc.count_distinct(words).as_py() > _FEW_WORDS:
        return None
    row = int(pc.index(odd, True).as_py())
    return (
        f"'{column}' is text, because {len(words):,} of its {len(values) - values.null_count:,} values are no numbers, the "
        f"first {shown(words[0].as_py())} ({table.where(row)}): correct or empty them if it should hold numbers"
    )


def _mostly(found: pa.ChunkedArray, share: float) -> bool:
    known = len(found) - found.null_count
    return known > 0 and (pc.sum(found).as_py() or 0) >= share * known

"""The SMART format of Cranfield, CISI and their kind: records that open with ``.I`` and fields under ``.T .A .B .W``.

A mark stands alone on its line; ``.I`` has the id behind it. Everything down to the next mark is the field's text.
"""

from __future__ import annotations

import re

from towerkit.core.errors import DataError
from towerkit.data.search.records import Record, numbered_lines, table_of_records
from towerkit.data.table import Table, shown
from towerkit.data.text import TextFile

_FIELDS = {"T": "title", "A": "author", "B": "source", "W": "text", "K": "keywords", "N": "note", "X": "references"}
_MARK = re.compile(r"\.([A-Z])[ \t]*")
_OPENING = re.compile(r"\.I[ \t]+(\S+)[ \t]*")


def read_smart(file: TextFile) -> Table:
    """Read documents or queries; they look alike.

    Args:
        file: The text. A mark that is not known names its column by its letter.

    Returns:
        Columns ``id``, ``title``, ``text`` and those of the other marks; the lines of a field keep their breaks.

    Raises:
        DataError: If a record has no id, text stands before the first mark, or an id stands twice; with the line.
    """
    records: list[Record] = []
    open_field: str | None = None
    for number, line in numbered_lines(file):
        opening, mark = _OPENING.fullmatch(line), _MARK.fullmatch(line)
        if opening:
            records.append(Record(opening.group(1), number))
            open_field = None
        elif line.startswith(".I") and line[2:3] in ("", " ", "\t"):
            raise DataError(
                f"{file.name}, line {number}: a record begins with its id, as in .I 7; received {shown(line)}. Write one id."
            )
        elif mark and records:
            open_field = _FIELDS.get(mark.group(1), mark.group(1).lower())
        elif open_field is not None:
            records[-1].add(open_field, line.strip())
        elif line.strip():
            raise _outside(file, number, line, records)
    return table_of_records(records, file.name)


def _outside(file: TextFile, number: int, line: str, records: list[Record]) -> DataError:
    where = f"after .I {records[-1].id}" if records else "before the first .I"
    return DataError(
        f"{file.name}, line {number}: text stands {where}, under no mark such as .T or .W: {shown(line)}. Put it under "
        "one. Is this a file in SMART's format?"
    )

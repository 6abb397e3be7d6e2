"""Where a text table breaks its own rules: the line of the first row that is too short, too long or never closed.

The fast parser says that a row is wrong but, reading several blocks at once, not on which line. This slower pass runs
only after a failure.
"""

from __future__ import annotations

import csv
import io

from towerkit.core.errors import DataError
from towerkit.data.layout import Layout, spoken
from towerkit.data.table import shown


def find_fault(body: io.RawIOBase, layout: Layout, delimiter: str, *, quoted: bool, name: str) -> DataError | None:
    """The first ragged row or unclosed quote as an error to raise, or None if there is none.

    Args:
        body: The UTF-8 text below the header.
        layout: How the table is laid out.
        delimiter: The single character that stands between values in ``body``.
        quoted: Whether quotes enclose values.
        name: What messages call the file.
    """
    lines = io.TextIOWrapper(io.BufferedReader(body), encoding="utf-8", newline="")
    reader = csv.reader(
        lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True
    )
    while True:
        line = layout.first_row + reader.line_num
        try:
            record = next(reader)
        except StopIteration:
            return None
        except csv.Error as error:
            over_several_lines = layout.first_row + reader.line_num > line + 1
            if quoted and ("end of data" in str(error) or ("field larger" in str(error) and over_several_lines)):
                return _unclosed(name, line)
            continue  # one long value, or text after a closing quote: odd, but the values can be told apart
        if record and len(record) != len(layout.names):
            return _ragged(name, line, record, layout)


def _unclosed(name: str, line: int) -> DataError:
    return DataError(
        f'{name}, line {line}: a quote (") that opens in this row is never closed, so the rows below would be '
        "swallowed; close it, or set quoted: false if quotes are ordinary characters in this file."
    )


def _ragged(name: str, line: int, record: list[str], layout: Layout) -> DataError:
    few, expected, last = len(record) < len(layout.names), len(layout.names), record[-1]
    if few:
        mend = "Complete the row or remove it."
    elif expected == 1:
        mend = "If the first line is no header, remove it; it has no value of its own for each column."
    elif not any(record[expected:]):
        mend = "The row ends with a separator: remove it, or give the header one name more."
    else:
        mend = "Enclose values that hold the separator in quotes."
    columns = (
        f"no value for '{layout.names[len(record)]}'" if few else f"more values than columns, the last {shown(last)}"
    )
    return DataError(
        f"{name}, line {line}: expected {expected} values split by {spoken(layout.separator)}, found {len(record)} "
        f"({columns}): {shown(layout.separator.join(record), 100)}. {mend}"
    )

"""A table for a terminal of any width: no figure, key or name in it is ever cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_LONGEST_WORD = 20
"""A longer one may go on in the next line where there is no room: a path, a long key."""


class Grid:
    """Rows under headers, none of it read as markup, since names come from data.

    Where the console is too narrow, an interval goes below its figure, then lines are broken between words.

    Args:
        headers: One for each column.
    """

    def __init__(self, headers: Sequence[str]) -> None:
        self.rows: list[tuple[str, ...]] = [tuple(headers)]

    def add(self, *cells: str) -> None:
        """Put a row below the others."""
        self.rows.append(cells)

    def show(self, console: Console) -> None:
        """Print it."""
        rows = self.rows
        room = console.width - 2 * len(rows[0])  # a blank at each side of a column
        widths = _widths(rows, lambda cell: max(map(cell_len, cell.split("\n"))))
        if sum(widths) > room:
            rows = [tuple(cell.replace(" [", "\n[") for cell in row) for row in rows]
            widths = _narrowed(rows, room)
        table = Table(
            box=None, header_style="bold", width=sum(widths) + 2 * len(widths)
        )  # wider than the console at need
        for header, width in zip(rows[0], widths, strict=True):
            table.add_column(Text(header), width=width, overflow="fold")
        for row in rows[1:]:
            table.add_row(*map(Text, row))
        console.print(table, crop=False)


def _widths(rows: Sequence[Sequence[str]], width: Callable[[str], int]) -> list[int]:
    """``[columns]`` what the widest cell of each needs."""
    return [max(map(width, column)) for column in zip(*rows, strict=True)]


def _narrowed(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """``[columns]`` widths that fit, always taken from the column with most to spare; no less than a whole word each."""
    widths = _widths(rows, lambda cell: max(map(cell_len, cell.split("\n"))))
    least = _widths(rows, lambda cell: min(_LONGEST_WORD, max(map(cell_len, cell.split()), default=1)))
    while sum(widths) > room:
        spare = [width - needed for width, needed in zip(widths, least, strict=True)]
        if max(spare) <= 0:
            break
        widths[spare.index(max(spare))] -= 1
    return widths

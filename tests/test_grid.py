"""Tables on terminals.

Invariants:
- at any width every word of every cell is printed whole, in its column's order; a line is longer than the terminal only where
  whole words do not fit beside each other;
- where there is room, a row is one line; where there is not, an interval goes below its figure first;
- text that looks like markup is printed as it is.
"""

from __future__ import annotations

import io

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from towerkit.grid import Grid

FIGURES = ("ndcg@20", "0.0650 [0.0541, 0.0768]", "0.1501 [0.1356, 0.1661]")


def printed(width: int, *rows: tuple[str, ...]) -> list[str]:
    """The lines of a table whose first row are the headers."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    grid = Grid(rows[0])
    for row in rows[1:]:
        grid.add(*row)
    grid.show(console)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_one_line_where_there_is_room() -> None:
    assert printed(80, ("metric", "popularity", "two_tower"), FIGURES)[1].split("  ") == [" ndcg@20", *FIGURES[1:]]


def test_an_interval_goes_below_its_figure() -> None:
    lines = printed(50, ("metric", "popularity", "two_tower"), FIGURES)
    assert [line.split() for line in lines[1:]] == [
        ["ndcg@20", "0.0650", "0.1501"],
        ["[0.0541,", "0.0768]", "[0.1356,", "0.1661]"],
    ]


def test_no_figure_is_cut_on_a_terminal_of_80_columns() -> None:
    header = ("metric", "n", "first", "second", "difference", "effect", "p", "p (Holm)", "verdict")
    cells = ("precision@10", "139", "0.0697", "0.0674", "-0.0023 [-0.0450, 0.0361]", "-0.010", "0.9132", "1.0000")
    lines = printed(80, header, (*cells, "within chance"))
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert set(" ".join(cells).split()) <= set(" ".join(lines).split())


def test_markup_is_text() -> None:
    assert printed(80, ("[bold]name", "[/x]"), ("[red]a", "b\\[c"))[1].split() == ["[red]a", "b\\[c"]


words = st.text(st.sampled_from("abcä1[].,-"), min_size=1, max_size=12)
cells = st.lists(words, max_size=4).map(" ".join)


@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=4), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_no_word_is_lost_at_any_width(rows: list[tuple[str, str, str]], width: int) -> None:
    found = sorted(" ".join(printed(width, *rows)).split())
    assert found == sorted(word for row in rows for cell in row for word in cell.split())

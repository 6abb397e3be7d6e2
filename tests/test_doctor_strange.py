"""The first screen of files as people have them: `towerkit doctor` says what is strange and what to do about it.

- Each file ends with a screen that names the place and the next step; a file that can be read shows its columns and a spec to
  paste, and that spec reads the file.
- No number that was rounded is taken for a key or a time in silence.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from towerkit.cli import app
from towerkit.core.spec import parse
from towerkit.data.dataset import read_dataset
from towerkit.data.spec import DataSpec
from towerkit.doctor import examine
from towerkit.spec import parse_yaml

Row = tuple[str, str, int, str]
DRAW = random.Random(0)
ROWS: list[Row] = [
    (
        f"u{DRAW.randrange(30)}",
        f"i{DRAW.randrange(20)}",
        DRAW.randrange(1, 6),
        f"2025-0{DRAW.randrange(1, 7)}-1{DRAW.randrange(10)}",
    )
    for _ in range(300)
]


def file(header: str, line: Callable[[int, str, str, int, str], str]) -> str:
    """A header and three hundred rows."""
    return "".join([header, *(line(n, *row) + "\n" for n, row in enumerate(ROWS))])


def day_in(form: int, day: str) -> str:
    """A day in one of three forms."""
    year, month, number = day.split("-")
    return (day, f"{number}.{month}.{year}", f"{month}/{number}/{year}")[form % 3]


NOT_ASCII = file("user,item,city\n", lambda n, u, i, s, d: f"{u},{i},{'Zürich' if s > 2 else 'Orléans'}")
READ: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "semicolons and decimal commas": (
        file("user;item;price;day\n", lambda n, u, i, s, d: f"{u};{i};{s},5{s};{d}").encode(),
        ("query: user, candidate: item, time: day", "line 2: 'price' holds", "set decimal: ',' in the spec"),
    ),
    "a byte order mark": (
        ("\ufeff" + file("user,item,stars\n", lambda n, u, i, s, d: f"{u},{i},{s}")).encode(),
        ("query: 'user' (its name says so)", "a label perhaps: 'stars'"),
    ),
    "no header": (
        file("", lambda n, u, i, s, d: f"{u},{i},{s},{d}").encode(),
        ("the first line looks like values", "names: [column_1, column_2, column_3, column_4]", "query: column_1"),
    ),
    "one column": (
        file("text\n", lambda n, u, i, s, d: f"a review number {n} of a kind").encode(),
        ("'text' is the only column", "a ranking needs two", "set separator:"),
    ),
    "a column of nothing": (
        file("user,item,note,stars\n", lambda n, u, i, s, d: f"{u},{i},,{s}").encode(),
        ("'note' is empty in every row: leave it out",),
    ),
    "words among numbers": (
        file("user,item,price\n", lambda n, u, i, s, d: f"{u},{i},{'n/a' if s == 1 else 'free' if s == 2 else s}").encode(),
        ("'price' holds 'free'", "values are numbers, and this is none", "correct or empty such values"),
    ),
    "keys that a spreadsheet rounded": (
        file("user,item,stars\n", lambda n, u, i, s, d: f"{10**19 + n % 40},{5.7e17 + 1e12 * (n % 30):.5E},{s}").encode(),
        ("query: 'user'", "line 2: 'item' holds 5.7e+17", "is rounded", "export the column as text"),
    ),
    "dates in three forms": (
        file("user,item,when\n", lambda n, u, i, s, d: f"{u},{i},{day_in(n, d)}").encode(),
        ("dates are written in several forms (100 like 2024-05-31)", "write all of them like 2024-05-31"),
    ),
    "commas between thousands": (
        file("user,item,price\n", lambda n, u, i, s, d: f'{u},{i},"1,{s}00.50"').encode(),
        ("line 2: 'price' holds '1,", "commas between thousands", "write 1400.50"),
    ),
    "blanks around everything": (
        file(" user , item ,stars\n", lambda n, u, i, s, d: f" {u} , {i} ,{s}").encode(),
        ("the first line has blanks around ' user ' and 1 more names", "query: ' user '"),
    ),
    "tabs in a .csv": (
        file("user\titem\tstars\n", lambda n, u, i, s, d: f"{u}\t{i}\t{s}").encode(),
        ("query: user, candidate: item",),
    ),
}  # fmt: skip
REFUSED: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "latin-1": (NOT_ASCII.encode("latin-1"), ("line 2: byte", "is not utf-8", "set encoding: latin-1")),
    "UTF-16": (NOT_ASCII.encode("utf-16"), ("the mark of UTF-16", "set encoding: utf-16")),
    "two columns of one name": (
        file("user,item,score,score\n", lambda n, u, i, s, d: f"{u},{i},{s},{s}").encode(),
        ("'score' names columns 3 and 4; rename one of them",),
    ),
    "a remark above the header": (
        file("# exported today\nuser,item,stars\n", lambda n, u, i, s, d: f"{u},{i},{s}").encode(),
        ("line 2: expected 1 values", "If the first line is no header, remove it"),
    ),
    "a spreadsheet's first line": (
        file("sep=;\nuser;item;stars\n", lambda n, u, i, s, d: f"{u};{i};{s}").encode(),
        ("line 1: 'sep=;' tells a spreadsheet", "remove the line"),
    ),
    "a separator at each end": (
        file("user,item,stars\n", lambda n, u, i, s, d: f"{u},{i},{s},").encode(),
        ("line 2: expected 3 values", "The row ends with a separator: remove it"),
    ),
}


def screen(folder: Path, content: bytes) -> tuple[int, str]:
    """The status and the first screen of a file, without line breaks."""
    (folder / "a.csv").write_bytes(content)
    told = CliRunner().invoke(app, ["doctor", str(folder / "a.csv")], env={"COLUMNS": "400"})
    return told.exit_code, told.output


@pytest.mark.parametrize("name", READ)
def test_a_file_that_can_be_read(tmp_path: Path, name: str) -> None:
    content, told = READ[name]
    status, output = screen(tmp_path, content)
    assert status == 0 and "The data part of a first spec:" in output
    assert [part for part in told if part not in output] == [], output
    data = parse(DataSpec, parse_yaml(examine(str(tmp_path / "a.csv"))["snippet"], "it")["data"], "it")
    assert read_dataset(data).examples.data.num_rows == len(ROWS)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    content, told = REFUSED[name]
    status, output = screen(tmp_path, content)
    assert status == 1 and output.startswith("problem: ")
    assert [part for part in told if part not in output] == [], output


def test_rounded_keys_are_neither_keys_nor_times(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(READ["keys that a spreadsheet rounded"][0])
    assert examine(str(tmp_path / "a.csv"))["suggested_roles"] == {"query": "user"}

"""Columns of text that were meant to hold numbers: told in a note, never changed (`towerkit.data.oddities`, `columns`).

Pinned here:
- decimal commas are noticed, and read as numbers where the spec says so, the same as with a point;
- a few words among numbers are told with count, line and value; names that look a little like numbers are not;
- what is told stays text, and the first look shows it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.data.columns import typed
from towerkit.data.dataset import read_dataset
from towerkit.data.readers import SourceSpec, Table, read_table
from towerkit.data.spec import DataSpec
from towerkit.doctor import examine


def read(folder: Path, text: str, **options: Any) -> Table:
    (folder / "a.csv").write_text(text)
    return read_table(parse(SourceSpec, {"path": "a.csv", **options}), base=folder)


def test_decimal_commas_are_noticed_and_read(tmp_path: Path) -> None:
    text = "user;score\nu1;3,5\nu2;-0,25\nu3;4\nu4;\nu5;NA\n"
    table = read(tmp_path, text)
    assert table.data.column("score").type == pa.string()
    assert table.notes == (
        "'score' is text, but 2 of its 4 values look like numbers with a comma, such as '3,5': set decimal: ',' to read "
        "them as numbers",
    )
    (told_by_doctor,) = [note for note in examine(str(tmp_path / "a.csv"))["notes"] if "decimal: ','" in note]
    assert "a.csv" in told_by_doctor
    told = read(tmp_path, text, decimal=",")
    assert told.data.column("score").to_pylist() == [3.5, -0.25, 4.0, None, None]
    assert told.notes == ()
    assert read(tmp_path, 'user,score\nu1,"3,5"\nu2,"4,0"\n', decimal=",").data.column("score").to_pylist() == [
        3.5,
        4.0,
    ]


def test_few_commas_are_names(tmp_path: Path) -> None:
    assert read(tmp_path, "a;b\n1;3,5\n2;x\n3;y\n4;z\n").notes == ()


def test_with_a_comma_a_point_makes_text(tmp_path: Path) -> None:
    table = read(tmp_path, "a;b;c\n1;1.234,5\n2;3,5\n".replace(";c", ""), decimal=",").data
    assert table.to_pydict() == {"a": [1, 2], "b": ["1.234,5", "3,5"]}
    with pytest.raises(SpecError, match=r"decimal: input should be '\.' or ','; received ';'"):
        read(tmp_path, "a\n1\n", decimal=";")


def test_a_test_table_is_read_with_the_same_comma(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("u;i;t\n" + "".join(f"u{n % 3};i{n % 4};{n},5\n" for n in range(20)))
    examples = {"path": "train.csv", "query": "u", "candidate": "i", "time": "t", "decimal": ","}
    data = {"examples": examples, "test": {"path": "test.csv"}, "split": {"kind": "per_query"}}
    dataset = read_dataset(parse(DataSpec, data), base=tmp_path)
    assert dataset.examples.data.column("t").type == pa.float64()
    assert dataset.examples.data.num_rows == 40


@given(st.lists(st.floats(allow_nan=False, width=32).map(repr), min_size=1))
def test_a_comma_reads_as_a_point_does(texts: list[str]) -> None:
    with_point = typed(pa.chunked_array([texts]))
    with_comma = typed(pa.chunked_array([[text.replace(".", ",") for text in texts]]), ",")
    assert with_comma.equals(with_point)
    assert with_comma.type == pa.float64()


def test_a_word_among_numbers_is_told_with_its_line(tmp_path: Path) -> None:
    values = [str(n) for n in range(40)]
    values[16:18] = ["abc", "NA"]
    table = read(tmp_path, "user,age\n" + "".join(f"u,{value}\n" for value in values))
    assert table.data.column("age").type == pa.string()
    assert table.notes == (
        "'age' is text, because 1 of its 40 values are no numbers, the first 'abc' (a.csv, line 18): correct or empty "
        "them if it should hold numbers",
    )


def test_names_that_look_like_numbers_are_not_told(tmp_path: Path) -> None:
    codes = [f"{n:05d}" for n in range(8_000, 12_000, 10)]  # postal codes, some with a zero in front
    assert read(tmp_path, "user,zip\n" + "".join(f"u,{code}\n" for code in codes)).notes == ()
    assert read(tmp_path, "a,b\n1,x\n2,y\n3,7\n").notes == ()

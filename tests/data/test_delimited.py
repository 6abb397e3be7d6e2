"""Text tables (`towerkit.data.delimited`, `layout`, `columns`, `faults`, `text`).

Pinned here:
- any table written by the csv module comes back value for value;
- keys never change: leading zeros, plus signs, blanks, accents, 64-bit integers;
- only the empty text is missing among texts, the usual spellings are missing among numbers;
- every fault is told with the file, its line, and the column or value, and what to do.
"""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.columns import MISSING, typed
from towerkit.data.locations import locate
from towerkit.data.readers import SourceSpec, read_table
from towerkit.data.text import CHUNK_BYTES, ChunkReader, TextFile, replaced


def read(folder: Path, content: bytes | str, name: str = "t.csv", **options: Any) -> pa.Table:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(parse(SourceSpec, {"path": name, **options}), base=folder).data


def refusal(folder: Path, content: bytes | str, name: str = "t.csv", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, content, name, **options)
    return str(caught.value)


def column(folder: Path, *values: str) -> list[object]:
    found: list[object] = (
        read(folder, "id,other\n" + "".join(f"{value},x\n" for value in values)).column("id").to_pylist()
    )
    return found


# ---- values


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        (["1", "-20", "9007199254740993"], [1, -20, 9007199254740993]),
        (["1", "NA", "", "null"], [1, None, None, None]),
        (["1.5", "2", "nan", "1e-3", ".5", "-inf"], [1.5, 2.0, None, 0.001, 0.5, float("-inf")]),
        (["true", "False", "N/A"], [True, False, None]),
        (["007", "8"], ["007", "8"]),
        (["+7", "8"], ["+7", "8"]),
        (["00.5", "1.5"], ["00.5", "1.5"]),
        (["-0", "7"], [-0.0, 7.0]),
        ([" a", "a ", "é"], [" a", "a ", "é"]),
        ([" 7", "8"], [" 7", "8"]),
        (["0x10", "1"], ["0x10", "1"]),
        (["92233720368547758080", "1.5"], ["92233720368547758080", "1.5"]),
        (["NA", "", "Rome", '"NA"'], ["NA", None, "Rome", "NA"]),
        (["NA", "NaN"], ["NA", "NaN"]),
        (["", '""'], [None, None]),
        (["2024-05-31", "2024-06-01"], ["2024-05-31", "2024-06-01"]),
    ],
)
def test_values_are_typed_only_where_nothing_is_lost(tmp_path: Path, written: list[str], read_as: list[object]) -> None:
    found = column(tmp_path, *written)
    assert found == read_as
    assert [type(value) for value in found] == [type(value) for value in read_as]


def test_a_late_value_decides_too(tmp_path: Path) -> None:
    found = column(tmp_path, *(str(i) for i in range(1000)), "0999")
    assert found[0] == "0"
    assert found[-1] == "0999"


integers = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.one_of(st.none(), integers), min_size=1).filter(lambda values: any(v is not None for v in values)))
@settings(max_examples=60, deadline=None)
def test_any_64_bit_integers_come_back(values: list[int | None]) -> None:
    text = pa.chunked_array([[None if value is None else str(value) for value in values]], pa.string())
    assert typed(text).to_pylist() == values


cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\x1f"), max_size=8)


@given(
    rows=st.lists(st.lists(cell, min_size=2, max_size=2), min_size=1, max_size=8),
    separator=st.sampled_from([",", ";", "|", "\t", " ", "§"]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_csv_module_writes_comes_back(rows: list[list[str]], separator: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["mark", "a", "b"]])
    csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [["word", *row] for row in rows]
    )
    with tempfile.TemporaryDirectory() as folder:
        table = read(Path(folder), text.getvalue(), separator=separator, quoted=True)
    for position, name in enumerate("ab"):
        found = table.column(name)
        assert found.to_pylist() == [as_read(row[position], found.type) for row in rows]


def as_read(value: str, kind: pa.DataType) -> object:
    """What a text should be once its whole column was found to be of this type; Python's own reading of numbers."""
    if not value or (value in MISSING and not pa.types.is_string(kind)):
        return None
    if pa.types.is_integer(kind):
        return int(value)
    if pa.types.is_floating(kind):
        return float(value)
    return value.lower() == "true" if pa.types.is_boolean(kind) else value


@given(chunks=st.lists(st.sampled_from([b"a", b":", b"::", b"a:", b":b", b""]), max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_separator_across_two_chunks_is_replaced_all_the_same(chunks: list[bytes]) -> None:
    whole = b"".join(chunks).replace(b"::", b"\x1f")
    assert b"".join(replaced(chunks, b"::", b"\x1f", "t")) == whole


@given(chunks=st.lists(st.binary(max_size=9), max_size=6), size=st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_chunks_read_as_one_file(chunks: list[bytes], size: int) -> None:
    stream, pieces = ChunkReader(chunks), []
    while piece := stream.read(size):
        pieces.append(piece)
    assert b"".join(pieces) == b"".join(chunks)
    assert all(len(piece) == size for piece in pieces[:-1])


# ---- layout


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::", ", "])
def test_the_separator_is_found(tmp_path: Path, separator: str) -> None:
    lines = [["a", "b", "c"], ["1", "x", "2.5"], ["2", "y", "3.5"]]
    table = read(tmp_path, "".join(separator.join(line) + "\n" for line in lines))
    assert table.to_pylist() == [{"a": 1, "b": "x", "c": 2.5}, {"a": 2, "b": "y", "c": 3.5}]


def test_a_blank_after_the_comma_stays_where_the_names_have_none(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b\n1, x\n2, y\n").column("b").to_pylist() == [" x", " y"]


def test_decimal_commas_do_not_hide_the_semicolon(tmp_path: Path) -> None:
    assert read(tmp_path, "a;b\n1,5;x\n2,5;y\n").column_names == ["a", "b"]


def test_one_column_is_a_table_too(tmp_path: Path) -> None:
    assert read(tmp_path, "word\nred\nblue\n").to_pylist() == [{"word": "red"}, {"word": "blue"}]


def test_files_without_a_header(tmp_path: Path) -> None:
    named = read(tmp_path, "1\t2\n3\t4\n", "u.data", names=["user", "item"])
    assert named.to_pylist() == [{"user": 1, "item": 2}, {"user": 3, "item": 4}]
    assert read(tmp_path, "1|2\n3|4\n", "u.item", header=False, separator="|").column_names == ["column_1", "column_2"]


def test_the_line_of_the_first_row(tmp_path: Path) -> None:
    for content, first in ((b"a,b\n1,2\n", 2), (b"\n\na,b\n1,2\n", 4), (b'"a\nb",c\r\n1,2\r\n', 3)):
        (tmp_path / "t.csv").write_bytes(content)
        assert read_table("t.csv", base=tmp_path).first_row == first


def test_a_byte_order_mark_is_not_part_of_the_name(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfid,b\n1,2\n").column_names == ["id", "b"]
    assert read(tmp_path, "id,b\n1,2\n".encode("utf-16"), encoding="utf-16").column_names == ["id", "b"]


def test_other_encodings(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b\né,1\n".encode("latin-1"), encoding="latin-1").column("a").to_pylist() == ["é"]


def test_characters_across_chunks(tmp_path: Path) -> None:
    body = "é" * CHUNK_BYTES  # two bytes each, so with an odd header one of them lies across the chunk's end
    assert read(tmp_path, f"ab,c\n{body},1\n").column("ab").to_pylist() == [body]


def test_values_longer_than_a_block(tmp_path: Path) -> None:
    long = "x" * (14 << 20)
    assert read(tmp_path, f"a,b\n1,2\n{long},3\n").column("a").to_pylist() == ["1", long]
    assert read(tmp_path, f'a,b\n1,2\n"{long}",3"\n').column("a").to_pylist() == ["1", long]


def test_only_some_columns_in_the_order_asked(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b,c\n1,2,3\n", columns=["c", "a"]).to_pylist() == [{"c": 3, "a": 1}]
    assert "no column 'pric'; did you mean 'price'?" in refusal(tmp_path, "price,b\n1,2\n", columns=["pric"])


def test_saved_row_numbers_are_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, ",a\n0,x\n1,y\n").column_names == ["a"]
    assert read(tmp_path, ",a\n0,x\n1,y\n", columns=["a"]).column_names == ["a"]
    assert "line 1: every column needs a name, but that of column 1 is empty" in refusal(tmp_path, ",a\n5,x\n3,y\n")


# ---- quotes


def test_quoted_values_hold_separators_quotes_and_line_breaks(tmp_path: Path) -> None:
    table = read(tmp_path, 'a,b\n"x, ""y""\nz",1\n')
    assert table.to_pylist() == [{"a": 'x, "y"\nz', "b": 1}]


def test_quotes_between_tabs_are_ordinary_unless_the_file_shows_that_they_enclose(tmp_path: Path) -> None:
    natural = read(tmp_path, 'a\tb\n"Great" Cats\t1\n"x\t2\n', "t.tsv")
    assert natural.column("a").to_pylist() == ['"Great" Cats', '"x']
    enclosing = read(tmp_path, 'a\tb\n"say ""hi"""\t1\nx\t2\n', "t.tsv")
    assert enclosing.column("a").to_pylist() == ['say "hi"', "x"]
    with_tab = read(tmp_path, 'a\tb\n"x\ty"\t1\n"x\ny"\t2\n', "t.tsv")
    assert with_tab.column("a").to_pylist() == ["x\ty", "x\ny"]


def test_long_separators_leave_quotes_alone(tmp_path: Path) -> None:
    table = read(tmp_path, '3::"Great" Cats::x\n4::b::y\n', "movies.dat", header=False)
    assert table.column("column_2").to_pylist() == ['"Great" Cats', "b"]
    table = read(tmp_path, 'a::b\n"x::y"::1\n', "t.dat", quoted=True)
    assert table.to_pylist() == [{"a": "x::y", "b": 1}]


def test_a_quote_that_never_closes_swallows_nothing_silently(tmp_path: Path) -> None:
    message = refusal(tmp_path, 'a,b\n1,x\n2,"y\n3,z\n')
    assert 't.csv, line 3: a quote (") that opens in this row is never closed' in message
    assert "quoted: false" in message
    assert read(tmp_path, 'a,b\n1,5" pipe\n2,x\n').column("b").to_pylist() == ['5" pipe', "x"]


def test_the_unclosed_quote_of_a_long_file(tmp_path: Path) -> None:
    content = 'a,b\n1,x\n2,"y\n' + "3,z\n" * 60_000
    assert "line 3" in refusal(tmp_path, content)


# ---- refusals


@pytest.mark.parametrize(
    ("content", "options", "told"),
    [
        ("", {}, "t.csv: the file is empty (0 bytes of text)"),
        ("\n \n", {}, "t.csv: the file is empty (3 bytes of text)"),
        ("user,item\n", {}, "t.csv: has a header but no rows ('item', 'user')"),
        ("user,item", {}, "t.csv: has a header but no rows ('item', 'user')"),
        ("a,b,a\n1,2,3\n", {}, "t.csv, line 1: column names must differ, but 'a' names columns 1 and 3"),
        (",a,a\n0,2,3\n", {}, "t.csv, line 1: column names must differ, but 'a' names columns 2 and 3"),
        ("a,,c\n1,2,3\n", {}, "t.csv, line 1: every column needs a name, but that of column 2 (after 'a') is empty"),
        ("a,b\n1,2\n3\n", {}, "t.csv, line 3: expected 2 values split by ',', found 1 (no value for 'b'): '3'"),
        (
            "a,b\n1,2\n3,4,5\n",
            {},
            "line 3: expected 2 values split by ',', found 3 (more values than columns, the last '5')",
        ),
        (
            "a;b\n1;2\n",
            {"separator": ","},
            "first line is a single column, but ';' would split it into 2; set separator: ';'",
        ),
        (
            "a\tb\n1\t2\n",
            {"separator": ";"},
            "split by ';', the first line is a single column, but a tab would split it",
        ),
        ("a|b,c\n1|2,3\n", {"separator": ";"}, "would split it into 2"),
        ("1,2\n", {"names": ["a", "b", "c"]}, "line 1: 3 names are given, but the line has 2 values when split by ','"),
        ("1;2\n", {"names": ["a", "b"], "separator": ","}, "set separator: ';'"),
        ("1,2\n", {"names": ["a", "a"]}, "names: column names must differ, but 'a' names columns 1 and 2"),
        ("a,b\n1,2\n", {"encoding": "utf-7000"}, "unknown encoding: utf-7000; write for example 'utf-8'"),
        ("a::b\n1\x1f::2\n", {}, "control byte b'\\x1f'"),
    ],
)
def test_faults_are_told(tmp_path: Path, content: str, options: dict[str, Any], told: str) -> None:
    assert told in refusal(tmp_path, content, **options)


def test_ragged_rows_are_counted_across_quoted_line_breaks(tmp_path: Path) -> None:
    assert "t.csv, line 5: expected 2 values" in refusal(tmp_path, 'a,b\n"x\ny",2\n\n3,4,5\n')


def test_a_ragged_row_deep_in_a_compressed_file(tmp_path: Path) -> None:
    content = b"a,b\n" + b"1,2\n" * 100_000 + b"7\n" + b"1,2\n" * 100_000
    assert "t.csv.gz, line 100002: expected 2 values" in refusal(tmp_path, gzip.compress(content, 1), "t.csv.gz")


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    message = refusal(tmp_path, "a,b\nx,1\nCafé,2\n".encode("latin-1"))
    assert "t.csv, line 3: byte 11 (0xe9) is not utf-8" in message
    assert "Café" in message
    assert "encoding: latin-1" in message
    deep = b"a,b\n" + b"1234567,x\n" * 200_000 + b"\xff,y\n"
    assert f"line 200002: byte {4 + 2_000_000:,} (0xff)" in refusal(tmp_path, deep)
    assert "line 2: byte 6 (0xc3)" in refusal(tmp_path, b"a,b\nx,\xc3")


def test_binary_files(tmp_path: Path) -> None:
    assert "t.csv, line 2: holds a NUL byte (near byte 5)" in refusal(tmp_path, b"a,b\n1\x00,2\n")
    assert "the mark of UTF-16, not UTF-8; set encoding: utf-16" in refusal(tmp_path, "a,b\n1,2\n".encode("utf-16"))


def test_a_separator_must_split_lines(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"separator: a separator stands between values on one line; received '\\n'"):
        read(tmp_path, "a\n1\n", separator="\n")


def test_a_text_file_can_be_read_again(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    file = TextFile(locate("t.csv", base=tmp_path))
    assert b"".join(file.chunks()) == b"".join(file.chunks()) == b"a\n1\n"

"""Text of one user a line with items after it (`towerkit.data.adjacency`).

Pinned here:
- the pairs are those of a few lines of plain Python, whatever the ids, the blanks, the line breaks and the block size;
- ids are integers only where all of a column are written as Python prints them, and never change otherwise;
- a position counts from 0 along each line, so that it serves as a time;
- users without items, words among numbers and negative ids are told in notes, with their line;
- missing ids, users that come back in sequences, damage and other text are refused with line and value;
- real public files, where they lie beside the checkout, read to their published sizes.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.readers import SourceSpec, Table, read_table


def read(folder: Path, content: bytes | str, **options: Any) -> Table:
    (folder / "a.txt").write_bytes(content.encode() if isinstance(content, str) else content)
    spec = {"path": "a.txt", "format": "adjacency", **options}
    return read_table(parse(SourceSpec, spec), base=folder)


def refusal(folder: Path, content: bytes | str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, content, **options)
    return str(caught.value)


def rows(table: Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table.data.to_pylist()]


def by_hand(text: str) -> list[tuple[str, str, int]]:
    """The same in plain Python: user, item and position."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    return [(line[0], item, place) for line in lines for place, item in enumerate(line[1:])]


def as_ids(texts: list[str]) -> list[Any]:
    whole = all(text.lstrip("-").isascii() and text.lstrip("-").isdigit() and str(int(text)) == text for text in texts)
    return [int(text) for text in texts] if whole and all(-(2**63) <= int(text) < 2**63 for text in texts) else texts


ID = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.integers(0, 20).map(str),
    st.sampled_from(["007", "+7", "-0", "1.5", "é", "true", "NA", "nan", '"q"', "a,b", "日本", "x" * 40]),
)


@given(
    lines=st.lists(st.lists(ID, min_size=1, max_size=5), min_size=1, max_size=8),
    blank=st.sampled_from([" ", "  ", "\t", " \t "]),
    end=st.sampled_from(["\n", "\r\n", " \n", "\n\n", "\n \n"]),
    last=st.booleans(),
    size=st.integers(1, 12),
)
def test_pairs_are_those_of_plain_python(
    tmp_path_factory: pytest.TempPathFactory, lines: list[list[str]], blank: str, end: str, last: bool, size: int
) -> None:
    text = end.join(blank.join(line) for line in lines) + end * last
    expected = by_hand(text)
    if not expected:
        return
    folder = tmp_path_factory.mktemp("lists")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("towerkit.data.text.CHUNK_BYTES", size)  # blocks end anywhere, also inside a character
        found = read(folder, text)
    users = as_ids([line[0] for line in lines])
    counts = [len(line) - 1 for line in lines]
    assert found.data.column("user").to_pylist() == [
        user for user, count in zip(users, counts, strict=True) for _ in range(count)
    ]
    assert found.data.column("item").to_pylist() == as_ids([item for _, item, _ in expected])


def test_positions_count_along_each_line(tmp_path: Path) -> None:
    table = read(tmp_path, "7 5 5 9\n\n3 1\n8\n", format="sequences")
    assert table.data.column_names == ["user", "item", "position"]
    assert rows(table) == [(7, 5, 0), (7, 5, 1), (7, 9, 2), (3, 1, 0)]


def test_columns_are_named_as_the_spec_says(tmp_path: Path) -> None:
    assert read(tmp_path, "1 2\n", names=["who", "what"]).data.to_pylist() == [{"who": 1, "what": 2}]
    sequences = read(tmp_path, "1 2\n", format="sequences", names=["who", "what", "when"], columns=["when", "who"])
    assert sequences.data.to_pylist() == [{"when": 0, "who": 1}]
    assert read(tmp_path, "1 2\n", format="sequences", names=["u", "i"]).data.column_names == ["u", "i", "position"]
    with pytest.raises(SpecError, match=r"format: adjacency are user and item; received 3 names: a, b, c"):
        read(tmp_path, "1 2\n", names=["a", "b", "c"])
    with pytest.raises(SpecError, match=r"user, item and, if you like, position; received 1 names: a"):
        read(tmp_path, "1 2\n", format="sequences", names=["a"])
    assert "names: column names must differ, but 'a' names columns 1 and 2" in refusal(
        tmp_path, "1 2\n", names=["a", "a"]
    )


def test_users_and_items_are_typed_apart(tmp_path: Path) -> None:
    assert rows(read(tmp_path, "007 1\n8 2\n")) == [("007", 1), ("8", 2)]
    assert rows(read(tmp_path, "7 01\n8 2\n")) == [(7, "01"), (8, "2")]


def test_a_type_decided_late_changes_nothing_read_before(tmp_path: Path) -> None:
    lines = [f"{n} {n + 1} -{n + 1}" for n in range(200_000)]  # several blocks of integers, then a word
    table = read(tmp_path, "\n".join([*lines, "7 x"]) + "\n")
    assert table.data.column("item").to_pylist() == [item for line in lines for item in line.split()[1:]] + ["x"]
    assert table.data.column("user").to_pylist()[-3:] == [199_999, 199_999, 7]
    assert table.notes == (
        "the item ids are text, because 1 of 400,001 are no whole numbers, the first 'x' in line 200001",
    )


def test_a_user_may_have_several_lines_of_an_adjacency_list(tmp_path: Path) -> None:
    assert rows(read(tmp_path, "1 2\n3 4\n1 2 5\n")) == [(1, 2), (3, 4), (1, 2), (1, 5)]


def test_a_user_comes_once_in_sequences(tmp_path: Path) -> None:
    message = refusal(tmp_path, "1 2\n\n3 4\n1 2 5\n3 1\n", format="sequences")
    assert "a.txt, line 4: user 1 has line 1 already (2 users come back in all)" in message
    assert "set format: adjacency" in message


def test_users_alone_are_counted(tmp_path: Path) -> None:
    table = read(tmp_path, "1 2\n7\n8 \n9 1\n")
    assert table.data.num_rows == 2
    assert table.notes == ("2 users stand alone on their line and have no pairs, the first 7 in line 2",)
    assert read(tmp_path, "1 2\n").notes == ()


def test_negative_ids_are_kept_and_told(tmp_path: Path) -> None:
    table = read(tmp_path, "".join(f"{n} {n}\n" for n in range(20)) + "20 3 -1\n")
    assert table.data.column("item").to_pylist()[-1] == -1
    assert table.notes == ("1 item ids are negative, which often stands for nothing, the first -1 in line 21",)


@pytest.mark.parametrize(
    ("separator", "text"),
    [(",", "a b,1,2\nc,3\n"), ("::", "a b::1::2\nc::3"), ("\t", "a b\t1\t2\r\nc\t3\r\n")],
)
def test_other_separators(tmp_path: Path, separator: str, text: str) -> None:
    assert rows(read(tmp_path, text, separator=separator)) == [("a b", 1), ("a b", 2), ("c", 3)]


@pytest.mark.parametrize(
    "text", ["1,2\n3,,4\n", "1,2\n,3,4\n", "1,2\n3,4,\n", "1,2\n,\n", "1,2\n3,4,\r\n5,6\n", "1,2\n3,"]
)
def test_a_missing_id_between_separators_is_refused(tmp_path: Path, text: str) -> None:
    message = refusal(tmp_path, text, separator=",")
    line = text.splitlines()[1].rstrip()
    assert f"a.txt, line 2: an id is missing (an id stands before and after each ','): {line!r}. Fill it in" in message


def test_a_line_without_its_user_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "1 2\n\n \t3 4\n")
    assert "a.txt, line 3: an id is missing (a line begins with its user, not with a blank): ' \\t3 4'" in message


def test_lines_without_items_ask_for_the_separator(tmp_path: Path) -> None:
    message = refusal(tmp_path, "1,2\n3,4\n")
    assert "a.txt: none of its 2 lines has an item after the user when split by blanks; its lines hold ','" in message
    assert "set separator: ','" in message
    assert "write the items after their user" in refusal(tmp_path, "1\n2\n")


@pytest.mark.parametrize("format_", ["adjacency", "sequences"])
def test_what_is_no_such_text(tmp_path: Path, format_: str) -> None:
    packed = gzip.compress(b"1 2 3\n" * 20_000)
    (tmp_path / "cut.txt.gz").write_bytes(packed[: len(packed) // 2])
    assert "cut.txt.gz: the compressed file ends too early" in refusal(
        tmp_path, "1 2\n", path="cut.txt.gz", format=format_
    )
    assert "a.txt: the file is empty (0 bytes of text)" in refusal(tmp_path, "", format=format_)
    assert "a.txt: the file is empty (3 bytes of text)" in refusal(tmp_path, "\n \n", format=format_)
    assert "a.txt, line 2: holds a NUL byte (near byte 6)" in refusal(tmp_path, b"1 2\n3 \x00\n", format=format_)
    mixed = "1 é\n".encode() + "2 é\n".encode("latin-1")
    message = refusal(tmp_path, mixed, format=format_)
    assert "a.txt, line 2: byte 7 (0xe9) is not utf-8" in message and "set encoding: latin-1" in message
    assert rows(read(tmp_path, "1 é\n".encode("latin-1"), encoding="latin-1")) == [(1, "é")]


def test_a_plain_text_reader_recognizes_lists(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 32 41\n1 7\n2\n3 9 8 7 \n")
    with pytest.raises(
        DataError, match=r"train\.txt: its lines are whole numbers .* as in '0 32 41'; set format: adjacency"
    ):
        read_table("train.txt", base=tmp_path)
    (tmp_path / "one.txt").write_text("7\n8\n9\n")
    assert read_table("one.txt", base=tmp_path).data.num_rows == 2


# ---- public files


def test_public_gowalla(data_root: Path) -> None:
    archive = "gowalla/light_gcn_gowalla.zip::light_gcn_gowalla"
    train = read_table(SourceSpec(path=f"{archive}/train.txt", format="adjacency"), base=data_root)
    test = read_table(SourceSpec(path=f"{archive}/test.txt", format="adjacency"), base=data_root)
    assert (train.data.num_rows, test.data.num_rows) == (810_128, 217_242)
    assert [len(train.data.column(name).unique()) for name in ("user", "item")] == [29_858, 40_981]
    assert train.notes == test.notes == ()


def test_public_movielens_1m_in_lists(data_root: Path) -> None:
    table = read_table(SourceSpec(path="ml-1m/lightgcn_style/train.txt", format="adjacency"), base=data_root).data
    text = (data_root / "ml-1m/lightgcn_style/train.txt").read_text()
    assert list(zip(*table.to_pydict().values(), strict=True)) == [(int(u), int(i)) for u, i, _ in by_hand(text)]
    assert table.num_rows == 801_218


def test_public_beauty_sequences(data_root: Path) -> None:
    table = read_table(SourceSpec(path="seq-s3rec/Beauty.txt", format="sequences"), base=data_root).data
    assert [len(table.column(name).unique()) for name in ("user", "item")] == [22_363, 12_101]
    text = (data_root / "seq-s3rec/Beauty.txt").read_text()
    assert list(zip(*table.to_pydict().values(), strict=True)) == [(int(u), int(i), n) for u, i, n in by_hand(text)]
    assert table.num_rows == 198_502

"""What doctor says of a table before anyone trains on it.

- Roles are guessed from names and values, with the reason; an attribute (``user_age``) is no key.
- Numbers that count from 1970 are times, in any of four units, and shown as dates.
- Counts of pairs equal a few lines of plain Python.
- A value that does not fit its column is told with its line; a postal code with a letter is a note, not a problem.
- The YAML to paste reads the same table in the same roles, whatever the column names hold.
- No file makes doctor fail: what cannot be read is a problem with its reason.
"""

from __future__ import annotations

import collections
import datetime
import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from towerkit.core.errors import DataError
from towerkit.core.spec import parse
from towerkit.data.dataset import read_dataset
from towerkit.data.readers import read_table
from towerkit.data.spec import DataSpec
from towerkit.data.table import Table
from towerkit.doctor import examine, show_findings
from towerkit.doctor.guesses import guess_roles
from towerkit.doctor.pairs import pairs_of
from towerkit.spec import parse_yaml


def look(path: Path, text: str | bytes) -> dict[str, Any]:
    """Write a file and examine it; the answer must also print, and be JSON."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return checked(path)


def checked(path: Path) -> dict[str, Any]:
    found = examine(str(path))
    json.dumps(found, default=str, allow_nan=False)
    show_findings(found, Console(quiet=True))
    return found


def lines(header: str, rows: list[str]) -> str:
    return "\n".join([header, *rows]) + "\n"


@pytest.mark.parametrize(
    ("header", "roles"),
    [
        ("userId,movieId,timestamp", {"query": "userId", "candidate": "movieId", "time": "timestamp"}),
        ("MovieID,UserID,unixReviewTime", {"query": "UserID", "candidate": "MovieID", "time": "unixReviewTime"}),
        ("user_age,user_id,ts", {"query": "user_id", "time": "ts"}),
        ("item_price,sku,created", {"candidate": "sku", "time": "created"}),
        ("reviewerID,asin,when", {"query": "reviewerID", "candidate": "asin", "time": "when"}),
        ("a,b,event_id", {}),
    ],
)
def test_roles_by_name(tmp_path: Path, header: str, roles: dict[str, str]) -> None:
    rows = [f"{n % 7},{n % 5},{1700000000 + n}" for n in range(60)]
    found = look(tmp_path / "a.csv", lines(header, rows))
    assert found["suggested_roles"] == roles
    assert found["role_reasons"].keys() == roles.keys()
    if "time" in roles:
        assert "seconds since 1970, run from 2023-11-14T22:13:20 to" in found["role_reasons"]["time"]


UNITS = [("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)]


@pytest.mark.parametrize(("unit", "per_second"), UNITS)
def test_numbers_that_count_from_1970(tmp_path: Path, unit: str, per_second: int) -> None:
    rows = [f"u{n % 7},i{n % 5},{(1700000000 + 86400 * n) * per_second}" for n in range(60)]
    found = look(tmp_path / "a.csv", lines("user,item,time", rows))
    assert found["time"] == {
        "column": "time", "first": "2023-11-14T22:13:20", "last": "2024-01-12T22:13:20", "unit": unit, "days": 59.0,
    }  # fmt: skip


def test_small_numbers_are_no_dates_and_ids_are_no_times(tmp_path: Path) -> None:
    rows = [f"u{n % 7},i{n % 5},{1000 + n},{1700000000 + n}" for n in range(60)]
    found = look(tmp_path / "a.csv", lines("user,item,time,order_id", rows))
    assert found["suggested_roles"]["time"] == "time"
    assert found["time"]["unit"] is None and (found["time"]["first"], found["time"]["last"]) == ("1000", "1059")


def test_a_column_of_a_few_days_is_not_preferred_to_the_moments_beside_it() -> None:
    days = [f"2024-01-0{1 + row % 2}" for row in range(60)]
    moments = [f"2024-01-01T00:{row:02d}:00" for row in range(60)]
    table = Table(
        pa.table({"user": [f"u{row % 7}" for row in range(60)], "date": days, "happened": moments}), "events.csv"
    )
    assert guess_roles(table)["time"].column == "happened"
    assert guess_roles(Table(table.data.drop_columns(["happened"]), "events.csv"))["time"].column == "date"


def test_a_database_file_is_told_how_to_be_read(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE events (user TEXT)")
    with pytest.raises(
        DataError, match=r"shop\.db is an SQLite database; write path: sqlite:///.*shop\.db and your query as"
    ):
        read_table(path)


def test_a_time_with_gaps_is_told_and_not_suggested(tmp_path: Path) -> None:
    rows = [f"u{n % 7},i{n % 5},{1700000000 + n if n % 2 else ''}" for n in range(60)]
    found = look(tmp_path / "a.csv", lines("user,item,timestamp", rows))
    assert "time" not in found["suggested_roles"] and found["problems"] == []
    assert any("'timestamp' would be the time" in note and "30 of 60 rows have none" in note for note in found["notes"])


def test_dates_as_text(tmp_path: Path) -> None:
    rows = [f"u{n % 7},i{n % 5},2024-02-{n % 28 + 1:02d}" for n in range(60)]
    found = look(tmp_path / "a.csv", lines("user,item,day", rows))
    assert found["suggested_roles"]["time"] == "day"
    assert (found["time"]["first"], found["time"]["days"]) == ("2024-02-01T00:00:00", 27.0)


EVENTS = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(0, 6)), st.one_of(st.none(), st.text(max_size=1))),
    min_size=1,
    max_size=40,
)


@given(EVENTS)
def test_pairs_equal_a_plain_count(events: list[tuple[int | None, str | None]]) -> None:
    given_queries, given_candidates = zip(*events, strict=True)
    columns = {"q": pa.array(given_queries, pa.int64()), "c": pa.array(given_candidates, pa.string())}
    table = Table(pa.table(columns), "t")
    whole = [(q, c) for q, c in events if q is not None and c is not None]
    found = pairs_of(table, "q", "c")
    if not whole:
        assert found is None
        return
    assert found is not None
    queries, candidates = collections.Counter(q for q, _ in whole), collections.Counter(c for _, c in whole)
    assert (found["queries"], found["candidates"], found["events"]) == (len(queries), len(candidates), len(whole))
    assert found["repeated_pairs"] == len(whole) - len(set(whole))
    assert found["density"] == pytest.approx(len(set(whole)) / (len(queries) * len(candidates)))
    assert found["single_event_queries"] == sum(count == 1 for count in queries.values())
    assert found["top_1_percent_share"] == pytest.approx(
        max(candidates.values()) / len(whole)
    )  # under 100 candidates: one


@pytest.mark.parametrize(
    ("value", "usual", "part"),
    [
        ("n.a.", "{n}.5", "line 32: 'x' holds 'n.a.': 59 of 60 values are numbers, and this is none"),
        ("T8H1N", "0{n}", "line 32: 'x' holds 'T8H1N'"),
        ("3", "{n},5", "line 2: 'x' holds '0,5' (59 such values): numbers are written with a decimal comma"),
        ("1,000", "2,{n:03d}", "commas between thousands"),
        ("soon", "2024-05-{d}", "line 32: 'x' holds 'soon': 59 of 60 values are dates, and this is none"),
        (
            "2024-02-30",
            "2024-05-{d}",
            "line 32: 'x' holds '2024-02-30': is written like a date, but there is no such day",
        ),
        ("01.02.2024", "{d}.05.2024", "(60 such values): dates in this form are read as names"),
        (" red", "red", "line 32: 'x' holds ' red': stands in other rows without the blanks"),
    ],
)
def test_odd_values_have_their_line(tmp_path: Path, value: str, usual: str, part: str) -> None:
    values = [value if n == 30 else usual.format(n=n, d=f"{n % 28 + 1:02d}") for n in range(60)]
    found = look(tmp_path / "a.csv", lines("user;x", [f"u{n % 7};{each}" for n, each in enumerate(values)]))
    assert any(part in note for note in found["notes"]), found["notes"]
    assert [odd["column"] for odd in found["odd_values"]] == ["x"]
    assert found["problems"] == []


@pytest.mark.parametrize("usual", ["{n}", "{n}.5", "00{n}", "name {n}", "2024-05-{d}", "red"])
def test_a_sound_column_has_no_odd_value(tmp_path: Path, usual: str) -> None:
    rows = [f"u{n % 7};" + usual.format(n=n, d=f"{n % 28 + 1:02d}") for n in range(60)]
    assert look(tmp_path / "a.csv", lines("user;x", rows))["odd_values"] == []


def test_an_infinite_number(tmp_path: Path) -> None:
    rows = [f"u{n % 7},{'inf' if n == 9 else n + 0.5}" for n in range(60)]
    assert "line 11: 'x' holds inf: an infinite number" in look(tmp_path / "a.csv", lines("user,x", rows))["notes"][-1]


def test_an_empty_key_is_a_problem_with_its_line(tmp_path: Path) -> None:
    rows = [f"u{n % 7},{'' if n == 5 else f'i{n % 5}'}" for n in range(60)]
    found = look(tmp_path / "a.csv", lines("user,item", rows))
    assert "line 7: the candidate column 'item' is empty (1 such rows)" in found["problems"][0]


def test_an_entity_table(tmp_path: Path) -> None:
    rows = [f"m{n if n != 40 else 39},Film {n}" for n in range(60)]
    found = look(tmp_path / "a.csv", lines("movie_id,title", rows))
    assert any("'movie_id' is its key" in note for note in found["notes"])
    assert f"holds each key once, but {tmp_path / 'a.csv'}, line 42: 'm39' stood before" in found["problems"][0]
    assert parse_yaml(found["snippet"], "it")["entities"]["movie_id"] == {
        "path": str(tmp_path / "a.csv"), "key": "movie_id", "title": "title",
    }  # fmt: skip


def test_labels_and_weights(tmp_path: Path) -> None:
    rows = [f"u{n % 7},i{n % 5},{n % 5 + 1},{n % 2},{n % 3},{n}" for n in range(60)]
    found = look(tmp_path / "a.csv", lines("user,item,rating,is_click,weight,score", rows))
    assert found["suggested_roles"]["weight"] == "weight"
    assert [(label["column"], label["kind"]) for label in found["suggested_labels"]] == [
        ("rating", "ordinal"),
        ("is_click", "binary"),
        ("score", "regression"),
    ]


def test_a_file_without_header_and_extension(tmp_path: Path) -> None:
    text = "".join(f"{n % 20}\t{n % 30}\t{n % 5}\t{880000000 + n}\n" for n in range(300))
    found = look(tmp_path / "u.data", text)
    assert found["rows"] == 300
    assert found["suggested_roles"] == {"query": "column_1", "candidate": "column_2", "time": "column_4"}
    assert "a guess by place: 20 different values" in found["role_reasons"]["query"]
    assert read_dataset(parse(DataSpec, parse_yaml(found["snippet"], "it")["data"], "it")).examples.data.num_rows == 300
    adult = look(
        tmp_path / "adult.csv", "39, State,7,Male\n" + "".join(f"{n}, State,{n % 9},Male\n" for n in range(60))
    )
    assert adult["rows"] == 61 and "names: [...]" in adult["notes"][0]
    people = look(tmp_path / "u.user", "".join(f"{n}|{n % 40}|M\n" for n in range(1, 60)))
    assert people["suggested_roles"] == {} and "'column_1' is its key" in "".join(people["notes"])
    latin = look(tmp_path / "u.item", "1|Café\n2|Bar\n".encode("latin-1"))
    assert "does not tell the format" in latin["problems"][0] and "utf-8" in latin["problems"][0].lower()
    wide = look(tmp_path / "years.csv", "country,2019,2020,2021\n" + "".join(f"c{n},{n},{n},{n}\n" for n in range(9)))
    assert [column["name"] for column in wide["columns"]] == ["country", "2019", "2020", "2021"]


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)


@given(st.lists(NAMES.filter(str.strip), min_size=1, max_size=4, unique=True))
def test_the_snippet_reads_the_table_whatever_it_is_called(names: list[str]) -> None:
    from towerkit.doctor.snippet import snippet_of

    roles = dict(zip(("query", "candidate", "time", "weight"), names, strict=False))
    spec = parse(DataSpec, parse_yaml(snippet_of({"path": f"{names[0]}.csv"}, roles), "it")["data"], "it")
    assert spec.examples.path == f"{names[0]}.csv"
    assert [getattr(spec.examples, role) for role in roles] == names


def test_the_snippet_is_read_in_the_guessed_roles(tmp_path: Path) -> None:
    name = tmp_path / "a: 'file' #1 {x}, \"é\".csv"
    found = look(name, lines("user id,item: id,time", [f"u{n % 7},i{n % 5},{1700000000 + n}" for n in range(60)]))
    assert found["suggested_roles"] == {"query": "user id", "candidate": "item: id", "time": "time"}
    data = read_dataset(parse(DataSpec, parse_yaml(found["snippet"], "it")["data"], "it"))
    assert (data.roles.query, data.roles.candidate, data.examples.data.num_rows) == ("user id", "item: id", 60)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"user\n",
        b"user\nu1\n",
        b"user,item\nu1,i1\n",
        b"user,item\n,\n,\n",
        b"user,item,time\nu1,i1,\nu1,i2,\n",
        b"user,user\n1,2\n",
        b"1\n2\n3\n",
        b"\x00\x01\x02\xff\xfe",
        b"user,item\nu1\n",
        "user,é\u4e2d\nu1,\U0001f600\nu1,x\n".encode(),
        "user,item\n1,é\n".encode("latin-1"),
        b"user,item\n" + b"9" * 40 + b",18446744073709551616\n" + b"8" * 40 + b",-9223372036854775809\n",
        b"user,time\nu1,1e308\nu1,-1e308\n",
        b"user,time\nu1,inf\nu1,nan\n",
        b"user,time\nu1,9223372036854775807\nu2,-9223372036854775808\nu1,0\n",
        b"user,item,date\nu1,i1,0001-01-01\nu1,i2,9999-12-31\nu2,i1,2024-01-01\n",
        b'user,"a ""b"", c"\nu1,1\nu1,2\n',
        b",".join(b"c%d" % n for n in range(300)) + b"\n" + (b",".join(b"%d" % n for n in range(300)) + b"\n") * 3,
    ],
)  # fmt: skip
def test_no_table_makes_doctor_fail(tmp_path: Path, content: bytes) -> None:
    for name in ("a.csv", "a.unknown", "a.parquet", "a.jsonl", "a.zip", "a.csv.gz"):
        found = look(tmp_path / name, content)
        assert found["columns"] or found["problems"]


def test_every_type_of_column(tmp_path: Path) -> None:
    draw = random.Random(0)
    day = datetime.date(2024, 1, 1)
    columns = {
        "user": [bytes([n % 5]) for n in range(50)],
        "item": [n % 4 for n in range(50)],
        "nothing": pa.nulls(50),
        "list": [[n] for n in range(50)],
        "record": [{"a": n} for n in range(50)],
        "vector": pa.array([[1.0, 2.0]] * 50, pa.list_(pa.float32(), 2)),
        "bool": [n % 2 == 0 for n in range(50)],
        "day": [day + datetime.timedelta(days=n) for n in range(50)],
        "clock": [datetime.time(n % 24) for n in range(50)],
        "span": [datetime.timedelta(seconds=n) for n in range(50)],
        "zone": pa.array([datetime.datetime(2024, 1, 1)] * 50, pa.timestamp("ns", "Europe/Berlin")),
        "big": pa.array([2**64 - 1 - n for n in range(50)], pa.uint64()),
        "decimal": pa.array([draw.randrange(99) for _ in range(50)], pa.decimal128(9, 2)),
        "category": pa.array(["a"] * 50).dictionary_encode(),
        "nan": [float("nan")] * 50,
    }
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = checked(tmp_path / "a.parquet")
    assert found["problems"] == []
    assert found["suggested_roles"]["query"] == "user" and found["suggested_roles"]["candidate"] == "item"
    assert found["pairs"]["queries"] == 5


@given(st.data())
def test_any_small_table_can_be_guessed_at(data: st.DataObject) -> None:
    values = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.just(1700000000))
    rows = data.draw(st.integers(1, 6))
    names = data.draw(
        st.lists(st.sampled_from(["user", "item", "time", "weight", "rating", "id"]), min_size=1, unique=True)
    )
    made = {name: pa.array(data.draw(st.lists(values, min_size=rows, max_size=rows)), pa.int64()) for name in names}
    assert guess_roles(read_table(pa.table(made))).keys() <= {"query", "candidate", "time", "weight"}


def test_the_ratings_of_movielens_1m(data_root: Path) -> None:
    """A million rows, counted also by hand: 6,040 users, 3,706 movies, times for 566,954 rows."""
    found = checked(data_root / "ml-1m" / "ratings.csv.gz")
    assert found["rows"] == 1_000_209
    assert (found["pairs"]["queries"], found["pairs"]["candidates"], found["pairs"]["repeated_pairs"]) == (
        6040,
        3706,
        0,
    )
    assert any(f"{1_000_209 - 566_954:,} of 1,000,209 rows have none" in note for note in found["notes"])

"""Rows of a database by one SELECT (`towerkit.data.databases`), with DuckDB and SQLite as they are.

Pinned here:
- keys stay what they are: integers beside missing values, text with leading zeros, dates, UUIDs, large numbers;
- a query only reads: other statements are refused, files are opened read-only and never made;
- a password comes from a variable, and neither it nor one written out is in a message, a name, a repr or a stored spec;
- what the database refuses is told with its reason, the query and the tables there are;
- PostgreSQL, where ``TOWERKIT_TEST_POSTGRES`` holds the address of a server.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import os
import sqlite3
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import duckdb
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from towerkit.cli import app
from towerkit.core.errors import DataError, MissingExtraError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import read_dataset
from towerkit.data.readers import SourceSpec, Table, read_table
from towerkit.data.spec import DataSpec
from towerkit.doctor import examine
from towerkit.spec import plain

SERVER = os.environ.get("TOWERKIT_TEST_POSTGRES", "")


def ask(path: str, sql: str | None, folder: Path | None = None) -> Table:
    return read_table(SourceSpec(path=path, sql=sql), base=folder)


def refusal(path: str, sql: str | None, folder: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        ask(path, sql, folder)
    return str(caught.value)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the same little table as DuckDB and as SQLite."""
    rows = [(1, "007", 5.0), (2**53 + 1, " é", None), (None, None, 0.5)]
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute("CREATE TABLE events (user_id BIGINT, item VARCHAR, price DOUBLE)")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
    lite = sqlite3.connect(tmp_path / "shop.sqlite")
    with lite:
        lite.execute("CREATE TABLE events (user_id INTEGER, item TEXT, price REAL)")
        lite.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
    lite.close()
    return tmp_path


@pytest.fixture(params=["duckdb:///shop.duckdb", "sqlite:///shop.sqlite"])
def path(request: pytest.FixtureRequest) -> str:
    """The address of either, relative to the folder."""
    if request.param.startswith("sqlite"):
        pytest.importorskip("sqlalchemy", reason="needs the extra sql")
    return str(request.param)


# ---- rows and types


def test_the_rows_of_a_query(shop: Path, path: str) -> None:
    table = ask(path, "SELECT user_id, item, price FROM events ORDER BY price DESC NULLS LAST;", shop)
    assert table.name == path
    assert table.data.schema.types == [pa.int64(), pa.string(), pa.float64()]
    assert table.data.to_pylist() == [
        {"user_id": 1, "item": "007", "price": 5.0},
        {"user_id": None, "item": None, "price": 0.5},
        {"user_id": 2**53 + 1, "item": " é", "price": None},
    ]


def test_integer_keys_stay_integers_beside_missing_ones(shop: Path, path: str) -> None:
    keys = ask(path, "SELECT user_id FROM events WHERE user_id IS NULL OR user_id > 5", shop).data.column("user_id")
    assert (keys.type, sorted(keys.to_pylist(), key=str)) == (pa.int64(), [2**53 + 1, None])


def test_columns_without_any_value_are_empty_text(shop: Path, path: str) -> None:
    assert ask(path, "SELECT NULL AS blank, item FROM events", shop).data.schema.types == [pa.string()] * 2


def test_a_query_may_hold_what_looks_like_parameters_and_comments(shop: Path, path: str) -> None:
    sql = "/* ; */ SELECT item || ':x %s ;' AS item FROM events -- ; DROP TABLE events\n WHERE item LIKE '00%'"
    assert ask(path, sql, shop).data.to_pylist() == [{"item": "007:x %s ;"}]


def test_an_absolute_path_and_only_some_columns(shop: Path, path: str) -> None:
    kind, _, file = path.partition(":///")
    spec = SourceSpec(path=f"{kind}:////{str(shop / file).lstrip('/')}", sql="SELECT * FROM events", columns=("item",))
    assert read_table(spec).data.column_names == ["item"]


def test_types_of_duckdb(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "t.db")) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT 1.50::DECIMAL(10, 2) AS part, 7::DECIMAL(18, 0) AS whole, 3::HUGEINT AS huge, true AS yes, "
            "DATE '2024-05-31' AS day, TIMESTAMP '2024-05-31 10:00:00' AS moment, 'ab'::BLOB AS bytes, "
            "'00000000-0000-0000-0000-000000000007'::UUID AS id, 'b'::ENUM('a', 'b') AS kind, [1, 2] AS list, "
            "{'a': 1, 'b': 'x'} AS record"
        )
    table = ask("duckdb:///t.db", "FROM t", tmp_path).data
    assert table.to_pylist() == [
        {
            "part": 1.5, "whole": 7, "huge": 3, "yes": True, "day": dt.date(2024, 5, 31),
            "moment": dt.datetime(2024, 5, 31, 10), "bytes": b"ab", "id": str(uuid.UUID(int=7)), "kind": "b",
            "list": [1, 2], "record.a": 1, "record.b": "x",
        }
    ]  # fmt: skip
    assert [table.column(name).type for name in ("whole", "huge")] == [pa.int64()] * 2
    assert "column 'x' of type decimal128(38, 0) cannot be read as int64" in refusal(
        "duckdb:///t.db", "SELECT 99999999999999999999::HUGEINT AS x", tmp_path
    )
    assert "column 'x' holds intervals; turn them into numbers in the query" in refusal(
        "duckdb:///t.db", "SELECT INTERVAL 1 DAY AS x", tmp_path
    )


def test_many_rows_come_in_blocks(shop: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="needs the extra sql")
    sql = (
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 120000) "
        "SELECT i, CASE WHEN i > 60000 THEN i / 2.0 END AS half, CASE WHEN i = {} THEN 'word' ELSE i END AS odd FROM n"
    )
    table = ask("sqlite:///shop.sqlite", sql.format(-1), shop).data
    assert table.num_rows == 120_001
    assert table.schema.types == [pa.int64(), pa.float64(), pa.int64()]
    assert table.column("half").to_pylist()[60_000:60_002] == [None, 30_000.5]
    message = refusal("sqlite:///shop.sqlite", sql.format(70_000), shop)
    assert "row 70001: column 'odd' holds int values such as 50000, but here str 'word'" in message
    message = refusal("sqlite:///shop.sqlite", sql.replace("= {}", "> 99999"), shop)
    assert "column 'odd' changes its type on the way ('int64', 'string'); CAST it to one in the query" in message


def test_a_data_set_from_two_queries(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE e AS SELECT i % 7 AS u, i % 5 AS i, i AS t FROM range(70) r(i)")
    data = {
        "examples": {"path": "duckdb:///shop.db", "sql": "FROM e WHERE t < 60", "query": "u", "candidate": "i"},
        "test": {"path": "duckdb:///shop.db", "sql": "FROM e WHERE t >= 60"},
    }
    dataset = read_dataset(parse(DataSpec, data), base=tmp_path)
    assert dataset.examples.name == "duckdb:///shop.db + duckdb:///shop.db"
    assert len(dataset.parts.test) == 10


# ---- refusals


def test_syntax_missing_tables_and_no_rows(shop: Path, path: str) -> None:
    message = refusal(path, "SELECT FROM WHERE", shop)
    assert f"{path}: the database refuses the query (" in message and "syntax error" in message
    assert "'SELECT FROM WHERE'. Its tables are 'events'; correct sql:." in message
    message = refusal(path, "SELECT * FROM event", shop)
    assert "event" in message and "Its tables are 'events'" in message
    message = refusal(path, "SELECT usr FROM events", shop)
    assert "usr" in message and "Its tables are 'events'" in message
    message = refusal(path, "SELECT user_id, item FROM events WHERE price > 99", shop)
    assert message == f"{path}: has no rows (columns: 'item', 'user_id'); give a table with rows."
    message = refusal(path, "SELECT user_id, item, user_id FROM events", shop)
    assert "column names must differ, but 'user_id' names columns 1 and 3" in message


def test_a_query_is_needed_and_only_for_a_database(shop: Path, path: str) -> None:
    assert f"{path}: a database needs a query; give it as sql:" in refusal(path, None, shop)
    (shop / "a.csv").write_text("a\n1\n")
    message = refusal("a.csv", "SELECT 1", shop)
    assert "a.csv: sql: asks a database, and this is the path of a file; remove sql:" in message
    with pytest.raises(SpecError, match=r"x: examples\.sql: string should have at least 1 character"):
        parse(DataSpec, {"examples": {"path": path, "sql": ""}}, "x")


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE events",
        "INSERT INTO events VALUES (1, 'a', 2)",
        "COPY events TO 'out.csv'",
        "ATTACH 'x.db'",
        "",
        " ; ",
    ],
)
def test_only_queries_that_read(shop: Path, path: str, sql: str) -> None:
    if sql:
        assert f"{path}: sql must be a query that reads, SELECT … or WITH …; received {sql!r}" in refusal(
            path, sql, shop
        )
    assert ask(path, "SELECT * FROM events", shop).data.num_rows == 3


def test_one_statement_only(shop: Path, path: str) -> None:
    sql = "SELECT 1 AS a; DROP TABLE events"
    assert f"sql must be one statement, but after a semicolon more follows: {sql!r}" in refusal(path, sql, shop)
    assert ask(path, "SELECT ';' AS a;", shop).data.to_pylist() == [{"a": ";"}]


def test_duckdb_reaches_no_other_file(shop: Path) -> None:
    (shop / "secret.csv").write_text("a\n1\n")
    message = refusal("duckdb:///shop.duckdb", "FROM '{}'".format(shop / "secret.csv"), shop)
    assert "Cannot access file" in message and "secret.csv" in message


def test_sqlite_is_opened_to_read(shop: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="needs the extra sql")
    before = (shop / "shop.sqlite").read_bytes()
    message = refusal("sqlite:///shop.sqlite", "WITH a AS (SELECT 1) INSERT INTO events SELECT 1, 'a', 2 FROM a", shop)
    assert "attempt to write a readonly database" in message
    assert (shop / "shop.sqlite").read_bytes() == before


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, path: str) -> None:
    kind, _, file = path.partition(":///")
    (tmp_path / file.replace("shop", "shops")).write_bytes(b"")
    message = refusal(path, "SELECT 1", tmp_path)
    assert f"there is no file '{file}' in" in message
    assert f"did you mean '{file.replace('shop', 'shops')}'?" in message
    assert not (tmp_path / file).exists()
    for none in (f"{kind}://", f"{kind}:///:memory:"):
        assert f"{none}: a database in memory holds no rows; name a file" in refusal(none, "SELECT 1", tmp_path)
    (tmp_path / "sub").mkdir()
    assert "is a folder; name the file of the database" in refusal(f"{kind}:///sub", "SELECT 1", tmp_path)


def test_a_file_that_is_no_database(tmp_path: Path, path: str) -> None:
    file = path.partition(":///")[2]
    (tmp_path / file).write_bytes(b"\x00\xffgarbage" * 1000)
    message = refusal(path, "SELECT 1 FROM events", tmp_path)
    assert message.startswith(f"{path}: ") and ("not a valid DuckDB" in message or "file is not a database" in message)


def test_addresses_of_no_kind(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="needs the extra sql")
    message = refusal("sqlit:///a.db", "SELECT 1")
    assert "sqlit:///a.db: no database is called 'sqlit'; did you mean 'sqlite'?" in message
    assert "the path of a file has no '://'" in refusal("s3://bucket/a.parquet", "SELECT 1")
    assert "an @ in a user or a password is written %40" in refusal("postgresql://a:b@c@db/shop", "SELECT 1")
    message = refusal("postgresql://ann:hunter2@db:port/shop", "SELECT 1")
    assert "postgresql://ann:***@db:port/shop: is not an address of the form" in message


def test_missing_packages_name_their_extra(monkeypatch: pytest.MonkeyPatch, shop: Path) -> None:
    for package, address in (
        ("duckdb", "duckdb:///shop.duckdb"),
        ("sqlalchemy", "sqlite:///shop.sqlite"),
        ("psycopg", "postgresql://ann:hunter2@localhost/shop"),
    ):
        if package == "psycopg":
            pytest.importorskip("sqlalchemy", reason="needs the extra sql")
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(
                MissingExtraError, match=rf"'{package}', which is not installed.*'towerkit\[sql\]'"
            ) as told:
                ask(address, "SELECT 1", shop)
            assert "hunter2" not in str(told.value)


# ---- passwords


def test_a_password_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = "postgresql+psycopg://ann:hunter2@127.0.0.1:1/shop?sslpassword=hunter2"
    spec = parse(DataSpec, {"examples": {"path": written, "sql": "SELECT 1"}})
    hidden = "postgresql+psycopg://ann:***@127.0.0.1:1/shop?sslpassword=***"
    assert plain(spec)["examples"]["path"] == hidden
    assert "hunter2" not in json.dumps(plain(spec)) + spec.model_dump_json() + repr(spec) + str(spec)
    assert spec.examples.path == written
    assert parse(DataSpec, spec.model_dump()).examples.path == written  # what is built in memory still connects
    found = examine(written)
    assert found["path"] == hidden and "hunter2" not in json.dumps(found)
    for data in ({"examples": written}, {"examples": {"path": written, "sq": 1}}, {"examples": {"path": [written]}}):
        with pytest.raises(SpecError) as caught:
            parse(DataSpec, data)
        assert "hunter2" not in str(caught.value)
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    message = refusal("postgresql://ann:${NO_SUCH_VARIABLE}@localhost/shop", "SELECT 1")
    assert "the environment variable NO_SUCH_VARIABLE is not set" in message


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy", reason="needs the extra sql")
    pytest.importorskip("psycopg", reason="needs the extra sql")
    monkeypatch.setenv("SHOP_PASSWORD", "s3:cr/e@t")
    address = "postgresql://ann:${SHOP_PASSWORD}@127.0.0.1:1/shop"
    message = refusal(address, "SELECT 1")
    assert message.startswith(f"{address}: the database cannot be used (")
    assert "check the address, the user and that it is running" in message
    assert "s3:cr" not in message and "s3%3Acr" not in message
    monkeypatch.setenv("SHOP", "postgresql://ann:hunter2@127.0.0.1:1/shop")
    assert "hunter2" not in refusal("${SHOP}", "SELECT 1")
    assert SourceSpec(path="${SHOP}").model_dump(mode="json")["path"] == "${SHOP}"


# ---- PostgreSQL


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a PostgreSQL server for tests, with a table ``towerkit_events`` for as long as the test runs."""
    if not SERVER:
        pytest.skip("needs a PostgreSQL server; set TOWERKIT_TEST_POSTGRES=postgresql://user:password@host:port/name")
    psycopg = pytest.importorskip("psycopg", reason="needs the extra sql")
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS towerkit_events; CREATE SEQUENCE IF NOT EXISTS towerkit_numbers")
        connection.execute(
            "CREATE TABLE towerkit_events (user_id BIGINT, item TEXT, code NUMERIC, price NUMERIC(8, 2), bought BOOLEAN, "
            "day DATE, moment TIMESTAMPTZ, raw BYTEA, id UUID, tags TEXT[])"
        )
        connection.execute(
            "INSERT INTO towerkit_events VALUES (9007199254740993, '007', 12, 1.50, true, '2024-05-31', "
            "'2024-05-31 10:00:00+02', 'ab', '00000000-0000-0000-0000-000000000007', ARRAY['x', 'y']), "
            "(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
        )
        yield SERVER
        connection.execute("DROP TABLE IF EXISTS towerkit_events; DROP SEQUENCE towerkit_numbers")


def test_postgresql(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy", reason="needs the extra sql")
    parts = urlsplit(server)
    where = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
    monkeypatch.setenv("TOWERKIT_SECRET", "s3:cr/e@t" if "s3" in (parts.password or "") else (parts.password or ""))
    table = ask(f"postgresql://{parts.username}:${{TOWERKIT_SECRET}}@{where}", "SELECT * FROM towerkit_events")
    assert "${TOWERKIT_SECRET}" in table.name
    first, second = table.data.to_pylist()
    assert set(second.values()) == {None}
    assert first["moment"] == dt.datetime(2024, 5, 31, 8, tzinfo=dt.UTC)
    assert {key: value for key, value in first.items() if key != "moment"} == {
        "user_id": 2**53 + 1, "item": "007", "code": int(decimal.Decimal(12)), "price": 1.5, "bought": True,
        "day": dt.date(2024, 5, 31), "raw": b"ab", "id": str(uuid.UUID(int=7)), "tags": ["x", "y"],
    }  # fmt: skip
    assert [table.data.column(name).type for name in ("user_id", "code")] == [pa.int64()] * 2


def test_postgresql_refuses(server: str) -> None:
    pytest.importorskip("sqlalchemy", reason="needs the extra sql")
    message = refusal(server, "WITH gone AS (DELETE FROM towerkit_events RETURNING 1) SELECT * FROM gone")
    assert "must not contain data-modifying statements" in message  # for the rows are fetched through a cursor
    assert "cannot execute nextval() in a read-only transaction" in refusal(
        server, "SELECT nextval('towerkit_numbers')"
    )
    message = refusal(server, "SELECT * FROM towerkit_event")
    assert 'relation "towerkit_event" does not exist' in message and "'towerkit_events'" in message
    parts = urlsplit(server)
    wrong = f"postgresql://{parts.username}:not-this-one@{parts.hostname}:{parts.port or 5432}/no_such_database"
    message = refusal(wrong, "SELECT 1")
    assert "the database cannot be used" in message and "not-this-one" not in message
    assert ask(server, "SELECT count(*) AS n FROM towerkit_events").data.to_pylist() == [{"n": 2}]


def test_a_run_holds_no_password(server: str, tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="needs the extra sql")
    sql = "SELECT n % 7 AS u, n % 40 AS i, n AS t FROM generate_series(1, 200) n"
    spec = {
        "data": {"examples": {"path": server, "sql": sql, "query": "u", "candidate": "i"}},
        "model": {"kind": "two_tower", "query": {"kind": "id"}, "candidate": {"kind": "id"}},
        "training": {"epochs": 1},
    }
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))
    password = urlsplit(server).password or "no password in the address"
    result = CliRunner().invoke(app, ["train", str(tmp_path / "spec.yaml"), "--run", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    stored = [file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert any(b":***@" in content for content in stored)
    for content in (*stored, result.output.encode()):
        assert password.encode() not in content
        assert unquote(password).encode() not in content

"""The rows of one SELECT: from a DuckDB file, or from any database that SQLAlchemy reaches.

A query only reads. Engines that can are opened so: DuckDB and SQLite files read-only (DuckDB besides without files of
its own), PostgreSQL in a read-only transaction; nothing is ever committed. What is stronger, a role of the database that
may only read, is the user's to give.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa

from towerkit.core.errors import DataError, MissingExtraError, listed, nearest, redacted
from towerkit.core.optional import optional_import
from towerkit.data.frames import column_of
from towerkit.data.locations import expand, locate
from towerkit.data.table import Table, plain_table, shown

_URL = re.compile(r"^[a-zA-Z][\w+.-]+://")
_VARIABLE = re.compile(r"\$\{[^}]*\}")
_USER_INFO = re.compile(r"(?<=://)[^@?]*(?=@)")
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_READS = ("select", "with", "values", "from", "table")
_FETCH_ROWS = 50_000
_EXAMPLE = "SELECT user, item FROM events"


def is_database(path: str) -> bool:
    """Whether a path names a database and not a file.

    Example:
        >>> is_database("sqlite:///shop.db"), is_database("shop.db"), is_database("C:/shop.db")
        (True, False, False)
    """
    return _URL.match(expand(path) if path.startswith("${") else path) is not None


def read_query(path: str, sql: str | None, *, base: Path | None = None) -> Table:
    """Ask a database for rows.

    Args:
        path: ``duckdb:///file.db``, or an address of SQLAlchemy's such as ``sqlite:///file.db`` and
            ``postgresql://user:${PASSWORD}@host/name``. A variable in the user or the password is escaped as an address
            needs it.
        sql: One SELECT.
        base: Folder that the relative path of a file starts from.

    Raises:
        DataError: If there is no such database or it refuses the query; a password is never told.
        MissingExtraError: If the package for this database is not installed.
    """
    name = redacted(path)
    query = _checked(sql, name)
    url = _expanded(path)
    engine = url.partition("://")[0].lower()
    with _told(name, path, url):
        is_duckdb = engine == "duckdb"
        data = _from_duckdb(url, query, name, base) if is_duckdb else _from_sqlalchemy(url, query, name, base)
    _check_types(data, name)
    return Table(plain_table(data, name), name)


def _checked(sql: str | None, name: str) -> str:
    """The query without its closing semicolon.

    Raises:
        DataError: If it is missing, or is not one statement that reads.
    """
    if sql is None:
        raise DataError(f"{name}: a database needs a query; give it as sql:, for example sql: {_EXAMPLE}.")
    query = sql.strip().rstrip(";").rstrip()
    bare = _QUOTED.sub(" ", query).strip().lstrip("(").lower()
    first = re.match(r"\w*", bare)
    if first is None or first.group(0) not in _READS:
        raise DataError(f"{name}: sql must be a query that reads, SELECT … or WITH …; received {shown(sql)}.")
    if ";" in bare:
        raise DataError(f"{name}: sql must be one statement, but after a semicolon more follows: {shown(sql, 100)}.")
    return query


def _expanded(path: str) -> str:
    """The address with its variables; a user or a password may hold any character."""

    def escaped(found: re.Match[str]) -> str:
        return _VARIABLE.sub(lambda variable: quote(expand(variable.group(0)), safe=""), found.group(0))

    url = expand(_USER_INFO.sub(escaped, path))
    if url.partition("://")[2].partition("?")[0].count("@") > 1:
        raise DataError(
            f"{redacted(path)}: an @ in a user or a password is written %40 here; or write ${{NAME}} for it."
        )
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)  # the driver that the extra brings


def _file(url: str, name: str, base: Path | None) -> Path:
    """The file of an address such as ``sqlite:///shop.db``; it must exist, for opening would make an empty one."""
    written = unquote(url.partition("://")[2].partition("?")[0].removeprefix("/"))
    if not written or written == ":memory:":
        raise DataError(f"{name}: a database in memory holds no rows; name a file, as in duckdb:///shop.db.")
    path = locate(written, base=base).path
    if not path.is_file():
        raise DataError(f"{name}: {path} is a folder; name the file of the database.")
    return path


def _from_duckdb(url: str, query: str, name: str, base: Path | None) -> pa.Table:
    duckdb = optional_import("duckdb", extra="sql")
    path = _file(url, name, base)
    safe = {"enable_external_access": "false", "lock_configuration": "true"}
    try:
        with duckdb.connect(str(path), read_only=True, config=safe) as connection:
            try:
                return pa.table(connection.sql(query))
            except duckdb.Error as error:
                tables = [row[0] for row in connection.sql("SELECT table_name FROM duckdb_tables()").fetchall()]
                raise _refused(name, str(error), query, tables) from None
    except duckdb.Error as error:
        raise DataError(
            f"{name}: cannot be opened ({_one_line(error)}); is it a DuckDB file, and is it free?"
        ) from None


def _from_sqlalchemy(url: str, query: str, name: str, base: Path | None) -> pa.Table:
    sqlalchemy = optional_import("sqlalchemy", extra="sql")
    engine = _engine(sqlalchemy, url, name, base)
    try:
        with engine.connect() as connection:
            options: dict[str, Any] = {"no_parameters": True, "stream_results": True}
            if engine.dialect.name == "postgresql":
                options["postgresql_readonly"] = True
            connection = connection.execution_options(**options)
            try:
                result = connection.exec_driver_sql(query)
                return _rows(list(result.keys()), lambda: result.fetchmany(_FETCH_ROWS), name)
            except sqlalchemy.exc.DBAPIError as error:
                connection.rollback()
                tables = sqlalchemy.inspect(connection).get_table_names()
                raise _refused(name, str(error.orig), query, tables) from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = _one_line(getattr(error, "orig", None) or error)
        raise DataError(
            f"{name}: the database cannot be used ({reason}); check the address, the user and that it is running."
        ) from None
    finally:
        engine.dispose()


def _engine(sqlalchemy: ModuleType, url: str, name: str, base: Path | None) -> Any:
    if url.lower().startswith("sqlite:"):
        address = f"{_file(url, name, base).resolve().as_uri()}?mode=ro"
        opened = partial(sqlite3.connect, address, uri=True)
        return sqlalchemy.create_engine("sqlite://", creator=opened, poolclass=sqlalchemy.pool.NullPool)
    try:
        return sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    except sqlalchemy.exc.NoSuchModuleError:
        kind = url.partition("://")[0]
        known = ("duckdb", "sqlite", "postgresql", "postgresql+psycopg", "mysql", "mariadb", "oracle", "mssql")
        raise DataError(
            f"{name}: no database is called '{kind}'{nearest(kind, known) or ';'} the path of a file has no '://'. Known "
            f"are {listed(known)} and those of SQLAlchemy's plug-ins."
        ) from None
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise DataError(
            f"{name}: is not an address of the form kind://user:${{PASSWORD}}@host:port/name; correct it."
        ) from None
    except ModuleNotFoundError as error:
        extra = "'towerkit[sql]'" if error.name == "psycopg" else str(error.name)
        raise MissingExtraError(
            f"{name}: this needs the package '{error.name}', which is not installed; install it with: pip install {extra}"
        ) from None


def _rows(names: Sequence[str], fetch: Callable[[], Sequence[Any]], name: str) -> pa.Table:
    """The rows that a cursor gives, as columns; each block is packed before the next is fetched."""
    blocks = [_block(rows, names, name, start) for start, rows in _fetched(fetch)]
    if not blocks:
        return pa.Table.from_arrays([pa.nulls(0) for _ in names], names=list(names))
    columns = []
    for place, column in enumerate(names):
        parts = [pa.table({"values": block[place]}) for block in blocks]
        try:
            columns.append(pa.concat_tables(parts, promote_options="permissive").column("values"))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            kinds = listed({str(block[place].type) for block in blocks})
            raise DataError(
                f"{name}: column '{column}' changes its type on the way ({kinds}); CAST it to one in the query."
            ) from None
    return pa.Table.from_arrays(columns, names=list(names))


def _fetched(fetch: Callable[[], Sequence[Any]]) -> Iterator[tuple[int, Sequence[Any]]]:
    start = 0
    while rows := fetch():
        yield start, rows
        start += len(rows)


def _block(rows: Sequence[Any], names: Sequence[str], name: str, start: int) -> list[pa.Array]:
    return [
        column_of(values, column, name, start) for column, values in zip(names, zip(*rows, strict=True), strict=True)
    ]


def _check_types(data: pa.Table, name: str) -> None:
    for column in data.schema:
        if pa.types.is_interval(column.type):
            raise DataError(f"{name}: column '{column.name}' holds intervals; turn them into numbers in the query.")


def _refused(name: str, reason: str, query: str, tables: Sequence[str]) -> DataError:
    return DataError(
        f"{name}: the database refuses the query ({_one_line(reason)}): {shown(query, 100)}. "
        f"Its tables are {listed(tables) or 'none'}; correct sql:."
    )


def _one_line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".")


@contextmanager
def _told(name: str, path: str, url: str) -> Iterator[None]:
    """Take the password that was filled in out of whatever the packages say."""
    try:
        yield
    except DataError as error:
        text = str(error)
        for secret in _secrets(path, url):
            text = text.replace(secret, "***")
        raise DataError(text) from None


def _secrets(path: str, url: str) -> list[str]:
    """The texts that stand for a password, or for a whole address that a variable holds."""
    secrets = [url] if path.startswith("${") else []
    found = _USER_INFO.search(url)
    if found is not None:
        password = found.group(0).partition(":")[2]
        secrets += [password, unquote(password)]
    return [secret for secret in secrets if len(secret) > 2]

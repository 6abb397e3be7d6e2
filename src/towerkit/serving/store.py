"""Where a log lives: a SQLite file or a PostgreSQL database, written by the one process that owns it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from towerkit.core.errors import DataError, RunError, TowerkitError, redacted
from towerkit.storage.lock import folder_lock, lock_path

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has none
    fcntl = None  # type: ignore[assignment]

_PATIENCE = {"connect_timeout": 3, "tcp_user_timeout": 5_000}
"""Seconds, and milliseconds, after which PostgreSQL counts as gone."""


class Store:
    """A database and the right to write it. Used by one thread at a time.

    Args:
        where: The path of a SQLite file, or the address of a PostgreSQL database.

    Raises:
        DataError: If it cannot be opened.
        RunError: If another process owns it.
    """

    def __init__(self, where: str) -> None:
        self._held = contextlib.ExitStack()
        self.is_sqlite = "://" not in where
        self._owner: sa.Connection | None = None
        self.times_owned = 0
        """A database that went may have been written by others before it is owned again."""
        try:
            self._open(where)
        except TowerkitError:  # which may be a ValueError as well
            self._held.close()
            raise
        except (sa.exc.SQLAlchemyError, ModuleNotFoundError, OSError, ValueError) as error:
            self._held.close()
            raise cannot_be_opened(where, error) from None
        except BaseException:
            self._held.close()
            raise

    def _open(self, where: str) -> None:
        if self.is_sqlite:
            self._path = Path(where).absolute()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(_only_owner(self._path))
            settings: dict[str, Any] = {"connect_args": {"check_same_thread": False}, "poolclass": StaticPool}
            self.engine = sa.create_engine(sa.URL.create("sqlite", database=where), **settings)
            sa.event.listen(self.engine, "connect", _durable)
        else:
            address = where.replace("postgresql://", "postgresql+psycopg://", 1)
            self.engine = sa.create_engine(
                address, pool_pre_ping=True, pool_size=1, max_overflow=1, connect_args=_PATIENCE
            )
        self._held.callback(self.engine.dispose)
        if not self.is_sqlite:
            self._own()
        else:
            with self.engine.connect():
                self._file, self.times_owned = self._path.stat().st_ino, 1

    def _own(self) -> sa.Connection:
        """Take the right to write, which goes with the connection."""
        if self._owner is not None and not (self._owner.closed or self._owner.invalidated):
            return self._owner
        if self._owner is not None:
            self._owner.close()
        self._owner = None
        connection = self.engine.connect()
        if not connection.scalar(sa.text("SELECT pg_try_advisory_lock(hashtext('towerkit_events'))")):
            connection.close()
            raise PermissionError(
                "A log of events has one owner; received the address of one that a running service owns. Stop it first."
            )
        connection.commit()
        self._owner, self.times_owned = connection, self.times_owned + 1
        return connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction: all of the block or nothing, on disk when it has ended.

        Yields:
            What executes.

        Raises:
            OSError: If the file was taken away, or another process owns the database now.
            SQLAlchemyError: If it cannot be written.
        """
        if not self.is_sqlite:
            connection = self._own()
            with connection.begin():
                yield connection
            return
        if not self._path.exists() or self._path.stat().st_ino != self._file:
            raise FileNotFoundError(f"The log of events {self._path} is not where it was; put it back.")
        with self.engine.begin() as connection:
            yield connection

    def reading(self) -> sa.Connection:
        """What reads; to be used as a context."""
        return self.engine.connect()

    def write_back(self) -> None:
        """Bring what was changed from the side file of SQLite into the file, and cut the side file."""
        if self.is_sqlite:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Let go of it."""
        if self._owner is not None:
            self._owner.close()
        self._held.close()


@contextlib.contextmanager
def _only_owner(path: Path) -> Iterator[None]:
    """Hold the only right to write a file.

    The system takes it back when the process ends, however that happens: the next one may have another host's name, as containers
    do, and could not tell whether the one that wrote its number into a lock still lives.

    Raises:
        RunError: If somebody else holds it.
    """
    path = path.resolve()  # whatever link it was reached by
    if fcntl is None:  # pragma: no cover - Windows
        with folder_lock(path):
            yield
        return
    with open(lock_path(path), "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"A log of events has one owner; received {path}, which a running service owns (lock: {file.name}). "
                "Stop that one first, or give this one a log of its own."
            ) from None
        yield


def _durable(connection: Any, _record: Any) -> None:
    """A commit is on disk when it returns, also where the power fails, and what is deleted is overwritten."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "busy_timeout=2000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def cannot_be_opened(where: str, error: Exception) -> DataError:
    """What is told of a place that is no log.

    Args:
        where: As it was given.
        error: What the database says.
    """
    told = f"{type(error).__name__}: {redacted(str(error)).splitlines()[0]}"
    return DataError(
        "The log of events must be a SQLite file or a PostgreSQL database that can be written; received "
        f"{redacted(where)!r}. {told}"
    )

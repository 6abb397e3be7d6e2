"""What was computed once is kept on disk by its content: whole or not there, for several processes, and never trusted blindly.

One SQLite file per encoder and preprocessing. Each entry carries a checksum of its own; one that does not fit, and a file
that is no database, count as not there and are computed again. A folder that cannot be written to costs time, not the answer.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

CACHE_VARIABLE = "TOWERKIT_CACHE"
_TIMEOUT_S = 60.0
_KEYS_AT_A_TIME = 500
_TABLE = "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL)"
T = TypeVar("T")


def cache_folder() -> Path:
    """Where computed vectors are kept: ``$TOWERKIT_CACHE``, else a folder ``towerkit`` where this system keeps caches."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "towerkit"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "towerkit" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "towerkit"


@dataclass(frozen=True)
class ContentCache:
    """Values by key in one file.

    Args:
        path: The file; made with its folder at the first write.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = ContentCache(Path(folder) / "a" / "some.sqlite")
        ...     cache.write({b"key": b"value"})
        ...     cache.read([b"key", b"other"])
        {b'key': b'value'}
    """

    path: Path

    def read(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values that are there and whole.

        Args:
            keys: What is wanted; each may stand several times.
        """
        return self._safely(lambda: self._read(list(dict.fromkeys(keys))), {}) if self.path.exists() else {}

    def write(self, entries: Mapping[bytes, bytes]) -> None:
        """Keep some values: all of them or, if the process is killed, none.

        Args:
            entries: Key -> value.
        """
        self._safely(lambda: self._write(entries), None)

    def _read(self, keys: list[bytes]) -> dict[bytes, bytes]:
        found = {}
        with self._opened() as database:
            for start in range(0, len(keys), _KEYS_AT_A_TIME):
                some = keys[start : start + _KEYS_AT_A_TIME]
                marks = ",".join("?" * len(some))
                rows = database.execute(f"SELECT key, value, checksum FROM entries WHERE key IN ({marks})", some)  # noqa: S608 - only marks
                found.update({key: value for key, value, checksum in rows if _is_whole(key, value, checksum)})
        return found

    def _write(self, entries: Mapping[bytes, bytes]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = [(key, value, _checksum(key, value)) for key, value in entries.items()]
        with self._opened() as database, database:
            database.execute(_TABLE)
            database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=_TIMEOUT_S)) as database:
            yield database

    def _safely(self, work: Callable[[], T], otherwise: T) -> T:
        try:
            return work()
        except (sqlite3.OperationalError, OSError):  # read-only, full, locked for long, or without a table yet
            return otherwise
        except sqlite3.Error:  # no database any more
            try:
                self.path.unlink(missing_ok=True)
                return work()
            except (sqlite3.Error, OSError):
                return otherwise


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=8, key=key[:64]).digest()


def _is_whole(key: object, value: object, checksum: object) -> bool:
    return isinstance(key, bytes) and isinstance(value, bytes) and checksum == _checksum(key, value)

"""The bytes behind the cells of a column: given as they are, or as paths of files and of members of zip archives."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from towerkit.core.errors import DataError
from towerkit.core.spec import short
from towerkit.data.locations import expand
from towerkit.features.base import as_text

MAX_BYTES = 64 * 2**20
"""Of one file (64 MiB); a larger one is no picture or sound to learn from."""
_SCHEMES = ("http://", "https://", "s3://", "gs://", "ftp://")


class Unusable(Exception):
    """A cell cannot be used; the message is the reason, told to whoever reads the report."""


@dataclass(frozen=True)
class Place:
    """Where the paths of a column start.

    Attributes:
        folder: Of the table's file; the current directory where the table was in memory.
        root: A folder or a zip archive in its place, as the spec says it.
        pattern: How a value becomes a path, such as ``{}.jpg``.
    """

    folder: Path | None = None
    root: str | None = None
    pattern: str | None = None


@dataclass
class Opener:
    """Opens the cells of a column; archives stay open until it is closed.

    Attributes:
        place: Where paths start.
        max_bytes: Of one file.
    """

    place: Place
    max_bytes: int = MAX_BYTES
    _root: Path | None = None
    _archives: dict[Path, zipfile.ZipFile] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Opener:
        """Nothing is opened yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the archives."""
        self._stack.close()

    def content(self, value: str | bytes | None) -> bytes | None:
        """The bytes of a cell; None where it is empty.

        Raises:
            Unusable: If there is no such file, it is too large, or lies outside of the root.
            DataError: If the root itself is not there.
        """
        if value is None or not value:
            return None
        if isinstance(value, bytes):
            if len(value) > self.max_bytes:
                raise Unusable(f"has {len(value):,} bytes, and {self.max_bytes:,} are allowed")
            return value
        if value.lower().startswith(_SCHEMES):
            raise Unusable("is an address; download the file and give its path")
        written = value if self.place.pattern is None else self.place.pattern.format(value)
        return self._within(written) if self.place.root is not None else self._anywhere(written)

    def _anywhere(self, written: str) -> bytes:
        archive, mark, member = written.partition("::")
        path = (self.place.folder or Path()) / archive
        return self._member(path, member) if mark else self._file(path)

    def _within(self, written: str) -> bytes:
        if self._root is None:
            given = (self.place.folder or Path()) / Path(expand(str(self.place.root))).expanduser()
            self._root = _found(given, self.place).resolve()
        if not self._root.is_dir():
            return self._member(self._root, written)
        try:
            path = (self._root / written).resolve()
            inside = path.is_relative_to(self._root)
        except (OSError, ValueError, RuntimeError):
            raise Unusable("is no path") from None
        if not inside:
            raise Unusable(f"leads out of the root {self.place.root}")
        return self._file(path)

    def _file(self, path: Path) -> bytes:
        def read() -> bytes:
            if not path.is_file():
                raise Unusable("is a folder" if path.is_dir() else "is not there")
            self._check(path.stat().st_size)
            return path.read_bytes()

        return _told(read)

    def _member(self, path: Path, member: str) -> bytes:
        def read() -> bytes:
            if path not in self._archives:
                if not path.is_file():
                    raise Unusable(f"is in an archive {path.name} that is not there")
                self._archives[path] = self._stack.enter_context(zipfile.ZipFile(path))
            archive = self._archives[path]
            if member not in archive.NameToInfo:
                raise Unusable(f"is not among the {len(archive.NameToInfo):,} members of {path.name}")
            self._check(archive.NameToInfo[member].file_size)
            with archive.open(member) as stream:
                found = stream.read(self.max_bytes + 1)
            self._check(len(found))
            return found

        return _told(read)

    def _check(self, size: int) -> None:
        if size > self.max_bytes:
            raise Unusable(f"has {size:,} bytes, and {self.max_bytes:,} are allowed")


def _found(root: Path, place: Place) -> Path:
    if root.is_dir() or (root.is_file() and zipfile.is_zipfile(root)):
        return root
    what = "is neither a folder nor a zip archive" if root.exists() else "is not there"
    raise DataError(
        f"The root {place.root} of a column of files {what}; correct it (a relative one starts at the table's folder)."
    )


def _told(read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise Unusable(f"cannot be unpacked ({error})") from None
    except (OSError, ValueError) as error:  # a value error: a null byte in a path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise Unusable(f"cannot be read ({reason})") from None


def cells_of(values: pa.Array, name: str) -> pa.Array:
    """The cells of a column of files as bytes or as texts.

    Raises:
        DataError: If the column holds lists.
    """
    if pa.types.is_nested(values.type):
        raise DataError(
            f"The column '{name}' must hold paths or bytes of files; it holds {values.type}. Give one file per row."
        )
    return values if pa.types.is_binary(values.type) else as_text(values)


def shown_cell(value: str | bytes | None) -> str:
    """A cell for a message.

    Example:
        >>> shown_cell("a.jpg"), shown_cell(b"abc")
        ("'a.jpg'", '3 bytes')
    """
    return f"{len(value):,} bytes" if isinstance(value, bytes) else short(value)

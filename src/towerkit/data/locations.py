"""Where a file lies: ``${NAME}``, ``~`` and relative paths, members of zip archives, and its bytes, unpacked."""

from __future__ import annotations

import gzip
import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from towerkit.core.errors import DataError, listed, nearest

MAX_BYTES = 8 * 2**30
"""Most bytes a compressed file may unpack to, unless the caller says otherwise (8 GiB)."""

FORMATS = {
    ".csv": "delimited", ".tsv": "delimited", ".tab": "delimited", ".psv": "delimited", ".dat": "delimited",
    ".txt": "delimited", ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow",
    ".ipc": "arrow", ".jsonl": "jsonl", ".ndjson": "jsonl",
}  # fmt: skip
"""Extension -> format; ``.gz`` may follow."""

DATA_VARIABLE = "TOWERKIT_DATA"

BESIDE = "shared/data"
"""The folder that holds the data sets, where the variable does not say it; looked for beside each parent."""


@dataclass(frozen=True)
class Location:
    """A file or a folder that exists, and the member inside it when it is an archive."""

    name: str
    """As the user wrote it, for messages."""
    path: Path
    """A file, or a folder that holds Parquet files."""
    member: str | None = None

    @property
    def file_name(self) -> str:
        """The name whose extension tells the format."""
        return self.member or self.path.name


def locate(written: str, *, base: Path | None = None) -> Location:
    """Find the file or the folder behind a path as a user writes it.

    Args:
        written: A path; ``${NAME}`` and ``~`` expand, ``archive.zip::member`` names a file inside an archive, and
            ``archive.zip`` alone means the one data file in it.
        base: Folder that a relative path starts from; the current directory when not given.

    Raises:
        DataError: If it does not exist or leaves open which member is meant.

    Example:
        >>> locate("nowhere/a.csv")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        towerkit.core.errors.DataError: nowhere/a.csv: there is no such file, for its folder ... does not exist...
    """
    archive, mark, member = written.partition("::")
    if not mark or not archive.lower().endswith(".zip"):
        archive, member = written, ""
    path = (base or Path()) / Path(expand(archive)).expanduser()
    _check_exists(path, written)
    if path.suffix.lower() != ".zip" or path.is_dir():
        return Location(written, path)
    return Location(written, path, _member(path, member, written))


def expand(written: str) -> str:
    """Replace each ``${NAME}`` by its environment variable; see `data_folder` for ``${TOWERKIT_DATA}``.

    Raises:
        DataError: If a variable is not set.
    """

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        if name in os.environ:
            return os.environ[name]
        if name == DATA_VARIABLE:
            return str(data_folder(written))
        raise DataError(
            f"{written}: the environment variable {name} is not set{nearest(name, os.environ) or ';'} "
            f"set it, or write the path out."
        )

    return re.sub(r"\$\{([^}]*)\}", value, written)


def data_folder(written: str) -> Path:
    """The folder `BESIDE` beside the current directory or beside one of its parents.

    Raises:
        DataError: If there is none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        found = folder.parent / BESIDE
        if found.is_dir():
            return found
    raise DataError(
        f"{written}: {DATA_VARIABLE} is not set, and no folder {BESIDE} lies beside {here} or a parent of it; "
        f"set {DATA_VARIABLE} to the folder that holds your data sets."
    )


def _check_exists(path: Path, written: str) -> None:
    if path.exists():
        return
    folder = path.parent
    if not folder.is_dir():
        raise DataError(
            f"{written}: there is no such file, for its folder {folder} does not exist; "
            "check the path (relative paths start at the folder of the spec file)."
        )
    beside = [entry.name for entry in folder.iterdir()]
    raise DataError(
        f"{written}: there is no file '{path.name}' in {folder.resolve()}"
        f"{nearest(path.name, beside) or '; check the path.'}"
    )


def _member(path: Path, member: str, written: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            files = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{written}: is not a usable zip archive ({error}); fetch or pack it again.") from None
    if member:
        if member in files:
            return member
        near = nearest(member, files) or nearest(member, [Path(file).name for file in files])
        raise DataError(
            f"{written}: the archive has no member '{member}'{near or ';'} its members are {listed(files)}."
        )
    visible = [file for file in files if not re.search(r"(^|/)(__MACOSX|\.)", file)]
    data_files = [file for file in visible if extension(file) in FORMATS] or visible
    if len(data_files) == 1:
        return data_files[0]
    near = nearest(path.stem, [Path(file).stem for file in data_files])
    raise DataError(
        f"{written}: the archive holds {len(data_files)} files that could be meant, so say which one with "
        f"'{written}::MEMBER'{near or '.'} They are {listed(data_files)}."
    )


def extension(file_name: str) -> str:
    """The lower-case extension that tells the format, without ``.gz``.

    Example:
        >>> extension("Ratings.CSV.gz")
        '.csv'
    """
    return Path(file_name.lower().removesuffix(".gz")).suffix


class FileBytes(io.RawIOBase):
    """The bytes of a file, unpacked; damage found on the way becomes a :class:`DataError`.

    Args:
        location: What to open.
        max_bytes: Most bytes a compressed file may unpack to: a small archive can hold more than a disk.

    Raises:
        DataError: If the file is damaged, encrypted, unreadable, or unpacks to more than ``max_bytes``.
    """

    def __init__(self, location: Location, *, max_bytes: int = MAX_BYTES) -> None:
        self._name, self._max_bytes, self._given = location.name, max_bytes, 0
        self._packed = location.member is not None or location.path.suffix.lower() == ".gz"
        self._stack = ExitStack()
        with _told(self._name):
            self._stream = self._open(location)

    def _open(self, location: Location) -> IO[bytes]:
        stream: IO[bytes]
        if location.member is None:
            stream = self._stack.enter_context(open(location.path, "rb"))
        else:
            archive = self._stack.enter_context(zipfile.ZipFile(location.path))
            stream = self._stack.enter_context(archive.open(location.member))
        if location.file_name.lower().endswith(".gz"):
            stream = cast(IO[bytes], self._stack.enter_context(gzip.GzipFile(fileobj=stream)))
        return stream

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Up to ``size`` bytes, fewer only at the end; all that is left when ``size`` is negative."""
        size = -1 if size is None else size
        if self._packed:
            room = self._max_bytes - self._given + 1
            size = room if size < 0 else min(size, room)
        with _told(self._name):
            found = self._stream.read(size)
        self._given += len(found)
        if self._packed and self._given > self._max_bytes:
            raise DataError(
                f"{self._name}: unpacks to more than the allowed {self._max_bytes:,} bytes; "
                "unpack it yourself if you trust it, or raise max_bytes."
            )
        return found

    def close(self) -> None:
        self._stack.close()
        super().close()


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what the unpackers raise into this library's words."""
    try:
        yield
    except EOFError:
        raise DataError(
            f"{name}: the compressed file ends too early, so part of it is missing; fetch it again."
        ) from None
    except (gzip.BadGzipFile, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(
            f"{name}: cannot be unpacked ({error}); it is damaged or not compressed; fetch it again."
        ) from None
    except (RuntimeError, NotImplementedError) as error:  # a password, or a method of compression that is not built in
        raise DataError(f"{name}: this member cannot be unpacked ({error}); pack it again as a plain zip.") from None
    except OSError as error:
        raise DataError(
            f"{name}: cannot be read ({error.strerror or error}); check the file and its permissions."
        ) from None

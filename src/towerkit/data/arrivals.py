"""Is a fetched file what it should be? A page that came with status 200, a torn archive and a bomb are not."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

from towerkit.core.errors import FetchError, listed
from towerkit.data.public_sets import PublicFile

UNPACKED_BYTES = 2**30
"""Most bytes that the members of an archive may declare together; unpacking stops at what they declare."""

_PAIRS = rb"[0-9]+( [0-9]+)*[ \t]*(\r?\n|$)|[0-9 ]{200}"


def check_content(part: Path, file: PublicFile) -> None:
    """Look inside: the first bytes, and for an archive its members and their check sums. Nothing is unpacked to disk.

    Raises:
        FetchError: If it is not the file that was meant.
    """
    with open(part, "rb") as opened:
        start = opened.read(200)
    if file.kind == "adjacency":
        if not re.match(_PAIRS, start):
            raise _another(file, "lines of numbers", start)
    elif not start.startswith(b"PK"):
        raise _another(file, "a zip archive", start)
    else:
        _check_archive(part, file)


def _check_archive(part: Path, file: PublicFile) -> None:
    try:
        with zipfile.ZipFile(part) as archive:
            entries, names = archive.infolist(), archive.namelist()
            unpacked = sum(entry.file_size for entry in entries)
            missing = [member for member in file.members if member not in names]
            damaged = None if missing or unpacked > UNPACKED_BYTES else archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise FetchError(f"{file.url}: the archive is damaged ({error}); it was thrown away. Run it again.") from None
    if unpacked > UNPACKED_BYTES:
        raise FetchError(
            f"{file.url}: the archive says that it unpacks to {unpacked:,} bytes, more than the {UNPACKED_BYTES:,} that "
            "are allowed; it was thrown away. See the page of the data set."
        )
    if missing:
        raise FetchError(
            f"{file.url}: the archive lacks {listed(missing)}; it holds {listed(names)}. It was thrown away. See the "
            "page of the data set."
        )
    if damaged is not None:
        raise FetchError(f"{file.url}: the member '{damaged}' is damaged; it was thrown away. Run it again.")


def _another(file: PublicFile, wanted: str, start: bytes) -> FetchError:
    return FetchError(
        f"{file.url}: expected {wanted}, but what came begins with {start[:60]!r}; it was thrown away. A network that "
        "asks for a login answers so; see the page of the data set."
    )

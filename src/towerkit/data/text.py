"""The text of a file as checked UTF-8 bytes, chunk by chunk: what both readers of text files parse."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from towerkit.core.errors import DataError
from towerkit.data.locations import MAX_BYTES, FileBytes, Location
from towerkit.data.table import shown

CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 20
"""A longer line is no row: a file of another kind, or one whose line breaks were lost."""


@dataclass(frozen=True)
class TextFile:
    """A text file that can be read from its start as often as needed."""

    location: Location
    encoding: str = "utf-8"
    max_bytes: int = MAX_BYTES

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.location.name

    def chunks(self) -> Iterator[bytes]:
        """The whole text as UTF-8 without a byte order mark, in pieces of about a megabyte.

        Raises:
            DataError: If the bytes are not text in this encoding, with the position of the first that is not, or a line is
                longer than 64 MiB.
        """
        with FileBytes(self.location, max_bytes=self.max_bytes) as stream:
            pieces = _bounded(_decoded(stream, self.name, self.encoding), self.name)
            yield next(pieces, b"").removeprefix(codecs.BOM_UTF8)
            yield from pieces

    def head(self) -> bytes:
        """The first chunk.

        Raises:
            DataError: If the file holds nothing, or only blanks.
        """
        head = next(self.chunks(), b"")
        if not head.strip():
            raise DataError(f"{self.name}: the file is empty ({len(head):,} bytes of text); give a file with rows.")
        return head


class ChunkReader(io.RawIOBase):
    """Chunks of bytes as a file that can be read once."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), bytearray()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """``size`` bytes, fewer only at the end."""
        wanted = float("inf") if size is None or size < 0 else size
        while len(self._rest) < wanted and (chunk := next(self._chunks, None)) is not None:
            self._rest += chunk
        found = bytes(self._rest if wanted == float("inf") else self._rest[:size])
        del self._rest[: len(found)]
        return found

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


def replaced(chunks: Iterable[bytes], old: bytes, new: bytes, name: str) -> Iterator[bytes]:
    """The chunks with ``old`` replaced by the single byte ``new``, also where ``old`` crosses a chunk's end.

    Raises:
        DataError: If ``new`` already occurs, so that the replacement could not be told from it.
    """
    rest = b""
    for chunk in chunks:
        if new in chunk:
            raise DataError(f"{name}: holds the control byte {new!r}, which no text should; remove it.")
        *whole, rest = (rest + chunk).split(old)
        if whole:
            yield new.join(whole) + new
    yield rest


def _bounded(pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    """The same pieces, as long as no line grows beyond all measure: a parser would hold it in memory whole."""
    line, length = 1, 0
    for piece in pieces:
        breaks = piece.count(b"\n")
        length = len(piece) - piece.rfind(b"\n") - 1 if breaks else length + len(piece)
        line += breaks
        if length > MAX_LINE_BYTES:
            raise DataError(
                f"{name}, line {line}: goes on for more than {MAX_LINE_BYTES:,} bytes without a line break, and a row is never "
                "so long; is it a text file, and are its line breaks there? Write one row per line."
            )
        yield piece


def _decoded(stream: FileBytes, name: str, encoding: str) -> Iterator[bytes]:
    try:
        b"".decode(encoding)  # refuses codecs that are not for text, too
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError as error:
        raise DataError(f"{name}: {error}; write for example 'utf-8', 'latin-1' or 'utf-16'.") from None
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    position, line = 0, 1
    while True:
        chunk = stream.read(CHUNK_BYTES)
        if position == 0 and is_utf8 and chunk[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise DataError(f"{name}: begins with {chunk[:2]!r}, the mark of UTF-16, not UTF-8; set encoding: utf-16.")
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, not chunk)
        except UnicodeDecodeError as error:
            raise _not_text(error, name, encoding, position - pending, line) from None
        piece = chunk if is_utf8 else text.encode()
        if b"\0" in piece:
            at = piece.index(b"\0")
            where = line + piece[:at].count(b"\n")
            raise DataError(
                f"{name}, line {where}: holds a NUL byte (near byte {position + at:,}), so it is "
                "not a text file; give a text file, set its format (parquet, arrow), or its encoding (utf-16)."
            )
        if piece:
            yield piece
        if not chunk:
            return
        position, line = position + len(chunk), line + piece.count(b"\n")


def _not_text(error: UnicodeDecodeError, name: str, encoding: str, start: int, line: int) -> DataError:
    where = line + error.object[: error.start].count(b"\n")
    around = error.object[max(0, error.start - 20) : error.start + 20].decode("latin-1")
    return DataError(
        f"{name}, line {where}: byte {start + error.start:,} (0x{error.object[error.start]:02x}) is "
        f"not {encoding}; as latin-1 the text there reads {shown(around)}. If that looks right, set encoding: latin-1."
    )

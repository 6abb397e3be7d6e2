"""How a text table is laid out: its separator, its column names and where its rows begin, from the first lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from towerkit.core.errors import DataError
from towerkit.data.locations import extension
from towerkit.data.table import check_names, shown
from towerkit.data.text import CHUNK_BYTES, TextFile

SEPARATORS = ("::", "\t", "|", ";", ",")
"""The separators that are looked for; any other can be given."""

_BY_EXTENSION = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
_SPOKEN = {"\t": "a tab", " ": "a space"}
_SAMPLE_LINES = 50
_LIST = re.compile(r"-?[0-9]+( +-?[0-9]+)*")


@dataclass(frozen=True)
class Layout:
    """What has to be known before the rows can be parsed."""

    separator: str
    names: tuple[str, ...]
    first_row: int
    """Line of the first data row, from 1."""
    header_bytes: int
    """Bytes to skip before it."""

    @property
    def splits_by_byte(self) -> bool:
        """Whether the separator is a single byte, as the parser wants it."""
        return len(self.separator.encode()) == 1


def find_layout(
    head: bytes, file: TextFile, *, separator: str | None, header: bool, names: Sequence[str] | None
) -> Layout:
    """Find separator, names and first row.

    Args:
        head: The first chunk of the file, as UTF-8.
        file: For its name and extension.
        separator: As given; found when None.
        header: Whether the first line that is not blank names the columns.
        names: Column names when there is no header; numbered names are made up when None.

    Raises:
        DataError: If the names are empty or repeated, do not fit the first row, or another separator was meant.
    """
    sample = _Sample(head)
    with_header = header and names is None
    if with_header:
        _check_spreadsheet(sample.first_text(), file.name)
    chosen = separator or _find_separator(sample, file, with_header)
    first = next(iter(sample.records(chosen)), None)
    if first is None:
        raise DataError(
            f"{file.name}, line 1: cannot be split by {spoken(chosen)} (is it longer than 131,072 characters?); give a text table."
        )
    if len(first) == 1:
        _check_separator(sample, separator, file.name)
    if with_header:
        start, used = sample.first_record(chosen)
        saved_index = len(first) > 1 and not first[0]  # perhaps row numbers: decided when they are read
        check_names(["(row numbers)", *first[1:]] if saved_index else first, f"{file.name}, line {start}")
        lines = sample.lines[:used]
        return Layout(chosen, tuple(first), used + 1, sum(map(len, lines)))
    given = tuple(names) if names is not None else tuple(f"column_{i + 1}" for i in range(len(first)))
    check_names(given, f"{file.name}, names")
    if len(given) != len(first):
        raise DataError(
            f"{file.name}, line 1: {len(given)} names are given, but the line has {len(first)} values when split by "
            f"{spoken(chosen)}{_other(sample, chosen)}; give one name per value."
        )
    return Layout(chosen, given, 1, 0)


def spoken(separator: str) -> str:
    """A separator as a message shows it.

    Example:
        >>> spoken("\\t"), spoken(";")
        ('a tab', "';'")
    """
    return _SPOKEN.get(separator, f"'{separator}'")


class _Sample:
    """The first lines, complete ones where there are more than one."""

    def __init__(self, head: bytes) -> None:
        lines = head.splitlines(keepends=True)
        if len(head) >= CHUNK_BYTES and len(lines) > 1:
            lines.pop()
        self.lines = lines
        self._blank = next(i for i, line in enumerate(lines) if line.strip(b"\r\n"))
        some = lines[self._blank : self._blank + 4 * _SAMPLE_LINES]
        self._texts = [line.decode(errors="replace") for line in some]

    def records(self, separator: str) -> list[list[str]]:
        """Up to fifty records that are not blank; none if they cannot be split so."""
        found: list[list[str]] = []
        try:
            for record in self._split(separator):
                if record and len(found) < _SAMPLE_LINES:
                    found.append(record)
        except csv.Error:
            pass
        return found

    def first_record(self, separator: str) -> tuple[int, int]:
        """Line on which the first record begins, from 1, and the number of lines down to its end."""
        if len(separator) > 1:
            return self._blank + 1, self._blank + 1
        reader = csv.reader(self._texts, delimiter=separator)
        next(reader)
        return self._blank + 1, self._blank + reader.line_num

    def first_width(self, separator: str) -> int:
        """Number of values in the first record."""
        return max((len(record) for record in self.records(separator)[:1]), default=0)

    def width(self, separator: str) -> int:
        """Number of values in the first record if all records have so many, else 0."""
        widths = [len(record) for record in self.records(separator)]
        return widths[0] if widths and len(set(widths)) == 1 else 0

    def first_text(self) -> str:
        """The first line that is not blank."""
        return self._texts[0].strip()

    def looks_like_lists(self) -> bool:
        """Whether the lines hold blanks and whole numbers only, most of them several numbers."""
        texts = [text.strip() for text in self._texts if text.strip()]
        several = sum(" " in text for text in texts)
        return 2 * several > len(texts) and all(_LIST.fullmatch(text) for text in texts)

    def _split(self, separator: str) -> Iterator[list[str]]:
        if len(separator) == 1:
            yield from csv.reader(self._texts, delimiter=separator)
        else:
            yield from (text.rstrip("\r\n").split(separator) for text in self._texts if text.strip("\r\n"))


def _find_separator(sample: _Sample, file: TextFile, with_header: bool) -> str:
    found = _find_bare_separator(sample, file)
    records = sample.records(found)
    values = [value for record in records for value in record[1:]]
    if with_header and len(records) > 1 and values and all(value.startswith(" ") for value in values):
        return found + " "  # the names have the blank too, so it belongs to the separator and not to the values
    return found


def _find_bare_separator(sample: _Sample, file: TextFile) -> str:
    """The extension's separator if it splits the first line, else the one that splits every line into the most."""
    usual = _BY_EXTENSION.get(extension(file.location.file_name))
    if usual is not None and sample.first_width(usual) > 1:
        return usual
    widths = {separator: sample.width(separator) for separator in SEPARATORS}
    best = max(SEPARATORS, key=lambda separator: widths[separator])
    if widths[best] > 1:
        return best
    splitting = [separator for separator in SEPARATORS if sample.first_width(separator) > 1]
    return usual or (splitting[0] if splitting else ",")


def _check_separator(sample: _Sample, chosen: str | None, name: str) -> None:
    """Refuse a single column where a given separator is the wrong one, or where lists of ids stand."""
    if chosen is None:
        if sample.looks_like_lists():
            raise DataError(
                f"{name}: its lines are whole numbers with blanks between them, as in {shown(sample.first_text())}; set "
                "format: adjacency if each is a user and its items (format: sequences if these are in the order of time), "
                "or separator: ' ' if each has the same columns."
            )
        return
    other = _other(sample, chosen)
    if other:
        raise DataError(f"{name}: split by {spoken(chosen)}, the first line is a single column{other}.")


def _check_spreadsheet(first: str, name: str) -> None:
    """Refuse the line with which a spreadsheet tells itself the separator: the header stands below it."""
    if re.fullmatch(r"(?i)sep=.?", first):
        raise DataError(
            f"{name}, line 1: {shown(first)} tells a spreadsheet how to split the file, and is no header; remove the line."
        )


def _other(sample: _Sample, chosen: str) -> str:
    """A phrase that names a separator that would split the first lines, or nothing."""
    widths = {separator: sample.width(separator) for separator in SEPARATORS if separator != chosen}
    best = max(widths, key=lambda separator: widths[separator])
    if widths[best] < 2:
        return ""
    return f", but {spoken(best)} would split it into {widths[best]}; set separator: {best!r}"

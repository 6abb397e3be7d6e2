"""Text of one user a line with the items after it, as pairs: adjacency lists, and sequences in the order of time.

Lines are taken apart in blocks of about a megabyte, by whole-array operations on the bytes: no loop over ids. An id is
a 64-bit integer if all of its column are written as Python prints one, and text otherwise; no id changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.data.columns import whole_numbers
from towerkit.data.layout import SEPARATORS, spoken
from towerkit.data.table import Table, check_names, shown
from towerkit.data.text import TextFile, replaced

PAIR_NAMES = ("user", "item")
"""Column names of an adjacency table, unless others are given."""
SEQUENCE_NAMES = ("user", "item", "position")
"""Column names of a table of sequences, unless others are given."""

_NEWLINE, _RETURN, _BLANK, _TAB = b"\n\r \t"
_STAND_IN = 0x1F
"""Takes the place of a given separator: ASCII's unit separator."""
_WHOLE = r"^(0|-?[1-9][0-9]*)$"
_NEARLY_ALL = 0.9

_Places = NDArray[np.int64]


def read_pairs(file: TextFile, *, names: Sequence[str] | None, separator: str | None, in_order: bool) -> Table:
    """Read lines of ``user item item …`` as one row per pair, in the order of the file.

    Args:
        file: The text; a blank line counts for nothing.
        names: What to call the columns: user and item; with ``in_order`` a third may follow, for the position.
        separator: What stands between ids; any run of blanks and tabs when not given or a blank.
        in_order: Whether a line is in the order of time: the position in it, from 0, becomes a third column, and a user
            may have one line only. Else a user may have several.

    Returns:
        The pairs. Users without an item, and ids that look wrong, are told in its notes.

    Raises:
        DataError: If an id is missing or no line has an item, with the line; if a user with ``in_order`` comes back.
    """
    file.head()
    split_by = None if separator in (None, " ") else separator
    lines = _read_lines(file, split_by)
    if not len(lines.items):
        raise _no_pairs(lines, file, split_by)
    if in_order:
        _check_users_once(lines, file.name)
    return Table(_columns(lines, _named(names, in_order, file.name)), file.name, notes=_notes(lines))


@dataclass(frozen=True)
class _Lines:
    """The ids of some lines, as they stood."""

    users: pa.ChunkedArray
    """``[lines]``"""
    items: pa.ChunkedArray
    """``[pairs]``"""
    counts: _Places
    """``[lines]`` number of items."""
    numbers: _Places
    """``[lines]`` number of the line in the file, from 1."""

    def line_of_pair(self, pair: int) -> int:
        """Number of the line, from 1, that holds a pair."""
        return int(self.numbers[np.searchsorted(np.cumsum(self.counts), pair, side="right")])


def _read_lines(file: TextFile, separator: str | None) -> _Lines:
    chunks = file.chunks()
    if separator is not None:
        chunks = replaced(chunks, separator.encode(), bytes([_STAND_IN]), file.name)
    found, line = [], 1
    for text in _whole_lines(chunks):
        data = np.frombuffer(text, np.uint8)
        found.append(_split(data, line, file.name, separator))
        line += int(np.count_nonzero(data == _NEWLINE))
    return _Lines(
        users=_joined([lines.users for lines in found]),
        items=_joined([lines.items for lines in found]),
        counts=np.concatenate([lines.counts for lines in found]),
        numbers=np.concatenate([lines.numbers for lines in found]),
    )


def _whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The text in pieces that end where a line ends."""
    rest: list[bytes] = []
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, chunk[:end]])
            rest = []
        rest.append(chunk[end:])
    yield b"".join([*rest, b"\n"])


def _split(data: NDArray[np.uint8], line: int, name: str, separator: str | None) -> _Lines:
    """Find the ids between the gaps.

    Args:
        data: ``[bytes]`` whole lines; a given separator has its stand-in there.
        line: Number of the first of these lines.
        name: What messages call the file.
        separator: As given; None for blanks.
    """
    newline = data == _NEWLINE
    part = (data == _BLANK) | (data == _TAB) if separator is None else data == _STAND_IN
    inside = ~(newline | part | (data == _RETURN))  # [bytes] whether the byte belongs to an id
    before, after = np.append(False, inside[:-1]), np.append(inside[1:], False)
    starts, ends = np.flatnonzero(inside & ~before), np.flatnonzero(inside & ~after) + 1  # [ids]
    breaks = np.flatnonzero(newline)
    row = np.searchsorted(breaks, starts)  # [ids] its line, from 0
    is_user = np.diff(row, prepend=-1) != 0
    opens = np.append(True, newline[:-1])  # [bytes] whether a line begins here
    missing = starts[is_user & ~opens[starts]] if separator is None else np.flatnonzero(part & (opens | ~after))
    if len(missing):
        raise _missing_id(data, breaks, int(missing[0]), line, name, separator)
    offsets = np.append(0, np.cumsum(ends - starts)).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data[inside])]
    ids = pa.Array.from_buffers(pa.large_string(), len(starts), buffers)
    places = np.flatnonzero(is_user)  # [lines with ids]
    return _Lines(
        users=_ids(ids.take(pa.array(places))),
        items=_ids(ids.filter(pa.array(~is_user))),
        counts=np.diff(places, append=len(starts)) - 1,
        numbers=row[places] + line,
    )


def _missing_id(
    data: NDArray[np.uint8], breaks: _Places, place: int, line: int, name: str, separator: str | None
) -> DataError:
    row = int(np.searchsorted(breaks, place))
    begin = int(breaks[row - 1]) + 1 if row else 0
    text = data[begin : min(int(breaks[row]), begin + 200)].tobytes().decode(errors="replace").rstrip("\r")
    rule = (
        "a line begins with its user, not with a blank"
        if separator is None
        else f"an id stands before and after each {spoken(separator)}"
    )
    return DataError(
        f"{name}, line {line + row}: an id is missing ({rule}): {shown(text.replace(chr(_STAND_IN), separator or ''))}. "
        "Fill it in, or remove what is too much."
    )


def _ids(texts: pa.Array) -> pa.Array:
    """The ids of one block, as integers if all of them are some."""
    whole = whole_numbers(texts)
    return texts.cast(pa.string()) if whole is None else whole


def _joined(blocks: list[pa.Array]) -> pa.ChunkedArray:
    """The ids of all blocks in one type; integers that go back to text are written as they were."""
    filled = [block for block in blocks if len(block)]
    kind = pa.int64() if all(pa.types.is_integer(block.type) for block in filled) else pa.string()
    return pa.chunked_array([block.cast(kind) for block in filled], type=kind)


def _columns(lines: _Lines, names: Sequence[str]) -> pa.Table:
    users = lines.users.take(pa.array(np.repeat(np.arange(len(lines.counts)), lines.counts)))
    columns = [users, lines.items]
    if len(names) == len(SEQUENCE_NAMES):
        starts = np.cumsum(lines.counts) - lines.counts  # [lines] place of the first pair
        columns.append(pa.array(np.arange(len(users)) - np.repeat(starts, lines.counts)))
    return pa.table(columns, names=list(names))


def _named(names: Sequence[str] | None, in_order: bool, file: str) -> tuple[str, ...]:
    usual = SEQUENCE_NAMES if in_order else PAIR_NAMES
    given = tuple(names or usual)
    if not 2 <= len(given) <= len(usual):
        raise DataError(
            f"{file}: names must name the columns {', '.join(usual)}; received {len(given)} names: {', '.join(given)}."
        )
    check_names(given, f"{file}, names")
    return given + (usual[2:] if len(given) == 2 else ())


def _check_users_once(lines: _Lines, name: str) -> None:
    users = lines.users.combine_chunks()
    counts = pc.value_counts(users)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        user = repeated[0].as_py()["values"]
        first, second = lines.numbers[np.flatnonzero(pc.equal(users, user).to_numpy(zero_copy_only=False))[:2]]
        raise DataError(
            f"{name}, line {second}: user {user!r} has line {first} already ({len(repeated):,} users come back in all), "
            "but a sequence is one line a user, in the order of time. Join the lines, or set format: adjacency if the "
            "order means nothing."
        )


def _no_pairs(lines: _Lines, file: TextFile, separator: str | None) -> DataError:
    head = file.head()[:10_000].decode(errors="replace")
    other = next((each for each in SEPARATORS if each != separator and each in head), None)
    between = "blanks" if separator is None else spoken(separator)
    hint = f"its lines hold {spoken(other)}: set separator: {other!r}" if other else "write the items after their user"
    return DataError(
        f"{file.name}: none of its {len(lines.users):,} lines has an item after the user when split by {between}; {hint}."
    )


def _notes(lines: _Lines) -> tuple[str, ...]:
    notes = []
    alone = np.flatnonzero(lines.counts == 0)
    if len(alone):
        user = lines.users[int(alone[0])].as_py()
        notes.append(
            f"{len(alone):,} users stand alone on their line and have no pairs, the first {user!r} in line "
            f"{lines.numbers[alone[0]]}"
        )
    for what, ids in (("user", lines.users), ("item", lines.items)):
        place, note = _odd_ids(ids)
        if note:
            line = int(lines.numbers[place]) if what == "user" else lines.line_of_pair(place)
            notes.append(f"{note.format(what=what)} in line {line}")
    return tuple(notes)


def _odd_ids(ids: pa.ChunkedArray) -> tuple[int, str]:
    """Where ids look wrong, and a note about it: a word among numbers, or a negative number among others."""
    whole = pa.types.is_integer(ids.type)
    odd = pc.less(ids, 0) if whole else pc.invert(pc.match_substring_regex(ids, _WHOLE))
    count = pc.sum(odd).as_py()
    if not count or count > (1 - _NEARLY_ALL) * len(ids):
        return 0, ""
    place = int(pc.index(odd, True).as_py())
    if whole:
        return (
            place,
            f"{count:,} {{what}} ids are negative, which often stands for nothing, the first {ids[place].as_py()}",
        )
    return place, (
        f"the {{what}} ids are text, because {count:,} of {len(ids):,} are no whole numbers, the first "
        f"{shown(ids[place].as_py())}"
    )

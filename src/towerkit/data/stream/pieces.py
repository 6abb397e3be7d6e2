"""A log encoded piece by piece, by whoever is there: the same files, bit for bit, that one pass writes.

Each piece is read once, with codes of its own. The keys of the pieces are merged in the order of the log, so that every key gets
the code of its first appearance; then each piece writes its codes anew where its rows lie.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from towerkit.data.parquet import ParquetPart
from towerkit.data.roles import Roles
from towerkit.data.stream.arrays import CHUNK_ROWS, made, put
from towerkit.data.stream.encoding import in_one, pair_of, read_keys, write_keys
from towerkit.data.stream.files import LogFiles, check_filled, rows_of
from towerkit.data.stream.keys import Keys
from towerkit.data.table import Table
from towerkit.data.times import times_of
from towerkit.storage.tensors import load_tensors, map_tensor, save_tensors

P = TypeVar("P")
R = TypeVar("R")


class ForEach(Protocol):
    """Calls a function once for each of some pieces, in any order, anywhere; the results come in the order of the pieces."""

    def __call__(self, function: Callable[[P], R], pieces: Sequence[P], /) -> Iterator[R]:
        """The results."""


@dataclass(frozen=True)
class Stretch:
    """Neighboring row groups of a file."""

    part: ParquetPart
    groups: tuple[int, ...]
    num_rows: int


@dataclass(frozen=True)
class Piece:
    """Neighboring rows of a log, which one process reads."""

    number: int
    first: int
    """The number of its first row."""
    stretches: tuple[Stretch, ...]

    @property
    def num_rows(self) -> int:
        """Of all its stretches."""
        return sum(each.num_rows for each in self.stretches)


def pieces_of(files: LogFiles, most: int = CHUNK_ROWS) -> list[Piece]:
    """The rows of a log in pieces of whole row groups, small files together.

    Args:
        files: The log.
        most: Rows of a piece, unless one row group has more.
    """
    found: list[Piece] = []
    held: list[Stretch] = []
    first = 0

    def close() -> None:
        nonlocal first, held
        if held:
            found.append(Piece(len(found), first, tuple(held)))
            first, held = first + found[-1].num_rows, []

    for part in files.parts:
        for group, num_rows in enumerate(part.group_rows):
            if sum(each.num_rows for each in held) + num_rows > most:
                close()
            if held and held[-1].part == part:
                last = held.pop()
                held.append(Stretch(part, (*last.groups, group), last.num_rows + num_rows))
            else:
                held.append(Stretch(part, (group,), num_rows))
    close()
    return found


def encode_by_pieces(files: LogFiles, roles: Roles, folder: Path, each: ForEach, most: int = CHUNK_ROWS) -> list[Keys]:
    """An :class:`~towerkit.data.stream.encoding.Encode` for several processes that reach the files and the folder.

    Args:
        files: What is read, once.
        roles: Which column is which.
        folder: Where to write.
        each: Who calls for each piece.
        most: Rows of a piece.

    Raises:
        DataError: As in one process: of the first row that cannot be used.
    """
    pieces, drafts = pieces_of(files, most), folder / "pieces"
    drafts.mkdir()
    for _ in each(partial(read_piece, schema=files.schema, name=files.name, roles=roles, drafts=drafts), pieces):
        pass
    keys = _merged(pieces, [files.schema.field(column).type for column in pair_of(roles)], drafts)
    with_time = roles.time in files.schema.names
    for name, dtype in (("0", np.int32), ("1", np.int32), *([("time", np.float64)] if with_time else [])):
        made(folder / f"{name}.npy", dtype, (files.num_rows,))
    for _ in each(partial(place_piece, drafts=drafts, folder=folder), pieces):
        pass
    shutil.rmtree(drafts)
    return keys


def read_piece(piece: Piece, schema: pa.Schema, name: str, roles: Roles, drafts: Path) -> None:
    """Write the codes of a piece, its keys with their counts, and its times.

    Args:
        piece: The rows.
        schema: The columns that are read.
        name: Of the log, for messages.
        roles: Which column is which.
        drafts: Where to write.
    """
    pair = pair_of(roles)
    keys = [Keys(schema.field(column).type) for column in pair]
    found: dict[str, list[Any]] = {"codes-0": [], "codes-1": [], "time": []}
    for stretch in piece.stretches:
        for before, table in rows_of(stretch.part, schema, groups=stretch.groups):
            check_filled(table, stretch.part.name, before)
            for place, column in enumerate(pair):
                found[f"codes-{place}"].append(keys[place].add(in_one(table.column(column))))
            if roles.time in schema.names:
                found["time"].append(times_of(Table(table, name), str(roles.time)))
    arrays = {which: np.concatenate(rows) for which, rows in found.items() if rows}
    for place, own in enumerate(keys):
        arrays[f"counts-{place}"] = own.counts
        write_keys(drafts / f"{piece.number}-{place}.arrow", own.values)
    save_tensors(drafts / f"{piece.number}.safetensors", arrays)


def place_piece(piece: Piece, drafts: Path, folder: Path) -> None:
    """Write the codes of a piece as the log has them, where its rows lie, and its times.

    Args:
        piece: The rows.
        drafts: Where :func:`read_piece` wrote.
        folder: Of the encoded log.
    """
    found = load_tensors(drafts / f"{piece.number}.safetensors")
    codes_of = load_tensors(drafts / f"{piece.number}-merged.safetensors")
    for place in ("0", "1"):
        put(folder / f"{place}.npy", piece.first, codes_of[place][found[f"codes-{place}"]])
    if "time" in found:
        put(folder / "time.npy", piece.first, found["time"])


def _merged(pieces: Sequence[Piece], kinds: Sequence[pa.DataType], drafts: Path) -> list[Keys]:
    """The keys of all pieces; beside each piece, which code its keys have among them."""
    keys = [Keys(kind) for kind in kinds]
    for piece in pieces:
        codes_of = {}
        for place, merged in enumerate(keys):
            own = Keys(kinds[place])
            own.values = read_keys(drafts / f"{piece.number}-{place}.arrow")
            own.counts = map_tensor(drafts / f"{piece.number}.safetensors", f"counts-{place}")
            codes_of[str(place)] = merged.merge(own)
        save_tensors(drafts / f"{piece.number}-merged.safetensors", codes_of)
    return keys

"""One pass over the files of a log: both columns as codes, then the part of every row."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.data.roles import Roles
from towerkit.data.schema import infer_schema
from towerkit.data.stream.arrays import chunks, opened, written
from towerkit.data.stream.files import LogFiles
from towerkit.data.stream.keys import Keys
from towerkit.data.stream.log import PARTS
from towerkit.data.stream.parting import Decide, StreamedSplit, decider
from towerkit.data.table import Table
from towerkit.data.times import times_of

_SCHEMA_ROWS = 100_000


class Encode(Protocol):
    """How the codes of a log are made."""

    def __call__(self, files: LogFiles, roles: Roles, folder: Path, /) -> list[Keys]:
        """Write ``0.npy`` (queries), ``1.npy`` (candidates) and, where rows have one, ``time.npy``; the keys of both columns."""


def encode_log(
    files: LogFiles, roles: Roles, split: StreamedSplit, seed: int, folder: Path, encode: Encode | None = None
) -> dict[str, Any]:
    """Write ``0.npy`` (queries), ``1.npy`` (candidates), ``part.npy`` and the keys as ``0.arrow`` and ``1.arrow``.

    Args:
        files: What is read, once.
        roles: Which column is which.
        split: The parts.
        seed: Draws random splits.
        folder: Where to write.
        encode: How codes are made; by this process when not given.

    Returns:
        What else is kept of the log: sizes of the parts and its columns.

    Raises:
        DataError: If a row lacks a key, a column holds one key only, or a part stays empty.
    """
    columns = (encode or encode_alone)(files, roles, folder)
    for place, role in enumerate(("query", "candidate")):
        _check_distinct(files, role, pair_of(roles)[place], columns[place])
        write_keys(folder / f"{place}.arrow", columns[place].values)
    time_file = folder / "time.npy"
    times = opened(time_file) if time_file.exists() else None
    sizes = _write_parts(
        folder, decider(split, seed, opened(folder / "0.npy"), columns[0].counts, times), files.num_rows
    )
    time_file.unlink(missing_ok=True)
    _check_sizes(files, split, sizes)
    return {"sizes": sizes, "columns": _described(files, roles)}


def _write_parts(folder: Path, decide: Decide, num_rows: int) -> dict[str, int]:
    """The part of every row; how many rows each part has."""
    sizes: NDArray[np.int64] = np.zeros(len(PARTS), np.int64)
    with written(folder / "part.npy", np.uint8, (num_rows,)) as append:
        for part in chunks(num_rows):
            numbers = decide(part)
            sizes += np.bincount(numbers, minlength=len(PARTS))
            append(numbers)
    return dict(zip(PARTS, sizes.tolist(), strict=True))


def _check_distinct(files: LogFiles, role: str, column: str, keys: Keys) -> None:
    if len(keys) < 2:
        raise DataError(
            f"{files.name}: the {role} column '{column}' holds one value only ({keys.values[0].as_py()!r}); a ranking model "
            f"needs at least two. Is '{column}' the right column?"
        )


def read_keys(path: Path) -> pa.Array:
    """Keys that :func:`write_keys` wrote."""
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all().column(0).combine_chunks()


def pair_of(roles: Roles) -> list[str]:
    """The query and the candidate column."""
    return [str(roles.query), str(roles.candidate)]


def encode_alone(files: LogFiles, roles: Roles, folder: Path) -> list[Keys]:
    """One process, one pass; see :class:`Encode`."""
    pair = pair_of(roles)
    keys = [Keys(files.schema.field(column).type) for column in pair]
    shape = (files.num_rows,)
    with ExitStack() as stack:
        appends = [stack.enter_context(written(folder / f"{place}.npy", np.int32, shape)) for place in range(2)]
        with_time = roles.time in files.schema.names
        tell_time = stack.enter_context(written(folder / "time.npy", np.float64, shape)) if with_time else None
        for table in files.batches():
            for column, own, append in zip(pair, keys, appends, strict=True):
                append(own.add(in_one(table.column(column))))
            if tell_time is not None:
                tell_time(times_of(Table(table, files.name), str(roles.time)))
    return keys


def in_one(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def write_keys(path: Path, keys: pa.Array) -> None:
    """Write keys; see :func:`read_keys`."""
    table = pa.table({"key": keys})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _described(files: LogFiles, roles: Roles) -> list[dict[str, Any]]:
    """The columns, by the first rows; without an example, which is somebody's."""
    _, _, first = next(iter(files.tables(_SCHEMA_ROWS)))
    read = {column: role for column, role in roles.by_column().items() if column in first.column_names}
    columns = infer_schema(Table(first, files.name), read).columns
    return [{**vars(column), "example": None} for column in columns]


def _check_sizes(files: LogFiles, split: StreamedSplit, sizes: dict[str, int]) -> None:
    if not sizes["train"]:
        raise DataError(
            f"{files.name}: the {split.kind} split leaves no training row out of {files.num_rows:,}; give more rows, or "
            "choose another split (rows of one moment stay together in a time split)."
        )
    for part in ("validation", "test"):
        share = getattr(split, part)
        if share and not sizes[part]:
            raise DataError(
                f"{files.name}: the {split.kind} split leaves no {part} row: {share:.0%} of {files.num_rows:,} rows; give more "
                f"rows, a larger split.{part}, or set it to 0."
            )

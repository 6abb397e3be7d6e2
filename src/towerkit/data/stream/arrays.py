"""Arrays on disk: written piece by piece, read as if they were in memory."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from towerkit.data.splits import Rows

CHUNK_ROWS = 1 << 22
"""Rows that are looked at together: what passes over a log hold in memory."""


class Append(Protocol):
    """Writes the next rows of an array."""

    def __call__(self, rows: NDArray[Any], /) -> None:
        """Write ``[rows, …]`` behind the rows before."""


@contextmanager
def written(path: Path, dtype: Any, shape: tuple[int, ...]) -> Iterator[Append]:
    """A new ``.npy`` file, filled from its first row to its last.

    Args:
        path: Of the file.
        dtype: Of its numbers.
        shape: Of the whole array.

    Yields:
        A function that takes the next rows.
    """
    count = 0
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)

        def append(rows: NDArray[Any], /) -> None:
            nonlocal count
            count += len(rows)
            file.write(np.ascontiguousarray(rows, dtype).data)

        yield append
    assert count == shape[0], f"{path.name} got {count:,} rows of {shape[0]:,}"


def made(path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
    """A new ``.npy`` file of zeros, to be filled by several processes with :func:`put`.

    Args:
        path: Of the file.
        dtype: Of its numbers.
        shape: Of the whole array.
    """
    np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape, version=(1, 0))


def put(path: Path, first: int, rows: NDArray[Any]) -> None:
    """Write some rows of a file of :func:`made`; others may be written at the same time.

    Args:
        path: Of the file.
        first: Number of the first row.
        rows: ``[rows, …]`` of the dtype and width of the file.
    """
    with path.open("r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(first * rows.nbytes // max(len(rows), 1), os.SEEK_CUR)
        file.write(np.ascontiguousarray(rows).data)


def opened(path: Path) -> NDArray[Any]:
    """An array of :func:`written`; the operating system reads what is looked at, and forgets it when memory is short.

    It is mapped copy-on-write: what is written to the array stays in this process.

    Args:
        path: Of the file.
    """
    return np.asarray(np.lib.format.open_memmap(path, mode="c"))


def let_go(array: NDArray[Any]) -> None:
    """Give the pages of an array of :func:`opened` back that this process holds; they are read anew when they are looked at.

    The system would take them back by itself when memory is short, but until then they count as this process's. Nothing may have
    been written to the array, for that would be lost; an array that lies in memory is left alone.

    Args:
        array: It, or a view of it.
    """
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None:
        base.madvise(mmap.MADV_DONTNEED)


def chunks(num_rows: int, size: int = CHUNK_ROWS) -> Iterator[slice]:
    """The stretches of some rows, one after the other.

    Example:
        >>> [(part.start, part.stop) for part in chunks(5, 2)]
        [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, num_rows, size):
        yield slice(start, min(start + size, num_rows))


def groups_of(counts: NDArray[np.int64], most: int = 4 * CHUNK_ROWS) -> Iterator[tuple[int, int]]:
    """Neighbouring codes that have so many rows together, so that these can be sorted in memory.

    Args:
        counts: ``[codes]`` rows of each.
        most: Rows of a group; a code with more is a group of its own.

    Yields:
        The first code of a group, and the first of the next.

    Example:
        >>> list(groups_of(np.array([2, 2, 9, 1]), 4))
        [(0, 2), (2, 3), (3, 4)]
    """
    ends = np.cumsum(counts)
    low = 0
    while low < len(counts):
        before = ends[low - 1] if low else 0
        high = max(low + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield low, high
        low = high


def rows_between(codes: NDArray[np.int32], low: int, high: int) -> Rows:
    """Where a code of at least ``low`` and below ``high`` stands, ascending; see :func:`groups_of`.

    Args:
        codes: ``[rows]``, perhaps on disk.
        low: The first code.
        high: The first code that is not wanted.
    """
    found = [part.start + np.flatnonzero((codes[part] >= low) & (codes[part] < high)) for part in chunks(len(codes))]
    return np.concatenate([np.empty(0, np.int64), *found])

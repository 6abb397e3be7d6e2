"""Which rows of a table each step of a span names, and by which entries: sorted for all steps at once, for no weight decides it."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from towerkit.kernels.compiled import compiled, parts_of


def grouped(
    codes: NDArray[np.int32], batch: int, num_rows: int, whole: bool
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """For each step the distinct rows of a table that its entries name, and the entries of each, in order.

    Args:
        codes: ``[entries]`` rows of the table; ``batch`` entries belong to each step, the last one may have fewer.
        batch: Entries of a step.
        num_rows: Rows of the table.
        whole: Every row of the table counts as named.

    Returns:
        How many rows each step names ``[steps]``; the rows ``[steps, most]``; where the entries of each begin
        ``[steps, most + 1]``; the entries ``[entries]``, counted from the step's first.
    """
    steps, most = -(-len(codes) // batch), num_rows if whole else min(batch, num_rows)
    named, rows = np.zeros(steps, np.int64), np.empty((steps, most), np.int32)
    starts, entries = np.empty((steps, most + 1), np.int64), np.empty(len(codes), np.int32)
    _group_in_parts(parts_of(steps), codes, batch, num_rows, whole, named, rows, starts, entries)
    return named, rows, starts, entries


@compiled(parallel=True)
def _group_in_parts(parts, codes, batch, num_rows, whole, named, rows, starts, entries) -> None:
    for part in prange(parts):
        first, end = len(named) * part // parts, len(named) * (part + 1) // parts
        _group(codes, batch, num_rows, whole, named, rows, starts, entries, first, end)


@compiled()
def _group(codes, batch, num_rows, whole, named, rows, starts, entries, first, end) -> None:
    """What :func:`grouped` gives, for the steps ``first … end``."""
    place = np.arange(num_rows).astype(np.int32) if whole else np.full(num_rows, -1, np.int32)
    for step in range(first, end):
        low, high = step * batch, min((step + 1) * batch, len(codes))
        count = num_rows if whole else 0
        if whole:
            rows[step] = place
        else:
            for entry in range(low, high):
                if place[codes[entry]] < 0:
                    place[codes[entry]] = count
                    rows[step, count] = codes[entry]
                    count += 1
        named[step] = count
        for row in range(count + 1):
            starts[step, row] = 0
        for entry in range(low, high):
            starts[step, place[codes[entry]] + 1] += 1
        for row in range(count):
            starts[step, row + 1] += starts[step, row]
        for entry in range(low, high):
            row = place[codes[entry]]
            entries[low + starts[step, row]] = entry - low
            starts[step, row] += 1
        for row in range(count, 0, -1):  # each has moved on to where the next one begins
            starts[step, row] = starts[step, row - 1]
        starts[step, 0] = 0
        if not whole:
            for row in range(count):
                place[rows[step, row]] = -1


@compiled()
def coded(positives: NDArray[np.int64], drawn: NDArray[np.int64], codes: NDArray[np.int32]) -> NDArray[np.int32]:
    """``[rows, 1 + n]`` rows of the candidate table: the positive of each row, then what was drawn for it.

    Args:
        positives: ``[rows]`` rows of the catalogue.
        drawn: ``[rows, n]`` rows of the catalogue.
        codes: ``[catalogue]`` the row of the table for each.
    """
    found = np.empty((len(drawn), 1 + drawn.shape[1]), np.int32)
    for row in range(len(drawn)):
        found[row, 0] = codes[positives[row]]
        for place in range(drawn.shape[1]):
            found[row, 1 + place] = codes[drawn[row, place]]
    return found

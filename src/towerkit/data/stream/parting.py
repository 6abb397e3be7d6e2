"""The parts of a log whose rows do not fit into memory: a part for each row, decided from codes and times on disk."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from towerkit.core.random import random_bits, stream
from towerkit.data.split_specs import GroupedSplit, PerQuerySplit, RandomSplit, TimeSplit
from towerkit.data.stream.arrays import chunks, groups_of, rows_between

TRAIN, VALIDATION, TEST = range(3)

StreamedSplit = TimeSplit | PerQuerySplit | RandomSplit | GroupedSplit
"""The splits that need no more memory than the keys."""
Decide = Callable[[slice], NDArray[np.uint8]]
"""A stretch of rows -> the part of each."""


def decider(
    split: StreamedSplit,
    seed: int,
    queries: NDArray[np.int32],
    counts: NDArray[np.int64],
    times: NDArray[np.float64] | None,
) -> Decide:
    """How the part of each row is found.

    Shares are exact for ``time``, ``per_query`` and ``grouped``. For ``random`` a row's own random number decides, so that they
    are right on average: no row waits for the others.

    Args:
        split: The shares.
        seed: Draws rows and groups; a row's number in the log is the counter.
        queries: ``[rows]`` the code of each row's query, perhaps on disk.
        counts: ``[codes]`` rows of each query.
        times: ``[rows]``, where the split goes by time.
    """
    key = stream(seed, "split")
    if isinstance(split, RandomSplit):
        return lambda part: _by_share(_chances(key, part), split.validation, split.test)
    if isinstance(split, GroupedSplit):
        parts = _grouped(len(counts), split, key)
        return lambda part: parts[queries[part]]
    if isinstance(split, TimeSplit):
        assert times is not None
        cuts = [_moment(times, share) for share in (split.test + split.validation, split.test)]
        return lambda part: np.searchsorted(cuts, times[part], side="right").astype(np.uint8)
    found = _per_query(split, key, queries, counts, times)
    return lambda part: found[part]


def _chances(key: int, part: slice) -> NDArray[np.float64]:
    bits = random_bits(key, np.arange(part.start, part.stop, dtype=np.uint64))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _by_share(chances: NDArray[np.float64], validation: float, test: float) -> NDArray[np.uint8]:
    parts = np.full(len(chances), TRAIN, np.uint8)
    parts[chances < test + validation] = VALIDATION
    parts[chances < test] = TEST
    return parts


def _grouped(num_groups: int, split: GroupedSplit, key: int) -> NDArray[np.uint8]:
    """``[codes]`` the part of each query; one always stays in training, as in memory."""
    order = np.argsort(random_bits(key, np.arange(num_groups, dtype=np.uint64)))
    num_test = min(round(num_groups * split.test), num_groups - 1)
    num_held = min(round(num_groups * (split.test + split.validation)), num_groups - 1)
    parts = np.full(num_groups, TRAIN, np.uint8)
    parts[order[:num_held]] = VALIDATION
    parts[order[:num_test]] = TEST
    return parts


def _moment(times: NDArray[np.float64], share_after: float) -> float:
    """The moment from which on so large a share of the rows lies, as :func:`towerkit.data.splits.split_time` finds it."""
    position = round(len(times) * (1.0 - share_after))
    return kth(times, position) if position < len(times) else np.inf


def kth(values: NDArray[np.float64], place: int) -> float:
    """The value at some place of the ascending order, found without sorting: 16 bits of it in each of four passes.

    Args:
        values: ``[rows]``, none NaN, perhaps on disk.
        place: From 0.

    Example:
        >>> kth(np.array([3.0, -1.0, 2.0]), 1)
        2.0
    """
    found = np.uint64(0)
    for shift in (48, 32, 16, 0):
        counts = np.zeros(1 << 16, np.int64)
        for part in chunks(len(values)):
            bits = _sortable(values[part])
            if shift < 48:
                bits = bits[bits >> np.uint64(shift + 16) == found]
            counts += np.bincount((bits >> np.uint64(shift)) & np.uint64(0xFFFF), minlength=1 << 16)
        ends = np.cumsum(counts)
        digit = int(np.searchsorted(ends, place, side="right"))
        place -= int(ends[digit] - counts[digit])
        found = found << np.uint64(16) | np.uint64(digit)
    sign = np.uint64(1 << 63)
    bits_of_it = found ^ sign if found & sign else ~found
    return float(np.array([bits_of_it]).view(np.float64)[0])


def _sortable(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Whole numbers in the order of the floats; -0.0 counts as 0.0."""
    bits = (values + 0.0).view(np.uint64)
    sign = np.uint64(1 << 63)
    return np.where(bits & sign, ~bits, bits | sign)


def _per_query(
    split: PerQuerySplit,
    key: int,
    queries: NDArray[np.int32],
    counts: NDArray[np.int64],
    times: NDArray[np.float64] | None,
) -> NDArray[np.uint8]:
    """``[rows]`` by each query's own rows, some queries at a time; one row of each always stays in training."""
    parts = np.full(len(queries), TRAIN, np.uint8)
    num_test = np.minimum(np.round(counts * split.test), counts - 1)
    num_held = np.minimum(np.round(counts * (split.test + split.validation)), counts - 1)
    starts = np.cumsum(counts) - counts
    for low, high in groups_of(counts):
        rows = rows_between(queries, low, high)
        own = queries[rows]
        order = _first_held(split, key, rows, own, times)
        own, rows = own[order], rows[order]
        place = np.arange(len(rows)) - (starts[own] - starts[low])
        parts[rows[place < num_held[own]]] = VALIDATION
        parts[rows[place < num_test[own]]] = TEST
    return parts


def _first_held(
    split: PerQuerySplit,
    key: int,
    rows: NDArray[np.int64],
    own: NDArray[np.int32],
    times: NDArray[np.float64] | None,
) -> NDArray[np.int64]:
    """The order that brings the rows of each query together, those first that are held out first."""
    if split.take == "random":
        return np.lexsort((random_bits(key, rows.astype(np.uint64)), own))
    return np.lexsort((-rows, own)) if times is None else np.lexsort((-rows, -times[rows], own))

"""Candidates drawn for each pair of its own: a pure function of key, step, place and try; see :class:`OwnDraws`."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from towerkit.kernels.compiled import compiled, renamed

TRIES = 64
"""Proposals for one place before the candidates that are left are listed."""
PLACES = 1 << 20
"""Rows of a batch: counters of two steps must not meet."""


def draw_own_alone(
    queries: NDArray[np.int64],
    positives: NDArray[np.int64],
    first_step: int,
    batch: int,
    key: np.uint64,
    num_candidates: int,
    cumulative: NDArray[np.float64],
    last: int,
    distinct: bool,
    starts: NDArray[np.int64],
    known: NDArray[np.int64],
    table: NDArray[np.bool_],
    drawn: NDArray[np.int64],
) -> None:
    """Fill ``drawn`` for the batches of some steps at once.

    Args:
        queries: ``[rows]`` query rows; ``batch`` rows belong to each step, the last one may have fewer.
        positives: ``[rows]`` candidate rows; never drawn for their own row.
        first_step: The step of the first rows.
        batch: Rows of a step.
        key: Of the randomness.
        num_candidates: Candidates to draw from: rows ``1 … num_candidates``.
        cumulative: ``[num_candidates + 1]`` cumulative probabilities; empty for equal ones.
        last: The last candidate with a probability above zero.
        distinct: No candidate twice for one row.
        starts: ``[queries + 1]`` where the known candidates of each query begin; empty where all may be drawn.
        known: Candidate rows, ascending for each query.
        table: ``[queries, candidates + 1]`` the same as a table, where that is small; else empty.
        drawn: ``[rows, count]`` written.
    """
    count = drawn.shape[1]
    for row in prange(len(queries)):
        query, positive = queries[row], positives[row]
        low, high = (starts[query], starts[query + 1]) if len(starts) else (np.int64(0), np.int64(0))
        mine, marks = known[low:high], table[query] if len(table) else table.ravel()
        step, place_in_batch = first_step + row // batch, row % batch
        for place in range(count):
            found = False
            for attempt in range(TRIES):
                counter = np.uint64(((step * TRIES + attempt) * count + place) * PLACES + place_in_batch)
                candidate = _proposed(_mixed(key, counter), num_candidates, cumulative, last)
                if _is_free(candidate, positive, mine, marks, drawn[row], place, distinct):
                    drawn[row, place] = candidate
                    found = True
                    break
            if not found:  # a query that knows nearly everything
                counter = np.uint64((step * TRIES * count + place) * PLACES + place_in_batch)
                chance = _mixed(key ^ np.uint64(1), counter) >> np.uint64(32)
                drawn[row, place] = _any_left(
                    chance, num_candidates, positive, mine, marks, drawn[row], place, distinct
                )


draw_own = compiled(parallel=True, exact=True)(renamed(draw_own_alone, "draw_own"))
draw_own_alone = compiled(exact=True)(draw_own_alone)
"""The same on one thread: OpenMP is not started, and a process may still be forked afterwards."""


@compiled(exact=True)
def _mixed(key: np.uint64, counter: np.uint64) -> np.uint64:
    """64 random bits: the finaliser of SplitMix64, as in :func:`towerkit.core.random.random_bits`."""
    z = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled(exact=True)
def _proposed(bits: np.uint64, num_candidates: int, cumulative: NDArray[np.float64], last: int) -> int:
    """Each as likely, by the upper 32 bits; else the candidate whose stretch of the probabilities holds 53 bits."""
    if len(cumulative) == 0:
        return 1 + np.int64(((bits >> np.uint64(32)) * np.uint64(num_candidates)) >> np.uint64(32))
    chance = np.float64(bits >> np.uint64(11)) * 2.0**-53
    return min(np.searchsorted(cumulative, chance, side="right"), last)


@compiled(exact=True)
def _is_free(candidate, positive, known, marks, before, place, distinct) -> bool:
    """Neither the positive, nor known to the query, nor in one of the places before."""
    if candidate == positive:
        return False
    if distinct:
        for other in range(place):
            if before[other] == candidate:
                return False
    if len(marks):
        return not marks[candidate]
    low, size = 0, len(known)  # the first known one that is not below
    while size > 0:
        half = size // 2
        if known[low + half] < candidate:
            low += half + 1
            size -= half + 1
        else:
            size = half
    return not (low < len(known) and known[low] == candidate)


@compiled(exact=True)
def _any_left(chance, num_candidates, positive, known, marks, before, place, distinct) -> int:
    """One of the candidates that are left, each as likely."""
    left = 0
    for candidate in range(1, num_candidates + 1):
        if _is_free(candidate, positive, known, marks, before, place, distinct):
            left += 1
    chosen = np.int64((chance * np.uint64(left)) >> np.uint64(32))
    for candidate in range(1, num_candidates + 1):
        if _is_free(candidate, positive, known, marks, before, place, distinct):
            if chosen == 0:
                return candidate
            chosen -= 1
    return 0

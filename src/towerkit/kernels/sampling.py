"""Candidates drawn for each pair of its own: a pure function of key, step, place and try; see :class:`OwnDraws`."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from towerkit.kernels.compiled import compiled

TRIES = 64
"""Proposals for one place before the candidates that are left are listed."""
PLACES = 1 << 20
"""Rows of a batch: counters of two steps must not meet."""


@compiled(parallel=True, exact=True)
def draw_in_parts(
    parts, queries, positives, first_step, batch, key, num_candidates, cumulative, guide, last, distinct,
    starts, known, table, signatures, drawn,
) -> None:  # fmt: skip
    """All rows of :func:`draw_own`, by parts."""
    for part in prange(parts):
        first, end = len(drawn) * part // parts, len(drawn) * (part + 1) // parts
        draw_own(
            queries, positives, first_step, batch, key, num_candidates, cumulative, guide, last, distinct,
            starts, known, table, signatures, drawn, first, end,
        )  # fmt: skip


@compiled(exact=True)
def draw_own(
    queries: NDArray[np.int64],
    positives: NDArray[np.int64],
    first_step: int,
    batch: int,
    key: np.uint64,
    num_candidates: int,
    cumulative: NDArray[np.float64],
    guide: NDArray[np.int64],
    last: int,
    distinct: bool,
    starts: NDArray[np.int64],
    known: NDArray[np.int32],
    table: NDArray[np.bool_],
    signatures: NDArray[np.uint64],
    drawn: NDArray[np.int64],
    first: int,
    end: int,
) -> None:
    """Fill some rows of ``drawn``, of the batches of some steps at once.

    Args:
        queries: ``[rows]`` query rows; ``batch`` rows belong to each step, the last one may have fewer.
        positives: ``[rows]`` candidate rows; never drawn for their own row.
        first_step: The step of the first rows.
        batch: Rows of a step.
        key: Of the randomness.
        num_candidates: Candidates to draw from: rows ``1 … num_candidates``.
        cumulative: ``[num_candidates + 1]`` cumulative probabilities; empty for equal ones.
        guide: ``[cells + 1]`` where to look first: the first place of ``cumulative`` above ``cell / cells``, ``cells`` a power of
            two (Chen and Asau, 1974).
        last: The last candidate with a probability above zero.
        distinct: No candidate twice for one row.
        starts: ``[queries + 1]`` where the known candidates of each query begin; empty where all may be drawn.
        known: Candidate rows, ascending for each query.
        table: ``[queries, candidates + 1]`` the same as a table, where that is small; else empty.
        signatures: ``[queries, 8]`` what :func:`sign` makes of them, where looking there first pays; else empty.
        drawn: ``[rows, count]`` written.
        first: The first row to fill.
        end: The row after the last one.
    """
    count, is_even, is_known, is_table = drawn.shape[1], len(cumulative) == 0, len(starts) > 0, len(table) > 0
    is_signed = len(signatures) > 0
    if is_even:
        _propose(first_step, batch, key, num_candidates, drawn, first, end)
    for row in range(first, end):
        query, positive = queries[row], positives[row]
        step, place_in_batch = first_step + row // batch, row % batch
        for place in range(count):
            found = False
            for attempt in range(TRIES):  # written out: handing an array to a function costs as much as a draw
                counter = np.uint64(((step * TRIES + attempt) * count + place) * PLACES + place_in_batch)
                if is_even and attempt == 0:
                    candidate = drawn[row, place]
                elif is_even:
                    candidate = _evenly(_mixed(key, counter), num_candidates)
                else:
                    chance = np.float64(_mixed(key, counter) >> np.uint64(11)) * 2.0**-53
                    candidate = guide[np.int64(chance * (len(guide) - 1))]
                    while candidate < last and cumulative[candidate] <= chance:
                        candidate += 1
                is_taken = candidate == positive
                if distinct:
                    for other in range(place):
                        is_taken |= drawn[row, other] == candidate
                if is_table:
                    is_taken |= table[query, candidate]
                elif is_known and (not is_signed or _may_hold(signatures, query, candidate)):
                    is_taken |= _holds(known, starts[query], starts[query + 1], candidate)
                if not is_taken:
                    drawn[row, place] = candidate
                    found = True
                    break
            if not found:  # a query that knows nearly everything
                counter = np.uint64((step * TRIES * count + place) * PLACES + place_in_batch)
                low, high = (starts[query], starts[query + 1]) if is_known else (np.int64(0), np.int64(0))
                drawn[row, place] = _any_left(
                    _mixed(key ^ np.uint64(1), counter) >> np.uint64(32), num_candidates, positive, known[low:high],
                    drawn[row, : place * distinct],
                )  # fmt: skip


@compiled(exact=True)
def _propose(first_step, batch, key, num_candidates, drawn, first, end) -> None:
    """The first proposal for each place, where all candidates are as likely: a loop that runs in the machine's vectors."""
    count = drawn.shape[1]
    for step in range(first // batch, (end + batch - 1) // batch):
        low, high = max(first, step * batch), min(end, (step + 1) * batch)
        for place in range(count):
            begin = ((first_step + step) * TRIES * count + place) * PLACES - step * batch
            for row in range(low, high):
                drawn[row, place] = _evenly(_mixed(key, np.uint64(begin + row)), num_candidates)


@compiled(exact=True)
def _evenly(bits: np.uint64, num_candidates: int) -> int:
    """One of the rows ``1 … num_candidates``, all as likely."""
    return 1 + np.int64(((bits >> np.uint64(32)) * np.uint64(num_candidates)) >> np.uint64(32))


@compiled(exact=True)
def _mixed(key: np.uint64, counter: np.uint64) -> np.uint64:
    """64 random bits: the finaliser of SplitMix64, as in :func:`towerkit.core.random.random_bits`."""
    z = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled(parallel=True, exact=True)
def sign_in_parts(parts, starts, known, signatures) -> None:
    """All queries of :func:`sign`, by parts."""
    for part in prange(parts):
        first, end = len(signatures) * part // parts, len(signatures) * (part + 1) // parts
        sign(starts, known, signatures, first, end)


@compiled(exact=True)
def sign(
    starts: NDArray[np.int64], known: NDArray[np.int32], signatures: NDArray[np.uint64], first: int, end: int
) -> None:
    """Set for each known candidate a bit among the 512 of its query: one line of memory tells of most others that they are new.

    Args:
        starts: ``[queries + 1]`` where the known candidates of each query begin.
        known: Candidate rows.
        signatures: ``[queries, 8]`` zeros; written.
        first: The first query.
        end: The query after the last one.
    """
    for query in range(first, end):
        for place in range(starts[query], starts[query + 1]):
            bit = _bit_of(known[place])
            signatures[query, bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))


@compiled(exact=True)
def _bit_of(candidate: int) -> np.uint64:
    """One of 512, by Fibonacci hashing."""
    return ((np.uint64(candidate) * np.uint64(0x9E3779B1)) & np.uint64(0xFFFFFFFF)) >> np.uint64(23)


@compiled(exact=True)
def _may_hold(signatures, query, candidate) -> bool:
    bit = _bit_of(candidate)
    return (signatures[query, bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1) != np.uint64(0)


@compiled(exact=True)
def _holds(known, low, end, candidate) -> bool:
    """Whether ``known[low:end]``, ascending, holds a candidate."""
    size = end - low
    if size == 0:
        return False
    while size > 1:
        half = size >> 1
        low += half * (known[low + half] <= candidate)
        size -= half
    return known[low] == candidate


@compiled(exact=True)
def _any_left(chance, num_candidates, positive, known, before) -> int:
    """One of the candidates that are left, each as likely."""
    is_taken = np.zeros(num_candidates + 1, np.bool_)
    is_taken[0] = is_taken[positive] = True
    for candidate in known:
        if candidate <= num_candidates:
            is_taken[candidate] = True
    for candidate in before:
        is_taken[candidate] = True
    left = len(is_taken) - is_taken.sum()
    chosen = np.int64((chance * np.uint64(left)) >> np.uint64(32))
    for candidate in range(1, num_candidates + 1):
        if not is_taken[candidate]:
            if chosen == 0:
                return candidate
            chosen -= 1
    return 0

"""The best candidates of each query, and how many candidates each right answer beats, from one look at a block of scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from towerkit.kernels.compiled import compiled

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_GROUPS = 512
"""Groups of candidates, at least, whose highest scores tell a threshold for all."""
_PIECE = 4096
"""Scores counted against all right answers in turn: few enough to stay in the first cache."""
_LOWEST = np.float32(np.finfo(np.float32).min)
"""Of the scores that can be ranked: all but minus infinity."""


@compiled(parallel=True, exact=True)
def rank_block(
    flat: Floats,
    stride: int,
    width: int,
    taken: tuple[Any, Any],
    blocked: NDArray[np.bool_],
    ties: NDArray[np.int32],
    found: tuple[Any, Any, Any],
    asked: tuple[Any, Any],
    counts: tuple[Any, Any],
) -> None:
    """Rank the rows of a block: mask, select, order and count, each row in one iteration.

    A place goes to the candidate with the highest score, among equals to the one with the lowest tie order. The ``k`` best so
    far are a heap with the worst on top, whose score is the threshold: a run of scores below it costs one comparison each.
    With ``n`` candidates in random order about ``k (1 + log(n / k))`` of them enter the heap.

    Args:
        flat: The block, ``[rows, width]`` at a distance of ``stride`` from row to row; what may not be ranked is overwritten.
        stride: See ``flat``.
        width: Candidates.
        taken: ``[rows + 1]`` starts and the columns they point into, excluded for each row.
        blocked: ``[width]`` True where no row may have the candidate; empty where all may.
        ties: ``[width]`` place of each candidate among equals.
        found: Written: ``[rows, k]`` candidates, best first, -1 where there is none; their scores, then minus infinity; ``[rows]``
            a column whose score is not a number (the row is then left unfinished), else -1.
        asked: ``[rows + 1]`` starts and the columns of the right answers likewise; empty rows where nothing is to be counted.
        counts: Written, for each right answer: ``[answers]`` twice the number of negatives below it plus those that are equal,
            -1 where it may not be ranked itself; ``[rows]`` the number of negatives.
    """
    columns, scores, wrong = found[0], found[1], found[2]  # unpacked at once, Numba drops what is written to them
    for row in prange(len(wrong)):
        line = flat[row * stride : row * stride + width]
        _mask(line, taken[1][taken[0][row] : taken[0][row + 1]], blocked)
        wrong[row] = _select(line, ties, columns[row], scores[row])
        start, end = asked[0][row], asked[0][row + 1]
        if start < end and wrong[row] < 0:
            first = asked[0][0]
            counts[1][row] = _count(line, asked[1][start:end], counts[0][start - first : end - first])


@compiled(parallel=True, exact=True)
def shortlist_block(
    block: Floats,
    taken: tuple[Any, Any],
    blocked: NDArray[np.bool_],
    slack: tuple[Any, ...],
    found: tuple[Any, Any],
    k: int,
) -> None:
    """Of scores that are known up to a bound, the candidates that may be among the ``k`` best.

    The score of row ``r`` and candidate ``c`` is within ``e = a_r x_c + b_r y_c + u |s| + v`` of ``s``. Among the ``k`` best can
    only be what reaches, at its upper end, the ``k``-th highest lower end, for which the ``k``-th best group's stands in.

    Args:
        block: ``[rows, width]`` approximate scores; what may not be ranked is overwritten.
        taken: As in :func:`rank_block`.
        blocked: As in :func:`rank_block`.
        slack: ``[rows]`` a, ``[rows]`` b, ``[width]`` x, ``[width]`` y, u and v of the bound.
        found: Written: ``[rows, most]`` the candidates, in no order; ``[rows]`` how many, -1 where they are more than ``most`` or
            fewer than ``k`` may be ranked.
        k: Places to fill.
    """
    columns, counts = found[0], found[1]
    for row in prange(len(block)):
        line = block[row]
        _mask(line, taken[1][taken[0][row] : taken[0][row + 1]], blocked)
        bound = (slack[0][row], slack[1][row], slack[4], slack[5])
        counts[row] = _reaching(line, bound, slack[2], slack[3], columns[row], k)


@compiled(exact=True)
def _mask(line: Floats, taken: NDArray[np.int32], blocked: NDArray[np.bool_]) -> None:
    for place in range(len(taken)):
        line[taken[place]] = -np.inf
    for place in range(len(blocked)):
        if blocked[place]:
            line[place] = -np.inf


@compiled(exact=True)
def _reaching(line: Floats, bound: Any, x: Floats, y: Floats, columns: NDArray[np.int32], k: int) -> int:
    """The candidates of one row; returns how many, -1 where there is no threshold or no room."""
    width, groups = len(line), min(max(_GROUPS, 4 * k), len(line))
    low, high = np.full(groups, -np.inf, np.float32), np.full(groups, -np.inf, np.float32)
    for start in range(0, width, groups):
        _ends(line[start : start + groups], bound, x[start : start + groups], y[start : start + groups], low, high)
    best, places, ties, size = np.empty(k, np.float32), np.empty(k, np.int64), np.zeros(groups, np.int32), 0
    for group in range(groups):
        if size < k or low[group] > best[0]:
            size = _keep(best, places, ties, size, low[group], group)
    if size < k or best[0] < _LOWEST:
        return -1
    threshold, count = best[0], 0
    for group in range(groups):
        if high[group] >= threshold:
            for place in range(group, width, groups):
                error = bound[0] * x[place] + bound[1] * y[place] + bound[2] * abs(line[place]) + bound[3]
                if line[place] + error >= threshold:
                    if count == len(columns):
                        return -1
                    columns[count] = place
                    count += 1
    return count


@compiled(exact=True)
def _ends(piece: Floats, bound: Any, x: Floats, y: Floats, low: Floats, high: Floats) -> None:
    """Raise the highest lower and upper end of each group by one piece of the row; minus infinity has an upper end of NaN."""
    a, b, u, v = bound
    for group in range(len(piece)):
        score = piece[group]
        error = a * x[group] + b * y[group] + u * abs(score) + v
        low[group] = score - error if score - error > low[group] else low[group]
        high[group] = score + error if score + error > high[group] else high[group]


@compiled(exact=True)
def _select(line: Floats, ties: NDArray[np.int32], columns: Ints, scores: Floats) -> int:
    """The best of one row, in order; returns a column that is not a number, or -1."""
    size, k, width = 0, len(columns), len(line)
    groups = min(max(_GROUPS, 4 * k), width)
    highest = np.full(groups, -np.inf, np.float32)
    if _highest(line, highest):
        for place in range(width):
            if line[place] != line[place]:
                return place
    for group in range(groups):  # the k-th best group has k scores as high as its own: nothing lower has a place
        if size < k or highest[group] > scores[0]:
            size = _keep(scores, columns, ties, size, highest[group], group)
    threshold = max(scores[0], _LOWEST) if size == k else _LOWEST
    size = 0
    for group in range(groups):
        if highest[group] < threshold:
            continue
        for place in range(group, width, groups):
            if line[place] >= threshold:
                size = _keep(scores, columns, ties, size, line[place], place)
    for last in range(size - 1, 0, -1):  # the worst one goes behind all others, again and again
        score, place = scores[last], columns[last]
        scores[last], columns[last] = scores[0], columns[0]
        _sink(scores, columns, ties, last, score, place)
    for place in range(size, k):
        scores[place], columns[place] = -np.inf, -1
    return -1


@compiled(exact=True)
def _highest(line: Floats, highest: Floats) -> int:
    """The highest score of each group, where every ``groups``-th candidate is of one; returns how many are not a number."""
    groups, wrong = len(highest), np.int32(0)
    for start in range(0, len(line), groups):
        piece = line[start : start + groups]
        for group in range(len(piece)):
            score = piece[group]
            wrong = np.int32(wrong + np.int32(score != score))
            highest[group] = score if score > highest[group] else highest[group]
    return int(wrong)


@compiled(exact=True)
def _keep(scores: Floats, columns: Ints, ties: NDArray[np.int32], size: int, score: float, column: int) -> int:
    """Offer an entry to the heap of the best, the worst of them on top; returns its size."""
    if size == len(scores):
        if scores[0] < score or (scores[0] == score and ties[columns[0]] > ties[column]):
            _sink(scores, columns, ties, size, score, column)
        return size
    place = size
    while place > 0:
        above = (place - 1) >> 1
        other = scores[above]
        if other < score or (other == score and ties[columns[above]] >= ties[column]):
            break
        scores[place], columns[place] = other, columns[above]
        place = above
    scores[place], columns[place] = score, column
    return size + 1


@compiled(exact=True)
def _sink(scores: Floats, columns: Ints, ties: NDArray[np.int32], size: int, score: float, column: int) -> None:
    """Put an entry in the place of the top of a heap of ``size`` entries."""
    place, below = 0, 1
    while below < size:
        worst = scores[below]
        if below + 1 < size:
            other = scores[below + 1]
            if other < worst or (other == worst and ties[columns[below + 1]] > ties[columns[below]]):
                below, worst = below + 1, other
        if score < worst or (score == worst and ties[column] > ties[columns[below]]):
            break
        scores[place], columns[place] = worst, columns[below]
        place, below = below, 2 * below + 1
    scores[place], columns[place] = score, column


@compiled(exact=True)
def _count(line: Floats, answers: NDArray[np.int32], counts: Ints) -> int:
    """Twice the negatives below each right answer of a row plus the equal ones; returns the number of negatives."""
    masked, width = 0, len(line)
    counts[:] = 0
    for start in range(0, width, _PIECE):
        piece = line[start : min(start + _PIECE, width)]
        none = np.int32(0)
        for place in range(len(piece)):
            none = np.int32(none + np.int32(piece[place] == -np.inf))
        masked += int(none)
        for answer in range(len(answers)):
            counts[answer] += _below(piece, line[answers[answer]])
    negatives = width - masked
    for answer in range(len(answers)):
        negatives -= int(line[answers[answer]] > -np.inf)
    for answer in range(len(answers)):
        own = line[answers[answer]]
        counts[answer] -= 2 * masked
        for other in range(len(answers)):
            score = line[answers[other]]
            if score > -np.inf:
                counts[answer] -= int(score < own) + int(score <= own)
        if own == -np.inf:
            counts[answer] = -1
    return negatives


@compiled(exact=True)
def _below(piece: Floats, own: float) -> int:
    """Scores below plus scores at or below."""
    below, most = np.int32(0), np.int32(0)
    for place in range(len(piece)):  # a sum of two int32 is an int64 to Numba, and takes twice the time
        below = np.int32(below + np.int32(piece[place] < own))
        most = np.int32(most + np.int32(piece[place] <= own))
    return int(below) + int(most)

"""Exact search: every usable vector is compared with every query.

One product gives rough scores, a selection takes those that can be among the best, and these are scored pair by pair. Nothing that
was left out could have a place: its rough score is further below the last place than both roundings reach (see
:meth:`towerkit.index.measure.Measure.slack`); where that does not hold, more are taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from towerkit.index.contract import Floats, Rows
from towerkit.index.keyed import KeyedVectors
from towerkit.index.question import Question
from towerkit.index.selection import highest

_BLOCK_SCORES = 6 * 2**20
"""Rough scores at a time, 24 MB: they stay in the last cache."""
_BLOCK_NUMBERS = 4 * 2**20
"""Of vectors gathered at a time to be scored pair by pair."""
_MORE = 16
"""Taken beyond ``k``, so that rounding seldom asks for a second look."""
_WIDER = 8
"""How many times as many are taken then."""
_FEW = 8
"""Where fewer than one row in so many is usable, these are gathered first."""


def search_exactly(stored: KeyedVectors, asked: Question) -> tuple[Rows, Floats]:
    """The best rows of each query and their scores, whatever the queries beside it.

    Args:
        stored: The candidates.
        asked: The queries.

    Returns:
        ``[queries, k]`` rows, best first, -1 where there is none; ``[queries, k]`` their scores, then minus infinity.
    """
    rows = np.full((len(asked.queries), asked.k), -1, np.int64)
    scores = np.full((len(asked.queries), asked.k), -np.inf, np.float32)
    step = max(_BLOCK_SCORES // max(stored.num_rows, 1), 1) if asked.k else len(rows) + 1
    for start in range(0, len(rows) if asked.k else 0, step):
        places = np.arange(start, min(start + step, len(rows)))
        rows[places], scores[places] = _search_block(stored, asked.of(places))
    return rows, scores


def ranked(stored: KeyedVectors, queries: Floats, rows: Rows, k: int) -> tuple[Rows, Floats]:
    """Score some rows of each query pair by pair, and order them.

    Args:
        stored: The candidates.
        queries: ``[queries, dim]``, ready.
        rows: ``[queries, m]`` distinct rows of each; -1 for none.
        k: At most ``m``.

    Returns:
        ``[queries, k]`` rows and scores, equals by tie order; -1 and minus infinity where there are fewer.
    """
    scores = stored.measure.pairs(queries, stored.vectors.take(rows, axis=0, mode="wrap"))
    missing = rows < 0
    if missing.any():
        scores[missing] = -np.inf
    order = np.lexsort((stored.ties[rows], -scores), axis=-1)[:, :k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _search_block(stored: KeyedVectors, asked: Question) -> tuple[Rows, Floats]:
    block, inside = _rough_scores(stored, asked)
    number, width = block.shape
    rows, scores = np.empty((number, asked.k), np.int64), np.empty((number, asked.k), np.float32)
    slack = 2 * stored.measure.slack(asked.queries, stored.longest)
    left, take = np.arange(number), min(asked.k + _MORE, width)
    while len(left):
        sure = []
        step = max(_BLOCK_NUMBERS // (take * stored.measure.dim), 1)
        for part in np.split(left, range(step, len(left), step)):
            own = block if len(part) == number else block[part]
            columns = highest(own, take)
            rough = np.take_along_axis(own, columns, axis=1)
            found = np.where(rough > -np.inf, columns if inside is None else inside[columns], -1)
            rows[part], scores[part] = ranked(stored, asked.queries[part], found, asked.k)
            lowest = rough.min(axis=1)
            nothing_left = (lowest == -np.inf) | (take == width)
            sure.append(nothing_left | (lowest + slack[part] < scores[part, -1]))
        left, take = left[~np.concatenate(sure)], min(take * _WIDER, width)
    return rows, scores


def _rough_scores(stored: KeyedVectors, asked: Question) -> tuple[Floats, NDArray[np.int64] | None]:
    """``[queries, columns]`` by a product, minus infinity for no candidate; and each column's row, None where all are there."""
    inside = None
    vectors, squares = stored.vectors, stored.squares
    if asked.usable is not None and asked.num_usable * _FEW < stored.num_rows:
        inside = np.flatnonzero(asked.usable)
        vectors, squares = vectors[inside], squares[inside]
    block = stored.measure.roughly(asked.queries, vectors, squares)
    if asked.usable is not None and inside is None:
        block[:, np.flatnonzero(~asked.usable)] = -np.inf
    owner, excluded = asked.pairs()
    block[owner, excluded if inside is None else np.searchsorted(inside, excluded)] = -np.inf
    return block, inside

"""Retrieve, then rank: one ranker finds the candidates of a query, all of them together order the best."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from towerkit.ensembles.rank_combine import standardized
from towerkit.index.ranker import Ranker

_ALIKE = 1e-6
"""Scores whose deviation is below this share of their size differ by rounding only."""


@dataclass(frozen=True)
class Shortlist:
    """What is ordered anew, of some queries."""

    rows: NDArray[np.int64]
    """``[n, wide]`` candidate columns, best first."""
    among: NDArray[np.bool_]
    """``[n, wide]`` whether the place counts: queries that had more before have longer lists."""
    scores: NDArray[np.float64]
    """``[members, n, wide]`` standardized among those that count."""


Memory = MutableMapping[bytes, Shortlist]


class Reranked:
    """Combines rankers so that all but one are asked for the best candidates of that one alone.

    Args:
        rankers: Of the same queries and candidates, column 0 the unknown candidate.
        weights: One per ranker.
        first: The place of the one that retrieves.
        depth: How many candidates of a query are ordered anew.
        counts: ``[queries]`` how many candidates each query row had before, which do not count towards the depth.
        memory: Keeps the shortlists of the queries that were asked for; where other weights are tried on the same queries.
    """

    def __init__(
        self,
        rankers: Sequence[Ranker],
        weights: Sequence[float],
        *,
        first: int,
        depth: int,
        counts: NDArray[np.int64],
        memory: Memory | None = None,
    ) -> None:
        self._rankers, self._weights, self._first = tuple(rankers), np.asarray(weights, np.float64), first
        self._depth, self._counts, self._memory = depth, counts, memory

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """``[n, candidates + 1]``: above, the best of the first by the mean of all; below, the others in the first's order.

        Args:
            queries: ``[n]`` query rows.
        """
        short = self._shortlist(queries)
        scores = self._rankers[self._first].scores(queries)
        order = standardized(scores, scores[:, 1:])  # [n, candidates + 1]
        mean = np.tensordot(self._weights, short.scores, axes=1)  # [n, wide]
        least = mean.min(axis=1, keepdims=True, where=short.among, initial=np.inf)
        lifted = order.max(axis=1, keepdims=True) + 1.0 + mean - least
        own = np.take_along_axis(order, short.rows, axis=1)
        np.put_along_axis(order, short.rows, np.where(short.among, lifted, own), axis=1)
        return order.astype(np.float32)

    def _shortlist(self, queries: NDArray[np.int64]) -> Shortlist:
        if self._memory is None:
            return self._asked(queries)
        key = queries.tobytes()
        if key not in self._memory:
            self._memory[key] = self._asked(queries)
        return self._memory[key]

    def _asked(self, queries: NDArray[np.int64]) -> Shortlist:
        first, lengths = self._rankers[self._first], self._depth + self._counts[queries]
        wide = int(min(first.num_candidates - 1, lengths.max(initial=1)))
        known = np.arange(first.num_candidates) > 0
        hits = first.rank(queries, wide, allowed=known)
        rows = np.maximum(hits.rows, 0)
        among = (np.arange(wide) < lengths[:, None]) & (hits.rows > 0)
        scores = [
            _standardized_among(hits.scores if place == self._first else ranker.scores_at(queries, rows), among)
            for place, ranker in enumerate(self._rankers)
        ]
        return Shortlist(rows, among, np.stack(scores))


def _standardized_among(scores: NDArray[np.float32], among: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Scores in standard deviations from the mean of those that count, row by row; 0 where these are all alike."""
    own = np.where(among, scores, 0.0).astype(np.float64)
    count = np.maximum(among.sum(axis=1, keepdims=True), 1)
    mean = own.sum(axis=1, keepdims=True) / count
    off = np.where(among, own - mean, 0.0)
    deviation = np.sqrt((off**2).sum(axis=1, keepdims=True) / count)
    alike = deviation <= _ALIKE * np.abs(own).max(axis=1, keepdims=True, initial=0.0)
    return np.where(alike, 0.0, off / np.where(alike, 1.0, deviation))

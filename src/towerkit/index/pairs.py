"""Exact ranking by a ranker: every pair of a query and a candidate goes through its backbone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from towerkit.index.ranker import TILE_ROWS, Ranker, check_query_rows
from towerkit.models.pair_scorer import PairScorer, Parts, scores_of_parts
from towerkit.models.tower_model import TowerModel

_PAIRS = 1 << 14
"""Pairs that go through the backbone at a time."""


class PairRanker(Ranker):
    """Ranks candidates by the scores of pairs.

    Pairs are scored in whole tiles, so that a score does not depend on how many are asked for.

    Args:
        model: Set to evaluation.
        query: Tower name -> ``[queries, dim_i]``.
        candidate: Tower name -> ``[candidates, dim_i]``.
    """

    def __init__(self, model: TowerModel, query: Parts, candidate: Parts) -> None:
        self.exact = True
        self._model, self._query, self._candidate = model, dict(query), dict(candidate)
        self.num_queries, self.num_candidates = (len(next(iter(parts.values()))) for parts in (query, candidate))

    def with_queries(self, query: Parts) -> PairRanker:
        """The same candidates, ranked for other queries."""
        return PairRanker(self._model, query, self._candidate)

    def with_candidates(self, candidate: Parts) -> PairRanker:
        """Other candidates, ranked for the same queries."""
        return PairRanker(self._model, self._query, candidate)

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every candidate for some query rows.

        Raises:
            DataError: If a query row does not exist.
        """
        check_query_rows(queries, self.num_queries)
        every = np.arange(self.num_candidates)
        return self.of_pairs(np.repeat(queries, len(every)), np.tile(every, len(queries))).reshape(len(queries), -1)

    def scores_at(self, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        """``[n, m]`` the scores of some candidates of each query, and of no others."""
        count = candidates.shape[1]
        return self.of_pairs(np.repeat(queries, count), candidates.ravel()).reshape(candidates.shape)

    def of_pairs(self, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        """The score of each pair of rows.

        Args:
            queries: ``[pairs]``.
            candidates: ``[pairs]``.
        """
        size = min(_PAIRS, len(queries) + -len(queries) % TILE_ROWS)
        found = np.empty(len(queries), np.float32)
        for start in range(0, len(queries), max(size, 1)):
            rows, columns = (torch.from_numpy(each[start : start + size]) for each in (queries, candidates))
            scores = scores_of_parts(self._model, self._joined(rows, columns, size))
            found[start : start + size] = scores[: len(rows)].numpy()
        return found

    def _joined(self, queries: Tensor, candidates: Tensor, size: int) -> Parts:
        """Tower name -> ``[size, dim_i]`` of the pairs, filled up with pairs of the first rows."""
        padded = [torch.cat([rows, rows.new_zeros(size - len(rows))]) for rows in (queries, candidates)]
        sides = zip((self._query, self._candidate), padded, strict=True)
        return {name: part[rows] for side, rows in sides for name, part in side.items()}


def pair_ranker(model: PairScorer) -> PairRanker:
    """Ranks the catalogue of a trained ranker for its query rows; row 0 is the unknown query."""
    return PairRanker(model.model, model.query_parts, without_unknown(model.candidate_parts))


def without_unknown(parts: Parts) -> Parts:
    """What the towers say of all rows but the first, which is the unknown one."""
    return {name: part[1:] for name, part in parts.items()}

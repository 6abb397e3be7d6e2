"""Scores that are costly and asked for again: each weight that is tried ranks the same queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from towerkit.index.ranker import Ranker

MOST_BYTES = 1 << 31
"""Of one ranker's scores; what does not fit is scored anew."""


class KeptScores(Ranker):
    """Asks another ranker once for each set of queries, as far as the memory goes.

    Args:
        ranker: Costly to ask.
        most_bytes: Of scores that are kept.
    """

    def __init__(self, ranker: Ranker, most_bytes: int = MOST_BYTES) -> None:
        self._ranker, self.exact, self.num_candidates = ranker, ranker.exact, ranker.num_candidates
        self._kept: dict[bytes, NDArray[np.float32]] = {}
        self._left = most_bytes

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """``[n, num_candidates]``, a copy that may be written to."""
        key = queries.tobytes()
        if key not in self._kept:
            found = self._ranker.scores(queries)
            if found.nbytes > self._left:
                return found
            self._left -= found.nbytes
            self._kept[key] = found
        return self._kept[key].copy()

    def scores_at(self, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        """Not kept: they are few."""
        return self._ranker.scores_at(queries, candidates)

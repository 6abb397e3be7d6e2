"""A ranker by a given table of scores, for tests of whatever ranks, measures or filters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from towerkit.index.ranker import Ranker


class TableRanker(Ranker):
    """Ranks by a table, one row per query row; its rows are handed out as copies.

    Args:
        table: ``[queries, candidates]`` scores, taken as float32.

    Attributes:
        asked: How many rows it was asked for at a time.
    """

    exact = True

    def __init__(self, table: NDArray[Any]) -> None:
        self.table, self.num_candidates = table.astype(np.float32), table.shape[1]
        self.asked: list[int] = []

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows asked for."""
        self.asked.append(len(queries))
        return self.table[queries]

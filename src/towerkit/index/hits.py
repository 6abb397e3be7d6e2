"""What a ranking gives, and how equals are ordered; NumPy alone, so that a server can rank without loading PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from towerkit.core.random import random_bits, stream

TILE_ROWS = 16
"""Matrix products take other paths, with other roundings, for fewer rows than this; chunks are whole tiles."""


@dataclass(frozen=True)
class Hits:
    """The best candidates of each query, best first.

    Attributes:
        rows: ``[queries, k]`` candidate rows; -1 where fewer than ``k`` candidates are left.
        scores: ``[queries, k]`` their float32 scores; minus infinity where there is none.
        counts: ``[queries]`` how many of the ``k`` places hold a candidate.
        beaten: Of each positive, the share of its query's negatives that score below it, where positives were given.
        reason: Why a query has fewer than ``k`` hits, where an index was asked and one has; else None.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    counts: NDArray[np.int64]
    beaten: NDArray[np.float64] | None = None
    reason: str | None = None


@lru_cache(maxsize=8)  # a server ranks one catalogue again and again
def candidate_tie_order(num_candidates: int) -> NDArray[np.int64]:
    """The place of each candidate among equals: a fixed pseudo-random permutation, smaller first.

    Two candidates keep their relative order when the catalogue grows at its end. The array is read-only.

    Example:
        >>> sorted(candidate_tie_order(4).tolist())
        [0, 1, 2, 3]
    """
    keys = random_bits(stream(0, "candidate ties"), np.arange(num_candidates, dtype=np.uint64))
    places = np.empty(num_candidates, dtype=np.int64)
    places[np.argsort(keys, kind="stable")] = np.arange(num_candidates)
    places.setflags(write=False)
    return places

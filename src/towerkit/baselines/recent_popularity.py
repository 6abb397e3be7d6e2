"""The same ranking for everyone: the candidates that many queries had lately."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array

from towerkit.baselines.base import BaselineSpec, Interactions, clean_interactions
from towerkit.core.errors import DataError, ShapeError, SpecError
from towerkit.index.ranker import Ranker

Decay = Literal["half_life", "window"]


class RecentPopularity(Ranker):
    """Scores a candidate by its distinct queries, each weighted by how long ago it last had the candidate.

    Time counts backwards from the newest training pair, in shares of the time from the oldest to the newest one, so that
    a setting fits seconds, days and plain numbers alike. A pair whose time is missing does not count.

    - ``half_life``: a pair weighs ``2 ** -(age / share)``;
    - ``window``: a pair weighs 1 if its age is at most ``share``, else 0.

    Args:
        interactions: ``[queries, candidates]`` training counts or weights; a zero is no interaction.
        times: ``[entries]`` the time of each stored entry, NaN where missing. Of a pair that is stored twice the later counts.
        decay: How age weighs.
        share: Half-life or length of the window, as a share of the training time.

    Attributes:
        weights: ``[candidates]`` summed weights.

    Raises:
        DataError: If a weight is negative or not finite, or no pair has a time.
        ShapeError: If there is not one time per stored entry.
        SpecError: If ``share`` is not positive.

    Example:
        >>> pairs = csr_array(np.array([[1, 1], [1, 0]]))
        >>> RecentPopularity(pairs, np.array([0.0, 10.0, 0.0]), share=0.5).weights.tolist()
        [0.5, 1.0]

    Reference: Ji et al., A re-visit of the popularity baseline in recommender systems, SIGIR 2020.
    """

    exact = True

    def __init__(
        self, interactions: csr_array, times: NDArray[np.float64], *, decay: Decay = "half_life", share: float = 0.1
    ) -> None:
        if not 0 < share < np.inf:
            raise SpecError(
                f"share must be positive and finite; received {share}. 0.1 is a tenth of the training time."
            )
        clean_interactions(interactions)  # refuses bad weights
        matrix = csr_array(interactions)
        if times.shape != (matrix.nnz,):
            raise ShapeError(
                f"times must have one value per stored pair, here ({matrix.nnz},); received {times.shape}. "
                "Give the last time of each entry, in the order in which the matrix stores them."
            )
        self.num_candidates: int = matrix.shape[1]
        candidates, age = _ages(matrix, times)
        weights = np.where(age <= share, 1.0, 0.0) if decay == "window" else np.exp2(-age / share)
        self.weights = np.bincount(candidates, weights, minlength=self.num_candidates)

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """The summed weights, once per query, as a read-only view."""
        return np.broadcast_to(self.weights.astype(np.float32), (len(queries), self.num_candidates))


def _ages(matrix: csr_array, times: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The candidate and the age, as a share of the training time, of each distinct pair with a time."""
    used = np.flatnonzero((matrix.data > 0) & np.isfinite(times))
    if not len(used):
        raise DataError(
            f"Recent popularity needs times; none of {matrix.nnz:,} training pairs has one. Use popularity instead."
        )
    queries = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))[used]
    candidates = matrix.indices[used].astype(np.int64)
    pairs, place = np.unique(queries * matrix.shape[1] + candidates, return_inverse=True)
    latest = np.full(len(pairs), -np.inf)
    np.maximum.at(latest, place, times[used])
    span = times[used].max() - times[used].min()
    return pairs % matrix.shape[1], (latest.max() - latest) / (span or 1.0)


class RecentPopularitySpec(BaselineSpec):
    """Candidates by the number of distinct queries that had them lately; needs a time column."""

    kind: Literal["recent_popularity"] = "recent_popularity"
    decay: Decay = "half_life"
    """``half_life``: older pairs count less and less; ``window``: pairs of the last stretch count alike, others not."""
    share: float = Field(0.1, gt=0.0)
    """Half-life or length of the window, as a share of the time from the oldest to the newest training pair."""

    def obstacle(self, interactions: Interactions) -> str | None:
        """Missing times."""
        if interactions.times is None or not np.isfinite(interactions.times).any():
            return "needs times, and no training pair has one"
        return None

    def build(self, interactions: Interactions) -> RecentPopularity:
        """Weigh and count."""
        if interactions.times is None:
            raise DataError(
                "Recent popularity needs data.examples.time; name the time column, or use popularity instead."
            )
        return RecentPopularity(interactions.matrix, interactions.times, decay=self.decay, share=self.share)

"""Popularity negatives: candidates drawn in proportion to a power of how often they are positives."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from towerkit.core.random import random_bits, stream
from towerkit.matching.negatives.base import Material, NegativesSpec, Stateless, spread
from towerkit.matching.negatives.draws import OwnDraws


class PopularityNegatives(Stateless):
    """Candidates drawn with replacement, with probability proportional to ``count^alpha``.

    Args:
        material: The catalogue and the training pairs; the counts come from there.
        alpha: 0 is uniform over the candidates that have a training row, 1 as popular as in training.
        count: How many to draw, for each pair or for the batch.
        exclude: Never draw a known positive of the query.
        shared: One draw for the whole batch.

    Raises:
        DataError: If some query has no candidate left to draw from.

    Reference: Mikolov et al., NeurIPS 2013 (arXiv 1310.4546), there with the power 3/4 over words.
    """

    def __init__(self, material: Material, alpha: float, count: int, *, exclude: bool, shared: bool) -> None:
        self.count, self.shared = count, shared
        self.draws_again, self.refuses_known = not shared, exclude and not shared
        weights = np.where(material.counts > 0, material.counts, 0.0)
        weights = np.where(weights > 0, np.power(weights, alpha, where=weights > 0, out=np.zeros_like(weights)), 0.0)
        self.rate = spread(weights, count)
        self.cumulative = np.cumsum(weights / weights.sum())
        self.last = int(np.flatnonzero(weights)[-1])
        self.key = stream(material.seed, "popularity negatives", alpha)
        self.draws = None
        if not shared:
            known = material.known if exclude else None
            self.draws = OwnDraws(
                material.num_candidates,
                count,
                known,
                self.key,
                self._propose,
                distinct=False,
                cumulative=self.cumulative,
            )

    def draw(self, queries: NDArray[np.int64], positives: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """``[batch, count]`` candidate rows, or ``[count]`` shared ones."""
        if self.draws is not None:
            return self.draws.draw(queries, positives, step)
        return self._propose((step * self.count + np.arange(self.count)).astype(np.uint64))

    def _propose(self, counters: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The candidate whose stretch of the cumulative probability holds a random number of 53 bits."""
        chance = (random_bits(self.key, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return np.minimum(np.searchsorted(self.cumulative, chance, side="right"), self.last).astype(np.int64)


class PopularitySpec(NegativesSpec):
    """In proportion to ``count^alpha``: harder than uniform, and corrected by logQ in the losses that can be."""

    kind: Literal["popularity"] = "popularity"
    count: int = Field(5, ge=1, le=100_000)
    alpha: float = Field(0.75, ge=0.0, le=2.0)
    exclude_positives: bool = True
    shared: bool = False

    def build(self, material: Material) -> PopularityNegatives:
        """The sampler over a catalogue."""
        exclude = self.exclude_positives
        return PopularityNegatives(material, self.alpha, self.count, exclude=exclude, shared=self.shared)

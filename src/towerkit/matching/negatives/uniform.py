"""Uniform negatives: every candidate as likely."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from towerkit.core.random import random_integers, stream
from towerkit.matching.negatives.base import Material, NegativesSpec, Stateless, even, spread
from towerkit.matching.negatives.draws import OwnDraws
from towerkit.matching.negatives.known import KnownPairs


class UniformNegatives(Stateless):
    """Candidates drawn uniformly and without replacement for each pair, optionally never a known positive.

    Args:
        material: The catalogue and the training pairs.
        count: How many to draw for each pair.
        exclude: Never draw a known positive of the query.

    Raises:
        DataError: If some query has too few candidates left to draw from.
    """

    draws_again = True

    def __init__(self, material: Material, count: int, *, exclude: bool) -> None:
        self.num_candidates, self.refuses_known = material.num_candidates, exclude
        self.rate = spread(even(material), count)
        known: KnownPairs | None = material.known if exclude else None
        self.key = stream(material.seed, "uniform negatives")
        self.draws = OwnDraws(self.num_candidates, count, known, self.key, self._propose, distinct=True)

    def draw(self, queries: NDArray[np.int64], positives: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """``[batch, count]`` candidate rows; see :class:`OwnDraws`."""
        return self.draws.draw(queries, positives, step)

    def _propose(self, counters: NDArray[np.uint64]) -> NDArray[np.int64]:
        return 1 + random_integers(self.key, counters, self.num_candidates)


class SharedUniformNegatives(Stateless):
    """Candidates drawn uniformly once for the whole batch: scored by one matrix product, known positives masked.

    Args:
        material: The catalogue and the training pairs.
        count: How many to draw for a batch; one may be drawn twice.
    """

    def __init__(self, material: Material, count: int) -> None:
        self.num_candidates, self.count = material.num_candidates, count
        self.rate = spread(even(material), count)
        self.key = stream(material.seed, "shared uniform negatives")

    def draw(self, queries: NDArray[np.int64], positives: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """``[count]`` candidate rows."""
        counters = (step * self.count + np.arange(self.count)).astype(np.uint64)
        return 1 + random_integers(self.key, counters, self.num_candidates)


class UniformSpec(NegativesSpec):
    """Every candidate as likely."""

    kind: Literal["uniform"] = "uniform"
    count: int = Field(5, ge=1, le=100_000)
    exclude_positives: bool = True
    """Draw again instead of a known positive of the query; shared ones are masked by ``objective.mask_positives``."""
    shared: bool = False
    """Draw ``count`` once for the whole batch: many negatives at the price of one matrix product."""

    def build(self, material: Material) -> UniformNegatives | SharedUniformNegatives:
        """The sampler over a catalogue."""
        if self.shared:
            return SharedUniformNegatives(material, self.count)
        return UniformNegatives(material, self.count, exclude=self.exclude_positives)

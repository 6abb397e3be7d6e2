"""Negatives: which candidates a positive is compared with."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array

from towerkit.core.errors import DataError
from towerkit.core.random import random_bits, random_integers, stream
from towerkit.core.spec import Spec

_TRIES = 64
_TABLE_CELLS = 1 << 25
"""Up to so many pairs, a byte each, the known ones stand in a table: a look-up costs less than a binary search."""


class UniformNegatives:
    """Candidates drawn uniformly and without replacement for each pair, optionally never a known positive.

    A drawn candidate is a pure function of the seed, the step, the place in the batch and the try, so drawing keeps no
    state: a resumed training and another engine draw the same.

    Args:
        num_candidates: Candidates to draw from: rows ``1 … num_candidates``.
        count: How many to draw for each pair.
        positives: ``[queries + 1, candidates + 1]`` known pairs by row, to be avoided; None allows them.
        seed: The run's seed.

    Raises:
        DataError: If some query has too few candidates left to draw from.
    """

    def __init__(self, num_candidates: int, count: int, positives: csr_array | None, seed: int) -> None:
        self.num_candidates, self.count = num_candidates, count
        self.key = stream(seed, "uniform negatives")
        self.width = num_candidates + 1
        self.known = np.empty(0, np.int64)
        self.table: NDArray[np.bool_] | None = None
        taken = 1  # its own positive
        if positives is not None:
            per_query = np.diff(positives.indptr)
            rows = np.repeat(np.arange(positives.shape[0], dtype=np.int64), per_query)
            self.known = np.sort(rows * self.width + positives.indices)
            if positives.shape[0] * self.width <= _TABLE_CELLS:
                self.table = np.zeros(positives.shape[0] * self.width, bool)
                self.table[self.known] = True
            taken = max(taken, int(per_query.max(initial=0)))
        if num_candidates - taken < count:
            raise DataError(
                f"Cannot draw {count} different negatives: there are {num_candidates:,} candidates and some query already "
                f"has {taken:,} of them. Lower negatives.count, or set exclude_positives: false."
            )

    def draw(self, queries: NDArray[np.int64], positives: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Draw for a batch.

        Args:
            queries: ``[batch]`` query rows.
            positives: ``[batch]`` candidate rows; never drawn.
            step: The step of the training, the counter of the randomness.

        Returns:
            ``[batch, count]`` candidate rows.
        """
        batch = len(queries)
        drawn = np.zeros((batch, self.count), np.int64)
        for place in range(self.count):
            pending = np.arange(batch)
            for attempt in range(_TRIES):
                counter = self._counter(step, attempt, place, pending)
                drawn[pending, place] = 1 + random_integers(self.key, counter, self.num_candidates)
                pending = pending[self._refused(queries[pending], positives[pending], drawn[pending], place)]
                if not len(pending):
                    break
            if len(pending):  # queries that know nearly everything: list what is left
                bits = random_bits(self.key ^ 1, self._counter(step, 0, place, pending)) >> np.uint64(32)
                for row, chance in zip(pending, bits, strict=True):
                    drawn[row, place] = self._any_free(queries[row], positives[row], drawn[row, :place], chance)
        return drawn

    def _counter(self, step: int, attempt: int, place: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """A number of its own for every draw of the training."""
        return (((step * _TRIES + attempt) * self.count + place) * (1 << 20) + rows).astype(np.uint64)

    def _refused(
        self, queries: NDArray[np.int64], positives: NDArray[np.int64], drawn: NDArray[np.int64], place: int
    ) -> NDArray[np.bool_]:
        candidate = drawn[:, place]
        refused = (drawn[:, :place] == candidate[:, None]).any(axis=1) | (candidate == positives)
        if len(self.known):
            refused |= self._is_known(queries * self.width + candidate)
        return refused

    def _is_known(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        if self.table is not None:
            return self.table[pairs]
        found = np.minimum(np.searchsorted(self.known, pairs), len(self.known) - 1)
        return np.asarray(self.known[found] == pairs)

    def _any_free(self, query: np.int64, positive: np.int64, before: NDArray[np.int64], chance: np.uint64) -> np.int64:
        low, high = np.searchsorted(self.known, [query * self.width, (query + 1) * self.width])
        taken = np.concatenate([self.known[low:high] - query * self.width, before, [positive]])
        free = np.setdiff1d(np.arange(1, self.num_candidates + 1), taken)
        return np.int64(free[int(chance) * len(free) >> 32])


class UniformSpec(Spec):
    """Uniform draws for each pair."""

    kind: Literal["uniform"] = "uniform"
    count: int = Field(5, ge=1, le=10_000)
    exclude_positives: bool = True

    def build(self, num_candidates: int, positives: csr_array, seed: int) -> UniformNegatives:
        """The sampler over a catalogue."""
        return UniformNegatives(num_candidates, self.count, positives if self.exclude_positives else None, seed)


AnyNegativesSpec = Annotated[UniformSpec, Field()]
"""The menu of negatives."""

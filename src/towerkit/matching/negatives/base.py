"""What a sort of negatives is: a source of candidates for the positives of a batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from towerkit.core.random import stream
from towerkit.core.spec import Spec
from towerkit.matching.negatives.known import KnownPairs


@dataclass(frozen=True)
class Material:
    """What sources are built from; all of it comes from the rows that are trained on."""

    num_candidates: int
    """Candidates to draw from: rows ``1 … num_candidates``; cold ones are not among them."""
    known: KnownPairs
    counts: NDArray[np.float64]
    """``[candidates + 1]`` in how many training rows each candidate is the positive."""
    batch_size: int
    seed: int

    def at(self, place: int) -> Material:
        """The same for the source at some place of a mixture: two sources of one kind must not draw the same."""
        return self if place == 0 else replace(self, seed=stream(self.seed, "source", place))


class Source(Protocol):
    """One sort of negatives."""

    rate: NDArray[np.float64] | None
    """``[candidates + 1]`` how often a candidate is drawn per positive of a full batch on average, before exclusions; None
    if unknown."""
    draws_again: bool
    """Instead of the positive another candidate is drawn, so the others come more often; else it is only masked."""
    refuses_known: bool
    """Instead of any known positive of the query too."""

    @property
    def keep(self) -> int | None:
        """Only so many, those with the highest scores, count."""

    def fill(self, batch: int) -> float:
        """The share of :attr:`rate` that the next draw brings, where that is not always all of it.

        Args:
            batch: Rows of the batch, fewer than usual at the end of an epoch.
        """

    def draw(
        self, queries: NDArray[np.int64], positives: NDArray[np.int64], step: int
    ) -> NDArray[np.int64] | tuple[NDArray[np.int64], Tensor]:
        """Candidate rows ``[batch, n]`` or shared ``[n]``; with their vectors where they come from earlier steps.

        Args:
            queries: ``[batch]`` query rows.
            positives: ``[batch]`` candidate rows.
            step: The step of the training, the counter of the randomness.
        """

    def remember(self, rows: NDArray[np.int64], vectors: Tensor) -> None:
        """Told the positives of a step after it: rows ``[batch]`` and vectors ``[batch, dim]`` as the match saw them."""

    def state(self) -> dict[str, Tensor]:
        """What a resumed training needs; empty where every draw is a pure function."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`state`."""


class Stateless:
    """A source whose draws are pure functions of seed and step."""

    rate: NDArray[np.float64] | None = None
    draws_again = False
    refuses_known = False

    @property
    def keep(self) -> int | None:
        """All count."""
        return None

    def fill(self, batch: int) -> float:
        """As many are drawn for any batch."""
        return 1.0

    def remember(self, rows: NDArray[np.int64], vectors: Tensor) -> None:
        """Nothing is kept."""

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing."""


class NegativesSpec(Spec):
    """The configuration of one sort of negatives."""

    def build(self, material: Material) -> Source:
        """The source over a catalogue.

        Args:
            material: The catalogue and the training pairs.

        Raises:
            DataError: If the catalogue is too small for it.
        """
        raise NotImplementedError


def spread(weights: NDArray[np.float64], count: float) -> NDArray[np.float64]:
    """Expected draws of each candidate when ``count`` are drawn in proportion to some weights."""
    return weights * (count / weights.sum())


def even(material: Material) -> NDArray[np.float64]:
    """``[candidates + 1]`` one for every candidate, zero for the unknown row."""
    weights = np.ones(material.num_candidates + 1)
    weights[0] = 0.0
    return weights

"""Hard negatives: of many candidates drawn uniformly, those that the model scores highest now."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from towerkit.matching.negatives.base import Material, NegativesSpec
from towerkit.matching.negatives.uniform import UniformNegatives


class HardNegatives(UniformNegatives):
    """A uniform pool for each pair, of which only the highest scores count.

    How likely a candidate is to count depends on the model, so its probability is not known and not corrected.

    Args:
        material: The catalogue and the training pairs.
        count: How many count.
        pool: How many are drawn and scored.
        exclude: Never draw a known positive of the query.

    Raises:
        DataError: If some query has too few candidates left to draw from.

    Reference: Zhang et al., Optimizing top-N collaborative filtering via dynamic negative item sampling, SIGIR 2013.
    """

    def __init__(self, material: Material, count: int, pool: int, *, exclude: bool) -> None:
        super().__init__(material, pool, exclude=exclude)
        self.rate = None
        self._count = count

    @property
    def keep(self) -> int | None:
        """How many count."""
        return self._count


class HardSpec(NegativesSpec):
    """The highest scores of a larger uniform draw; unseen positives are among the highest, so keep ``pool`` moderate."""

    kind: Literal["hard"] = "hard"
    count: int = Field(1, ge=1, le=10_000)
    pool: int = Field(32, ge=2, le=100_000)
    exclude_positives: bool = True

    @model_validator(mode="after")
    def _there_is_a_choice(self) -> HardSpec:
        if self.count >= self.pool:
            raise ValueError(
                f"count must be below pool, or nothing is chosen; received count {self.count} and pool {self.pool}. "
                "Raise pool, or use {kind: uniform}."
            )
        return self

    def build(self, material: Material) -> HardNegatives:
        """The source over a catalogue."""
        return HardNegatives(material, self.count, self.pool, exclude=self.exclude_positives)

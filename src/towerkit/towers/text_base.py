"""What the text tower and its encoders agree on."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Self

from towerkit.core.spec import Spec
from towerkit.features.base import Feature, FeatureSpec
from towerkit.towers.base import Tower


class TextTower(Tower):
    """A tower over texts, whatever encodes them: one of the query side can have the weights of the candidate side's."""

    feature: str
    """Key of the column that it reads."""

    def over(self, feature: str) -> Self:
        """A tower with the same weights, which moves with this one, over another column.

        Args:
            feature: Its key.
        """
        twin = copy.copy(self)  # shallow: parameters and parts are the same objects
        twin.feature = feature
        return twin


@dataclass(frozen=True)
class TextPlan:
    """What the tower's spec tells the encoder that builds its module."""

    dim: int
    dropout: float
    sparse_rows: bool
    """Tables give sparse gradients."""
    spectral: bool = False
    """Begin at the strongest directions of the texts."""
    like: TextTower | None = None
    """The tower whose weights it has."""


class TextEncoderSpec(Spec):
    """How texts become vectors: ``feature`` says what is read, ``build`` makes the module."""

    @property
    def is_the_same_in_every_column(self) -> bool:
        """Whether a text means the same in each of several columns, so that two towers can share what they learn."""
        return True

    def feature(self, columns: tuple[str, ...]) -> FeatureSpec:
        """The feature that this encoder reads.

        Args:
            columns: The text columns, read one after the other.
        """
        raise NotImplementedError

    def build(self, feature: Feature, plan: TextPlan) -> TextTower:
        """Make the module.

        Args:
            feature: The fitted feature.
            plan: Widths and what is shared.
        """
        raise NotImplementedError

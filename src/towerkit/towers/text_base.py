"""What the text tower and its encoders agree on."""

from __future__ import annotations

from dataclasses import dataclass

from towerkit.core.spec import Spec
from towerkit.features.base import Feature, FeatureSpec
from towerkit.towers.ties import OneFeatureTower


class TextTower(OneFeatureTower):
    """A tower over texts, whatever encodes them."""


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

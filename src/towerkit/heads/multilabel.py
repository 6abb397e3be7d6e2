"""The head of a task in which a row may have several labels, or none."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from towerkit.features.encoder import LabelSpec
from towerkit.features.label_sets import Missing, SetForm
from towerkit.features.labels import Labels
from towerkit.heads.heads import Head, ThresholdHeadSpec
from towerkit.losses.tasks import multilabel_cross_entropy

_RAREST = 1e-4
"""A label that no or every training row has begins at this share from the edge, not at infinity."""


class MultilabelHead(Head):
    """One log-odds per label, each for itself."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy, summed over the labels."""
        return multilabel_cross_entropy(logits, labels)

    def training_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, with the emphasis that its spec asks for."""
        return self.loss(logits, labels) if self.emphasis is None else self.emphasis.of_coins(logits, labels)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of having each label; they do not sum to one."""
        return torch.sigmoid(logits)

    @torch.no_grad()
    def start_at(self, frequencies: Tensor) -> None:
        """The log-odds of each label."""
        self.last.bias.copy_(torch.logit(frequencies, eps=_RAREST))


class MultilabelHeadSpec(ThresholdHeadSpec):
    """Any number of several labels, such as the genres of a film; a column of lists, or of texts with a separator."""

    kind: Literal["multilabel"] = "multilabel"
    separator: str = Field("|", min_length=1)
    """What stands between the labels where they are text; spaces around a label do not count."""
    missing: Missing = "unknown"
    """What a null or an empty text says: ``unknown``, the row is left out; ``none``, it has none of the labels."""
    min_count: int = Field(1, ge=1)
    """Labels of fewer training rows are left out."""

    def label(self) -> LabelSpec:
        """The label column and how it is written."""
        return LabelSpec(
            self.column, "multilabel", form=SetForm(self.separator, self.missing), min_count=self.min_count
        )

    def build(self, in_dim: int, labels: Labels) -> Head:
        """A logit per label."""
        return MultilabelHead(in_dim, self.layers, len(labels.classes))

"""Heads of one class out of several: a state to the logits of one task, and logits to probabilities."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from towerkit.core.spec import Spec
from towerkit.features.encoder import LabelSpec
from towerkit.features.labels import Labels, TaskKind
from towerkit.heads.decision import UNTOUCHED, Calibration, Threshold
from towerkit.losses.tasks import binary_cross_entropy, cross_entropy, ordinal_cross_entropy, ordinal_log_probabilities
from towerkit.towers.layers import perceptron

_SCALE = 10.0
"""Cut points are stored at a tenth: Adam moves every number alike, and cut points have several units to travel."""


class Head(nn.Module):
    """A state to logits. The loss per row and the probabilities belong to the kind of task.

    Args:
        in_dim: Width of the state.
        layers: Hidden widths of the head's own layers.
        out_dim: Number of logits.
    """

    def __init__(self, in_dim: int, layers: tuple[int, ...], out_dim: int) -> None:
        super().__init__()
        self.mlp = perceptron(in_dim, layers, out_dim)

    def forward(self, state: Tensor) -> Tensor:
        """``[batch, in_dim]`` to logits ``[batch, out_dim]``."""
        return self.mlp(state)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """One loss per row, in nats."""
        raise NotImplementedError

    def probabilities(self, logits: Tensor) -> Tensor:
        """``[batch, classes]``, each row summing to one where a row has one class; of a regression its number ``[batch, 1]``."""
        raise NotImplementedError

    def start_at(self, frequencies: Tensor) -> None:
        """Set the biases so that a state of zeros gives the classes their frequencies: the base rate needs no learning.

        Args:
            frequencies: ``[classes]``, positive, summing to one where a row has one class.
        """
        raise NotImplementedError

    @property
    def last(self) -> nn.Linear:
        """The layer that gives the logits."""
        layer = self.mlp[-1]
        assert isinstance(layer, nn.Linear)
        return layer


class BinaryHead(Head):
    """One log-odds."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy."""
        return binary_cross_entropy(logits, labels)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Both classes, the positive one second."""
        return torch.sigmoid(torch.cat([-logits, logits], dim=1))

    @torch.no_grad()
    def start_at(self, frequencies: Tensor) -> None:
        """The log-odds of the positive class."""
        self.last.bias.copy_(torch.log(frequencies[1:] / frequencies[:1]))


class MulticlassHead(Head):
    """One logit per class."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy."""
        return cross_entropy(logits, labels)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax."""
        return torch.softmax(logits, dim=1)

    @torch.no_grad()
    def start_at(self, frequencies: Tensor) -> None:
        """The log-frequencies."""
        self.last.bias.copy_(torch.log(frequencies))


class OrdinalHead(Head):
    """One score per row against ordered cut points that all rows share (proportional odds).

    Args:
        in_dim: Width of the state.
        layers: Hidden widths.
        num_classes: Number of ordered classes.
    """

    def __init__(self, in_dim: int, layers: tuple[int, ...], num_classes: int) -> None:
        super().__init__(in_dim, layers, 1)
        self.first = nn.Parameter(torch.tensor(-0.5 * (num_classes - 2) / _SCALE))
        self.gaps = nn.Parameter(torch.full((num_classes - 2,), 0.5413 / _SCALE))  # softplus(0.5413) = 1

    def forward(self, state: Tensor) -> Tensor:
        """``[batch, in_dim]`` to the log-odds of lying above each class but the last, ``[batch, classes - 1]``."""
        steps = torch.cumsum(functional.softplus(_SCALE * self.gaps), dim=0)
        cuts = torch.cat([_SCALE * self.first[None], _SCALE * self.first + steps])  # increasing
        return self.mlp(state) - cuts

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Negative log-likelihood of the ordered class."""
        return ordinal_cross_entropy(logits, labels)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Differences of neighboring cumulative probabilities."""
        return ordinal_log_probabilities(logits).exp()

    @torch.no_grad()
    def start_at(self, frequencies: Tensor) -> None:
        """Cut points at the log-odds of lying below them."""
        below = torch.cumsum(frequencies, dim=0)[:-1]
        cuts = torch.logit(below, eps=1e-6)  # float32 may sum the rest of a very rare class to one
        gaps = torch.clamp(cuts[1:] - cuts[:-1], min=1e-3)
        self.first.copy_(cuts[0] / _SCALE)
        self.gaps.copy_(torch.log(torch.expm1(gaps)) / _SCALE)  # the inverse of softplus
        self.last.bias.zero_()


class HeadSpec(Spec):
    """What every head has: its label column, its own layers, and its weight in the sum of losses."""

    column: str
    layers: tuple[int, ...] = ()
    weight: float = Field(1.0, gt=0.0)

    def label(self) -> LabelSpec:
        """The label column and the kind of its classes."""
        kind: TaskKind = getattr(self, "kind")  # noqa: B009 - each concrete spec has it
        return LabelSpec(self.column, kind)

    @property
    def is_calibrated(self) -> bool:
        """Whether a temperature is chosen on validation rows."""
        return False

    @property
    def threshold_rule(self) -> Threshold:
        """From which probability a class is predicted."""
        return UNTOUCHED.thresholds[0]

    def build(self, in_dim: int, labels: Labels) -> Head:
        """Make the module.

        Args:
            in_dim: Width of the state.
            labels: What was found among the training labels.
        """
        raise NotImplementedError


class ProbabilityHeadSpec(HeadSpec):
    """What the heads of probabilities have."""

    calibration: Calibration = "none"
    """``temperature``: divide the logits by a number chosen on validation rows, so that probabilities are frequencies."""

    @property
    def is_calibrated(self) -> bool:
        """Whether a temperature is chosen on validation rows."""
        return self.calibration == "temperature"


class ThresholdHeadSpec(ProbabilityHeadSpec):
    """What the heads have that predict a class from some probability on."""

    threshold: Threshold = UNTOUCHED.thresholds[0]
    """A probability, or ``{choose: f1}``, ``accuracy`` or ``balanced_accuracy``: what is best on validation rows."""

    @property
    def threshold_rule(self) -> Threshold:
        """From which probability a class is predicted."""
        return self.threshold


class BinaryHeadSpec(ThresholdHeadSpec):
    """Yes or no."""

    kind: Literal["binary"] = "binary"
    positive: str | None = None
    """The class that counts as yes; the second in order when not given."""

    @field_validator("positive", mode="before")
    @classmethod
    def _as_in_the_data(cls, positive: Any) -> Any:
        """YAML reads 1 as a number and yes as true; in the data it is compared as text."""
        if isinstance(positive, bool):
            return str(positive).lower()
        return str(positive) if isinstance(positive, int) else positive

    def label(self) -> LabelSpec:
        """The label column and its positive class."""
        return LabelSpec(self.column, "binary", self.positive)

    def build(self, in_dim: int, labels: Labels) -> Head:
        """One logit."""
        return BinaryHead(in_dim, self.layers, 1)


class MulticlassHeadSpec(ProbabilityHeadSpec):
    """One of several classes without an order."""

    kind: Literal["multiclass"] = "multiclass"

    def build(self, in_dim: int, labels: Labels) -> Head:
        """A logit per class."""
        return MulticlassHead(in_dim, self.layers, len(labels.classes))


class OrdinalHeadSpec(ProbabilityHeadSpec):
    """One of several classes in an order, such as one to five stars."""

    kind: Literal["ordinal"] = "ordinal"

    def build(self, in_dim: int, labels: Labels) -> Head:
        """One score and a cut point between each two classes."""
        return OrdinalHead(in_dim, self.layers, len(labels.classes))

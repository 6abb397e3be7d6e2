"""Heads of one class out of several: a state to the logits of one task, and logits to probabilities."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional

from towerkit.core.spec import Spec, short
from towerkit.features.encoder import LabelSpec
from towerkit.features.labels import Labels, TaskKind
from towerkit.heads.decision import UNTOUCHED, Calibration, Threshold
from towerkit.heads.emphasis import AnyClassWeights, Emphasis, NamedAsInTheData, weights_of
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
        self.emphasis: Emphasis | None = None

    def forward(self, state: Tensor) -> Tensor:
        """``[batch, in_dim]`` to logits ``[batch, out_dim]``."""
        return self.mlp(state)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """One loss per row, in nats."""
        raise NotImplementedError

    def training_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What training makes small: the loss, or one that listens to some rows more than to others."""
        return self.loss(logits, labels)

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


class ClassHead(Head):
    """One class out of several."""

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """``[batch, classes]``."""
        raise NotImplementedError

    def training_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, with the emphasis that its spec asks for."""
        if self.emphasis is None:
            return self.loss(logits, labels)
        return self.emphasis.of_classes(self.log_probabilities(logits), labels)


class BinaryHead(ClassHead):
    """One log-odds."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy."""
        return binary_cross_entropy(logits, labels)

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Of both classes."""
        return functional.logsigmoid(torch.cat([-logits, logits], dim=1))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Both classes, the positive one second."""
        return torch.sigmoid(torch.cat([-logits, logits], dim=1))

    @torch.no_grad()
    def start_at(self, frequencies: Tensor) -> None:
        """The log-odds of the positive class."""
        self.last.bias.copy_(torch.log(frequencies[1:] / frequencies[:1]))


class MulticlassHead(ClassHead):
    """One logit per class."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy."""
        return cross_entropy(logits, labels)

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """The logarithm of the softmax."""
        return torch.log_softmax(logits, dim=1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax."""
        return torch.softmax(logits, dim=1)

    @torch.no_grad()
    def start_at(self, frequencies: Tensor) -> None:
        """The log-frequencies."""
        self.last.bias.copy_(torch.log(frequencies))


class OrdinalHead(ClassHead):
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

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Logarithms of the differences of neighboring cumulative probabilities."""
        return ordinal_log_probabilities(logits)

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

    def emphasis(self, labels: Labels) -> Emphasis | None:
        """What its loss listens to more; None where it listens to all alike.

        Args:
            labels: What was found among the training labels.
        """
        return None

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
    class_weights: Annotated[AnyClassWeights | None, NamedAsInTheData] = None
    """How much the loss of a row counts, by its class: ``balanced``, or class -> weight."""
    focal: float | None = Field(None, gt=0.0, le=10.0)
    """``(1 - p)^focal`` multiplies the loss of a row whose class got the probability ``p``: less of what is known already."""
    smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of each label that is spread evenly over the classes: labels that are now and then wrong."""

    @field_validator("class_weights")
    @classmethod
    def _not_below_zero(cls, given: AnyClassWeights | None) -> AnyClassWeights | None:
        if isinstance(given, dict) and any(each < 0 for each in given.values()):
            raise ValueError(f"class weights are numbers of 0 or more; received {short(given)}.")
        return given

    @model_validator(mode="after")
    def _one_way_with_certainty(self) -> Self:
        if self.focal is not None and self.smoothing:
            raise ValueError(
                f"a focal loss turns to rows that are not certain yet, and smoothing keeps all from becoming certain; received "
                f"focal: {self.focal:g} and smoothing: {self.smoothing:g}. Keep one of them."
            )
        return self

    def emphasis(self, labels: Labels) -> Emphasis | None:
        """What its loss listens to more."""
        if self.class_weights is None and self.focal is None and not self.smoothing:
            return None
        return Emphasis(weights_of(self.class_weights, labels), focal=self.focal, smoothing=self.smoothing)

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

    @field_validator("smoothing")
    @classmethod
    def _classes_have_distances(cls, smoothing: float) -> float:
        if smoothing:
            raise ValueError(
                f"smoothing spreads a label over all classes alike, and those of an ordinal head lie nearer or farther; received "
                f"{smoothing:g}. Remove it, or use kind: multiclass."
            )
        return smoothing

    def build(self, in_dim: int, labels: Labels) -> Head:
        """One score and a cut point between each two classes."""
        return OrdinalHead(in_dim, self.layers, len(labels.classes))

"""The head of a task whose label is a number."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from towerkit.features.encoder import LabelSpec
from towerkit.features.label_scale import Scale, Transform
from towerkit.features.labels import Labels
from towerkit.heads.heads import Head, HeadSpec
from towerkit.losses.tasks import half_squared_error, huber

RegressionLoss = Literal["mse", "huber"]


class RegressionHead(Head):
    """One number, standardized inside.

    Args:
        in_dim: Width of the state.
        layers: Hidden widths.
        scale: The unit that it is learned in.
        error: Which loss; Huber's bends at one standard deviation.
    """

    def __init__(self, in_dim: int, layers: tuple[int, ...], scale: Scale, error: RegressionLoss) -> None:
        super().__init__(in_dim, layers, 1)
        self.scale = scale
        self.error = half_squared_error if error == "mse" else huber

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The error in the standardized unit, of labels in their own."""
        return self.error(logits, self.scale.inside(labels).to(logits.dtype))  # a huge label needs its float64 before

    def probabilities(self, logits: Tensor) -> Tensor:
        """``[batch, 1]`` the number itself, in the label's own unit."""
        return self.scale.outside(logits)

    @torch.no_grad()
    def start_at(self, frequencies: Tensor) -> None:
        """The mean, which is zero inside; there are no frequencies."""
        self.last.bias.zero_()


class RegressionHeadSpec(HeadSpec):
    """A number, such as a price."""

    kind: Literal["regression"] = "regression"
    loss: RegressionLoss = "mse"
    """``mse``, half the squared error; ``huber``, straight beyond one standard deviation, where labels have outliers."""
    transform: Transform = "none"
    """``log``: learn ``log(1 + value)``, for amounts that differ by factors; answers are values again."""

    def label(self) -> LabelSpec:
        """The label column and its transform."""
        return LabelSpec(self.column, "regression", transform=self.transform)

    def build(self, in_dim: int, labels: Labels) -> Head:
        """One number."""
        assert labels.scale is not None
        return RegressionHead(in_dim, self.layers, labels.scale, self.loss)

"""The head of a task whose label says how often something happened."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from towerkit.features.encoder import LabelSpec
from towerkit.features.labels import Labels
from towerkit.heads.heads import Head, HeadSpec
from towerkit.losses.tasks import half_deviance

_MOST = 80.0
"""A rate beyond the exponential of this is no finite number in float32."""


class CountHead(Head):
    """The logarithm of the rate of a Poisson distribution, learned as how far it lies from that of the mean rate.

    Args:
        in_dim: Width of the state.
        layers: Hidden widths.
        mean: Of the training labels.

    Reference: Nelder and Wedderburn, Generalized Linear Models, 1972, with the logarithm as link.
    """

    def __init__(self, in_dim: int, layers: tuple[int, ...], mean: float) -> None:
        super().__init__(in_dim, layers, 1)
        self.log_mean = math.log(mean)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Half the deviance."""
        return half_deviance(self._log_rates(logits), labels.to(logits.dtype))

    def probabilities(self, logits: Tensor) -> Tensor:
        """``[batch, 1]`` the rate: how often it is to be expected."""
        return torch.exp(self._log_rates(logits))

    def _log_rates(self, logits: Tensor) -> Tensor:
        return (logits + self.log_mean).clamp(min=-_MOST, max=_MOST)

    @torch.no_grad()
    def start_at(self, frequencies: Tensor) -> None:
        """The mean, which is zero here; there are no frequencies."""
        self.last.bias.zero_()


class CountHeadSpec(HeadSpec):
    """How often something happened: visits, purchases, goals."""

    kind: Literal["count"] = "count"

    def label(self) -> LabelSpec:
        """The label column."""
        return LabelSpec(self.column, "count")

    def build(self, in_dim: int, labels: Labels) -> Head:
        """One log-rate."""
        assert labels.scale is not None
        return CountHead(in_dim, self.layers, labels.scale.mean)

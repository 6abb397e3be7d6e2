"""Plain gradient descent: no memory of earlier steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from towerkit.training.optimizers.base import Optimizer, OptimizerSpec


class Sgd(Optimizer):
    """``p <- p - lr g``, as ``torch.optim.SGD`` without momentum."""

    def _move_all(self, place: int, parameter: Tensor, values: Tensor, rate: float) -> None:
        parameter.add_(values, alpha=-rate)

    def _move_rows(self, place: int, parameter: Tensor, rows: Tensor, values: Tensor, rate: float) -> None:
        parameter.index_add_(0, rows, values, alpha=-rate)


class SgdSpec(OptimizerSpec):
    """Stochastic gradient descent without momentum: no state at all."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(0.1, gt=0.0, le=1e6)

    def build(self, parameters: Iterable[nn.Parameter], total_steps: int = 1) -> Sgd:
        """The optimizer over some parameters."""
        return Sgd(
            parameters,
            lr=self.lr,
            weight_decay=self.weight_decay,
            factor=self.schedule.build(total_steps),
            clip_norm=self.clip_norm,
        )

"""Adagrad: each weight's steps shrink by what its gradients were so far; or each row's, with one number per row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.training.optimizers.base import Optimizer, OptimizerSpec

_EPS = 1e-10


class Adagrad(Optimizer):
    """``p <- p - lr g / (sqrt(sum of g²) + 1e-10)``; the sum of a row that is not touched rests.

    Args:
        parameters: What to move.
        lr: Step size, before the schedule's factor.
        weight_decay: Added to the gradient as ``weight_decay * parameter``.
        factor: Step (from 0) -> factor of ``lr``.
        clip_norm: The most that the norm of all gradients together may be.
        per_row: Keep one sum for each row of a matrix, of the mean of its squares, in place of one for each weight.

    Reference: Duchi, Hazan and Singer, JMLR 2011; by row as in Mudigere et al., arXiv 2104.05158, section 4.1.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float = 0.0,
        factor: Callable[[int], float] | None = None,
        clip_norm: float | None = None,
        per_row: bool = False,
    ) -> None:
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, factor=factor, clip_norm=clip_norm)
        self.per_row, self.eps = per_row, _EPS
        self.sums: dict[int, Tensor] = {}
        """Place of a parameter -> its sums, made when it first has a gradient."""

    def _squares(self, values: Tensor) -> Tensor:
        squares = values.square()
        return squares.mean(dim=1, keepdim=True) if self.per_row and values.dim() == 2 else squares

    def sum_of(self, place: int) -> Tensor:
        """The sums of the parameter at a place; zeros before it first moved."""
        if place not in self.sums:
            parameter = self.parameters[place].detach()
            is_by_row = self.per_row and parameter.dim() == 2
            self.sums[place] = torch.zeros_like(parameter[:, :1] if is_by_row else parameter)
        return self.sums[place]

    def _move_all(self, place: int, parameter: Tensor, values: Tensor, rate: float) -> None:
        total = self.sum_of(place).add_(self._squares(values))
        parameter.addcdiv_(values, total.sqrt().add_(_EPS).expand_as(values), value=-rate)

    def _move_rows(self, place: int, parameter: Tensor, rows: Tensor, values: Tensor, rate: float) -> None:
        total = self.sum_of(place)
        own = total.index_select(0, rows).add_(self._squares(values))
        total.index_copy_(0, rows, own)
        moved = parameter.index_select(0, rows)
        moved.addcdiv_(values, own.sqrt_().add_(_EPS).expand_as(values), value=-rate)
        parameter.index_copy_(0, rows, moved)

    def state(self) -> dict[str, Tensor]:
        """The sums."""
        return super().state() | {f"{place}.sum": total for place, total in self.sums.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take the sums back."""
        super().restore(state)
        self.sums = {int(name.partition(".")[0]): t for name, t in state.items() if name.endswith(".sum")}


class AdagradSpec(OptimizerSpec):
    """Adagrad: rare rows keep long steps."""

    kind: Literal["adagrad"] = "adagrad"
    lr: float = Field(0.01, gt=0.0, le=1e6)

    def build(self, parameters: Iterable[nn.Parameter], total_steps: int = 1) -> Adagrad:
        """The optimizer over some parameters."""
        return _build(self, parameters, total_steps, per_row=False)


class RowwiseAdagradSpec(OptimizerSpec):
    """Adagrad with one number per row of a matrix: hardly any memory beside large tables."""

    kind: Literal["rowwise_adagrad"] = "rowwise_adagrad"
    lr: float = Field(0.01, gt=0.0, le=1e6)

    def build(self, parameters: Iterable[nn.Parameter], total_steps: int = 1) -> Adagrad:
        """The optimizer over some parameters."""
        return _build(self, parameters, total_steps, per_row=True)


def _build(spec: OptimizerSpec, parameters: Iterable[nn.Parameter], total_steps: int, *, per_row: bool) -> Adagrad:
    return Adagrad(
        parameters,
        lr=spec.lr,
        weight_decay=spec.weight_decay,
        factor=spec.schedule.build(total_steps),
        clip_norm=spec.clip_norm,
        per_row=per_row,
    )

"""Adam with one meaning of ``rows``: move all rows of a table at each step, or only those of the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from towerkit.training.optimizers.base import Optimizer, OptimizerSpec


@dataclass
class Moments:
    """What Adam remembers of one parameter."""

    first: Tensor
    second: Tensor
    step: int = 0


class RowAdam(Optimizer):
    """Adam with coupled weight decay; a sparse gradient moves only the rows it names.

    For a dense gradient this is ``torch.optim.Adam``. For a sparse one the moments of untouched rows rest, while the
    bias correction counts every step, as in ``torch.optim.SparseAdam``, with weight decay on the touched rows.

    Args:
        parameters: What to move.
        lr: Step size, before the schedule's factor.
        betas: Decay of the two moments.
        eps: Added to the root of the second moment.
        weight_decay: Added to the gradient as ``weight_decay * parameter``.
        factor: Step (from 0) -> factor of ``lr``.
        clip_norm: The most that the norm of all gradients together may be.

    Reference: Kingma and Ba, ICLR 2015 (arXiv 1412.6980).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        factor: Callable[[int], float] | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, factor=factor, clip_norm=clip_norm)
        self.betas, self.eps = betas, eps
        self.moments: dict[int, Moments] = {}
        """Place of a parameter -> its moments, made when it first has a gradient."""

    def moments_of(self, place: int) -> Moments:
        """What is remembered of the parameter at a place; zeros before it first moved."""
        if place not in self.moments:
            parameter = self.parameters[place].detach()
            self.moments[place] = Moments(torch.zeros_like(parameter), torch.zeros_like(parameter))
        return self.moments[place]

    def _next(self, place: int) -> Moments:
        moments = self.moments_of(place)
        moments.step += 1
        return moments

    def _move_all(self, place: int, parameter: Tensor, values: Tensor, rate: float) -> None:
        moments = self._next(place)
        beta_1, beta_2 = self.betas
        moments.first.lerp_(values, 1.0 - beta_1)
        moments.second.mul_(beta_2).addcmul_(values, values, value=1.0 - beta_2)
        size, root = self._corrected(moments.step, rate)
        parameter.addcdiv_(moments.first, moments.second.sqrt().mul_(root).add_(self.eps), value=-size)

    def _move_rows(self, place: int, parameter: Tensor, rows: Tensor, values: Tensor, rate: float) -> None:
        moments = self._next(place)
        beta_1, beta_2 = self.betas
        first = moments.first.index_select(0, rows).lerp_(values, 1.0 - beta_1)
        second = moments.second.index_select(0, rows).mul_(beta_2).addcmul_(values, values, value=1.0 - beta_2)
        moments.first.index_copy_(0, rows, first)
        moments.second.index_copy_(0, rows, second)
        size, root = self._corrected(moments.step, rate)
        moved = parameter.index_select(0, rows)
        moved.addcdiv_(first, second.sqrt_().mul_(root).add_(self.eps), value=-size)
        parameter.index_copy_(0, rows, moved)

    def _corrected(self, step: int, rate: float) -> tuple[float, float]:
        """The step size and the factor of the root, both with the bias correction of the moments."""
        return rate / (1.0 - self.betas[0] ** step), (1.0 - self.betas[1] ** step) ** -0.5

    def state(self) -> dict[str, Tensor]:
        """The moments."""
        found = super().state()
        for place, moments in self.moments.items():
            found |= {f"{place}.first": moments.first, f"{place}.second": moments.second}
            found[f"{place}.step"] = torch.tensor(moments.step)
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take the moments back."""
        super().restore(state)
        places = sorted(int(name.partition(".")[0]) for name in state if name.endswith(".first"))
        self.moments = {
            place: Moments(state[f"{place}.first"], state[f"{place}.second"], int(state[f"{place}.step"]))
            for place in places
        }


class AdamSpec(OptimizerSpec):
    """Adam; ``rows`` says whether tables move whole or only where the batch touched them."""

    kind: Literal["adam"] = "adam"

    def build(self, parameters: Iterable[nn.Parameter], total_steps: int = 1) -> RowAdam:
        """The optimizer over some parameters."""
        return RowAdam(
            parameters,
            lr=self.lr,
            weight_decay=self.weight_decay,
            factor=self.schedule.build(total_steps),
            clip_norm=self.clip_norm,
        )

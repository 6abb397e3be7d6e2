"""Adam with one meaning of ``rows``: move all rows of a table at each step, or only those of the batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.core.spec import Spec


@dataclass
class Moments:
    """What Adam remembers of one parameter."""

    first: Tensor
    second: Tensor
    step: int = 0


class RowAdam:
    """Adam with coupled weight decay; a sparse gradient moves only the rows it names.

    For a dense gradient this is ``torch.optim.Adam``. For a sparse one the moments of untouched rows rest, while the
    bias correction counts every step, as in ``torch.optim.SparseAdam``, with weight decay on the touched rows.
    (It is no ``torch.optim.Optimizer``: making one imports torch's compiler, 1.5 s that a short training would feel.)

    Args:
        parameters: What to move.
        lr: Step size.
        betas: Decay of the two moments.
        eps: Added to the root of the second moment.
        weight_decay: Added to the gradient as ``weight_decay * parameter``.

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
    ) -> None:
        self.parameters = list(parameters)
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.moments: dict[int, Moments] = {}
        """Place of a parameter -> its moments, made when it first has a gradient."""

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for place, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            if place not in self.moments:
                self.moments[place] = Moments(torch.zeros_like(parameter), torch.zeros_like(parameter))
            moments = self.moments[place]
            moments.step += 1
            move = self._move_rows if parameter.grad.is_sparse else self._move_all
            move(parameter, parameter.grad, moments)

    def _move_all(self, parameter: Tensor, gradient: Tensor, moments: Moments) -> None:
        if self.weight_decay:
            gradient = gradient.add(parameter, alpha=self.weight_decay)
        beta_1, beta_2 = self.betas
        moments.first.lerp_(gradient, 1.0 - beta_1)
        moments.second.mul_(beta_2).addcmul_(gradient, gradient, value=1.0 - beta_2)
        size, root = self._corrected(moments.step)
        parameter.addcdiv_(moments.first, moments.second.sqrt().mul_(root).add_(self.eps), value=-size)

    def _move_rows(self, parameter: Tensor, gradient: Tensor, moments: Moments) -> None:
        sparse = gradient.coalesce()
        rows, values = sparse.indices()[0], sparse.values()  # [touched], [touched, dim]
        if self.weight_decay:
            values = values.add(parameter.index_select(0, rows), alpha=self.weight_decay)
        beta_1, beta_2 = self.betas
        first = moments.first.index_select(0, rows).lerp_(values, 1.0 - beta_1)
        second = moments.second.index_select(0, rows).mul_(beta_2).addcmul_(values, values, value=1.0 - beta_2)
        moments.first.index_copy_(0, rows, first)
        moments.second.index_copy_(0, rows, second)
        size, root = self._corrected(moments.step)
        moved = parameter.index_select(0, rows)
        moved.addcdiv_(first, second.sqrt_().mul_(root).add_(self.eps), value=-size)
        parameter.index_copy_(0, rows, moved)

    def _corrected(self, step: int) -> tuple[float, float]:
        """The step size and the factor of the root, both with the bias correction of the moments."""
        return self.lr / (1.0 - self.betas[0] ** step), (1.0 - self.betas[1] ** step) ** -0.5


class AdamSpec(Spec):
    """Adam; ``rows`` says whether tables move whole or only where the batch touched them."""

    kind: Literal["adam"] = "adam"
    lr: float = Field(1e-3, gt=0.0, le=1e6)
    weight_decay: float = Field(0.0, ge=0.0)
    rows: Literal["touched", "all"] = "touched"

    def build(self, parameters: Iterable[nn.Parameter]) -> RowAdam:
        """The optimizer over some parameters."""
        return RowAdam(parameters, lr=self.lr, weight_decay=self.weight_decay)


AnyOptimizerSpec = Annotated[AdamSpec, Field()]
"""The menu of optimizers."""

"""What optimizers share: the gradients of a step averaged, clipped and decayed, the rate of the schedule, the rows that move."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.core.spec import Spec
from towerkit.training.schedule import AnyScheduleSpec, ConstantSpec


@dataclass(frozen=True)
class Gradient:
    """A parameter's gradient at one step; ``rows`` is None where it moves as a whole."""

    rows: Tensor | None
    """``[touched]``."""
    values: Tensor
    """Shaped like the parameter, or ``[touched, ...]``."""


class Optimizer(ABC):
    """Moves parameters against their gradients; a sparse gradient moves only the rows it names.

    It is no ``torch.optim.Optimizer``: making one imports torch's compiler, 1.5 s that a short training would feel.

    Args:
        parameters: What to move.
        lr: Step size, before the schedule's factor.
        weight_decay: Added to the gradient as ``weight_decay * parameter``; for a sparse one on its rows.
        factor: Step (from 0) -> factor of ``lr``.
        clip_norm: The most that the Euclidean norm of all gradients together may be; None leaves them as they are.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float = 0.0,
        factor: Callable[[int], float] | None = None,
        clip_norm: float | None = None,
    ) -> None:
        self.parameters = list(parameters)
        self.lr, self.weight_decay, self.factor, self.clip_norm = lr, weight_decay, factor, clip_norm
        self.scales: dict[int, float] = {}
        """Place of a parameter -> factor of its step size, where it has one of its own."""
        self.steps = 0

    @property
    def rate(self) -> float:
        """The step size of the next step."""
        return self.lr if self.factor is None else self.lr * self.factor(self.steps)

    def scale(self, parameter: nn.Parameter, factor: float) -> None:
        """Give a parameter a step size of its own; one that is not moved here is left alone.

        Args:
            parameter: One of those that are moved.
            factor: Of the step size that all have.
        """
        self.scales |= {place: factor for place, own in enumerate(self.parameters) if own is parameter}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, batches: int = 1) -> None:
        """Move every parameter that has a gradient.

        Args:
            batches: How many batches' gradients were added up; their mean is taken.
        """
        found = {place: _gradient(p.grad) for place, p in enumerate(self.parameters) if p.grad is not None}
        scale = 1.0 / batches
        if self.clip_norm is not None and found:
            norm = torch.stack([gradient.values.norm() for gradient in found.values()]).norm().item() * scale
            scale *= min(1.0, self.clip_norm / (norm + 1e-6))
        rate = self.rate
        self.steps += 1
        for place, gradient in found.items():
            parameter, values = self.parameters[place], gradient.values
            if scale != 1.0:
                values = values * scale
            if self.weight_decay:
                own = parameter if gradient.rows is None else parameter.index_select(0, gradient.rows)
                values = values.add(own, alpha=self.weight_decay)
            if gradient.rows is None:
                self._move_all(place, parameter, values, rate * self.scales.get(place, 1.0))
            else:
                self._move_rows(place, parameter, gradient.rows, values, rate * self.scales.get(place, 1.0))

    @abstractmethod
    def _move_all(self, place: int, parameter: Tensor, values: Tensor, rate: float) -> None:
        """Move the parameter at ``place`` as a whole."""

    @abstractmethod
    def _move_rows(self, place: int, parameter: Tensor, rows: Tensor, values: Tensor, rate: float) -> None:
        """Move some distinct rows of it; what is remembered of the others rests."""

    def state(self) -> dict[str, Tensor]:
        """What a resumed training needs beside the parameters."""
        return {"steps": torch.tensor(self.steps)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`state`; the tensors are taken, not copied."""
        self.steps = int(state["steps"])


def _gradient(gradient: Tensor) -> Gradient:
    if not gradient.is_sparse:
        return Gradient(None, gradient)
    merged = gradient.coalesce()
    return Gradient(merged.indices()[0], merged.values())


class OptimizerSpec(Spec):
    """The settings that all optimizers have."""

    kind: str
    lr: float = Field(1e-3, gt=0.0, le=1e6)
    weight_decay: float = Field(0.0, ge=0.0)
    rows: Literal["touched", "all"] = "touched"
    """Whether tables move whole or only where the batch touched them."""
    schedule: AnyScheduleSpec = ConstantSpec()
    clip_norm: float | None = Field(None, gt=0.0)

    def build(self, parameters: Iterable[nn.Parameter], total_steps: int = 1) -> Optimizer:
        """The optimizer over some parameters.

        Args:
            parameters: What to move.
            total_steps: Steps of the whole training; a schedule runs over them.
        """
        raise NotImplementedError

"""What a balancer is, and the gradients of single tasks that some of them look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from towerkit.core.spec import Spec


class Balancer(Protocol):
    """Several loss terms to gradients; a module where it learns or remembers something itself."""

    def backward(self, terms: Mapping[str, Tensor]) -> float:
        """Compute gradients; returns the total."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the balancer learns."""

    def report(self) -> dict[str, float]:
        """Figures of the steps since the last report, for the training history; called at the end of each epoch."""


@dataclass(frozen=True)
class Reached:
    """What the gradients of the terms reach, and what a balancer draws by."""

    parameters: tuple[nn.Parameter, ...] = ()
    last: tuple[nn.Parameter, ...] = ()
    """Of the last layers that all tasks share."""
    seed: int = 0


NOTHING = Reached()
"""For balancers that look at no gradients."""


class BalanceSpec(Spec):
    """The configuration of a balancer."""

    def build(self, weights: Mapping[str, float], reached: Reached = NOTHING) -> Balancer:
        """Make the balancer.

        Args:
            weights: Term -> weight of its head.
            reached: What it may look at.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class TaskGradients:
    """The gradient of each term, apart from the others."""

    parameters: Sequence[nn.Parameter]
    of: Sequence[Sequence[Tensor | None]]
    """Term -> for each parameter its gradient; None where the term does not reach it."""

    @classmethod
    def find(cls, terms: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> TaskGradients:
        """Go backward from each term; the graph stays.

        Args:
            terms: ``[]`` each.
            parameters: What counts.
        """
        kept = [parameter for parameter in parameters if parameter.requires_grad]
        found = [
            torch.autograd.grad(term, kept, retain_graph=True, allow_unused=True)
            if term.requires_grad
            else [None] * len(kept)
            for term in terms
        ]
        return cls(kept, found)

    def shared(self) -> list[bool]:
        """``[parameters]`` whether more than one term reaches it: those of backbone and towers, not those of a head."""
        return [sum(gradient is not None for gradient in each) > 1 for each in zip(*self.of, strict=True)]

    def products(self) -> Tensor:
        """``[terms, terms]`` inner products of the gradients of what is shared, in float64."""
        found = torch.zeros(len(self.of), len(self.of), dtype=torch.float64)
        for place, is_shared in enumerate(self.shared()):
            if not is_shared:
                continue
            for i, one in enumerate(self.of):
                for j, other in enumerate(self.of[: i + 1]):
                    found[i, j] += _product(one[place], other[place])
        return found + found.tril(-1).T

    def apply(self, coefficients: Sequence[float]) -> None:
        """Add the gradients to those of the parameters: of what is shared with these coefficients, of all else as they are.

        Args:
            coefficients: ``[terms]``.
        """
        for place, (parameter, is_shared) in enumerate(zip(self.parameters, self.shared(), strict=True)):
            for share, each in zip(coefficients, self.of, strict=True):
                gradient = each[place]
                if gradient is not None:
                    part = gradient * share if is_shared else gradient
                    parameter.grad = part if parameter.grad is None else parameter.grad + part


def _product(one: Tensor | None, other: Tensor | None) -> float:
    if one is None or other is None:
        return 0.0
    if one.is_sparse:  # the rows of a table that the batch touched
        both = one.coalesce() * other.coalesce()
        return float(both.coalesce().values().double().sum())
    return float((one.double() * other.double()).sum())

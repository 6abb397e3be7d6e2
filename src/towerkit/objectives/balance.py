"""Balancers: several loss terms to one backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.core.spec import Spec


class Balancer(Protocol):
    """Several loss terms to gradients; a module where it learns something itself."""

    def backward(self, terms: Mapping[str, Tensor]) -> float:
        """Compute gradients; returns the total."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the balancer learns."""


class FixedBalance(nn.Module):
    """The weighted sum of the terms.

    Args:
        weights: Term -> weight.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = dict(weights)

    def backward(self, terms: Mapping[str, Tensor]) -> float:
        """Compute gradients; returns the total."""
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        if total.requires_grad:  # not where only an update moves vectors
            total.backward()
        return total.item()


class UncertaintyBalance(nn.Module):
    """Each task learns its own noise: ``sum_t w_t (exp(-s_t) L_t + s_t / 2)`` with one learned ``s_t`` per task.

    Args:
        weights: Term -> weight.

    Reference: Kendall, Gal and Cipolla, CVPR 2018 (arXiv 1705.07115), with ``s = log sigma^2``.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.log_variance = {name: nn.Parameter(torch.zeros(())) for name in weights}
        self.learned = nn.ParameterList(self.log_variance.values())  # a ParameterDict refuses a task called "type"

    def backward(self, terms: Mapping[str, Tensor]) -> float:
        """Compute gradients, those of the log-variances included; returns the total."""
        parts = []
        for name, term in terms.items():
            log_variance = self.log_variance[name]
            parts.append(self.weights[name] * (torch.exp(-log_variance) * term + 0.5 * log_variance))
        total = torch.stack(parts).sum()
        total.backward()
        return total.item()


class FixedBalanceSpec(Spec):
    """The heads' weights, as given."""

    kind: Literal["fixed"] = "fixed"

    def build(self, weights: Mapping[str, float]) -> FixedBalance:
        """The balancer."""
        return FixedBalance(weights)


class UncertaintyBalanceSpec(Spec):
    """Learned task noise on top of the heads' weights."""

    kind: Literal["uncertainty"] = "uncertainty"

    def build(self, weights: Mapping[str, float]) -> UncertaintyBalance:
        """The balancer."""
        return UncertaintyBalance(weights)


AnyBalanceSpec = Annotated[FixedBalanceSpec | UncertaintyBalanceSpec, Field(discriminator="kind")]
"""The menu of balancers."""

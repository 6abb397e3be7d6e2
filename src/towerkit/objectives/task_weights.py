"""Balancers that weigh the losses: learned, or by how fast each task gets better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.objectives.balancer import NOTHING, BalanceSpec, Reached, TaskGradients
from towerkit.objectives.conflicts import Conflicts

_LEAST = 1e-3
"""No task's weight falls below it: a task without any would never come back."""


class WeighingBalance(nn.Module):
    """A weighted sum of the terms.

    Args:
        weights: Term -> weight of its head.
        reached: What the terms reach.
        conflicts: Look at the tasks' gradients each so many steps; 0 never.
    """

    def __init__(self, weights: Mapping[str, float], reached: Reached = NOTHING, conflicts: int = 0) -> None:
        super().__init__()
        self.weights, self.reached = dict(weights), reached
        self.conflicts = Conflicts(list(weights), conflicts) if conflicts else None

    def backward(self, terms: Mapping[str, Tensor]) -> float:
        """Compute gradients; returns the total."""
        if self.conflicts is not None:
            self.conflicts.look(self.weighted(terms), self.reached.parameters)
        total = self.total(terms)
        if total.requires_grad:  # not where only an update moves vectors
            total.backward()
        return total.item()

    def weighted(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Term -> loss with the weight of its head."""
        return {name: self.weights[name] * term for name, term in terms.items()}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """``[]`` the loss of all.

        Args:
            terms: Term -> loss.
        """
        return torch.stack(list(self.weighted(terms).values())).sum()

    def report(self) -> dict[str, float]:
        """How far the tasks pull in different directions, where it was looked at."""
        return {} if self.conflicts is None else self.conflicts.report()


class FixedBalance(WeighingBalance):
    """The sum of the terms with the heads' weights."""


class UncertaintyBalance(WeighingBalance):
    """Each task learns its own noise: ``sum_t w_t (exp(-s_t) L_t + s_t / 2)`` with one learned ``s_t`` per task.

    Args:
        weights: Term -> weight of its head.
        reached: What the terms reach.
        conflicts: Look at the tasks' gradients each so many steps; 0 never.

    Reference: Kendall, Gal and Cipolla, CVPR 2018 (arXiv 1705.07115), with ``s = log sigma^2``.
    """

    def __init__(self, weights: Mapping[str, float], reached: Reached = NOTHING, conflicts: int = 0) -> None:
        super().__init__(weights, reached, conflicts)
        self.log_variance = {name: nn.Parameter(torch.zeros(())) for name in weights}
        self.learned = nn.ParameterList(self.log_variance.values())  # a ParameterDict refuses a task called "type"

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """``[]`` the loss of all, of which the log-variances learn too."""
        parts = []
        for name, term in terms.items():
            log_variance = self.log_variance[name]
            parts.append(self.weights[name] * (torch.exp(-log_variance) * term + 0.5 * log_variance))
        return torch.stack(parts).sum()


class DwaBalance(WeighingBalance):
    """``sum_t a_t L_t`` with ``a = T softmax(r / temperature)`` over the ``T`` tasks.

    ``r_t`` is the mean loss of the last epoch by that of the one before it. A task that gets better more slowly weighs more.
    The first two epochs weigh all alike.

    Args:
        weights: Term -> weight of its head.
        reached: What the terms reach.
        conflicts: Look at the tasks' gradients each so many steps; 0 never.
        temperature: The larger, the more alike.

    Reference: Liu, Johns and Davison, CVPR 2019 (arXiv 1803.10704).
    """

    def __init__(
        self, weights: Mapping[str, float], reached: Reached = NOTHING, conflicts: int = 0, temperature: float = 2.0
    ) -> None:
        super().__init__(weights, reached, conflicts)
        self.names, self.temperature = list(weights), temperature
        self.epochs: Tensor
        self.sums: Tensor
        nothing = torch.full((2, len(weights)), torch.nan, dtype=torch.float64)
        self.register_buffer("epochs", nothing)  # mean losses of the last epoch and of the one before it
        self.register_buffer("sums", torch.zeros(2, len(weights), dtype=torch.float64))  # losses and steps of this one

    def shares(self) -> dict[str, float]:
        """Task -> what its loss is multiplied with."""
        ratios = self.epochs[0] / self.epochs[1]
        if not bool(ratios.isfinite().all()):
            return dict.fromkeys(self.names, 1.0)
        shares = len(ratios) * torch.softmax(ratios / self.temperature, dim=0)
        return dict(zip(self.names, shares.tolist(), strict=True))

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """``[]`` the loss of all."""
        shares, weighted = self.shares(), self.weighted(terms)
        for name, term in weighted.items():
            self.sums[:, self.names.index(name)] += torch.tensor([term.item(), 1.0], dtype=torch.float64)
        return torch.stack([shares[name] * term for name, term in weighted.items()]).sum()

    def report(self) -> dict[str, float]:
        """The weights of the epoch; from here on those of the next one hold."""
        used = {f"task_weight/{name}": share for name, share in self.shares().items()}
        mean = torch.where(self.sums[1] > 0, self.sums[0] / self.sums[1], self.epochs[0])
        self.epochs.copy_(torch.stack([mean, self.epochs[0]]))
        self.sums.zero_()
        return used | super().report()


class GradNormBalance(WeighingBalance):
    """``sum_t a_t L_t``, where the weights learn to make the gradients of all tasks alike in size, a bit larger for slow tasks.

    With ``n_t`` the norm of the gradient of ``L_t`` in the last layers that the tasks share, and ``r_t`` what is left of the first
    loss of the task by the mean of that over the tasks, ``a_t n_t`` should be ``mean(a n) r_t^alpha``. The weights go down the
    gradient of the sum of distances from that, in units of the mean norm, and are then brought to sum to the number of tasks.

    Args:
        weights: Term -> weight of its head.
        reached: What the terms reach.
        conflicts: Look at the tasks' gradients each so many steps; 0 never.
        alpha: How much more slow tasks get; 0 none.
        lr: Step size of the weights.

    Reference: Chen et al., GradNorm, ICML 2018 (arXiv 1711.02257).
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        reached: Reached = NOTHING,
        conflicts: int = 0,
        *,
        alpha: float = 1.5,
        lr: float = 0.025,
    ) -> None:
        super().__init__(weights, reached, conflicts)
        self.names, self.alpha, self.lr = list(weights), alpha, lr
        self.shares: Tensor
        self.first: Tensor
        self.register_buffer("shares", torch.ones(len(weights), dtype=torch.float64))
        self.register_buffer("first", torch.full((len(weights),), torch.nan, dtype=torch.float64))

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """``[]`` the loss of all; the weights then take their step."""
        weighted = self.weighted(terms)
        places = torch.tensor([self.names.index(name) for name in weighted])
        used = self.shares[places].clone()
        losses = list(weighted.values())
        norms = TaskGradients.find(losses, self.reached.last).products().diagonal().sqrt()
        self._step(places, torch.stack(losses).detach().double(), norms)
        return torch.stack([share * term for share, term in zip(used.tolist(), losses, strict=True)]).sum()

    def _step(self, places: Tensor, losses: Tensor, norms: Tensor) -> None:
        first = self.first[places]
        self.first[places] = torch.where(first.isnan(), losses, first)
        left = losses / self.first[places].clamp(min=1e-12)
        sizes = self.shares[places] * norms
        wanted = sizes.mean() * (left / left.mean().clamp(min=1e-12)) ** self.alpha
        step = self.lr * torch.sign(sizes - wanted) * norms / norms.mean()
        if bool(step.isfinite().all()):  # not where no gradient reaches anything that is shared
            self.shares[places] = (self.shares[places] - step).clamp(min=_LEAST)
            self.shares *= len(self.shares) / self.shares.sum()

    def report(self) -> dict[str, float]:
        """The weights as they are now."""
        names = (f"task_weight/{name}" for name in self.names)
        return dict(zip(names, self.shares.tolist(), strict=True)) | super().report()


class WeighingBalanceSpec(BalanceSpec):
    """What the balancers that weigh losses share."""

    conflicts: int = Field(0, ge=0)
    """Look at the tasks' gradients each so many steps, and report how far they pull in different directions; 0 never."""


class FixedBalanceSpec(WeighingBalanceSpec):
    """The heads' weights, as given."""

    kind: Literal["fixed"] = "fixed"

    def build(self, weights: Mapping[str, float], reached: Reached = NOTHING) -> FixedBalance:
        """The balancer."""
        return FixedBalance(weights, reached, self.conflicts)


class UncertaintyBalanceSpec(WeighingBalanceSpec):
    """Learned task noise on top of the heads' weights."""

    kind: Literal["uncertainty"] = "uncertainty"

    def build(self, weights: Mapping[str, float], reached: Reached = NOTHING) -> UncertaintyBalance:
        """The balancer."""
        return UncertaintyBalance(weights, reached, self.conflicts)


class DwaBalanceSpec(WeighingBalanceSpec):
    """Dynamic weight average: tasks that get better more slowly weigh more in the next epoch."""

    kind: Literal["dwa"] = "dwa"
    temperature: float = Field(2.0, gt=0.0)
    """The larger, the more alike."""

    def build(self, weights: Mapping[str, float], reached: Reached = NOTHING) -> DwaBalance:
        """The balancer."""
        return DwaBalance(weights, reached, self.conflicts, self.temperature)


class GradNormBalanceSpec(WeighingBalanceSpec):
    """Weights that make the tasks' gradients alike in size."""

    kind: Literal["gradnorm"] = "gradnorm"
    alpha: float = Field(1.5, ge=0.0, le=10.0)
    """How much more tasks get that learn more slowly; 0 none."""
    lr: float = Field(0.025, gt=0.0, le=1.0)
    """Step size of the weights."""

    def build(self, weights: Mapping[str, float], reached: Reached = NOTHING) -> GradNormBalance:
        """The balancer."""
        return GradNormBalance(weights, reached, self.conflicts, alpha=self.alpha, lr=self.lr)

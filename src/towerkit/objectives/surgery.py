"""Balancers that combine the tasks' gradients in the parts that tasks share, step by step.

Each gives every task a coefficient that follows from the inner products of the gradients alone. What only one task reaches, such as
its head, gets that task's gradient as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize
from torch import Tensor, nn

from towerkit.core.random import generator
from towerkit.objectives.balancer import NOTHING, BalanceSpec, Reached, TaskGradients
from towerkit.objectives.conflicts import Conflicts

Floats = NDArray[np.float64]


class SurgeryBalance(nn.Module):
    """Coefficients from inner products; the gradients' conflicts are reported.

    Args:
        weights: Term -> weight of its head.
        reached: What the terms reach.
    """

    def __init__(self, weights: Mapping[str, float], reached: Reached = NOTHING) -> None:
        super().__init__()
        self.weights, self.reached = dict(weights), reached
        self.conflicts = Conflicts(list(weights))

    def backward(self, terms: Mapping[str, Tensor]) -> float:
        """Compute gradients; returns the sum of the terms with the heads' weights."""
        weighted = [self.weights[name] * term for name, term in terms.items()]
        gradients = TaskGradients.find(weighted, self.reached.parameters)
        products = gradients.products()
        self.conflicts.steps += 1
        self.conflicts.count(list(terms), products)
        found = np.ones(len(weighted))
        if len(weighted) > 1 and bool(products.isfinite().all()) and products.trace() > 0:
            found = self.coefficients(products.numpy())
        gradients.apply(found.tolist())
        return torch.stack(weighted).sum().item()

    def coefficients(self, products: Floats) -> Floats:
        """``[terms]`` what each task's gradient is multiplied with.

        Args:
            products: ``[terms, terms]`` inner products of the tasks' gradients; not all zero.
        """
        raise NotImplementedError

    def report(self) -> dict[str, float]:
        """How far the tasks pull in different directions."""
        return self.conflicts.report()


class PcgradBalance(SurgeryBalance):
    """Each task's gradient loses what points against another one's, the others taken in random order; then they are added up.

    Reference: Yu et al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020 (arXiv 2001.06782).
    """

    def coefficients(self, products: Floats) -> Floats:
        """``[terms]``; the order is a pure function of seed and step."""
        count = len(products)
        draw = generator(self.reached.seed, "pcgrad", int(self.conflicts.steps))
        total = np.zeros(count)
        for i in range(count):
            own = np.eye(count)[i]  # the projected gradient in terms of all
            for j in draw.permutation(count):
                along = own @ products[:, j]
                if j != i and along < 0 and products[j, j] > 0:
                    own[j] -= along / products[j, j]
            total += own
        return total


class CagradBalance(SurgeryBalance):
    """The direction within a ball around the mean gradient that serves the worst served task best; times the number of tasks.

    ``g_0 + sqrt(phi) / |g_w| g_w`` with ``phi = c^2 |g_0|^2``, where ``g_w = sum w_t g_t`` with weights on the simplex that make
    ``g_w · g_0 + sqrt(phi) |g_w|`` least.

    Args:
        weights: Term -> weight of its head.
        reached: What the terms reach.
        c: Radius of the ball by the norm of the mean; 0 is the plain sum.

    Reference: Liu et al., Conflict-Averse Gradient Descent, NeurIPS 2021 (arXiv 2110.14048).
    """

    def __init__(self, weights: Mapping[str, float], reached: Reached = NOTHING, c: float = 0.5) -> None:
        super().__init__(weights, reached)
        self.c = c

    def coefficients(self, products: Floats) -> Floats:
        """``[terms]``."""
        count = len(products)
        scaled = products * (count / np.trace(products))  # tolerances then mean the same whatever the losses
        mean = np.full(count, 1.0 / count)
        radius = self.c * math.sqrt(max(float(mean @ scaled @ mean), 0.0))

        def length(w: Floats) -> float:
            return math.sqrt(max(float(w @ scaled @ w), 1e-24))

        best = on_simplex(
            lambda w: float(w @ scaled @ mean) + radius * length(w),
            lambda w: scaled @ mean + radius * (scaled @ w) / length(w),
            count,
        )
        return count * (mean + (radius / length(best)) * best)


class ParetoBalance(SurgeryBalance):
    """The shortest vector among the mixtures of the tasks' gradients, times their number: no task gets worse along it.

    Args:
        weights: Term -> weight of its head.
        reached: What the terms reach.
        normalize: Bring the gradients to one length first, or the task with the shortest one gets its way.

    Reference: Sener and Koltun, NeurIPS 2018 (arXiv 1810.04650); Désidéri, MGDA, 2012.
    """

    def __init__(self, weights: Mapping[str, float], reached: Reached = NOTHING, *, normalize: bool = False) -> None:
        super().__init__(weights, reached)
        self.normalize = normalize

    def coefficients(self, products: Floats) -> Floats:
        """``[terms]``."""
        count = len(products)
        lengths = np.sqrt(np.diag(products))
        # a task without a gradient cannot be brought to one
        units = np.where(lengths > 0, lengths, 1.0) if self.normalize else np.full(count, math.sqrt(np.trace(products)))
        scaled = products / np.outer(units, units)
        found = on_simplex(lambda w: 0.5 * float(w @ scaled @ w), lambda w: scaled @ w, count)
        return count * found * (lengths.mean() / units) if self.normalize else count * found


def on_simplex(value: Callable[[Floats], float], gradient: Callable[[Floats], Floats], count: int) -> Floats:
    """The weights of 0 or more that sum to one and make a convex function least.

    Args:
        value: Of weights.
        gradient: Of weights.
        count: How many weights.

    Example:
        >>> on_simplex(lambda w: float(w @ [1.0, 0.0]), lambda w: np.array([1.0, 0.0]), 2).round(6).tolist()
        [0.0, 1.0]
    """
    start = np.full(count, 1.0 / count)
    sums: Any = {"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": np.ones_like}
    found = minimize(
        value,
        start,
        jac=gradient,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * count,
        constraints=sums,
        options={"ftol": 1e-12, "maxiter": 200},
    ).x
    weights = np.clip(found, 0.0, None)
    return np.asarray(weights / weights.sum()) if np.isfinite(weights).all() and weights.sum() > 0 else start


class PcgradBalanceSpec(BalanceSpec):
    """Tasks' gradients lose what points against another task's."""

    kind: Literal["pcgrad"] = "pcgrad"

    def build(self, weights: Mapping[str, float], reached: Reached = NOTHING) -> PcgradBalance:
        """The balancer."""
        return PcgradBalance(weights, reached)


class CagradBalanceSpec(BalanceSpec):
    """Near the mean gradient, and kind to the worst served task."""

    kind: Literal["cagrad"] = "cagrad"
    c: float = Field(0.5, ge=0.0, lt=1.0)
    """How far from the mean gradient, by its norm; 0 is the plain sum."""

    def build(self, weights: Mapping[str, float], reached: Reached = NOTHING) -> CagradBalance:
        """The balancer."""
        return CagradBalance(weights, reached, self.c)


class ParetoBalanceSpec(BalanceSpec):
    """A direction along which no task gets worse."""

    kind: Literal["pareto"] = "pareto"
    normalize: bool = False
    """Bring the gradients to one length first."""

    def build(self, weights: Mapping[str, float], reached: Reached = NOTHING) -> ParetoBalance:
        """The balancer."""
        return ParetoBalance(weights, reached, normalize=self.normalize)

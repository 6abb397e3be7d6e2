"""A report of how far tasks pull the parts that they share in different directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from towerkit.objectives.balancer import TaskGradients


class Conflicts(nn.Module):
    """Mean cosine between the gradients of each two tasks, and the share of steps in which it is below zero.

    What it has seen is saved with the balancer, so that a resumed training reports the same.

    Args:
        tasks: By name.
        every: Look at each so many steps; each look costs a backward pass for each task.
    """

    def __init__(self, tasks: Sequence[str], every: int = 1) -> None:
        super().__init__()
        self.tasks, self.every = list(tasks), every
        self.steps: Tensor
        self.sums: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        # [looks, cosines, conflicts] of each two tasks
        self.register_buffer("sums", torch.zeros(3, len(tasks), len(tasks), dtype=torch.float64))

    def look(self, terms: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> None:
        """Count a step, and look at its gradients if it is time.

        Args:
            terms: Term -> weighted loss.
            parameters: What they reach.
        """
        self.steps += 1
        if (int(self.steps) - 1) % self.every == 0 and len(terms) > 1:
            self.count(list(terms), TaskGradients.find(list(terms.values()), parameters).products())

    def count(self, names: Sequence[str], products: Tensor) -> None:
        """Add one step to the report.

        Args:
            names: The terms of the step.
            products: ``[terms, terms]`` inner products of their gradients.
        """
        places = torch.tensor([self.tasks.index(name) for name in names])
        norms = products.diagonal().sqrt()
        known = (norms > 0)[:, None] & (norms > 0)[None] & products.isfinite()
        cosines = torch.where(known, products / (norms[:, None] * norms[None]), torch.zeros_like(products))
        seen = torch.stack([known.double(), cosines, (cosines < 0).double()])
        self.sums[:, places[:, None], places[None]] += seen

    def report(self) -> dict[str, float]:
        """The means since the last report: ``gradient_cosine/a.b`` and ``gradient_conflict/a.b``."""
        found: dict[str, float] = {}
        for i, j in combinations(range(len(self.tasks)), 2):
            looks, cosines, conflicts = self.sums[:, i, j].tolist()
            if looks:
                pair = f"{self.tasks[i]}.{self.tasks[j]}"
                found |= {f"gradient_cosine/{pair}": cosines / looks, f"gradient_conflict/{pair}": conflicts / looks}
        self.sums.zero_()
        return found

"""Experts: several networks over all towers, and for each task a gate that mixes them to a state of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.fusion.base import Backbone, BackboneSpec
from towerkit.towers.layers import Named, perceptron


class PerTask(Backbone):
    """States of several tasks, side by side in the order of the tasks.

    Args:
        tasks: By name.
        dim: Width of each state.
    """

    def __init__(self, tasks: Sequence[str], dim: int) -> None:
        super().__init__()
        self.tasks, self.dim = list(tasks), dim
        self.out_dim = dim * len(tasks)

    @property
    def head_dim(self) -> int:
        """Width of one task's state."""
        return self.dim

    def of_task(self, state: Tensor, task: str) -> Tensor:
        """``[batch, dim]`` the state of one task."""
        start = self.tasks.index(task) * self.dim
        return state[:, start : start + self.dim]


class Mmoe(PerTask):
    """``state_t = sum_e softmax(G_t x)_e f_e(x)`` with experts ``f_e`` that all tasks share, over the concatenation ``x``.

    Args:
        widths: Tower name -> width.
        tasks: By name.
        experts: How many.
        layers: Hidden widths of each.
        dim: Width of each state.

    Reference: Ma et al., MMoE, KDD 2018.
    """

    def __init__(
        self, widths: Mapping[str, int], tasks: Sequence[str], *, experts: int, layers: tuple[int, ...], dim: int
    ) -> None:
        super().__init__(tasks, dim)
        self.names, total = list(widths), sum(widths.values())
        self.experts = _experts(total, experts, layers, dim)
        self.gates = Named({task: nn.Linear(total, experts) for task in tasks})

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """``[batch, tasks * dim]``."""
        beside = torch.cat([parts[name] for name in self.names], dim=-1)  # [batch, total]
        said = torch.stack([expert(beside) for expert in self.experts], dim=1)  # [batch, experts, dim]
        return torch.cat([mixed(self.gates[task](beside), said) for task in self.tasks], dim=-1)


class Ple(PerTask):
    """Levels of experts, some of each task alone and some of all; at each level a task mixes its own and the shared ones.

    At the first level all read the concatenation. From one level to the next each task's experts read the task's mix, and the
    shared ones a mix of all. One level is CGC.

    Args:
        widths: Tower name -> width.
        tasks: By name.
        own: Experts of each task, at each level.
        shared: Experts of all, at each level.
        levels: How many.
        layers: Hidden widths of each expert.
        dim: Width of each state.

    Reference: Tang et al., Progressive Layered Extraction, RecSys 2020.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        tasks: Sequence[str],
        *,
        own: int,
        shared: int,
        levels: int,
        layers: tuple[int, ...],
        dim: int,
    ) -> None:
        super().__init__(tasks, dim)
        self.names = list(widths)
        in_dims = [sum(widths.values()), *[dim] * (levels - 1)]
        self.levels = nn.ModuleList(
            _Level(in_dim, self.tasks, own=own, shared=shared, layers=layers, dim=dim, passes_on=place < levels - 1)
            for place, in_dim in enumerate(in_dims)
        )

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """``[batch, tasks * dim]``."""
        beside = torch.cat([parts[name] for name in self.names], dim=-1)  # [batch, total]
        each, common = dict.fromkeys(self.tasks, beside), beside
        for level in self.levels:
            each, common = level(each, common)
        return torch.cat([each[task] for task in self.tasks], dim=-1)


class _Level(nn.Module):
    """One level: what each task and the shared experts read, to what they read at the next one.

    Args:
        in_dim: Width of what is read.
        tasks: By name.
        own: Experts of each task.
        shared: Experts of all.
        layers: Hidden widths of each.
        dim: Width of what they give.
        passes_on: There is a level after it, whose shared experts read a mix of all.
    """

    def __init__(
        self,
        in_dim: int,
        tasks: Sequence[str],
        *,
        own: int,
        shared: int,
        layers: tuple[int, ...],
        dim: int,
        passes_on: bool,
    ) -> None:
        super().__init__()
        self.own = Named({task: _experts(in_dim, own, layers, dim) for task in tasks})
        self.shared = _experts(in_dim, shared, layers, dim)
        self.gates = Named({task: nn.Linear(in_dim, own + shared) for task in tasks})
        self.gate = nn.Linear(in_dim, own * len(tasks) + shared) if passes_on else None

    def forward(self, each: Mapping[str, Tensor], common: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """``[batch, in_dim]`` of each task and of all, to ``[batch, dim]`` of each and of all."""
        own = {task: _said(self.own[task], each[task]) for task in each}  # task -> own x [batch, dim]
        shared = _said(self.shared, common)  # shared x [batch, dim]
        found = {task: mixed(self.gates[task](each[task]), torch.stack([*own[task], *shared], dim=1)) for task in each}
        if self.gate is None:
            return found, common
        everyone = torch.stack([*(said for task in each for said in own[task]), *shared], dim=1)
        return found, mixed(self.gate(common), everyone)


def mixed(scores: Tensor, said: Tensor) -> Tensor:
    """What some experts say, weighed by a softmax.

    Args:
        scores: ``[batch, experts]``.
        said: ``[batch, experts, dim]``.

    Returns:
        ``[batch, dim]``.

    Example:
        >>> mixed(torch.zeros(1, 2), torch.tensor([[[1.0], [3.0]]])).tolist()
        [[2.0]]
    """
    return (torch.softmax(scores, dim=1)[..., None] * said).sum(dim=1)


def _said(experts: nn.Module, given: Tensor) -> list[Tensor]:
    return [expert(given) for expert in experts.children()]


def _experts(in_dim: int, count: int, layers: tuple[int, ...], dim: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Sequential(perceptron(in_dim, layers, dim), nn.ReLU()) for _ in range(count))


class ExpertsSpec(BackboneSpec):
    """What the kinds of experts share."""

    per_task: ClassVar[bool] = True
    dim: int = Field(32, ge=1, le=8192)
    layers: tuple[int, ...] = ()
    """Hidden widths of each expert."""


class MmoeSpec(ExpertsSpec):
    """Experts that all tasks share, mixed by each task for itself: tasks that are somewhat alike."""

    kind: Literal["mmoe"] = "mmoe"
    experts: int = Field(4, ge=1, le=256)

    def build(self, widths: Mapping[str, int], tasks: Sequence[str] = ()) -> Mmoe:
        """The experts, and a gate for each task."""
        return Mmoe(widths, tasks, experts=self.experts, layers=self.layers, dim=self.dim)


class PleSpec(ExpertsSpec):
    """Experts of each task beside shared ones: tasks that would spoil each other."""

    kind: Literal["ple"] = "ple"
    own: int = Field(2, ge=1, le=256)
    """Experts of each task, at each level."""
    shared: int = Field(2, ge=1, le=256)
    """Experts of all tasks, at each level."""
    levels: int = Field(1, ge=1, le=8)
    """One is CGC."""

    def build(self, widths: Mapping[str, int], tasks: Sequence[str] = ()) -> Ple:
        """The levels."""
        return Ple(
            widths,
            tasks,
            own=self.own,
            shared=self.shared,
            levels=self.levels,
            layers=self.layers,
            dim=self.dim,
        )

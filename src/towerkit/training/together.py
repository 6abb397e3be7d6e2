"""A step of several processes: each computes some rows of one batch, and the step is that of a process with all of them.

Two things make it so. The *value* of each loss term is the mean over the rows of all processes, while its *gradient* is the
part that the rows of this process have in it, times the number of processes. After the balancer the gradients are averaged. So what
reaches a weight is the gradient of the whole batch, and what is learned beside the model, such as the balancer's own
weights, gets the same in every process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from towerkit.core.world import World
from towerkit.data.batch import Batch
from towerkit.objectives.base import Objective

_NONE, _DENSE, _SPARSE = 0, 1, 2


def shared_terms(world: World, objective: Objective, forward: Any, batch: Batch) -> Mapping[str, Tensor]:
    """The loss terms of the batch of all processes; see the head of this file for what their gradients are.

    Args:
        world: The processes.
        objective: Gives the terms of this process's rows, and what they weigh.
        forward: The model.
        batch: This process's rows.

    Returns:
        Those that have a row anywhere; the same names in every process.
    """
    own = objective(forward, batch)
    if world.size == 1:
        return own
    weights = objective.weights(forward, batch)
    names = sorted(weights)
    sums = torch.zeros(3, len(names), dtype=torch.float64)  # how many processes have it, its weight, weight x loss
    for place, name in enumerate(names):
        weight = None if batch.idle else weights[name]
        if weight is not None:
            sums[:, place] = torch.tensor([1.0, weight, weight * own[name].item()])
    mine = sums[1].tolist()
    found = {}
    for name, weight, (present, total, product) in zip(names, mine, world.sum(sums).T.tolist(), strict=True):
        if present:
            part = own.get(name, torch.zeros((), requires_grad=True))
            share = world.size * weight / total if total else 0.0
            found[name] = share * (part - part.detach()) + (product / total if total else 0.0)
    return found


class _Gathered(torch.autograd.Function):
    """The rows of all processes; a gradient goes back to the process that gave the row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World, sizes: Sequence[int]) -> Tensor:
        ctx.world, ctx.sizes = world, sizes
        return world.all(rows.detach(), sizes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = ctx.world.sum(gradients[0].contiguous().clone())
        start = sum(ctx.sizes[: ctx.world.rank])
        return total[start : start + ctx.sizes[ctx.world.rank]], None, None


def gathered(world: World, rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """The rows of all processes, with their gradients.

    Args:
        world: The processes.
        rows: ``[own, dim]`` of this process.
        sizes: Of each process, how many rows it gives.

    Returns:
        ``[sum of sizes, dim]``, those of the first process first.
    """
    return _Gathered.apply(rows, world, sizes)  # type: ignore[no-untyped-call]


@torch.no_grad()
def reduce_gradients(world: World, parameters: Sequence[nn.Parameter], at_home: Collection[int] = ()) -> None:
    """Average the gradients over all processes; of a table with a sparse gradient only the rows that anyone touched.

    Args:
        world: The processes.
        parameters: What the optimizer moves; the same in every process.
        at_home: Places of tables whose rows each belong to one process, which alone has gradients for them: nothing is sent.
    """
    if world.size == 1:
        return
    own = torch.tensor([_kind(parameter.grad) for parameter in parameters], dtype=torch.uint8)
    kinds: list[int] = world.largest(own).tolist()
    everywhere = [place for place in range(len(parameters)) if place not in at_home]
    _reduce_dense(world, [parameters[place] for place in everywhere if kinds[place] == _DENSE])
    _reduce_sparse(world, [parameters[place] for place in everywhere if kinds[place] == _SPARSE])
    for place in at_home:
        gradient = parameters[place].grad
        if kinds[place] == _NONE:
            continue
        parameters[place].grad = (
            _nothing(parameters[place], kinds[place]) if gradient is None else gradient / world.size
        )


def _kind(gradient: Tensor | None) -> int:
    if gradient is None:
        return _NONE
    return _SPARSE if gradient.is_sparse else _DENSE


def _nothing(parameter: nn.Parameter, kind: int) -> Tensor:
    """A gradient of zeros: an optimizer counts the step in every process."""
    if kind == _DENSE:
        return torch.zeros_like(parameter)
    rows = torch.zeros(1, 0, dtype=torch.int64)
    return _sparse(rows[0], parameter.new_zeros(0, *parameter.shape[1:]), parameter, coalesced=True)


def _reduce_dense(world: World, parameters: Sequence[nn.Parameter]) -> None:
    """All in one piece: many small messages cost more than a large one."""
    if not parameters:
        return
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
    whole = torch.cat([gradient.reshape(-1) for gradient in gradients])
    pieces = (world.sum(whole) / world.size).split([gradient.numel() for gradient in gradients])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.grad = piece.view_as(parameter)


def _reduce_sparse(world: World, parameters: Sequence[nn.Parameter]) -> None:
    if not parameters:
        return
    own = [(_nothing(each, _SPARSE) if each.grad is None else each.grad).coalesce() for each in parameters]
    counts = torch.tensor([[len(gradient.indices()[0]) for gradient in own]])
    sizes = world.all(counts, [1] * world.size)  # [processes, tables]
    for place, (parameter, gradient) in enumerate(zip(parameters, own, strict=True)):
        parameter.grad = _reduced_rows(world, gradient, sizes[:, place].tolist()) / world.size


def _reduced_rows(world: World, gradient: Tensor, sizes: Sequence[int]) -> Tensor:
    """The sum of all processes' rows, by the way that sends less.

    With ``t`` rows in all processes together and ``u`` distinct ones, exchanging the rows sends about ``t`` of them, adding up what
    lies on the distinct ones about ``2 u``. Where all processes touch the same rows, as with shared candidates, that is less
    from three processes on.
    """
    rows, values = gradient.indices()[0], gradient.values()
    narrow = rows.to(torch.int32) if gradient.shape[0] < 2**31 else rows
    everyone = world.all(narrow, sizes).to(torch.int64)
    distinct = torch.unique(everyone)
    if 2 * len(distinct) <= len(everyone):
        dense = values.new_zeros(len(distinct), *values.shape[1:])
        dense[torch.searchsorted(distinct, rows)] = values
        return _sparse(distinct, world.sum(dense), gradient, coalesced=True)
    return _sparse(everyone, world.all(values, sizes), gradient, coalesced=False).coalesce()


def _sparse(rows: Tensor, values: Tensor, like: Tensor, *, coalesced: bool) -> Tensor:
    """A gradient of some rows; ``coalesced`` says that they are distinct and ascending."""
    return torch.sparse_coo_tensor(rows[None], values, like.shape, is_coalesced=coalesced, check_invariants=False)

"""A table in shards: of several processes that train together each has, and moves, only its own rows.

Row ``r`` belongs to process ``r mod N``, as queries at home do: codes rise as keys appear, so neighbours in popularity lie in
different processes. A step asks the owners for the rows that it reads and sends their gradients back; no gradient of the table is
reduced, and the optimizer remembers a process's own rows alone. Rows, gradients and steps are those of the whole table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from towerkit.core.errors import SpecError
from towerkit.core.world import World
from towerkit.matching.updates import OneBackprop
from towerkit.matching.updates.ema import MomentumUpdate
from towerkit.models.two_tower import TwoTower
from towerkit.towers import IdTower
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import TrainState


class Shard:
    """One process's rows of an id tower's table.

    Args:
        tower: Reads its rows here while it trains.
        world: The processes.
    """

    def __init__(self, tower: IdTower, world: World) -> None:
        self.tower, self.world = tower, world
        own = tower.table.detach()[world.rank :: world.size].clone()
        self.rows = nn.Parameter(own)
        """``[own rows, dim]``; row ``i`` is row ``rank + i * size`` of the table."""
        self.num_rows = len(tower.table)
        tower.look_up = self.look_up
        if not world.is_first:  # the first process brings the table together, to validate and to write it
            tower.table.data = tower.table.data[:1].clone()

    def look_up(self, codes: Tensor) -> Tensor:
        """``[n, dim]`` rows of the table, each from the process that has it; all processes ask at once.

        Args:
            codes: ``[n]``.
        """
        size = self.world.size
        owner = codes % size
        order = torch.argsort(owner, stable=True)
        given = torch.bincount(owner, minlength=size)  # [processes]
        taken = self.world.all(given[None], [1] * size)[:, self.world.rank].tolist()
        counts: list[int] = given.tolist()
        asked = self.world.exchange(codes[order] // size, counts, taken)  # places among the own rows
        own = functional.embedding(asked, self.rows, sparse=self.tower.sparse_rows)  # [asked, dim]
        found: Tensor = _Exchanged.apply(own, self.world, taken, counts)  # type: ignore[no-untyped-call]
        return functional.embedding(torch.argsort(order), found)

    @torch.no_grad()
    def begin_epoch(self) -> None:
        """Take the vector of unknown ids, which the first process settles with the whole table."""
        if self.world.is_first:
            self.rows[0] = self.tower.table[0]

    @torch.no_grad()
    def bring(self, rows: Tensor, whole: Tensor | None) -> None:
        """Bring the first process the rows of all.

        Args:
            rows: ``[own rows, ...]``, as long as :attr:`rows`.
            whole: ``[num_rows, ...]`` where they go, in the first process.
        """
        size = self.world.size
        sizes = [len(range(rank, self.num_rows, size)) for rank in range(size)]
        everyone = self.world.at_first(rows.contiguous(), sizes)
        if everyone is not None:
            assert whole is not None
            for rank, own in enumerate(everyone.split(sizes)):
                whole[rank::size] = own


class _Exchanged(torch.autograd.Function):
    """Rows to the processes that asked for them; their gradients come back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World, given: Sequence[int], taken: Sequence[int]) -> Tensor:
        ctx.world, ctx.given, ctx.taken = world, given, taken
        return world.exchange(rows.detach(), given, taken)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.world.exchange(gradients[0].contiguous(), ctx.taken, ctx.given), None, None, None


def sharded(state: TrainState, world: World, training: TrainingSpec) -> dict[int, Shard]:
    """Let each process keep only its rows of the candidates' id tables, and what its optimizer remembers of them.

    Args:
        state: With the weights and the optimizer of the whole tables, the same in every process; moved in place.
        world: The processes.
        training: Asks for it.

    Returns:
        Place in the optimizer -> the shard.

    Raises:
        SpecError: If something else reads a table that would be cut.
    """
    if world.size == 1 or training.tables == "whole":
        return {}
    model = state.model
    if not isinstance(model, TwoTower) or not model.candidate.id_towers():
        raise SpecError(
            "training.tables: sharded cuts the candidates' id tables, and this model has none. Remove it, or give the "
            "candidate side a tower {kind: id}."
        )
    reason = _uncuttable(state, training)
    if reason is not None:
        raise SpecError(f"training.tables: sharded gives each worker its own rows of a table, but {reason}. Use whole.")
    found = {}
    for tower in model.candidate.id_towers().values():
        place = next((i for i, each in enumerate(state.optimizer.parameters) if each is tower.table), None)
        if place is not None:  # else it does not move
            found[place] = _cut(state, place, Shard(tower, world))
    state.at_home |= frozenset(found)
    return found


def _cut(state: TrainState, place: int, shard: Shard) -> Shard:
    remembered = state.optimizer.state()
    for name, slot in remembered.items():
        if name.startswith(f"{place}.") and slot.dim():
            remembered[name] = slot[shard.world.rank :: shard.world.size].clone()
    state.optimizer.restore(remembered)
    state.optimizer.parameters[place] = shard.rows
    return shard


@torch.no_grad()
def bring_together(state: TrainState, shards: dict[int, Shard]) -> None:
    """Bring the first process the tables, and what the optimizers remember of their rows.

    Args:
        state: Its model and :attr:`TrainState.gathered` have them then.
        shards: By place in the optimizer.
    """
    for place, shard in shards.items():
        first = shard.world.is_first
        shard.bring(shard.rows.detach(), shard.tower.table.detach() if first else None)
        for name, slot in sorted(state.optimizer.state().items()):
            if name.startswith(f"{place}.") and slot.dim():
                whole = slot.new_empty(shard.num_rows, *slot.shape[1:]) if first else None
                shard.bring(slot, whole)
                if whole is not None:
                    state.gathered[name] = whole


def _uncuttable(state: TrainState, training: TrainingSpec) -> str | None:
    """Why the candidates' id tables cannot be cut; None where they can."""
    model, update = state.model, state.update
    tables = [tower.table for tower in model.candidate.id_towers().values()]
    if any(each is table for table in tables for each in model.query.parameters()):
        return "the query side reads it too"
    if model.query.reaches():
        return "a tower of the query side reads candidates of its history"
    if any(own.unfreeze is not None for own in training.towers.values()):
        return "training.towers lets layers move later"
    if isinstance(update, MomentumUpdate):
        return "an ema update keeps a slow copy of it"
    if isinstance(update, OneBackprop) and update.refresh == "epoch":
        return "refresh: epoch reads all of its rows in every worker"
    if training.chunk is not None:
        return "training.chunk reads its rows a second time in the backward pass"
    if training.optimizer.clip_norm is not None:
        return "training.optimizer.clip_norm looks at all gradients together"
    return None

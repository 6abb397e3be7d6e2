"""A table in shards: of several processes that train together each has, and moves, only its own rows.

Row ``r`` belongs to process ``r mod N``: codes rise as keys appear, so neighbours in popularity lie in different processes. No
gradient of the table is reduced, and the optimizer remembers a process's own rows alone. Rows, gradients and steps are those
of the whole table. Queries at home are read by the process that has them; of candidates a step asks the owners for the rows that
it reads, and sends their gradients back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
from towerkit.training.optimizers import Optimizer
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import TrainState


class Shard(ABC):
    """One process's rows of an id tower's table.

    Args:
        tower: Whose table.
        world: The processes.
        place: In the optimizer, of the table; None where no gradient moves it.
    """

    def __init__(self, tower: IdTower, world: World, place: int | None = None) -> None:
        self.tower, self.world, self.place = tower, world, place
        own = tower.table.detach()[world.own].clone()
        self.rows = nn.Parameter(own, requires_grad=tower.table.requires_grad)
        """``[own rows, dim]``; row ``i`` is row ``rank + i * size`` of the table."""
        self.num_rows = len(tower.table)

    @abstractmethod
    def look_up(self, codes: Tensor) -> Tensor:
        """``[n, dim]`` rows of the table, for a tower that trains.

        Args:
            codes: ``[n]``.
        """

    @torch.no_grad()
    def begin_epoch(self) -> None:
        """Take the vector of unknown ids, which the first process settles with the whole table."""
        if self.world.is_first:
            self.rows[0] = self.tower.table[0]

    def slots(self, optimizer: Optimizer) -> dict[str, Tensor]:
        """What an optimizer remembers of each row: name -> ``[rows, ...]``.

        Args:
            optimizer: With the table, or these rows, at :attr:`place`.
        """
        if self.place is None:
            return {}
        found = sorted(optimizer.state().items())
        return {name: slot for name, slot in found if name.startswith(f"{self.place}.") and slot.dim()}


class PooledShard(Shard):
    """Rows of the candidates' table, which all processes read."""

    def look_up(self, codes: Tensor) -> Tensor:
        """``[n, dim]`` rows of the table, each from the process that has it; all processes ask at once.

        Args:
            codes: ``[n]``.
        """
        size = self.world.size
        owner = self.world.owner(codes)
        order = torch.argsort(owner, stable=True)
        given = torch.bincount(owner, minlength=size)  # [processes]
        taken = self.world.all(given[None], [1] * size)[:, self.world.rank].tolist()
        counts: list[int] = given.tolist()
        asked = self.world.exchange(self.world.place(codes[order]), counts, taken)  # places among the own rows
        own = functional.embedding(asked, self.rows, sparse=self.tower.sparse_rows)  # [asked, dim]
        found: Tensor = _Exchanged.apply(own, self.world, taken, counts)  # type: ignore[no-untyped-call]
        return functional.embedding(torch.argsort(order), found)


class HomeShard(Shard):
    """Rows of the queries' table: all that this process's rows of a batch read."""

    def look_up(self, codes: Tensor) -> Tensor:
        """``[n, dim]`` rows of the table; zeros for one row of another process, which keeps company and must touch nothing.

        Args:
            codes: ``[n]``, of this process.
        """
        is_own = self.world.owner(codes) == self.world.rank
        if len(codes) == 1 and not is_own:
            return self.rows.new_zeros(1, self.rows.shape[1])
        assert is_own.all(), "a process was given a query of another"
        return functional.embedding(self.world.place(codes), self.rows, sparse=self.tower.sparse_rows)


@torch.no_grad()
def bring(world: World, own: Tensor, whole: Tensor | None, num_rows: int) -> None:
    """Bring the first process the rows of all.

    Args:
        world: The processes.
        own: ``[own rows, ...]``: of a table, rows ``rank``, ``rank + size`` and so on.
        whole: ``[num_rows, ...]`` where they go, in the first process.
        num_rows: Of the table.
    """

    def put(rank: int, rows: Tensor) -> None:
        assert whole is not None
        whole[rank :: world.size] = rows

    world.at_first(own, [len(range(rank, num_rows, world.size)) for rank in range(world.size)], put)


class _Exchanged(torch.autograd.Function):
    """Rows to the processes that asked for them; their gradients come back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World, given: Sequence[int], taken: Sequence[int]) -> Tensor:
        ctx.world, ctx.given, ctx.taken = world, given, taken
        return world.exchange(rows.detach(), given, taken)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.world.exchange(gradients[0].contiguous(), ctx.taken, ctx.given), None, None, None


def sharded(state: TrainState, world: World, training: TrainingSpec) -> list[Shard]:
    """Let each process keep only its rows of the candidates' id tables, and what its optimizer remembers of them.

    Args:
        state: With the weights and the optimizer of the whole tables, the same in every process; moved in place.
        world: The processes.
        training: Asks for it.

    Raises:
        SpecError: If something else reads a table that would be cut.
    """
    if world.size == 1 or training.tables == "whole":
        return []
    model = state.model
    if not isinstance(model, TwoTower) or not model.candidate.id_towers():
        raise SpecError(
            "training.tables: sharded cuts the candidates' id tables, and this model has none. Remove it, or give the "
            "candidate side a tower {kind: id}."
        )
    reason = _uncuttable(state, training)
    if reason is not None:
        raise SpecError(f"training.tables: sharded gives each worker its own rows of a table, but {reason}. Use whole.")
    shards = [PooledShard(tower, world, place_of(state, tower)) for tower in model.candidate.id_towers().values()]
    moving = [shard for shard in shards if shard.place is not None]
    for shard in moving:
        give_away(state, shard)
    return list(moving)


def place_of(state: TrainState, tower: IdTower) -> int | None:
    """Where the optimizer has a tower's table; None where it does not move it."""
    return next((place for place, own in enumerate(state.optimizer.parameters) if own is tower.table), None)


def give_away(state: TrainState, shard: Shard) -> None:
    """Let a process read and move its own rows in place of the table, and forget the others.

    Args:
        state: Moved in place.
        shard: Of the table.
    """
    tower, world = shard.tower, shard.world
    if shard.place is not None:
        own = {name: slot[world.own].clone() for name, slot in shard.slots(state.optimizer).items()}
        state.optimizer.restore(state.optimizer.state() | own)
        state.optimizer.parameters[shard.place] = shard.rows
        state.at_home |= {shard.place}
    tower.look_up = shard.look_up
    if not world.is_first:  # the first process brings the table together, to validate and to write it
        tower.table.data = tower.table.data[:1].clone()


@torch.no_grad()
def bring_together(state: TrainState, shards: Sequence[Shard]) -> None:
    """Bring the first process the tables, and what the optimizers remember of their rows.

    Args:
        state: Its model and :attr:`TrainState.gathered` have them then.
        shards: Of this process.
    """
    for shard in shards:
        world, first = shard.world, shard.world.is_first
        bring(world, shard.rows.detach(), shard.tower.table.detach() if first else None, shard.num_rows)
        for name, slot in shard.slots(state.optimizer).items():
            whole = slot.new_empty(shard.num_rows, *slot.shape[1:]) if first else None
            bring(world, slot, whole, shard.num_rows)
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

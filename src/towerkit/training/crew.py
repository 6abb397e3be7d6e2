"""One training of several processes: who computes which rows, and what the first one is brought before it looks or saves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towerkit.core.errors import SpecError
from towerkit.core.random import stream
from towerkit.core.world import ALONE, World
from towerkit.data.batch import Batch, Shares
from towerkit.data.splits import Rows
from towerkit.matching.updates import OneBackprop
from towerkit.matching.updates.ema import MomentumUpdate
from towerkit.models.two_tower import TwoTower
from towerkit.objectives.retrieval import RetrievalObjective
from towerkit.objectives.surgery import SurgeryBalance
from towerkit.objectives.task_weights import GradNormBalance
from towerkit.towers import IdTower
from towerkit.training.checkpoint import Checkpoints
from towerkit.training.exchange import Exchanging, Parted, encoded_locally, with_exchange
from towerkit.training.loop import Stretch, Watch
from towerkit.training.shards import HomeShard, Shard, bring, bring_together, give_away, place_of, sharded
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import TrainState

if TYPE_CHECKING:
    from towerkit.training.fit import Prepared


@dataclass(frozen=True, eq=False)
class Crew:
    """The processes of a training, and how they share its work."""

    world: World = ALONE
    seed: int = 0
    query_codes: NDArray[np.int64] | None = None
    """``[query rows]`` the row of the query's id table, where all rows of a query belong to one process; else None."""
    exchanges: bool = False
    """Candidates are the work of towers, so that processes encode them for each other."""
    shards: list[Shard] = field(default_factory=list)
    """The rows of tables that this process has; see :meth:`shard`."""

    @classmethod
    def of(cls, world: World, prepared: Prepared, training: TrainingSpec) -> Crew:
        """Let a prepared training join the others.

        Args:
            world: This process among them.
            prepared: The same in every process.
            training: Says whether queries stay at home.

        Raises:
            SpecError: If several processes cannot train it.
        """
        if world.size == 1:
            return cls()
        state = prepared.state
        state.join(world)
        if prepared.batch is not None or prepared.engine is not None:
            raise SpecError("This model is trained by one process; train without --workers.")
        _check_sums(state)
        model = state.model
        if not isinstance(model, TwoTower):
            return cls(world, training.seed)
        codes = _codes_at_home(prepared, training)
        exchanges = any(not isinstance(tower, IdTower) for _, tower in model.candidate.each())
        if exchanges:
            if isinstance(state.update, MomentumUpdate):
                raise SpecError(
                    "An ema update reads the candidates of a batch again by its slow copy, and with several processes "
                    "each has only "
                    "some of them; use update: {kind: two_backprop}, or train without --workers."
                )
            state.forward = Exchanging(state.forward, world)
        return cls(world, training.seed, codes, exchanges)

    def shard(self, state: TrainState, training: TrainingSpec, stretch: Stretch) -> None:
        """Let each process keep its own rows only: of the queries' table where they stay at home, of the candidates' where asked.

        Args:
            state: The same in every process, as :meth:`check_together` makes sure; moved in place.
            training: Asks for it.
            stretch: Where a training goes on; the best weights so far are the first process's to restore.

        Raises:
            SpecError: If something else reads a table that would be cut.
        """
        self.shards.extend(sharded(state, self.world, training))
        if self.query_codes is not None:
            self._shard_queries(state)
        if self.shards and not self.world.is_first:
            stretch.best_weights = None

    def _shard_queries(self, state: TrainState) -> None:
        tower = _query_tower(state.model)
        home = HomeShard(tower, self.world, place_of(state, tower))
        if isinstance(state.update, OneBackprop):
            state.update.home = home.rows.data
        elif home.place is None:  # frozen: nobody moves it, and all may read it
            return
        give_away(state, home)
        self.shards.append(home)

    def begin_epoch(self, state: TrainState) -> None:
        """What the first process settled after the last epoch goes to the process that has the row.

        Args:
            state: What was gathered to be saved is forgotten.
        """
        state.gathered.clear()
        for each in self.shards:
            each.begin_epoch()

    def shares(self, prepared: Prepared, rows: Rows) -> Shares | None:
        """Who computes which rows of a batch; None for a process alone.

        Args:
            prepared: Knows the queries of rows.
            rows: Of the whole batch.
        """
        size = self.world.size
        if size == 1:
            return None
        if self.query_codes is None:
            parts = np.array_split(np.arange(len(rows)), size)
            return Shares(self.world.rank, tuple(parts))
        assert prepared.entities is not None
        owner = self.world.owner(self.query_codes[prepared.encoded.index[prepared.entities[0]][rows]])
        return Shares(self.world.rank, tuple(np.flatnonzero(owner == rank) for rank in range(size)), by_query=True)

    def cut(self, prepared: Prepared, rows: Rows, draw: int) -> Batch:
        """This process's part of a batch, with what its negatives are in the whole one.

        Args:
            prepared: Arrays and negatives.
            rows: Of the whole batch.
            draw: The counter of its randomness.
        """
        shares = self.shares(prepared, rows)
        assert shares is not None
        torch.default_generator.manual_seed(stream(self.seed, "torch", self.world.rank, draw) % 2**63)  # for dropout
        encoded, negatives = prepared.encoded, prepared.negatives
        if negatives is None or prepared.entities is None:
            return replace(encoded.batch(rows[shares.own]), shares=shares)
        query, candidate = prepared.entities
        positives = encoded.index[candidate][rows]
        drawn = negatives.draw(encoded.index[query][rows], positives, draw, shares.own)
        parted = Parted.of(drawn, positives, shares) if self.exchanges else None
        if parted is None:
            return replace(encoded.batch(rows[shares.own], {candidate: drawn}), shares=shares)
        local = encoded_locally(drawn, parted, self.world.rank)
        batch = replace(encoded.batch(rows[shares.own], {candidate: local}), shares=shares)
        return with_exchange(batch, candidate, drawn, parted)

    @torch.no_grad()
    def collect(self, state: TrainState) -> None:
        """Bring the first process what the others keep at home: vectors of queries, rows of tables, what is remembered of both."""
        bring_together(state, self.shards)
        if self.query_codes is not None and isinstance(state.update, OneBackprop) and state.update.met is not None:
            met = state.update.met
            bring(self.world, met[self.world.own], met, len(met))

    def told(self, figures: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        """What the first process finds out, in every process.

        Args:
            figures: Asked in the first one alone.
        """
        if self.world.size == 1:
            return figures()
        found = json.dumps(dict(figures())) if self.world.is_first else ""
        return dict(json.loads(self.world.told(found)))

    def watch(self, checkpoints: Checkpoints | None) -> Watch | None:
        """Who looks on between the steps: the first process saves, the others bring it what it needs."""
        return checkpoints if self.world.size == 1 or checkpoints is None else _CrewWatch(self, checkpoints)

    def check_together(self, state: TrainState) -> None:
        """Make sure that all processes stand at the same place with the same weights.

        Raises:
            SpecError: If they do not.
        """
        if self.world.size == 1:
            return
        own = torch.stack([torch.tensor(float(state.step), dtype=torch.float64), *_sums(state.model)])
        most, least = self.world.largest(own.clone()), -self.world.largest(-own)
        if not torch.equal(most, least):
            raise SpecError(
                f"All workers must begin with the same weights at the same step; process {self.world.rank} stands at "
                f"step {state.step}, and "
                "another process stands elsewhere. Give all of them the same data, checkpoint and version of towerkit."
            )


@dataclass(frozen=True)
class _CrewWatch:
    """Lets the first process save; see :class:`Checkpoints`."""

    crew: Crew
    checkpoints: Checkpoints

    def after_step(self, state: TrainState, stretch: Stretch) -> None:
        """A step is done."""
        every = self.checkpoints.every
        if isinstance(every, int) and every and state.step % every == 0:
            self.crew.collect(state)
        if self.crew.world.is_first:
            self.checkpoints.after_step(state, stretch)
        state.gathered.clear()

    def after_epoch(self, state: TrainState, stretch: Stretch) -> None:
        """An epoch is done; what is at home was brought before its validation."""
        if self.crew.world.is_first:
            self.checkpoints.after_epoch(state, stretch)

    def steps_left(self, state: TrainState) -> int:
        """One: several processes take their steps one by one."""
        return 1


def _check_sums(state: TrainState) -> None:
    """Refuse what is no sum over the rows of a batch, so that the parts of several processes do not add up.

    Raises:
        SpecError: Naming the key.
    """
    balancer = state.balancer
    if isinstance(balancer, SurgeryBalance | GradNormBalance) or getattr(balancer, "conflicts", None) is not None:
        raise SpecError(
            f"balance looks at the gradients of single tasks ({type(balancer).__name__}), and each worker has only its "
            f"part of them; use "
            "balance: {kind: fixed}, uncertainty or dwa without conflicts, or train without --workers."
        )
    if isinstance(state.objective, RetrievalObjective) and state.objective.distillation is not None:
        raise SpecError(
            "training.distill ranks the candidates of a whole batch as its teacher does, and each worker has only some of them; "
            "remove it, or train without --workers."
        )
    if isinstance(state.objective, RetrievalObjective) and state.objective.synergy is not None:
        raise SpecError(
            "objective.synergy looks at what single towers say, and workers exchange only the merged vectors of a side; remove "
            "it, or train without --workers."
        )
    if isinstance(state.objective, RetrievalObjective) and state.objective.reads_vectors:
        raise SpecError(
            "This loss compares all vectors of a batch with each other, and each worker has only its part of them; use a loss with "
            "negatives, such as {kind: sampled_softmax}, or train without --workers."
        )


def _sums(model: nn.Module) -> list[Tensor]:
    """Of each weight the sum, some million numbers at a time: in double precision a table is twice as large."""
    parts = (tensor.detach().reshape(-1).split(1 << 20) for tensor in model.state_dict().values())
    return [torch.stack([part.double().sum() for part in each]).sum() for each in parts]


def _query_tower(model: TwoTower) -> IdTower:
    (tower,) = model.query.id_towers().values()
    return tower


def _codes_at_home(prepared: Prepared, training: TrainingSpec) -> NDArray[np.int64] | None:
    """``[query rows]`` the rows of the queries' id table, where each shall belong to one process."""
    state, wanted = prepared.state, training.partition
    if wanted == "rows" or (wanted == "auto" and not isinstance(state.update, OneBackprop)):
        return None
    reason = _homeless(state, training)
    if reason is None:
        return np.asarray(prepared.encoded.tables[state.model.query_entity]["id"]).astype(np.int64)
    if wanted == "auto":
        return None
    raise SpecError(
        f"training.partition: query keeps the vectors of each query in one process, but {reason}. Use rows."
    )


def _homeless(state: TrainState, training: TrainingSpec) -> str | None:
    """Why the vectors of a query cannot belong to one process; None where they can."""
    towers = list(state.model.query.id_towers().values())
    if len(towers) != 1:
        return f"the query side has {len(towers)} id towers, where one is wanted"
    if towers[0].hide:
        return "its id tower hides ids, and the vector of unknown ones belongs to everyone"
    if any(each is towers[0].table for each in state.model.candidate.parameters()):
        return "its id table is the candidates' too"
    if isinstance(state.update, MomentumUpdate):
        return "an ema update keeps a slow copy of them"
    if isinstance(state.update, OneBackprop):
        return None  # no gradient moves them
    if training.optimizer.clip_norm is not None:
        return "training.optimizer.clip_norm looks at all gradients together"
    if any(own.unfreeze is not None for own in training.towers.values()):
        return "training.towers lets layers move later"
    return None

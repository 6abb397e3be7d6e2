"""The compiled engine: two id towers with negatives of their own, trained by a kernel over the same memory as the torch engine.

Both engines draw the same negatives, visit the rows in the same order and mean the same by every setting; they differ by the
rounding of float32. Which of the two runs is decided once, by the spec and the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from towerkit.core.errors import listed
from towerkit.data.splits import Rows
from towerkit.features.encoded import Encoded
from towerkit.losses import AnyRetrievalLossSpec
from towerkit.matching.negatives import Negatives, PopularitySpec, UniformSpec
from towerkit.matching.updates import Alternating, AnyUpdateSpec, OneBackprop
from towerkit.matching.updates.ema import EmaSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.objectives.retrieval import RetrievalObjective, RetrievalObjectiveSpec
from towerkit.towers import IdTower, IdTowerSpec
from towerkit.training.optimizers import Adagrad, Optimizer, RowAdam
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import TrainState, check_finite
from towerkit.training.steps import Stepped, batch_size, order_of

_WORTH = 2e8
"""``auto`` compiles from so many (rows x candidates x dim x epochs) on: some seconds of the torch engine."""
_MOST_STEPS, _MOST_ENTRIES = 64, 1 << 20
"""A span has at most so many steps and so many pairs: between two spans signals are heard and progress is told."""
_LOSSES = ("sampled_softmax", "bilateral_softmax", "bpr", "triplet", "bce", "contrastive", "ccl")
"""In the order of the kernel's constants."""


def unsupported(
    model: TwoTowerSpec, objective: RetrievalObjectiveSpec, update: AnyUpdateSpec, training: TrainingSpec
) -> str | None:
    """Why the compiled engine cannot run a spec, or None where it can."""
    loss, kinds = objective.loss, [negatives.kind for negatives in objective.negatives]
    own = [each for each in objective.negatives if isinstance(each, UniformSpec | PopularitySpec) and not each.shared]
    for side, tower in (("query", model.query), ("candidate", model.candidate)):
        if not isinstance(tower, IdTowerSpec) or tower.hide:
            return f"model.{side} is no id tower alone (or hides ids)"
    checks = {
        f"model.match is {model.match.kind}": model.match.kind == "euclidean",
        f"the loss is {loss.kind}": loss.kind not in _LOSSES,
        "the temperature is learned": bool(getattr(loss, "learn_temperature", False)),
        f"objective.negatives is {listed(kinds) or 'empty'}, where one sort with shared: false is wanted (uniform or "
        "popularity)": len(own) != 1 or len(kinds) != 1,
        "an ema update keeps slow copies of its towers": isinstance(update, EmaSpec),
        "training.optimizer.clip_norm looks at all gradients together": training.optimizer.clip_norm is not None,
        "training.accumulate adds up batches": training.accumulate > 1,
        "training.precision is bfloat16": training.precision == "bfloat16",
    }
    return next((reason for reason, holds in checks.items() if holds), None)


def is_compiled(
    model: TwoTowerSpec,
    objective: RetrievalObjectiveSpec,
    update: AnyUpdateSpec,
    training: TrainingSpec,
    num_rows: int,
) -> bool:
    """Whether the compiled engine takes the steps: where it can, and with ``auto`` where it is worth the compiling.

    Args:
        model: The two towers.
        objective: Loss and negatives.
        update: How gradients reach the sides.
        training: Its settings, the engine among them.
        num_rows: Examples that are trained on.
    """
    if training.engine == "torch" or unsupported(model, objective, update, training) is not None:
        return False
    count = getattr(objective.negatives[0], "count", 1)
    work = float(num_rows) * (1 + count) * getattr(model.query, "dim", 1) * training.epochs
    return training.engine == "compiled" or work >= _WORTH


def loss_settings(loss: AnyRetrievalLossSpec) -> tuple[int, NDArray[np.float32]]:
    """The kernel's number of a loss, and its temperature, ratio, margin and weight of the negatives."""
    names = ("temperature", "ratio", "margin", "negative_weight")
    return _LOSSES.index(loss.kind), np.array([getattr(loss, name, 1.0) for name in names], np.float32)


@dataclass(frozen=True, eq=False)
class CompiledEngine:
    """Advances a training state by spans of steps.

    Args:
        state: Moved in place: tables, what the optimizer and the update remember, the counts of steps.
        negatives: One source that draws for each pair of its own.
        loss: Of the objective.
        queries: ``[examples]`` rows of the query catalogue.
        candidates: ``[examples]`` rows of the candidate catalogue.
        codes: Rows of the id tables for the rows of both catalogues.
        weights: ``[examples]``, or None for equal ones.
        rows: The examples that are trained on.
        training: Batch size, order and rates.
    """

    state: TrainState
    negatives: Negatives
    loss: AnyRetrievalLossSpec
    queries: NDArray[np.int64]
    candidates: NDArray[np.int64]
    codes: tuple[NDArray[np.int32], NDArray[np.int32]]
    weights: NDArray[np.float32] | None
    rows: Rows
    training: TrainingSpec

    @classmethod
    def of(
        cls,
        state: TrainState,
        encoded: Encoded,
        negatives: Negatives,
        loss: AnyRetrievalLossSpec,
        rows: Rows,
        training: TrainingSpec,
    ) -> CompiledEngine:
        """The engine over a prepared training of two id towers."""
        entities = state.model.query_entity, state.model.candidate_entity
        query, candidate = (np.asarray(encoded.tables[entity]["id"]).astype(np.int32) for entity in entities)
        index = [encoded.index[entity] for entity in entities]
        return cls(state, negatives, loss, index[0], index[1], (query, candidate), encoded.weights, rows, training)

    def steps(self, epoch: int, done: int) -> Iterator[Stepped]:
        """The steps of an epoch, by spans; see :data:`towerkit.training.steps.Advance`.

        Raises:
            LossError: If a loss is not a finite number; the tables are as they were before that step.
        """
        size = batch_size(self.training, self.rows)
        order = order_of(self.rows, self.training, epoch)
        if self.training.drop_last:
            order = order[: len(order) - len(order) % size]
        start = done * size
        while start < len(order):
            span = self._span(size)
            chosen = order[start : start + span * size]
            rate = self.state.optimizer.rate
            losses = self._advance(chosen, size)
            finite = int(np.isfinite(losses).argmin()) if not np.isfinite(losses).all() else len(losses)
            if finite:
                yield Stepped(tuple(losses[:finite].tolist()), rate)
            if finite < len(losses):
                loss = float(losses[finite])
                check_finite(loss, {"retrieval": torch.tensor(loss)}, self.state.step)
            start += span * size

    def _span(self, size: int) -> int:
        """Steps until someone has to look: a checkpoint, a signal, the screen."""
        count = self.negatives.sources[0].draws.count + 1  # type: ignore[attr-defined]
        span = max(1, min(_MOST_STEPS, _MOST_ENTRIES // (size * count)))
        every = self.training.checkpoint_every
        return min(span, every - self.state.step % every) if isinstance(every, int) and every else span

    def _advance(self, chosen: Rows, size: int) -> NDArray[np.float64]:
        """Take the steps of some rows; the losses, from the first that is no number on without meaning."""
        from towerkit.kernels.compiled import torch_threads  # Numba takes half a second to import
        from towerkit.kernels.pairwise import coded, grouped, train_span

        state, model, optimizer = self.state, self.state.model, self.state.optimizer
        queries, positives = self.queries[chosen], self.candidates[chosen]
        drawn, log_q = self.negatives.draw_steps(queries, positives, state.step, size)
        query_codes = self.codes[0][queries]
        weights = np.ones(len(chosen), np.float32) if self.weights is None else self.weights[chosen]
        num_steps = -(-len(chosen) // size)
        tables = [_table(model.query), _table(model.candidate)]
        moves = [self._moves(table, num_steps) for table in tables]
        whole = self.training.optimizer.rows == "all"
        losses, effective = np.zeros(num_steps), np.zeros(3)
        loss, settings = loss_settings(self.loss)
        with torch_threads():
            codes = coded(positives, drawn, self.codes[1])
            query_groups = grouped(query_codes, size, len(tables[0]), whole and bool(moves[0].any()))
            candidate_groups = grouped(codes.ravel(), size * codes.shape[1], len(tables[1]), whole)
            train_span(
                query_codes,
                codes,
                weights,
                np.empty((0, 0), np.float32) if log_q is None else log_q,
                size,
                query_groups,
                candidate_groups,
                tables[0].detach().numpy(),
                tables[1].detach().numpy(),
                self._slots(tables[0]),
                self._slots(tables[1]),
                moves[0],
                moves[1],
                self._rates(num_steps),
                _optimizer_settings(optimizer),
                loss,
                settings,
                model.match.similarity == "cosine",
                *_aggregation(state.update),
                losses,
                effective,
            )
        taken = num_steps if np.isfinite(losses).all() else int(np.isfinite(losses).argmin())
        self._count(tables, moves, taken, effective)
        return losses

    def _moves(self, table: nn.Parameter, num_steps: int) -> NDArray[np.int64]:
        """``[steps]`` the number of the optimizer's step for a table, from 1; 0 where it rests."""
        place = _place(self.state.optimizer, table)
        if place is None:
            return np.zeros(num_steps, np.int64)
        update, learns = self.state.update, np.ones(num_steps, bool)
        if isinstance(update, Alternating):
            side = 1 if table is _table(self.state.model.query) else 0
            learns = (update.steps + np.arange(num_steps)) // update.every % 2 == side
        before = self.state.optimizer.moments_of(place).step if isinstance(self.state.optimizer, RowAdam) else 0
        return np.where(learns, before + np.cumsum(learns), 0)

    def _slots(self, table: nn.Parameter) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the optimizer remembers of a table, as arrays that the kernel moves."""
        optimizer = self.state.optimizer
        place = _place(optimizer, table)
        if place is not None and isinstance(optimizer, RowAdam):
            moments = optimizer.moments_of(place)
            return moments.first.numpy(), moments.second.numpy()
        if place is not None and isinstance(optimizer, Adagrad):
            return optimizer.sum_of(place).numpy(), _NOTHING
        return _NOTHING, _NOTHING

    def _rates(self, num_steps: int) -> NDArray[np.float64]:
        optimizer = self.state.optimizer
        factors = [1.0 if optimizer.factor is None else optimizer.factor(optimizer.steps + i) for i in range(num_steps)]
        return optimizer.lr * np.array(factors)

    def _count(
        self, tables: list[nn.Parameter], moves: list[NDArray[np.int64]], taken: int, effective: NDArray[np.float64]
    ) -> None:
        """Everything that counts steps, by so many more."""
        state, optimizer = self.state, self.state.optimizer
        state.step, optimizer.steps = state.step + taken, optimizer.steps + taken
        for table, numbers in zip(tables, moves, strict=True):
            place = _place(optimizer, table)
            if place is not None and isinstance(optimizer, RowAdam):
                optimizer.moments_of(place).step += int((numbers[:taken] > 0).sum())
        if isinstance(state.update, Alternating):
            state.update.steps += taken
        assert isinstance(state.objective, RetrievalObjective)
        state.objective.saw_negatives(*effective.tolist())


_NOTHING = np.empty((0, 0), np.float32)


def _table(side: nn.Module) -> nn.Parameter:
    """The table of a side that is one id tower."""
    (tower,) = side.id_towers().values()  # type: ignore[operator]
    assert isinstance(tower, IdTower)
    return tower.table


def _place(optimizer: Optimizer, table: nn.Parameter) -> int | None:
    return next((place for place, each in enumerate(optimizer.parameters) if each is table), None)


def _optimizer_settings(optimizer: Optimizer) -> tuple[int, float, float, float, float]:
    """The kernel's number, weight decay, Adam's decays and epsilon."""
    if isinstance(optimizer, RowAdam):
        return 1, optimizer.weight_decay, *optimizer.betas, optimizer.eps
    if isinstance(optimizer, Adagrad):
        return (3 if optimizer.per_row else 2), optimizer.weight_decay, 0.0, 0.0, optimizer.eps
    return 0, optimizer.weight_decay, 0.0, 0.0, 0.0


def _aggregation(update: Any) -> tuple[tuple[int, float], NDArray[np.float32]]:
    """How queries move without a gradient: the kernel's number and beta; and what each has met, where that counts."""
    if not isinstance(update, OneBackprop):
        return (0, 0.0), np.empty(0, np.float32)
    met = np.empty(0, np.float32) if update.met is None else update.met.numpy()
    kind = 0 if update.refresh == "epoch" else (1 if update.duplicates == "grouped" else 2)
    return (kind, update.beta), met

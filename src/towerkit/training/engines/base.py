"""What the engines of compiled kernels share: two id tables, moved in the same memory as the torch engine moves them.

An engine draws the same negatives as the torch engine, visits the rows in the same order and means the same by every setting;
they differ by the rounding of float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from towerkit.data.splits import Rows
from towerkit.features.encoded import Encoded, Index
from towerkit.losses import AnyRetrievalLossSpec
from towerkit.matching.negatives import Negatives
from towerkit.matching.updates import Alternating, OneBackprop
from towerkit.objectives.retrieval import RetrievalObjective
from towerkit.towers import IdTower
from towerkit.training.optimizers import Adagrad, Optimizer, RowAdam
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import TrainState, check_finite
from towerkit.training.steps import ANY_NUMBER, AtMost, Stepped, batch_size, order_of


@dataclass(frozen=True, eq=False)
class KernelEngine(ABC):
    """Advances a training state by spans of steps.

    Args:
        state: Moved in place: tables, what the optimizer and the update remember, the counts of steps.
        negatives: What is drawn; its seed and the step are all that a draw depends on.
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
    queries: Index
    candidates: Index
    codes: tuple[NDArray[np.int32], NDArray[np.int32]]
    weights: NDArray[np.float32] | None
    rows: Rows | range
    training: TrainingSpec

    @classmethod
    def of(
        cls,
        state: TrainState,
        encoded: Encoded,
        negatives: Negatives,
        loss: AnyRetrievalLossSpec,
        rows: Rows | range,
        training: TrainingSpec,
    ) -> Self:
        """The engine over a prepared training of two id towers."""
        entities = state.model.query_entity, state.model.candidate_entity
        query, candidate = (np.asarray(encoded.tables[entity]["id"]).astype(np.int32) for entity in entities)
        index = [encoded.index[entity] for entity in entities]
        return cls(state, negatives, loss, index[0], index[1], (query, candidate), encoded.weights, rows, training)

    def steps(self, epoch: int, done: int, at_most: AtMost = lambda: ANY_NUMBER) -> Iterator[Stepped]:
        """The steps of an epoch, by spans; see :data:`towerkit.training.steps.Advance`.

        Raises:
            LossError: If a loss is not a finite number; the tables are as they were before that step.
        """
        size = batch_size(self.training, self.rows)
        order = order_of(self.rows, self.training, epoch)
        end = len(order) - len(order) % size if self.training.drop_last else len(order)
        start = done * size
        while start < end:
            span = min(self._steps_at_once(size), at_most())
            chosen = order[start : min(start + span * size, end)]
            rate = self.state.optimizer.rate
            losses = self._advance(chosen, size)
            finite = int(np.isfinite(losses).argmin()) if not np.isfinite(losses).all() else len(losses)
            if finite:
                yield Stepped(tuple(losses[:finite].tolist()), rate)
            if finite < len(losses):
                loss = float(losses[finite])
                check_finite(loss, {"retrieval": torch.tensor(loss)}, self.state.step)
            start += span * size

    @abstractmethod
    def is_compiled(self) -> bool:
        """Whether its kernels were compiled before, here or in an earlier process; else the first step takes some seconds."""

    @abstractmethod
    def batch_bytes(self) -> int:
        """Of the arrays that a full batch needs beside the tables."""

    @abstractmethod
    def _steps_at_once(self, size: int) -> int:
        """Steps of so many rows that one call of :meth:`_advance` should take at most."""

    @abstractmethod
    def _advance(self, chosen: Rows, size: int) -> NDArray[np.float64]:
        """Take the steps of some rows; the losses, from the first that is no number on without meaning."""

    def moves(self, table: nn.Parameter, num_steps: int) -> NDArray[np.int64]:
        """``[steps]`` the number of the optimizer's step for a table, from 1; 0 where it rests."""
        place = place_of(self.state.optimizer, table)
        if place is None:
            return np.zeros(num_steps, np.int64)
        update, learns = self.state.update, np.ones(num_steps, bool)
        if isinstance(update, Alternating):
            side = 1 if table is table_of(self.state.model.query) else 0
            learns = (update.steps + np.arange(num_steps)) // update.every % 2 == side
        before = self.state.optimizer.moments_of(place).step if isinstance(self.state.optimizer, RowAdam) else 0
        return np.where(learns, before + np.cumsum(learns), 0)

    def slots(self, table: nn.Parameter) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the optimizer remembers of a table, as arrays that the kernel moves."""
        optimizer = self.state.optimizer
        place = place_of(optimizer, table)
        if place is not None and isinstance(optimizer, RowAdam):
            moments = optimizer.moments_of(place)
            return moments.first.numpy(), moments.second.numpy()
        if place is not None and isinstance(optimizer, Adagrad):
            return optimizer.sum_of(place).numpy(), _NOTHING
        return _NOTHING, _NOTHING

    def rates(self, num_steps: int) -> NDArray[np.float64]:
        """``[steps]`` the step size of each of the next steps."""
        optimizer = self.state.optimizer
        factors = [1.0 if optimizer.factor is None else optimizer.factor(optimizer.steps + i) for i in range(num_steps)]
        return optimizer.lr * np.array(factors)

    def count(
        self, tables: list[nn.Parameter], moves: list[NDArray[np.int64]], taken: int, effective: NDArray[np.float64]
    ) -> None:
        """Everything that counts steps, by so many more."""
        state, optimizer = self.state, self.state.optimizer
        state.step, optimizer.steps = state.step + taken, optimizer.steps + taken
        for table, numbers in zip(tables, moves, strict=True):
            place = place_of(optimizer, table)
            if place is not None and isinstance(optimizer, RowAdam):
                optimizer.moments_of(place).step += int((numbers[:taken] > 0).sum())
        if isinstance(state.update, Alternating):
            state.update.steps += taken
        assert isinstance(state.objective, RetrievalObjective)
        for step in effective[:taken]:  # one after the other: a sum of floats must not depend on the spans
            state.objective.saw_negatives(*step.tolist())


_NOTHING = np.empty((0, 0), np.float32)


def table_of(side: nn.Module) -> nn.Parameter:
    """The table of a side that is one id tower."""
    (tower,) = side.id_towers().values()  # type: ignore[operator]
    assert isinstance(tower, IdTower)
    return tower.table


def place_of(optimizer: Optimizer, table: nn.Parameter) -> int | None:
    """Where a table stands among what an optimizer moves; None where it rests."""
    return next((place for place, each in enumerate(optimizer.parameters) if each is table), None)


def optimizer_settings(optimizer: Optimizer) -> tuple[int, float, float, float, float]:
    """The kernel's number, weight decay, Adam's decays and epsilon."""
    from towerkit.kernels.pairwise import ADAGRAD, ADAM, ROWWISE, SGD  # Numba takes half a second to import

    if isinstance(optimizer, RowAdam):
        return ADAM, optimizer.weight_decay, *optimizer.betas, optimizer.eps
    if isinstance(optimizer, Adagrad):
        return (ROWWISE if optimizer.per_row else ADAGRAD), optimizer.weight_decay, 0.0, 0.0, optimizer.eps
    return SGD, optimizer.weight_decay, 0.0, 0.0, 0.0


def aggregation(update: Any) -> tuple[tuple[int, float], NDArray[np.float32]]:
    """How queries move without a gradient: the kernel's number and beta; and what each has met, where that counts."""
    from towerkit.kernels.pairwise import GROUPED, LAST, NO_MOVE  # Numba takes half a second to import

    if not isinstance(update, OneBackprop):
        return (NO_MOVE, 0.0), np.empty(0, np.float32)
    met = np.empty(0, np.float32) if update.met is None else update.met.numpy()
    kind = NO_MOVE if update.refresh == "epoch" else (GROUPED if update.duplicates == "grouped" else LAST)
    return (kind, update.beta), met

"""The steps of an epoch, whoever takes them: the order of the rows, and the torch engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from towerkit.data.batch import Batch
from towerkit.data.splits import Rows
from towerkit.training.order import Order
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import TrainState, train_step

Batches = Callable[[int, int], Iterator[Batch]]
"""Epoch (from 0) and how many batches to leave out -> the rest of the epoch's batches."""


@dataclass(frozen=True)
class Stepped:
    """Some steps that are done, one after the other."""

    losses: tuple[float, ...]
    """Of each step."""
    rate: float
    """The step size of the first one."""


ANY_NUMBER = 1 << 30
AtMost = Callable[[], int]
"""How many steps may be taken before someone has to look."""
Advance = Callable[[int, int, AtMost], Iterator[Stepped]]
"""Epoch (from 0), how many of its batches are done, and how many steps may be taken at once -> its further steps. Between two of
what it gives, model, optimizer and update stand together: it may be stopped, saved and validated there."""


def torch_steps(state: TrainState, batches: Batches, accumulate: int = 1) -> Advance:
    """The torch engine: one step at a time, see :func:`train_step`.

    Args:
        state: Moved in place.
        batches: The batches of each epoch.
        accumulate: Batches per step.
    """

    def advance(epoch: int, done: int, at_most: AtMost) -> Iterator[Stepped]:
        rest = batches(epoch, done)
        for first in rest:
            rate = state.optimizer.rate
            yield Stepped((train_step(state, first, more=islice(rest, accumulate - 1)),), rate)

    return advance


def order_of(rows: Rows | range, training: TrainingSpec, epoch: int) -> Order:
    """The rows in the order of an epoch: a pure function of seed and epoch."""
    return Order(rows, seed=training.seed, epoch=epoch, window_rows=training.window_rows)


def batch_size(training: TrainingSpec, rows: Rows | range) -> int:
    """Examples in a full batch."""
    return min(training.batch_size, len(rows))

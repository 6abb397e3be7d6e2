"""The fit loop: epochs, validation, early stopping, the best weights. It knows no kind of model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from towerkit.data.batch import Batch
from towerkit.training.state import TrainState, settle, train_step, weights_of

Validate = Callable[[], Mapping[str, float]]


class Progress(Protocol):
    """Who is told how training goes."""

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """One epoch is over."""


class Silent:
    """Tells no one."""

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Staged:
    """Passes epochs on under a longer stage name, for trainings inside a training."""

    progress: Progress
    prefix: str

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """Pass on."""
        stage = f"{self.prefix} {stage}"
        self.progress.epoch({**record, "stage": stage}, stage=stage, epochs=epochs, is_best=is_best)


@dataclass(frozen=True)
class Selection:
    """Which validation figure decides, and which way is better."""

    metric: str
    higher_is_better: bool

    def better(self, new: float, old: float | None) -> bool:
        """Whether ``new`` beats ``old``; NaN never does."""
        if new != new:
            return False
        return old is None or (new > old if self.higher_is_better else new < old)


@dataclass
class History:
    """One record per epoch, and the epoch that validation liked best."""

    records: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best: float | None = None
    seconds: float = 0.0


def fit_loop(
    state: TrainState,
    batches: Callable[[int], Iterator[Batch]],
    *,
    epochs: int,
    validate: Validate | None,
    selection: Selection,
    patience: int,
    progress: Progress,
    stage: str = "train",
    after_epoch: Callable[[], None] = lambda: None,
) -> History:
    """Train for some epochs; with validation, stop early and restore the best weights.

    A model without anything to train, such as two spectral towers, goes through one epoch without a step, and its loss is NaN.

    Args:
        state: Moved in place.
        batches: Epoch number (from 0) -> its batches.
        epochs: At most this many.
        validate: The validation figures of the model as it is; None trains for all epochs and keeps the last weights.
        selection: Which figure decides.
        patience: Epochs without a better figure before stopping.
        progress: Told after each epoch.
        stage: What to call this stretch of training.
        after_epoch: Moves what moves once per epoch, before validation.

    Returns:
        The records and the best epoch (counted from 1).
    """
    history, best_weights, started = History(), None, time.perf_counter()
    moves = bool(state.optimizer.parameters)
    for epoch in range(1, (epochs if moves else 1) + 1):
        state.model.train()
        losses = [train_step(state, batch) for batch in batches(epoch - 1)] if moves else [math.nan]
        after_epoch()
        settle(state.model)
        state.model.eval()
        record: dict[str, Any] = {"stage": stage, "epoch": epoch, "loss": sum(losses) / len(losses)}
        record |= state.objective.report()
        is_best = False
        if validate is not None:
            record |= {f"validation/{name}": value for name, value in validate().items()}
            is_best = selection.better(record[f"validation/{selection.metric}"], history.best)
        if is_best:
            history.best, history.best_epoch = record[f"validation/{selection.metric}"], epoch
            best_weights = weights_of(state.model)
        record["seconds"] = round(time.perf_counter() - started, 3)
        history.records.append(record)
        progress.epoch(record, stage=stage, epochs=epochs, is_best=is_best)
        if validate is not None and epoch - history.best_epoch >= patience:
            break
    if best_weights is not None:
        state.model.load_state_dict(best_weights)
    history.best_epoch = history.best_epoch or len(history.records)
    history.seconds = time.perf_counter() - started
    return history

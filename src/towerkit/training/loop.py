"""The fit loop: epochs, validation, early stopping, the best weights. It knows no kind of model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from towerkit.training.progress import Progress, Silent, Staged, Step
from towerkit.training.state import TrainState, settle, weights_of
from towerkit.training.steps import ANY_NUMBER, Advance, Batches, torch_steps

__all__ = ["Batches", "History", "Progress", "Selection", "Silent", "Staged", "Stretch", "Watch", "fit_loop"]

Validate = Callable[[], Mapping[str, float]]


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


class Retold:
    """Tells epochs that are done, from their records: which was the best when it came, and how many a stretch has.

    Args:
        progress: Told each of them.
        epochs: At most so many; a refit after them takes as many as were best.
        selection: Which figure decides.
    """

    def __init__(self, progress: Progress, epochs: int, selection: Selection) -> None:
        self.progress, self.epochs, self.selection = progress, epochs, selection
        self.best: float | None = None
        self.best_epoch = epochs

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Tell the next one.

        Args:
            record: As the history keeps it.
        """
        figure = record.get(f"validation/{self.selection.metric}", math.nan)
        is_best = self.selection.better(figure, self.best)
        if is_best:
            self.best, self.best_epoch = figure, record["epoch"]
        epochs = self.best_epoch if record["stage"] == "refit" else self.epochs
        self.progress.epoch(record, stage=record["stage"], epochs=epochs, is_best=is_best)


@dataclass
class History:
    """One record per epoch, and the epoch that validation liked best."""

    records: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best: float | None = None
    seconds: float = 0.0
    decisions: dict[str, Any] = field(default_factory=dict)
    """What was then read off the validation rows, in plain data."""


@dataclass
class Stretch:
    """How far one stretch of training has come, beside what its :class:`TrainState` holds."""

    stage: str = "train"
    history: History = field(default_factory=History)
    """Its records are the epochs that are done."""
    best_weights: dict[str, Tensor] | None = None
    batches: int = 0
    """Batches of the epoch under way that are done."""
    loss: float = 0.0
    """The sum of the losses of its steps."""
    steps: int = 0
    """Steps of the epoch under way that are done."""
    finished: bool = False
    before: History | None = None
    """What the stretch before this one did."""

    @property
    def mean_loss(self) -> float:
        """Of the epoch's steps; NaN where there was none."""
        return self.loss / self.steps if self.steps else math.nan

    def count(self, loss: float, batches: int) -> None:
        """A step over so many batches is done."""
        self.loss, self.steps, self.batches = self.loss + loss, self.steps + 1, self.batches + batches


class Watch(Protocol):
    """Who looks on between two steps, when state and stretch belong together; what it raises ends the loop."""

    def after_step(self, state: TrainState, stretch: Stretch) -> None:
        """A step is done."""

    def after_epoch(self, state: TrainState, stretch: Stretch) -> None:
        """An epoch is done, its validation included."""

    def steps_left(self, state: TrainState) -> int:
        """How many steps may be taken before it looks on."""


def fit_loop(
    state: TrainState,
    batches: Batches,
    *,
    epochs: int,
    validate: Validate | None,
    selection: Selection,
    patience: int,
    progress: Progress,
    validate_every: int = 1,
    stretch: Stretch | None = None,
    before_epoch: Callable[[int], None] = lambda epoch: None,
    after_epoch: Callable[[], None] = lambda: None,
    accumulate: int = 1,
    watch: Watch | None = None,
    advance: Advance | None = None,
) -> History:
    """Train for some epochs; with validation, stop early and restore the best weights.

    A model without anything to train, such as two spectral towers, goes through one epoch without a step, and its loss is NaN.

    Args:
        state: Moved in place.
        batches: The batches of each epoch.
        epochs: At most this many.
        validate: The validation figures of the model as it is; None trains for all epochs and keeps the last weights.
        selection: Which figure decides.
        patience: Validations without a better figure before stopping.
        progress: Told after each step and epoch.
        validate_every: Epochs from one validation to the next; the last epoch is always validated.
        stretch: Where to go on; a new one begins when not given.
        before_epoch: Told which epoch begins, from 0, also one that is gone on with.
        after_epoch: Moves what moves once per epoch, before validation.
        accumulate: Batches per step.
        watch: Looks on between the steps.
        advance: Takes the steps in place of the torch engine; the batches are not asked for then.

    Returns:
        The records and the best epoch (counted from 1).
    """
    stretch = stretch or Stretch()
    history, started = stretch.history, time.perf_counter() - stretch.history.seconds
    epochs = epochs if state.learns else 1
    enough = patience * validate_every if validate else None
    advance = advance or torch_steps(state, batches, accumulate)

    def at_most() -> int:
        return ANY_NUMBER if watch is None else watch.steps_left(state)

    while len(history.records) < epochs and not _has_given_up(history, enough):
        state.model.train()
        before_epoch(len(history.records))
        rest = advance(len(history.records), stretch.batches, at_most) if state.learns else iter(())
        for stepped in rest:
            history.seconds = time.perf_counter() - started
            for place, loss in enumerate(stepped.losses, state.step - len(stepped.losses) + 1):
                stretch.count(loss, accumulate)
                progress.step(Step(stretch.stage, place, loss, stepped.rate))
            if watch is not None:
                watch.after_step(state, stretch)
        after_epoch()
        epoch = len(history.records) + 1
        is_due = epoch == epochs or epoch % validate_every == 0
        _close_epoch(state, stretch, validate if is_due else None, selection)
        history.seconds = time.perf_counter() - started
        history.records[-1]["seconds"] = round(history.seconds, 3)
        is_best = history.best_epoch == len(history.records)
        progress.epoch(history.records[-1], stage=stretch.stage, epochs=epochs, is_best=is_best)
        if watch is not None:
            watch.after_epoch(state, stretch)
    state.model.eval()
    if stretch.best_weights is not None:
        state.model.load_state_dict(stretch.best_weights)
    history.best_epoch = history.best_epoch or len(history.records)
    return history


def _has_given_up(history: History, enough: int | None) -> bool:
    return enough is not None and len(history.records) - history.best_epoch >= enough


def _close_epoch(state: TrainState, stretch: Stretch, validate: Validate | None, selection: Selection) -> None:
    """Validate, keep the weights if they are the best, write the record."""
    history = stretch.history
    settle(state.model)
    state.model.eval()
    epoch = len(history.records) + 1
    record: dict[str, Any] = {"stage": stretch.stage, "epoch": epoch, "loss": stretch.mean_loss}
    record |= state.objective.report() | state.balancer.report()
    if validate is not None:
        record |= {f"validation/{name}": value for name, value in validate().items()}
        figure = record[f"validation/{selection.metric}"]
        if selection.better(figure, history.best):
            history.best, history.best_epoch = figure, epoch
            stretch.best_weights = weights_of(state.model)
    history.records.append(record)
    stretch.loss, stretch.steps, stretch.batches = 0.0, 0, 0

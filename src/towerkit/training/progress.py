"""Who is told how training goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Step:
    """One step that is done."""

    stage: str
    number: int
    """Steps that the model has taken, this one included."""
    loss: float
    rate: float
    """The step size."""


class Progress(Protocol):
    """Who is told how training goes. A resumed training first tells the epochs that were done before."""

    def waits(self, what: str) -> None:
        """Nothing moves for some seconds, and why."""

    def step(self, step: Step) -> None:
        """One step is done; the next one waits, so be quick."""

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """One epoch is over."""

    def end(self, record: Mapping[str, float]) -> None:
        """Everything is over; the figures of the held-out part, empty where none were measured."""


class Silent:
    """Tells no one; also the base of those who want to hear of some things only."""

    def waits(self, what: str) -> None:
        """Nothing."""

    def step(self, step: Step) -> None:
        """Nothing."""

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """Nothing."""

    def end(self, record: Mapping[str, float]) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Staged:
    """Passes things on under a longer stage name, for trainings inside a training."""

    progress: Progress
    prefix: str

    def waits(self, what: str) -> None:
        """Pass on."""
        self.progress.waits(what)

    def step(self, step: Step) -> None:
        """Pass on."""
        self.progress.step(Step(f"{self.prefix} {step.stage}", step.number, step.loss, step.rate))

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """Pass on."""
        stage = f"{self.prefix} {stage}"
        self.progress.epoch({**record, "stage": stage}, stage=stage, epochs=epochs, is_best=is_best)

    def end(self, record: Mapping[str, float]) -> None:
        """Not passed on: the training around it is not over."""


class Several:
    """Tells each of some others, in order.

    Args:
        others: Who is told.
    """

    def __init__(self, others: Sequence[Progress]) -> None:
        self.others = tuple(others)

    def waits(self, what: str) -> None:
        """Tell each."""
        for other in self.others:
            other.waits(what)

    def step(self, step: Step) -> None:
        """Tell each."""
        for other in self.others:
            other.step(step)

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """Tell each."""
        for other in self.others:
            other.epoch(record, stage=stage, epochs=epochs, is_best=is_best)

    def end(self, record: Mapping[str, float]) -> None:
        """Tell each."""
        for other in self.others:
            other.end(record)

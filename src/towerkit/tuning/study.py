"""A study in a folder: which trials there were, are and will be. Any number of processes share it, and any of them may die.

Optuna proposes and prunes; its journal is :class:`~towerkit.tuning.journal.Journal`. A process that works on trials is seen to
live (:mod:`towerkit.tuning.alive`): the trial of a dead one is failed and its configuration tried again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from towerkit.core.optional import optional_import
from towerkit.core.random import generator, stream
from towerkit.storage.atomic import as_run_error
from towerkit.storage.lock import patiently
from towerkit.tuning.alive import JOURNAL, lives, living
from towerkit.tuning.journal import Journal
from towerkit.tuning.space import Space

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["halving", "none"]
ETA = 3
"""Of the trials that reach a rung, one in so many goes on to the next, which is so many times as long."""
DEATHS = 3
"""A configuration whose process died so often is not tried again: it may be what kills them."""
_NAME = "towerkit"


@dataclass(frozen=True)
class Searching:
    """How a study searches."""

    sampler: Sampler = "tpe"
    pruner: Pruner = "halving"
    seed: int = 0
    epochs: int = 1
    """The longest training: successive halving begins at a ninth of it."""
    higher_is_better: bool = True


@dataclass(frozen=True)
class Claimed:
    """A trial that this process is to make."""

    number: int
    values: Mapping[str, Any]
    """Path -> value."""
    is_default: bool
    trial: Any


class SharedStudy:
    """The study of a folder.

    Args:
        folder: Made if it is not there.
        space: What is searched.
        how: How.
        name: Of this process, if its starter gave it one; see :mod:`towerkit.tuning.alive`.
    """

    def __init__(self, folder: Path, space: Space, how: Searching, name: str | None = None) -> None:
        self._optuna = optional_import("optuna", extra="tune")
        with as_run_error(f"create the folder {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._space, self._how = folder, space, how
        self.name = name or secrets.token_hex(8)
        self._grid = _mixed(space.grid(), how.seed) if how.sampler == "grid" else []
        self._lock = folder / "study"
        with self._quiet(), patiently(self._lock):
            self._storage = self._optuna.storages.JournalStorage(Journal(folder / JOURNAL))
            self._study = self._optuna.create_study(
                storage=self._storage,
                study_name=_NAME,
                direction="maximize" if how.higher_is_better else "minimize",
                load_if_exists=True,
                pruner=self._pruner(),
            )
            if not self._study.get_trials(deepcopy=False):
                self._enqueue(space.start(), {"default": True})

    @contextmanager
    def working(self) -> Iterator[None]:
        """Let other processes see that this one lives."""
        with living(self.folder, self.name):
            yield

    def claim(self, limit: int | None) -> Claimed | None:
        """The next trial; None where there is none to begin, now or at all.

        Args:
            limit: Trials in all; those that died are not counted. All points of a grid when not given.
        """
        with self._quiet(), patiently(self._lock):
            self._fail_dead()
            trials = self._study.get_trials(deepcopy=False)
            waiting = [each for each in trials if not each.state.is_finished() and each.state.name == "WAITING"]
            begun = sum(each.state.name != "WAITING" and "died" not in each.user_attrs for each in trials)
            if not waiting:
                if begun >= self.most(limit):
                    return None
                if self._grid:
                    self._enqueue(self._grid[begun], {})
            number = min((each.number for each in waiting), default=len(trials))
            self._study.sampler = self._sampler(number)
            trial = self._study.ask()
            trial.set_user_attr("worker", self.name)
            values = self._space.suggest(trial)
            return Claimed(trial.number, values, bool(trial.user_attrs.get("default")), trial)

    def most(self, limit: int | None) -> int:
        """How many trials there may be."""
        if self._grid:
            return len(self._grid) if limit is None else min(limit, len(self._grid))
        assert limit is not None
        return limit

    def is_busy(self) -> bool:
        """Whether another process that lives is at a trial, or one that died left its trial to be made again."""
        with self._quiet(), patiently(self._lock):
            self._fail_dead()
            return any(not each.state.is_finished() for each in self._study.get_trials(deepcopy=False))

    def report(self, claimed: Claimed, epoch: int, best: float) -> bool:
        """Tell how far a trial has come.

        Args:
            claimed: The trial; the default configuration is never given up.
            epoch: From 1.
            best: The best validation figure so far.

        Returns:
            Whether to give it up.
        """
        with self._quiet():
            claimed.trial.report(best, epoch)
            return not claimed.is_default and bool(claimed.trial.should_prune())

    def note(self, claimed: Claimed, about: Mapping[str, Any]) -> None:
        """Write down what else is known of a trial that is not over.

        Args:
            claimed: The trial.
            about: Plain data.
        """
        for key, value in about.items():
            claimed.trial.set_user_attr(key, value)

    def end(self, claimed: Claimed, state: Literal["complete", "pruned", "fail"], value: float | None = None) -> None:
        """A trial is over. Told with the lock: whoever looks for trials of dead processes would take it for one.

        Args:
            claimed: The trial.
            state: How it ended.
            value: Its figure, where it is complete.
        """
        with self._quiet(), patiently(self._lock):
            self._study.tell(claimed.trial, value, state=getattr(self._optuna.trial.TrialState, state.upper()))

    def give_back(self, claimed: Claimed) -> None:
        """A trial was interrupted; its configuration will be tried again."""
        with self._quiet(), patiently(self._lock):
            trial = self._study.get_trials(deepcopy=False)[claimed.number]
            self._retry(trial, "interrupted", {"deaths": trial.user_attrs.get("deaths", 0)})

    def trials(self) -> list[Any]:
        """All of them, as Optuna has them."""
        with self._quiet():
            return list(self._study.get_trials(deepcopy=False))

    def _fail_dead(self) -> None:
        """Fail the trials whose processes are gone; called with the lock, so that no trial is between two words."""
        for each in self._study.get_trials(deepcopy=False):
            if each.state.name == "RUNNING" and not self._lives(each.user_attrs.get("worker")):
                self._bury(each)

    def _bury(self, trial: Any) -> None:
        """The process of a trial died: try the configuration again, unless it has cost too many."""
        deaths = trial.user_attrs.get("deaths", 0) + 1
        if deaths < DEATHS:
            self._retry(trial, "its process ended", {"deaths": deaths})
            return
        reason = (
            f"its process ended, as {deaths - 1} did before with this configuration; is there too little memory for it?"
        )
        self._storage.set_trial_user_attr(trial._trial_id, "reason", reason)
        self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)

    def _retry(self, trial: Any, reason: str, about: Mapping[str, Any]) -> None:
        self._storage.set_trial_user_attr(trial._trial_id, "died", True)
        self._storage.set_trial_user_attr(trial._trial_id, "reason", reason)
        self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
        about = {**about, "again": trial.user_attrs.get("again", trial.number)}
        kept = {key: trial.user_attrs[key] for key in ("default",) if key in trial.user_attrs}
        self._study.enqueue_trial(trial.params, user_attrs=about | kept)

    def _lives(self, name: str | None) -> bool:
        return name == self.name or (name is not None and lives(self.folder, name))

    def _enqueue(self, values: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self._study.enqueue_trial(self._space.parameters(values), user_attrs=dict(about))

    def _sampler(self, number: int) -> Any:
        """A sampler of its own for each trial, so that a study that is continued does not draw its first draws again."""
        seed = stream(self._how.seed, "tuning", number) % 2**32
        samplers = self._optuna.samplers
        return samplers.TPESampler(seed=seed) if self._how.sampler == "tpe" else samplers.RandomSampler(seed=seed)

    def _pruner(self) -> Any:
        if self._how.pruner == "none":
            return self._optuna.pruners.NopPruner()
        first = max(1, self._how.epochs // ETA**2)
        return self._optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=ETA)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Optuna tells of every trial; we tell it ourselves."""
        logging = self._optuna.logging
        before = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)
        try:
            yield
        finally:
            with suppress(Exception):
                logging.set_verbosity(before)


def _mixed(points: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The default configuration, then the others in an order by chance, so that a search cut short has seen some of everything."""
    rest = points[1:]
    return [points[0], *(rest[place] for place in generator(seed, "grid").permutation(len(rest)))]

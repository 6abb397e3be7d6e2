"""``towerkit tune --on``: trials of one study side by side, by workers that Ray starts and starts again."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from towerkit.core.errors import TowerkitError, TrainingError
from towerkit.core.optional import python_random_kept
from towerkit.scale.session import first_line, ray_session
from towerkit.scale.telling import as_told, from_told
from towerkit.training.progress import Progress, Silent
from towerkit.tuning.alive import bury, living
from towerkit.tuning.problem import problem_of, searching
from towerkit.tuning.search import Say, ending_of, opened, search
from towerkit.tuning.study import Pruner, Sampler, SharedStudy
from towerkit.tuning.tune import Tuned, check_limits, concluded, deadline_of, limit_of

_LOOK_S = 0.5


@dataclass(frozen=True)
class _Search:
    """What a worker is told, as plain data: paths that every worker can reach, and how to search."""

    spec: str
    settings: tuple[str, ...]
    folder: str
    sampler: Sampler
    pruner: Pruner
    limit: int | None
    threads: int
    """Of each worker."""


def tune_on(
    address: str,
    workers: int,
    spec: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    trials: int | None = None,
    budget_s: float | None = None,
    sampler: Sampler = "tpe",
    pruner: Pruner = "halving",
    settings: Iterable[str] = (),
    progress: Progress | None = None,
    restarts: int = 3,
    say: Say = lambda text: None,
) -> Tuned:
    """Search as :func:`towerkit.tuning.tune.tune` does, with the trials on the workers of a Ray cluster.

    The study, its journal and the rule that chooses the winner are the same: a study that was begun in one way goes on in the
    other. The two final trainings are this process's.

    Args:
        address: Where; see :func:`towerkit.scale.session.ray_session`.
        workers: How many trials at once.
        spec: A file with ranges, which the workers can reach, its data too.
        out: The folder of the study, which the workers can reach.
        trials: Trials in all; 30 when not given, or the whole grid.
        budget_s: No trial begins later than so many seconds from now.
        sampler: ``tpe``, ``random`` or ``grid``.
        pruner: ``halving`` or ``none``.
        settings: As for ``--set``.
        progress: Told of the final trainings.
        restarts: A worker that dies is started again, so often for each that there is.
        say: Told of each trial, and of workers that died.

    Raises:
        MissingExtraError: If Ray or Optuna is not installed.
        SpecError: If a range is none, or there is no such cluster.
        RunError: If the folder holds another study.
        TrainingError: If every trial failed, or the workers died too often.
    """
    started = time.perf_counter()
    check_limits(trials, budget_s)
    settings, told = tuple(settings), progress or Silent()
    problem = problem_of(spec, None, settings)
    how = searching(problem, sampler, pruner)
    study = opened(Path(out), problem, how)
    threads = max(1, torch.get_num_threads() // workers)
    limit = limit_of(trials, sampler)
    job = _Search(str(Path(spec).resolve()), settings, str(Path(out).resolve()), sampler, pruner, limit, threads)
    told.waits("starting Ray's workers")
    with study.working(), python_random_kept(), ray_session(address, workers) as ray:
        crew = _Crew(ray, study, job, deadline_of(budget_s, started))
        crew.work(workers, workers * restarts, say, _teller(study, problem.selection.metric, say))
    return concluded(study, problem, how, told, say, started)


class _Crew:
    """The workers of a search, each under a name of its own."""

    def __init__(self, ray: Any, study: SharedStudy, job: _Search, deadline: float) -> None:
        self._ray, self._study, self._job, self._deadline = ray, study, job, deadline
        self._task = ray.remote(num_cpus=1, max_retries=0)(_make_trials)
        self._numbers = itertools.count(1)
        self._running: dict[Any, str] = {}

    def work(self, workers: int, restarts: int, say: Say, tell: Callable[[], None]) -> None:
        """Wait for all trials; start a worker again that died.

        Raises:
            TowerkitError: What a worker stopped with on purpose.
            TrainingError: If none is left to make the rest.
        """
        ended, failed = False, ""
        for _ in range(workers):
            self._start()
        while self._running:
            done, _ = self._ray.wait(list(self._running), timeout=_LOOK_S)
            tell()
            for each in done:
                name, failed = self._running.pop(each), self._failure(each)
                if not failed:
                    ended = True
                    continue
                bury(self._study.folder, name)
                again = restarts > 0
                say(f"A worker died ({failed}); its trial is made again{', and it is started again' if again else ''}.")
                if again:
                    restarts -= 1
                    self._start()
        tell()
        if not ended:
            raise TrainingError(
                f"Every worker died, and too often to be started again; the last time: {failed}. The same command goes on; "
                f"what the workers said is in {self._study.folder / 'workers'}."
            )

    def _start(self) -> None:
        name = f"{self._study.name}.{next(self._numbers)}"
        left = self._deadline - time.perf_counter()
        self._running[self._task.remote(asdict(self._job), name, left)] = name

    def _failure(self, reference: Any) -> str:
        """What a worker died of, in one line; nothing where it ended well.

        Raises:
            TowerkitError: What it stopped with on purpose.
        """
        try:
            told = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise  # an error of ours
        except self._ray.exceptions.RayError as error:
            return first_line(error)
        if told is not None:
            raise from_told(told)
        return ""


def _make_trials(job: Mapping[str, Any], name: str, seconds: float) -> dict[str, Any] | None:
    """What each of Ray's workers runs: trials of the study until there are enough; what it stopped with on purpose, if it did."""
    asked = _Search(**job)
    torch.set_num_threads(asked.threads)
    folder, deadline = Path(asked.folder), time.perf_counter() + seconds
    try:
        with living(folder, name), _log(folder / "workers" / f"helper-{name.partition('.')[2]}.log") as say:
            problem = problem_of(asked.spec, None, asked.settings)
            study = opened(folder, problem, searching(problem, asked.sampler, asked.pruner), name)
            search(study, problem, asked.limit, deadline, Silent(), say)
    except TowerkitError as error:
        return as_told(error)
    return None


@contextlib.contextmanager
def _log(path: Path) -> Iterator[Say]:
    with path.open("w", encoding="utf-8") as file:
        yield lambda text: print(text, file=file, flush=True)


def _teller(study: SharedStudy, metric: str, say: Say) -> Callable[[], None]:
    """Tells the trials that ended since it was asked the last time."""
    told = {each.number for each in study.trials() if each.state.is_finished()}

    def tell() -> None:
        for each in study.trials():
            if each.state.is_finished() and each.number not in told:
                told.add(each.number)
                say(ending_of(each, metric))

    return tell

"""Search a space, then train the default and the best configuration as any spec is trained, and compare them on test rows once."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from towerkit.core.errors import SpecError, TrainingError
from towerkit.data.dataset import Dataset
from towerkit.data.stream.log import Log
from towerkit.run import Run
from towerkit.storage.atomic import atomic_write_bytes
from towerkit.storage.hashes import write_json
from towerkit.training.progress import Progress, Silent
from towerkit.tuning.final import Finished, finish
from towerkit.tuning.problem import Problem, problem_of, searching
from towerkit.tuning.report import tuning_report
from towerkit.tuning.search import Say, opened, search
from towerkit.tuning.study import Pruner, Sampler, Searching, SharedStudy

TRIALS = 30


@dataclass(frozen=True)
class Tuned:
    """What a search found."""

    folder: Path
    best: Run
    default: Run | None
    """None where the default configuration failed."""
    report: Mapping[str, Any]
    """As in ``tuning.json``."""


def tune(
    spec: Mapping[str, Any] | str | os.PathLike[str],
    dataset: Dataset | Log | None = None,
    *,
    out: str | os.PathLike[str],
    trials: int | None = None,
    budget_s: float | None = None,
    sampler: Sampler = "tpe",
    pruner: Pruner = "halving",
    settings: Iterable[str] = (),
    progress: Progress | None = None,
    say: Say = lambda text: None,
) -> Tuned:
    """Search the ranges of a spec on validation rows; then train the default and the best as Runs and compare them on test rows.

    The same call goes on with a study that was interrupted, and several processes may make it at once: they share the trials.

    Args:
        spec: A spec with ranges in place of values, as plain data or as a file. Without any, a few settings that matter
            for its kind of model are searched around their values.
        dataset: The data, where the spec does not say it.
        out: The folder of the study.
        trials: Trials in all, those of earlier calls included; 30 when not given, or the whole grid.
        budget_s: No trial begins later than so many seconds from now.
        sampler: ``tpe``, ``random`` or ``grid``.
        pruner: ``halving`` gives up trials that lag behind (successive halving), ``none`` lets each end.
        settings: ``key.of.part=value`` texts, as for ``--set``; a value may be a range.
        progress: Told of each epoch.
        say: Told of each trial.

    Returns:
        The best Run, the default one, and the report.

    Raises:
        SpecError: If a range is none, or does not fit its place.
        RunError: If the folder holds another study.
        TrainingError: If every trial failed.
    """
    started = time.perf_counter()
    check_limits(trials, budget_s)
    problem = problem_of(spec, dataset, settings)
    how = searching(problem, sampler, pruner)
    study, told = opened(Path(out), problem, how), progress or Silent()
    with study.working():
        search(study, problem, limit_of(trials, sampler), deadline_of(budget_s, started), told, say)
    return concluded(study, problem, how, told, say, started)


def check_limits(trials: int | None, budget_s: float | None) -> None:
    """Refuse a study without trials, or without time.

    Raises:
        SpecError: Naming the number.
    """
    if trials is not None and trials < 1:
        raise SpecError(f"A study has one trial or more; received {trials}.")
    if budget_s is not None and budget_s <= 0:
        raise SpecError(f"A budget is a time above 0; received {budget_s:g} s.")


def limit_of(trials: int | None, sampler: Sampler) -> int | None:
    """Trials in all; None for a whole grid."""
    return TRIALS if trials is None and sampler != "grid" else trials


def deadline_of(budget_s: float | None, started: float) -> float:
    """Of ``time.perf_counter``: no trial begins later."""
    return float("inf") if budget_s is None else started + budget_s


def concluded(
    study: SharedStudy, problem: Problem, how: Searching, progress: Progress, say: Say, started: float
) -> Tuned:
    """Train the best and the default configuration as Runs, compare them, and write the report and the best spec.

    Args:
        study: With its trials.
        problem: What was searched.
        how: How.
        progress: Told of each epoch.
        say: Told what a person should know.
        started: Of ``time.perf_counter``.

    Raises:
        TrainingError: If no trial was completed; names the reasons.
    """
    trials = study.trials()
    complete = [each for each in trials if each.state.name == "COMPLETE"]
    if not complete:
        raise TrainingError(_nothing(trials, study.folder))
    found = finish(study, problem, how, complete, progress, say)
    atomic_write_bytes(study.folder / "best.yaml", _best_file(problem, found, study.folder))
    about = {**found.about, "folder": str(study.folder), "seconds": round(time.perf_counter() - started, 3)}
    report = tuning_report(trials, problem.space, how, problem.selection.metric, about)
    write_json(study.folder / "tuning.json", report)
    return Tuned(study.folder, found.best, found.default, report)


def _nothing(trials: list[Any], folder: Path) -> str:
    reasons: dict[str, int] = {}
    for each in trials:
        reason = each.user_attrs.get("reason")
        if reason and "died" not in each.user_attrs:
            reasons[reason] = reasons.get(reason, 0) + 1
    if not reasons:
        return f"No trial of {folder} is complete: the budget ended before. Go on with the same command and more time."
    told = "; ".join(
        f"{count} with: {reason}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1])[:3]
    )
    return f"Every trial that ended has failed, {told} Mend the spec or its ranges, and begin in another folder."


def _best_file(problem: Problem, found: Finished, folder: Path) -> bytes:
    """The best spec as a file: without ranges, its relative paths from where it lies."""
    data = problem.space.filled(found.values)
    if problem.place is not None and "data" in data:
        data["data"] = _moved(data["data"], problem.place, folder.resolve())
    head = f"# The best of {found.about['search']['trials']} trials by {problem.selection.metric} on validation rows.\n"
    return (head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=140)).encode()


def _moved(part: Any, old: Path, new: Path) -> Any:
    """Plain data whose relative paths of files start elsewhere."""
    if isinstance(part, Mapping):
        return {
            key: _moved_path(value, old, new) if key == "path" else _moved(value, old, new)
            for key, value in part.items()
        }
    return [_moved(each, old, new) for each in part] if isinstance(part, list | tuple) else part


def _moved_path(value: Any, old: Path, new: Path) -> Any:
    if not isinstance(value, str) or value.startswith(("${", "~", "/")):
        return value
    file, mark, member = value.partition("::")
    with contextlib.suppress(OSError, ValueError):
        if (old / file).exists():
            return os.path.relpath(old / file, new) + mark + member
    return value

"""After the search: the default and the best configuration trained as any spec is, and compared on the held-out part, read once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towerkit.core.errors import RunError
from towerkit.evaluation.compare import compare_runs
from towerkit.run import Run
from towerkit.run_writer import train_run
from towerkit.spec import ModelingSpec
from towerkit.storage.atomic import is_run
from towerkit.storage.hashes import content_hash, read_bytes, read_json, write_json
from towerkit.storage.lock import patiently
from towerkit.training.progress import Progress, Staged
from towerkit.tuning.objective import curve_hash, spec_hash
from towerkit.tuning.problem import Problem
from towerkit.tuning.study import Searching, SharedStudy

_DAYS_S = 7 * 24 * 3600.0
_MAX_HISTORY_BYTES = 64 << 20


@dataclass(frozen=True)
class Finished:
    """The Runs of a study, and what is told of them."""

    best: Run
    default: Run | None
    values: Mapping[str, Any]
    """Of the best configuration."""
    about: Mapping[str, Any]


def finish(
    study: SharedStudy,
    problem: Problem,
    how: Searching,
    complete: list[Any],
    progress: Progress,
    say: Callable[[str], None],
) -> Finished:
    """Train what is not trained yet, and compare.

    Args:
        study: Its folder gets ``runs/default`` and ``runs/best``; one process at a time.
        problem: What was searched.
        how: How.
        complete: The trials that are complete.
        progress: Told of each epoch.
        say: Told what a person should know.

    Raises:
        RunError: If what was trained is not what the trial was.
    """
    sign = 1.0 if how.higher_is_better else -1.0
    best = max(complete, key=lambda each: (sign * each.value, -each.number))
    default = next((each for each in complete if each.user_attrs.get("default")), None)
    with patiently(study.folder / "final", _DAYS_S):
        training = _Training(study.folder, problem, progress, say)
        first = None if default is None else training.run("default", default)
        is_default = default is not None and best.user_attrs["spec"] == default.user_attrs["spec"]
        second = first if is_default and first is not None else training.run("best", best)
    about: dict[str, Any] = {"search": {"trials": len(study.trials()), "complete": len(complete)}}
    about["best"] = _told(best, second)
    about["default"] = None if first is None or default is None else _told(default, first)
    if first is not None and second is not first:
        found = compare_runs(first.evaluation, {"best": second.evaluation})["best"]
        about["comparison"] = {"first": "default", "second": "best", **found.as_dict()}
    return Finished(second, first, problem.space.values_of(best.params), about)


@dataclass(frozen=True)
class _Training:
    """Trains a trial's spec as any spec is trained."""

    folder: Path
    problem: Problem
    progress: Progress
    say: Callable[[str], None]

    def run(self, name: str, trial: Any) -> Run:
        """The Run of a trial: the one that is there, or a new one, whose interrupted training is gone on with.

        Raises:
            RunError: If what was trained is not what the trial was.
        """
        spec = self.problem.spec(self.problem.space.values_of(trial.params))
        target, wanted = self.folder / "runs" / name, trial.user_attrs["spec"]
        _check_same(wanted, spec_hash(spec), f"the spec of trial {trial.number}")
        if is_run(target):
            found = Run.load(target)
            if content_hash(found.spec) == wanted:
                return found
        target.parent.mkdir(exist_ok=True)
        written = self._train(target, spec, wanted, name)
        _check_same(wanted, content_hash(written.spec), str(target))
        return written

    def _train(self, target: Path, spec: ModelingSpec, wanted: str, name: str) -> Run:
        marker = self.folder / f"{name}.json"  # what an interrupted training of this Run was of
        same = marker.is_file() and read_json(marker) == {"spec": wanted}
        write_json(marker, {"spec": wanted})
        written, _ = train_run(
            target,
            spec,
            self.problem.dataset,
            Staged(self.progress, f"{name}:"),
            overwrite=is_run(target) or not same,
            resume=same,
            say=lambda text: None if "nothing to resume" in text else self.say(text),
        )
        marker.unlink(missing_ok=True)
        return written


def _check_same(wanted: str, found: str, what: str) -> None:
    if wanted != found:
        raise RunError(
            f"{what} has the hash {found[:12]}…, and the trial was made with {wanted[:12]}…: it was trained by another version of "
            "towerkit. Begin a study in another folder."
        )


def _told(trial: Any, run: Run) -> dict[str, Any]:
    """A configuration and what became of it: figures of both parts, and whether the training went as the trial did."""
    lines = read_bytes(run.path / "history.jsonl", _MAX_HISTORY_BYTES).splitlines()
    return {
        "trial": trial.number,
        "value": trial.value,
        "best_epoch": trial.user_attrs["best_epoch"],
        "run": str(run.path),
        "spec_sha256": content_hash(run.spec),
        "reproduced": None
        if trial.user_attrs["history"] is None
        else curve_hash([json.loads(line) for line in lines]) == trial.user_attrs["history"],
        "metrics": run.evaluation.as_dict()["metrics"],
    }

"""The trials of a study, one after the other, beside those of other processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from towerkit.core.errors import RunError
from towerkit.core.keeping import Keeper, keeping
from towerkit.data.fingerprint import fingerprint
from towerkit.spec import plain
from towerkit.storage.atomic import as_run_error
from towerkit.storage.hashes import read_json, write_json
from towerkit.storage.lock import patiently
from towerkit.training.checkpoint import differences
from towerkit.training.progress import Progress, Staged
from towerkit.tuning.alive import bury_orphans
from towerkit.tuning.objective import GivenUp, measure, spec_hash
from towerkit.tuning.problem import Problem
from towerkit.tuning.study import Claimed, Searching, SharedStudy

_PAUSE_S = 0.2
Say = Callable[[str], None]


def opened(folder: Path, problem: Problem, how: Searching, name: str | None = None) -> SharedStudy:
    """The study of a folder, begun or gone on with.

    Args:
        folder: Where it is.
        problem: What is searched.
        how: How.
        name: Of this process, if its starter gave it one.

    Raises:
        RunError: If it is another study: other ranges, other data or another way to search; names what differs.
    """
    identity = {
        "spec": {**problem.space.as_dict(), "without ranges": _fixed(problem)},
        "search": {"sampler": how.sampler, "pruner": how.pruner, "seed": how.seed},
        "data": fingerprint(problem.dataset),
    }
    with as_run_error(f"create the folder {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    bury_orphans(folder)
    path = folder / "study.json"
    with patiently(path):
        if not path.is_file():
            write_json(path, identity)
        changed = differences(read_json(path), _plainly(identity))
    if changed:
        raise RunError(
            f"{folder} holds another study: {changed}. Go on with what it was begun with, or give another --out."
        )
    return SharedStudy(folder, problem.space, how, name)


def _fixed(problem: Problem) -> Any:
    """The default configuration but for its data, which have a fingerprint."""
    return {key: value for key, value in plain(problem.default).items() if key != "data"}


def _plainly(value: Any) -> Any:
    """As JSON gives it back: lists for tuples."""
    if isinstance(value, Mapping):
        return {str(key): _plainly(each) for key, each in value.items()}
    return [_plainly(each) for each in value] if isinstance(value, list | tuple) else value


def search(
    study: SharedStudy, problem: Problem, limit: int | None, deadline: float, progress: Progress, say: Say
) -> None:
    """Make trials until there are enough or the time is over; wait for those of other processes, which may die.

    Args:
        study: Shared with other processes, which see that this one lives (:meth:`SharedStudy.working`).
        problem: What is searched.
        limit: Trials in all; the whole grid when not given.
        deadline: Of ``time.perf_counter``.
        progress: Told of each epoch.
        say: Told of each trial.
    """
    with keeping() as keeper:
        while time.perf_counter() < deadline:
            claimed = study.claim(limit)
            if claimed is not None:
                _make(study, problem, claimed, keeper, progress)
                say(ending_of(study.trials()[claimed.number], problem.selection.metric))
            elif study.is_busy():
                time.sleep(_PAUSE_S)
            else:
                return


def ending_of(trial: Any, metric: str) -> str:
    """How a trial ended, in one line.

    Args:
        trial: As Optuna has it.
        metric: The validation figure.
    """
    name, about = f"trial {trial.number}", trial.user_attrs
    if trial.state.name == "COMPLETE":
        return f"{name}: {metric} {trial.value:.4f} at epoch {about['best_epoch']} after {about['seconds']:.1f} s"
    if trial.state.name == "PRUNED":
        return f"{name}: given up after {about['seconds']:.1f} s"
    return f"{name}: {'died' if 'died' in about else 'failed'}: {about.get('reason', '')}"


def _make(study: SharedStudy, problem: Problem, claimed: Claimed, keeper: Keeper, progress: Progress) -> None:
    """Make one trial; an error is its own, and the study goes on."""
    started, saved_s = time.perf_counter(), keeper.saved_s

    def times() -> dict[str, float]:
        taken, saved = time.perf_counter() - started, keeper.saved_s - saved_s
        return {"seconds": round(taken, 3), "saved_s": round(saved, 3)}

    try:
        spec = problem.spec(claimed.values)
        study.note(claimed, {"spec": spec_hash(spec)})
        found = measure(
            spec,
            problem.dataset,
            lambda epoch, best: study.report(claimed, epoch, best),
            Staged(progress, f"trial {claimed.number}:"),
        )
    except GivenUp:
        study.note(claimed, times())
        study.end(claimed, "pruned")
        return
    except Exception as error:
        reason = str(error) or type(error).__name__
        study.note(claimed, {"reason": reason, **times()})
        study.end(claimed, "fail")
        return
    except BaseException:
        study.give_back(claimed)
        raise
    about = {"best_epoch": found.best_epoch, "epochs": found.epochs, "history": found.curve}
    study.note(claimed, about | times())
    study.end(claimed, "complete", found.value)

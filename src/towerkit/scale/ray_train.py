"""``towerkit train --on``: a training by several workers that Ray Train starts, watches and starts again."""

from __future__ import annotations

import contextlib
import json
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from towerkit.core.errors import TrainingError
from towerkit.core.optional import python_random_kept
from towerkit.core.world import LostProcessError
from towerkit.data.dataset import Dataset
from towerkit.data.stream.log import Log
from towerkit.experiment import checkpoints_of
from towerkit.outcomes.recipes import log_recipe_of, recipe_of
from towerkit.run import Run
from towerkit.run_writer import clear_the_way
from towerkit.scale.job import Job, check_shareable, error_of, train_here
from towerkit.scale.session import first_line, ray_session
from towerkit.spec import ExperimentSpec
from towerkit.storage.atomic import check_target
from towerkit.storage.lock import holder_of, process_is_alive, take_from
from towerkit.training.checkpoint import Checkpoints
from towerkit.training.loop import Retold
from towerkit.training.progress import Progress

_LOOK_S = 0.5
_PATIENCE_S = 30.0
"""Until a worker that finds no CPU is one too many; a lost node is noticed within some ten seconds."""
_DYING_S = 60.0
"""A process that is killed while its disk is busy is gone when the disk has answered."""


def train_on(
    address: str,
    workers: int,
    run: Path,
    spec: ExperimentSpec,
    dataset: Dataset | Log,
    progress: Progress,
    *,
    place: Path,
    overwrite: bool = False,
    resume: bool = False,
    restarts: int = 3,
    say: Callable[[str], None] = lambda text: None,
) -> Run:
    """Train by several workers and write a Run, which is one like any other.

    A worker that dies ends the others; all are started again and go on from the newest checkpoint.

    Args:
        address: Where; see :func:`towerkit.scale.session.ray_session`.
        workers: How many.
        run: The Run's folder, which the workers can reach.
        spec: What to train.
        dataset: As opened here: each worker opens it again, a log from where it was encoded.
        progress: Told the epochs.
        place: The folder that the spec's relative paths start from.
        overwrite: Replace an existing Run; without ``resume`` also forget an interrupted training of it.
        resume: Go on where an interrupted training of this Run was saved, by as many workers as there are now.
        restarts: How often workers are started again before giving up.
        say: Told what a person should know.

    Raises:
        MissingExtraError: If Ray is not installed.
        SpecError: If several workers cannot train the spec, or there is no such cluster.
        RunError: If the folder cannot be written, or an interrupted training is in the way.
        TrainingError: If workers died more often than they are started again.
    """
    check_shareable(spec, workers)
    check_target(run, overwrite)
    checkpoints = checkpoints_of(run, spec, dataset, say=say)
    clear_the_way(checkpoints, run, overwrite=overwrite, resume=resume, say=say)
    error_of(run)  # of an earlier training
    job, before = Job.of(spec, place, run, overwrite=overwrite, workers=workers), _written(run)
    with (
        python_random_kept(),  # Ray draws names
        ray_session(address, workers),
        _followed(checkpoints.folder / "history.jsonl", spec, dataset, progress) as tell_rest,
    ):
        for attempt in range(restarts + 1):
            started, able = time.monotonic(), _able(workers) if attempt else workers
            if able < workers:
                say(f"The cluster has {able} CPUs left: {able} workers go on with the work of {workers}.")
            failed = _attempt(replace(job, attempt=attempt), able)
            if failed is None or _written(run) not in (None, before):
                found = Run.load(run)
                if failed is not None:
                    say(f"A worker died ({failed}) when the Run was there already. Nothing is lost.")
                    checkpoints.remove()
                tell_rest(run / "history.jsonl")
                return found
            told = error_of(run, attempt)
            if told is not None:
                raise told from None
            _bury(run, checkpoints)
            lost = _lost(checkpoints, time.monotonic() - started)
            if attempt < restarts:
                say(f"A worker died ({failed}). {lost} The workers are started again.")
    again = "The same command with --resume continues" if checkpoints.exists else "Mend what it names, and train again"
    raise TrainingError(
        f"Workers died {restarts + 1} times, the last time: {failed}. {lost} {again}; Ray's logs are below its temporary "
        "folder, in session_latest/logs."
    )


def _bury(run: Path, checkpoints: Checkpoints) -> None:
    """See that the first worker of an attempt that ended is in nobody's way: wait until it is gone from this machine, or take
    away its locks if it was on another one, of which only this process knows that it is gone.
    """
    folder, deadline = checkpoints.folder, time.monotonic() + _DYING_S
    gone = holder_of(folder)  # it holds that all along
    if gone is None:
        return
    if gone.host == platform.node():
        while process_is_alive(gone.pid) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        return
    inside = [lock.with_name(lock.name[1 : -len(".lock")]) for lock in folder.rglob(".*.lock")]
    for target in (*inside, run, folder):
        take_from(target, gone)


def _written(run: Path) -> bytes | None:
    """What tells the Run in a folder from the one that was there before; None where there is none."""
    try:
        return (run / "manifest.json").read_bytes()
    except OSError:
        return None


def _able(workers: int) -> int:
    """How many workers find a CPU each: asked for, because a node that was lost is still counted for a while."""
    from ray.util.placement_group import placement_group, remove_placement_group

    for number in range(workers, 1, -1):
        places = placement_group([{"CPU": 1}] * number)
        found = places.wait(_PATIENCE_S)
        remove_placement_group(places)
        if found:
            return number
    return 1


def _attempt(job: Job, workers: int) -> str | None:
    """Start the workers and wait for them; None where they are done, else what happened in one line."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    with tempfile.TemporaryDirectory(prefix="towerkit-ray-") as folder:
        trainer = TorchTrainer(
            _worker,
            train_loop_config=job.as_dict(),
            scaling_config=ScalingConfig(num_workers=workers),
            torch_config=TorchConfig(backend="gloo", timeout_s=6 * 3600),
            run_config=RunConfig(name="train", storage_path=folder),
        )
        try:
            trainer.fit()
        except Exception as error:
            return _reason(error)
    return None


def _reason(error: Exception) -> str:
    """What a worker ended with, in one line; that others lost one is said only where nothing else is known."""
    each = list(getattr(error, "worker_failures", {}).values())
    own = [one for one in each if not isinstance(one, LostProcessError)] or each
    if not own:
        return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:300]
    cause = getattr(own[0], "health_check_failure", own[0])
    return f"{type(cause).__name__}: {first_line(cause)}"[:300]


def _worker(config: Mapping[str, Any]) -> None:
    """What each of Ray's workers runs; torch.distributed connects them already."""
    from towerkit.core.world import ALONE
    from towerkit.scale.processes import Processes

    world = Processes()
    train_here(Job(**config), world if world.size > 1 else ALONE)


def _lost(checkpoints: Checkpoints, seconds: float) -> str:
    """What is lost, in time: what was done since the newest checkpoint."""
    newest = checkpoints.newest
    if newest is None:
        return f"There is no checkpoint yet, so the {seconds:.0f} s of this attempt are lost."
    since = min(time.time() - newest.stat().st_mtime, seconds)
    return f"The newest checkpoint is {newest}; {since:.0f} s of work since then are lost."


@contextlib.contextmanager
def _followed(
    history: Path, spec: ExperimentSpec, dataset: Dataset | Log, progress: Progress
) -> Iterator[Callable[[Path], None]]:
    """Tell the epochs that the first worker writes down, as they come.

    Yields:
        Tells those that are left in a whole file; the one that is followed goes when the Run is there.
    """
    recipe: Any = log_recipe_of(spec, dataset) if isinstance(dataset, Log) else recipe_of(spec, dataset)
    over, told, retold = threading.Event(), 0, Retold(progress, spec.training.epochs, recipe.selection)

    def tell(path: Path) -> None:
        nonlocal told
        with contextlib.suppress(OSError):
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]
            for line in whole[told:]:
                retold(json.loads(line))
            told = max(told, len(whole))  # workers that are started again write it anew

    def follow() -> None:
        while not over.wait(_LOOK_S):
            tell(history)

    def tell_rest(path: Path) -> None:
        over.set()
        thread.join()
        tell(path)

    progress.waits("starting Ray's workers")
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield tell_rest
    finally:
        over.set()
        thread.join()

"""A training that several processes share: what each of them is told, and what it does."""

from __future__ import annotations

import contextlib
import json
import sysconfig
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from towerkit.core.errors import SpecError, TowerkitError, TrainingError
from towerkit.core.spec import parse
from towerkit.core.world import LostProcessError, World
from towerkit.data.stream.opening import open_data
from towerkit.experiment import checkpoints_of, train_beside
from towerkit.models.tower_model import TowerModelSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.presets.fusions import chooses_fusion
from towerkit.run_writer import train_run
from towerkit.scale.telling import as_told, from_told
from towerkit.spec import ExperimentSpec, plain
from towerkit.storage.hashes import write_json
from towerkit.training.checkpoint import checkpoint_folder
from towerkit.training.progress import Silent


@dataclass(frozen=True)
class Job:
    """What a worker is told, as plain data: paths that every worker can reach, and the spec."""

    spec: Mapping[str, Any]
    place: str
    """The folder that the spec's relative paths start from."""
    run: str
    overwrite: bool
    threads: int
    """Of each worker."""
    attempt: int = 0
    """How often workers were started before."""

    @classmethod
    def of(cls, spec: ExperimentSpec, place: Path, run: Path, *, overwrite: bool, workers: int) -> Self:
        """A job for some workers, who share the threads of this process.

        Args:
            spec: What to train.
            place: The folder that its relative paths start from.
            run: The Run's folder.
            overwrite: Replace an existing Run.
            workers: How many.
        """
        threads = max(1, torch.get_num_threads() // workers)
        return cls(plain(spec), str(place.resolve()), str(run.resolve()), overwrite, threads)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def check_shareable(spec: ExperimentSpec, workers: int) -> None:
    """Refuse what several workers cannot train, before any of them is started.

    Raises:
        SpecError: Naming the key, and why.
    """
    if not isinstance(spec.model, TwoTowerSpec | TowerModelSpec) or chooses_fusion(spec.model):
        kind = getattr(spec.model, "kind", "this model")
        told = (
            "with a backbone that validation chooses" if isinstance(spec.model, TowerModelSpec) else f"received {kind}"
        )
        raise SpecError(f"--on trains a two_tower or a tower_model; {told}. Train it without --on.")
    if workers > 1 and spec.training.engine == "compiled":
        raise SpecError(
            "training.engine: compiled belongs to one process, and --workers asks for "
            f"{workers}; use engine: auto, which takes the torch engine then, or --workers 1."
        )


def train_here(job: Job, world: World) -> None:
    """Train as one of the workers; the first one evaluates, and writes the Run. Goes on from the newest checkpoint, if there
    is one.

    Args:
        job: The same in every worker.
        world: This worker among them.

    Raises:
        TowerkitError: As a training of one process does; also written beside the checkpoints, where the driver reads it.
        LostProcessError: If another worker is gone.
        OSError: If a disk or a network failed where towerkit has no message of its own for it. This and a lost worker are
            worth another try, so the driver reads nothing.
        Exception: An error of code, towerkit's or a tower's; the driver reads what it was and where.
    """
    torch.set_num_threads(job.threads)
    run = Path(job.run)
    try:
        spec = parse(ExperimentSpec, dict(job.spec), "the spec of the job")
        dataset = open_data(spec.data, base=Path(job.place), seed=spec.training.seed)
        if world.is_first:
            train_run(run, spec, dataset, Silent(), overwrite=job.overwrite, resume=True, world=world)
        else:
            train_beside(spec, dataset, checkpoints_of(run, spec, dataset), world)
    except (LostProcessError, OSError):
        raise
    except Exception as error:
        told = error if isinstance(error, TowerkitError) else _error_of_code(error, world.rank)
        folder = checkpoint_folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"error-{job.attempt}-{world.rank}.json", as_told(told))
        raise


def _error_of_code(error: Exception, rank: int) -> TrainingError:
    """What a person reads of an error that nobody raised on purpose: which, and the innermost place outside of libraries."""
    places = traceback.extract_tb(error.__traceback__)
    libraries = tuple(sysconfig.get_paths()[each] for each in ("stdlib", "purelib", "platlib"))
    place = next((each for each in reversed(places) if not each.filename.startswith(libraries)), places[-1])
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return TrainingError(
        f"Worker {rank} failed with {what} ({Path(place.filename).name}, line {place.lineno}, in {place.name}). An error of code "
        "is not tried again: mend it, and the same command with --resume goes on, if a checkpoint was saved. Ray's logs, below "
        "its temporary folder in session_latest/logs, have the whole traceback."
    )


def error_of(run: Path, attempt: int = 0) -> TowerkitError | None:
    """What a worker stopped with on purpose or by an error of code, if any did; all notes are taken away.

    Args:
        run: The Run's folder.
        attempt: Whose error; that of a worker of an earlier one, which ended late, says nothing of this one.
    """
    found, folder = None, checkpoint_folder(run)
    for path in sorted(folder.glob("error-*.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        if path.name.startswith(f"error-{attempt}-"):
            found = found or from_told(told)
    if found is not None:
        with contextlib.suppress(OSError):  # checkpoints are in it
            folder.rmdir()
    return found

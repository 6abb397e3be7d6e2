"""A training that several processes share: what each of them is told, and what it does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from towerkit.core.errors import SpecError, TowerkitError
from towerkit.core.spec import parse
from towerkit.core.world import World
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
    """
    torch.set_num_threads(job.threads)
    spec = parse(ExperimentSpec, dict(job.spec), "the spec of the job")
    run = Path(job.run)
    try:
        dataset = open_data(spec.data, base=Path(job.place), seed=spec.training.seed)
        if world.is_first:
            train_run(run, spec, dataset, Silent(), overwrite=job.overwrite, resume=True, world=world)
        else:
            train_beside(spec, dataset, checkpoints_of(run, spec, dataset), world)
    except TowerkitError as error:
        folder = checkpoint_folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"error-{world.rank}.json", as_told(error))
        raise


def error_of(run: Path) -> TowerkitError | None:
    """What a worker stopped with on purpose, if any did; its note is taken away."""
    found, folder = None, checkpoint_folder(run)
    for path in sorted(folder.glob("error-*.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        found = found or from_told(told)
    if found is not None:
        with contextlib.suppress(OSError):  # checkpoints are in it
            folder.rmdir()
    return found

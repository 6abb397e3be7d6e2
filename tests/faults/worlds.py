"""What the fault scripts share: a small training and its Runs, how to tell which Run is there, and broken writers."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a forked child inherits no threads, so none may be needed
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, read_dataset
from towerkit.experiment import Outcome, train_and_evaluate
from towerkit.run_writer import write_run
from towerkit.spec import ExperimentSpec
from towerkit.storage.atomic import check_target, why_missing
from towerkit.storage.hashes import read_json
from towerkit.storage.manifest import verify
from towerkit.storage.tensors import load_tensors
from towerkit.testing.faults import CASES
from towerkit.training.progress import Silent

MEMORY = next((folder for folder in ["/dev/shm"] if os.access(folder, os.W_OK)), None)  # noqa: S108
"""A killed process loses nothing that it handed to the system, so the disk need not be waited for."""


@functools.cache
def world(seed: int) -> tuple[ExperimentSpec, Dataset]:
    """A training of a few steps on the bundled shop, and its data."""
    case = CASES["one_backprop, debias"]
    training = {**case["training"], "batch_size": 1000, "seed": seed, "checkpoint_every": 2}
    spec = parse(
        ExperimentSpec, {**case, "training": training, "evaluation": {"k": [5], "baselines": [{"kind": "popularity"}]}}
    )
    return spec, read_dataset(spec.data, seed=0)


@functools.cache
def outcome(seed: int) -> Outcome:
    """A trained model to be written."""
    return train_and_evaluate(*world(seed), Silent())


def write(target: Path, seed: int, *, overwrite: bool = False) -> None:
    """Write a Run of that seed."""
    write_run(target, *world(seed), outcome(seed), overwrite=overwrite)


def seed_of(target: Path) -> str:
    """Which Run is there: its seed as a text, ``absent``, or ``between`` if a writer stopped between its two renames.

    Raises:
        RunError: If what is there cannot be read as a Run.
    """
    if os.path.lexists(target):
        verify(target)
        return str(read_json(target / "spec.json")["training"]["seed"])
    return "between" if why_missing(target) else "absent"


@contextlib.contextmanager
def in_place(target: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A writer without the mechanism: it empties the target and fills it."""
    target = Path(target)
    check_target(target, overwrite)
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    yield target


@contextlib.contextmanager
def file_in_place(path: str | Path) -> Iterator[Path]:
    """The same for one file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    yield Path(path)


@contextlib.contextmanager
def as_it_came(step: str) -> Iterator[None]:
    """The system's error without ours around it."""
    yield


def _everywhere(name: str, replacement: Callable[..., Any]) -> list[Any]:
    places = {
        "atomic_folder": ["run_writer", "training.checkpoint"],
        "atomic_file": ["storage.tensors", "storage.atomic"],
        "folder_lock": ["storage.atomic", "training.checkpoint"],
    }
    return [mock.patch(f"towerkit.{place}.{name}", replacement) for place in places[name]]


def no_checkpoints(self: Any, state: Any, stretch: Any) -> None:
    """Nothing is saved after a step."""


def by_time(self: Any) -> list[Path]:
    """The generations by the time of their files."""
    return sorted(self.folder.glob("0*"), key=lambda path: path.stat().st_mtime)


def forgetful(path: str | Path) -> dict[str, Any]:
    """A checkpoint without the moments of its optimizer."""
    tensors = load_tensors(path)
    return {name: np.zeros_like(value) if name.startswith("optimizer.") else value for name, value in tensors.items()}


@contextlib.contextmanager
def no_lock(target: str | Path) -> Iterator[Path]:
    """Everybody may write."""
    yield Path(target)


BROKEN: dict[str, Callable[[], list[Any]]] = {
    "in place": lambda: [*_everywhere("atomic_folder", in_place), *_everywhere("atomic_file", file_in_place)],
    "bare errors": lambda: [mock.patch("towerkit.storage.atomic.as_run_error", as_it_came)],
    "no cleaning": lambda: [mock.patch("towerkit.storage.atomic._leftovers", return_value=[])],
    "no checkpoints": lambda: [mock.patch("towerkit.training.checkpoint.Checkpoints.after_step", no_checkpoints)],
    "no moments": lambda: [mock.patch("towerkit.training.checkpoint.load_tensors", forgetful)],
    "no lock": lambda: _everywhere("folder_lock", no_lock),
    "nobody is dead": lambda: [mock.patch("towerkit.storage.lock.process_is_alive", return_value=True)],
    "order by time": lambda: [mock.patch("towerkit.training.checkpoint.Checkpoints._generations", by_time)],
    "no look ahead": lambda: [mock.patch("towerkit.training.checkpoint.Checkpoints.held", contextlib.nullcontext)],
}
"""Name -> what must be patched to take one mechanism away: the negative controls."""


@contextlib.contextmanager
def broken(name: str | None) -> Iterator[None]:
    """Inside the block one mechanism is missing."""
    with contextlib.ExitStack() as stack:
        for patch in [] if name is None else BROKEN[name]():
            stack.enter_context(patch)
        yield

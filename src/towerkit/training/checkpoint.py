"""Checkpoints: the state of a training in a folder beside its Run, so that a stopped one goes on as if it never had.

The folder ``RUN.checkpoint`` holds two generations, each a folder with a manifest of hashes, written beside its place
and renamed into it. A generation that is not whole is never loaded: the one before it is, and that is said.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from towerkit._version import __version__
from towerkit.core.errors import RunError
from towerkit.core.nesting import below
from towerkit.storage.atomic import as_run_error, atomic_folder
from towerkit.storage.hashes import read_bytes, read_json, write_json
from towerkit.storage.lock import folder_lock
from towerkit.storage.manifest import verify, write_manifest
from towerkit.storage.tensors import load_tensors, save_tensors
from towerkit.training.loop import History, Stretch
from towerkit.training.signals import StopSignals, TrainingStopped
from towerkit.training.snapshot import restore, snapshot
from towerkit.training.state import TrainState
from towerkit.training.steps import ANY_NUMBER

Every = int | Literal["epoch"]
_GENERATION = re.compile(r"\d{9}")
_SHARE = 20
"""With ``every: epoch`` writing may take one part in so many of the time."""
_MAX_HISTORY_BYTES = 1 << 30


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read and verified."""

    stretch: Stretch
    tensors: dict[str, Tensor]
    folder: Path

    def restore(self, state: TrainState) -> None:
        """Put a state that was prepared afresh where the checkpoint was written, and let the tensors go; see :func:`restore`."""
        restore(state, self.tensors, str(self.folder))
        self.tensors.clear()


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: Where they are; made at the first one.
        identity: What the training is made of: ``{"spec": …, "data": …}`` in plain data, with ``encoders`` where
            pretrained ones are read. Another one is refused.
        every: Save after so many steps, or after an ``epoch`` unless that would take more than a twentieth of the time; 0
            only when a signal stops the training.
        stop: Signals to listen to; None leaves them alone.
        say: Told what a person should know.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        *,
        every: Every = "epoch",
        stop: StopSignals | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self.identity, self.every, self.stop, self.say = folder, identity, every, stop, say
        self._generator = torch.default_generator.get_state()
        self._cost, self._saved_at = 0.0, -float("inf")

    def part(self, name: str) -> Checkpoints:
        """The checkpoints of a training inside this one."""
        return Checkpoints(self.folder / name, self.identity, every=self.every, stop=self.stop, say=self.say)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes away from the folder.

        Raises:
            RunError: If another process trains there, or nothing can be written there.
        """
        with as_run_error(f"create the folder {self.folder.parent}"):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
        with folder_lock(self.folder):
            yield

    @property
    def exists(self) -> bool:
        """Whether there is something to go on from; what a process was killed while writing is nothing.

        Raises:
            RunError: If the folder cannot be read.
        """
        with as_run_error(f"list the folder {self.folder}"):
            return any(_GENERATION.fullmatch(path.parent.name) for path in self.folder.rglob("state.json"))

    @property
    def newest(self) -> Path | None:
        """The folder of the newest checkpoint, whole or not; None where there is none.

        Raises:
            RunError: If the folder cannot be read.
        """
        generations = self._generations()
        return generations[-1] if generations else None

    def remove(self) -> None:
        """Remove the folder: the Run is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Signals inside the block end the training after a whole step."""
        self._generator = torch.default_generator.get_state()
        with contextlib.nullcontext() if self.stop is None else self.stop.listening():
            yield

    def load(self) -> Saved | None:
        """The newest checkpoint that is whole, of this very training; None where there is none.

        Raises:
            RunError: If it belongs to another spec or other data; names what differs.
        """
        for folder in reversed(self._generations()):
            try:
                verify(folder)
            except RunError as error:
                self.say(f"The checkpoint {folder} is not whole and is left out: {error}")
                continue
            return _read(folder, self.identity, self.say)
        return None

    def after_step(self, state: TrainState, stretch: Stretch) -> None:
        """Save if it is time.

        Raises:
            TrainingStopped: If a signal came; the state is saved.
        """
        self._generator = torch.default_generator.get_state()
        self._stop_if_asked(state, stretch)
        if isinstance(self.every, int) and self.every and state.step % self.every == 0:
            self.save(state, stretch)

    def steps_left(self, state: TrainState) -> int:
        """Steps to the next one that is saved after."""
        if isinstance(self.every, int) and self.every:
            return self.every - state.step % self.every
        return ANY_NUMBER

    def after_epoch(self, state: TrainState, stretch: Stretch) -> None:
        """Save if it is time, as :meth:`after_step`."""
        self._generator = torch.default_generator.get_state()
        self._stop_if_asked(state, stretch)
        if self.every == "epoch" and time.perf_counter() - self._saved_at >= _SHARE * self._cost:
            self.save(state, stretch)

    def finish(self, state: TrainState, stretch: Stretch) -> None:
        """The training is over: what comes after it can be done again without it."""
        stretch.finished, stretch.best_weights = True, None
        self.save(state, stretch)

    def save(self, state: TrainState, stretch: Stretch) -> None:
        """Write a generation, and remove all but the two newest.

        Raises:
            RunError: If the disk refuses.
        """
        started = time.perf_counter()
        known = self._generations()
        number = int(known[-1].name) + 1 if known else 1
        with atomic_folder(self.folder / f"{number:09d}") as draft:
            write_state(draft, state, stretch, self.identity)
        with contextlib.suppress(OSError):  # the next one tries again
            for old in known[:-1]:
                shutil.rmtree(old, ignore_errors=True)
            self._remove_rests()
        self._saved_at = time.perf_counter()
        self._cost = self._saved_at - started

    def save_failure(self, state: TrainState, stretch: Stretch, about: Mapping[str, Any]) -> Path:
        """Write the state before a step that failed into ``RUN.failed``, beside what is known of the step.

        Args:
            state: The weights have not moved.
            stretch: Where the step belongs.
            about: The step in plain data, for ``batch.json``.

        Returns:
            The folder.
        """
        folder = self.folder.with_suffix(".failed")
        shutil.rmtree(folder, ignore_errors=True)
        torch.default_generator.set_state(self._generator)
        with atomic_folder(folder) as draft:
            write_json(draft / "batch.json", dict(about))
            write_state(draft, state, stretch, self.identity)
        return folder

    def _stop_if_asked(self, state: TrainState, stretch: Stretch) -> None:
        if self.stop is None or self.stop.received is None:
            return
        self.save(state, stretch)
        epoch = len(stretch.history.records) + (1 if stretch.batches else 0)
        raise TrainingStopped(
            f"stopped by the user in epoch {epoch} ({stretch.stage}), after step {state.step:,}; the state is in "
            f"{self.folder}. The same command with --resume continues.",
            self.stop.received,
        )

    def _remove_rests(self) -> None:
        """What processes that were killed left in the folder; we hold its lock."""
        for rest in self.folder.glob(".*.tmp-*"):
            shutil.rmtree(rest, ignore_errors=True)
        for lock in self.folder.glob(".*.lock*"):
            lock.unlink(missing_ok=True)

    def _generations(self) -> list[Path]:
        """The folders, the oldest first."""
        with as_run_error(f"list the folder {self.folder}"):
            if not self.folder.is_dir():
                return []
            return sorted(path for path in self.folder.iterdir() if _GENERATION.fullmatch(path.name) and path.is_dir())


def checkpoint_folder(run: Path) -> Path:
    """Where the checkpoints of a Run are: ``RUN.checkpoint`` beside it.

    Example:
        >>> checkpoint_folder(Path("runs/shop")).as_posix()
        'runs/shop.checkpoint'
    """
    return run.with_name(f"{run.name}.checkpoint")


def write_state(folder: Path, state: TrainState, stretch: Stretch, identity: Mapping[str, Any]) -> None:
    """Write one generation into an empty folder; the manifest comes last."""
    best = {} if stretch.best_weights is None else {f"best.{name}": t for name, t in stretch.best_weights.items()}
    save_tensors(folder / "state.safetensors", snapshot(state) | best)
    content: dict[str, Any] = {
        "identity": dict(identity),
        "about": _about(),
        "stage": stretch.stage,
        "batches": stretch.batches,
        "steps": stretch.steps,
        "loss": stretch.loss.hex(),
        "finished": stretch.finished,
    }
    for name, history in {"history": stretch.history, "before": stretch.before}.items():
        if history is not None:
            content[name] = {
                "best_epoch": history.best_epoch,
                "seconds": history.seconds,
                "decisions": history.decisions,
            }
            lines = [json.dumps(record) for record in [*history.records, {"best": history.best}]]  # may hold NaN
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(folder / "state.json", content)
    write_manifest(folder, kind="checkpoint")


def _read(folder: Path, identity: Mapping[str, Any], say: Callable[[str], None]) -> Saved:
    content = read_json(folder / "state.json")
    check_identity(content["identity"], identity, folder)
    if content["about"] != _about():
        was, now = content["about"], _about()
        changed = ", ".join(
            f"{name} was {was.get(name)} and is {now[name]}" for name in now if was.get(name) != now[name]
        )
        say(f"{changed}: training goes on, but need not end with the bits of a training that never stopped.")
    tensors = {name: torch.from_numpy(array) for name, array in load_tensors(folder / "state.safetensors").items()}
    stretch = Stretch(
        content["stage"],
        _history(folder, "history", content),
        below("best", tensors) or None,
        content["batches"],
        float.fromhex(content["loss"]),
        content["steps"],
        content["finished"],
        _history(folder, "before", content) if "before" in content else None,
    )
    return Saved(stretch, tensors, folder)


def _about() -> dict[str, Any]:
    """What else the bits depend on."""
    return {"towerkit": __version__, "torch": str(torch.__version__), "threads": torch.get_num_threads()}


def _history(folder: Path, name: str, content: Mapping[str, Any]) -> History:
    *records, last = map(json.loads, read_bytes(folder / f"{name}.jsonl", _MAX_HISTORY_BYTES).splitlines())
    about = content[name]
    return History(records, about["best_epoch"], last["best"], about["seconds"], about.get("decisions", {}))


def check_identity(was: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Refuse the checkpoint of another training.

    Raises:
        RunError: If spec or data differ; names what does.
    """
    changed = differences(was["spec"], now["spec"])
    parts = [name for name in sorted({*was["data"], *now["data"]}) if was["data"].get(name) != now["data"].get(name)]
    told = "; ".join([*filter(None, [changed]), *(f"{name} is another one" for name in parts)])
    if not told:
        return
    raise RunError(
        f"{folder} belongs to another training: {told}. Give the spec and data that it was begun with, or "
        "begin anew with --overwrite in place of --resume."
    )


def differences(was: Mapping[str, Any], now: Mapping[str, Any], limit: int = 5) -> str:
    """Which keys of plain data differ, in words; nothing where none does.

    Example:
        >>> differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
        'a.c was 2 and is 3'
    """
    old, new = _flat(was), _flat(now)
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    told = [f"{key} was {_told(old, key)} and is {_told(new, key)}" for key in changed[:limit]]
    return "; ".join(told) + (f" (and {len(changed) - limit} more)" if len(changed) > limit else "")


def _told(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "not there"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {f"{prefix}{key}": inner}
    return found

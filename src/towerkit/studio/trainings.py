"""Trainings that are not over: what their history file says so far, who runs them, and a polite request to stop."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towerkit.core.errors import RunError
from towerkit.metrics.shown import headlines
from towerkit.storage.lock import lock_path, writer_of

_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class Training:
    """One that runs, or that was stopped and can go on."""

    id: str
    folder: Path
    """Of its checkpoints."""
    records: tuple[Mapping[str, Any], ...]
    """An object for each epoch that is done."""
    process: int | None
    """What trains on this machine; None where nothing does."""
    quiet_s: float
    """Since the last epoch."""

    @property
    def name(self) -> str:
        """What people call the Run that it will write."""
        return self.id.replace("~", "/")

    def last(self) -> dict[str, float]:
        """The figures of the last epoch: its loss, and the headline of what validation said."""
        if not self.records:
            return {}
        found = {key: value for key, value in self.records[-1].items() if isinstance(value, int | float)}
        told = {key.removeprefix("validation/"): key for key in found if key.startswith("validation/")}
        shown = (
            [told[name] for name in headlines([name for name in told if name != "loss"])]
            if set(told) - {"loss"}
            else []
        )
        return {key: found[key] for key in ["loss", *shown] if key in found}


def training_of(name: str, folder: Path) -> Training:
    """What is known of a training.

    Args:
        name: Id of the Run that it will write.
        folder: Of its checkpoints.
    """
    history = folder / "history.jsonl"
    try:
        text = history.read_bytes()[:_MOST_BYTES].decode("utf-8", "replace")
        quiet = time.time() - history.stat().st_mtime
    except OSError:
        text, quiet = "", 0.0
    return Training(name, folder, tuple(_records(text)), _process(folder), max(quiet, 0.0))


def _records(text: str) -> list[Mapping[str, Any]]:
    """The lines that are whole: the last one may be on its way to the disk."""
    found: list[Mapping[str, Any]] = []
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "stage" in record and "epoch" in record:
            found.append(record)
    return found


def stop(training: Training) -> None:
    """Ask the process of a training to end as Ctrl-C does: after the step under way, with its state on the disk.

    Args:
        training: One with a process.

    Raises:
        RunError: If no process of this machine trains there, or it may not be asked.
    """
    if training.process is None:
        raise RunError(f"Nothing on this machine trains {training.name}; it was stopped before, or runs elsewhere.")
    if sys.platform == "win32":  # pragma: no cover - there a signal would end the process at once
        raise RunError(
            f"On Windows a training is stopped where it runs, with Ctrl-C; it is process {training.process}."
        )
    try:
        os.kill(training.process, signal.SIGINT)
    except OSError as error:
        raise RunError(f"Process {training.process} cannot be asked to stop ({error.strerror}).") from None


def _process(folder: Path) -> int | None:
    """The process that trains there, if it is the one that wrote the lock and no later one with its number."""
    try:
        process = writer_of(folder)
        locked = lock_path(folder).stat().st_mtime
    except (RunError, OSError):
        return None
    if process is None or process == os.getpid():
        return None
    began = _began(process)
    return process if began is None or began <= locked + 2.0 else None


def _began(process: int) -> float | None:
    """Seconds since 1970 at which a process began; None where the system does not say."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
        boot = next(
            int(line.split()[1])
            for line in Path("/proc/stat").read_text(encoding="ascii").splitlines()
            if line.startswith("btime")
        )
        return boot + int(text.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration, AttributeError):
        return None

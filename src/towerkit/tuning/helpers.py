"""Further processes that make trials of the same study, each with its own log."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_GIVEN = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextmanager
def helping(count: int, words: Sequence[str], folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Let processes of the same command make trials beside the block; at its end wait for them.

    Args:
        count: How many.
        words: What follows ``towerkit`` on the command line.
        folder: Where their logs go, ``helper-1.log`` and so on.
        say: Told of those that failed; what they had begun is made again by others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "towerkit", *words]
    logs = {number: folder / f"helper-{number}.log" for number in range(1, count + 1)}
    processes = {number: _started(command, log, _alone(count)) for number, log in logs.items()}
    try:
        yield
        for number, process in processes.items():
            if process.wait():
                say(f"Helper {number} ended with status {process.returncode}; see {logs[number]}.")
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.terminate()
            process.wait()


def _started(command: Sequence[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("w", encoding="utf-8") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment)  # noqa: S603 - our own module


def _alone(count: int) -> dict[str, str]:
    """The environment with a fair share of the threads, unless it says how many."""
    share = str(max(1, (os.cpu_count() or 1) // (count + 1)))
    return {**dict.fromkeys(_GIVEN, share), **os.environ}

"""A peer's environment, made when it is first asked for, and a process in it that takes its turn when told to.

Peers pin versions that contradict each other and ours, so each has a requirements file and a virtual environment under
``.peers/`` of the checkout (``TOWERKIT_PEERS`` names another folder). Making one needs a package index; where that fails, the peer
is left out and the line says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class PeerError(RuntimeError):
    """A peer's environment cannot be made, or its process ended."""


def interpreter(name: str) -> Path:
    """The Python of the peer's environment, which is made if it is not there or its requirements have changed.

    Raises:
        PeerError: If installing fails, with the end of what pip said.
    """
    wanted = (HERE / f"{name}.txt").read_text(encoding="utf-8")
    cache = Path(os.environ.get("TOWERKIT_PEERS", HERE.parents[1] / ".peers"))
    folder = cache / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    stamp = folder / "installed"
    if not stamp.exists():
        print(f"making {folder}", file=sys.stderr, flush=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(HERE / f"{name}.txt")]
        for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], install):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise PeerError(f"{name}: no environment: {' '.join(done.stderr.split()[-40:])}")
        stamp.touch()
    return python


class Peer:
    """A process in the peer's environment, idle until it is told to go.

    Args:
        process: Started, its pipes open.
        messages: Where its standard error goes: peers warn a lot, so it is read only if the process ends early.
    """

    def __init__(self, process: subprocess.Popen[str], messages: Path) -> None:
        self.process, self.messages = process, messages
        self.about = self._answer()
        """What it says of itself when it is ready: versions, threads."""

    def __call__(self) -> float:
        """Its turn: the seconds that count, as it took them itself."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        """The next line that is ours; whatever else the peer prints is passed over."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("peer:"):
                answer: dict[str, Any] = json.loads(line.removeprefix("peer:"))
                return answer
        code, said = self.process.wait(), self.messages.read_text(encoding="utf-8", errors="replace")
        raise PeerError(f"the process ended with code {code}: {' '.join(said.split()[-40:])}")


@contextmanager
def peer(name: str, script: str, job: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[Peer]:
    """A peer's process for the length of the block.

    Args:
        name: Of its requirements file.
        script: Beside this file; run by the peer's Python.
        job: What it is to do, as JSON; arrays are files of int64.
        environment: Added to this process's.

    Raises:
        PeerError: If there is no environment, or the process ends early.
    """
    calm = {
        "OMP_WAIT_POLICY": "passive"
    }  # threads that wait for work must not take the core of the side whose turn it is
    command = [str(interpreter(name)), str(HERE / script), json.dumps(dict(job))]
    with (
        tempfile.TemporaryDirectory() as folder,
        (Path(folder) / "messages").open("w") as messages,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            cwd=folder,  # peers write logs and checkpoints where they stand
            env={**_without_ours(), **calm, **environment},
        ) as process,
    ):
        try:
            yield Peer(process, Path(messages.name))
        finally:
            process.terminate()


def _without_ours() -> dict[str, str]:
    """The environment, but for what points at this project's packages."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

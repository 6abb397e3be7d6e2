"""The journal of a study: a line of JSON for all that happened, which any number of processes read and append to.

A process may be killed in the middle of a line. The next one to write ends that line first, and nobody reads it: what it
would have said did not happen. (Optuna's own file refuses to go on after such a line.)
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from towerkit.storage.atomic import as_run_error
from towerkit.storage.lock import patiently


class Journal:
    """What Optuna calls a journal backend.

    Args:
        path: The file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = [0]
        """Number of a log -> where to look for it in the file, as far as it was read."""
        with as_run_error(f"write the journal {path}"):
            path.touch()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The logs from a number on.

        Args:
            log_number_from: From 0.
        """
        number = min(log_number_from, len(self._starts) - 1)
        place = self._starts[number]
        with open(self.path, "rb") as file:
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is being written, or its writer died
                place += len(line)
                log = _log(line)
                if log is None:
                    continue
                number += 1
                if len(self._starts) == number:
                    self._starts.append(place)
                if number > log_number_from:
                    yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write logs, and have them on the disk before anyone goes on.

        Args:
            logs: Plain data.
        """
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with patiently(self.path), open(self.path, "ab+") as file:
            file.write(_ending(file) + text.encode())
            file.flush()
            os.fsync(file.fileno())


def _ending(file: Any) -> bytes:
    """What ends a line that was broken off."""
    if not file.seek(0, os.SEEK_END):
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


def _log(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "op_code" in found else None

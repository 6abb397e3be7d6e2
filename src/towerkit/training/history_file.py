"""The history as a file that grows while training goes: a line of JSON per epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from towerkit.storage.atomic import as_run_error
from towerkit.training.progress import Silent


class HistoryFile(Silent):
    """Writes each epoch at once, so that others can follow; begins anew, since a resumed training tells all its epochs.

    Args:
        path: The file; its folder is made at the first epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mode = "w"

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """Write one line.

        Raises:
            RunError: If the disk refuses.
        """
        with as_run_error(f"write {self.path}"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(self._mode, encoding="utf-8") as file:  # closing it hands the line to the system
                file.write(history_line(record))
        self._mode = "a"


def history_line(record: Mapping[str, Any]) -> str:
    """One epoch as a line of JSON, which has neither nan nor infinity.

    Example:
        >>> history_line({"epoch": 1, "loss": float("nan")})
        '{"epoch": 1, "loss": null}\\n'
    """
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()
    }
    return json.dumps(finite) + "\n"

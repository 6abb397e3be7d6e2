"""What was tried while a preset chose: one record per trial, told as an epoch is, until the time is over."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from towerkit.training.loop import Selection
from towerkit.training.progress import Progress


class Trials:
    """Records and scores of trials.

    Args:
        selection: Which figure decides.
        progress: Told of each trial, as of an epoch.

    Attributes:
        records: One per trial, as the lines of a history are.
        deadline: Of ``time.perf_counter``: :meth:`over` after it.
    """

    def __init__(self, selection: Selection, progress: Progress) -> None:
        self.selection, self._progress = selection, progress
        self.records: list[dict[str, Any]] = []
        self.deadline = float("inf")
        self._started = time.perf_counter()

    def over(self) -> bool:
        """Whether no other trial should begin."""
        return time.perf_counter() > self.deadline

    def better(self, score: float, than: float | None) -> bool:
        """Whether a score is better than another one, or the first."""
        return self.selection.better(score, than)

    def told(self, settings: Mapping[str, Any], figures: Mapping[str, float], best: float | None) -> float:
        """Keep and tell a trial.

        Args:
            settings: What was tried.
            figures: What it is worth on validation.
            best: The best score of its kind so far; None for the first.

        Returns:
            Its score: the higher, or lower, the better, as the selection has it.
        """
        score = figures[self.selection.metric]
        record: dict[str, Any] = {"stage": "search", "epoch": len(self.records) + 1, "loss": float("nan"), **settings}
        record |= {f"validation/{name}": value for name, value in figures.items()}
        record["seconds"] = round(time.perf_counter() - self._started, 3)
        self.records.append(record)
        is_best = self.better(score, best)
        self._progress.epoch(record, stage="search", epochs=len(self.records), is_best=is_best)
        return score

"""What a tower costs: its size, and the time it takes, measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from towerkit.ablation.game import Game

REPEATS = 7
_WORDS = {
    "row": "the time to answer a row",
    "query": "the time for a query",
    "candidate": "the time to embed a candidate",
}


@dataclass(frozen=True)
class Cost:
    """Of one tower or member."""

    group: str
    reads: tuple[str, ...]
    parameters: int
    bytes: int
    ms_per_row: float
    """From a raw row to the tower's vector, in a batch; the median of several runs."""
    share: float
    """Of the time of all that works for the same request: the towers of its group, and what follows them."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "reads": list(self.reads)}

    def saves(self) -> str:
        """What one is spared without it, in words."""
        what = _WORDS.get(self.group, f"the time for a row of '{self.group}'")
        return f"{self.share:.0%} of {what}"


def costs(game: Game) -> dict[str, Cost]:
    """The cost of every part, measured one after the other.

    Args:
        game: Of a trained model.
    """
    times = {name: ms_per_row(part.run) for name, part in game.parts.items()}
    rest = {group: ms_per_row(run) for group, run in game.rest.items()}
    total = {group: rest.get(group, 0.0) for group in {part.group for part in game.parts.values()}}
    for name, part in game.parts.items():
        total[part.group] += times[name]
    return {
        name: Cost(part.group, part.reads, part.parameters, part.bytes, times[name], times[name] / total[part.group])
        for name, part in game.parts.items()
    }


def ms_per_row(run: Callable[[], int]) -> float:
    """Milliseconds per row, the median of some runs after one that does not count.

    Args:
        run: Does the work once, and says of how many rows.
    """
    run()
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        rows = run()
        found.append(1000.0 * (time.perf_counter() - started) / max(rows, 1))
    return median(found)

"""One of several processes that train together, for the tests: ``one_worker.py RANK SIZE FOLDER [die|fail AFTER_STEP]``."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from towerkit.scale.job import Job, train_here
from towerkit.scale.processes import Processes, connected
from towerkit.training import state


def exchanged(world: Processes) -> dict[str, object]:
    """What each of a world's ways to exchange gives; of two."""
    own = torch.arange(2.0) + world.rank
    rows = torch.full((world.rank + 1, 2), float(world.rank))
    first: list[tuple[int, list[list[float]]]] = []
    world.at_first(rows, [1, 2], lambda rank, theirs: first.append((rank, theirs.tolist())))
    given, taken = ([1, 2], [1, 1]) if world.is_first else ([1, 1], [2, 1])
    return {
        "sum": world.sum(own.clone()).tolist(),
        "largest": world.largest(own.clone()).tolist(),
        "all": world.all(rows, [1, 2]).tolist(),
        "at_first": first,
        "exchange": world.exchange(torch.arange(sum(given)) + 10 * world.rank, given, taken).tolist(),
        "told": world.told("first: é" if world.is_first else "second"),
        "sent": dict(world.sent),
    }


def ends_after(step: int, end: Callable[[], None]) -> None:
    """Let this process end in the middle of a step."""
    reduce, steps = state.reduce_gradients, itertools.count()

    def reduce_or_end(*arguments: Any) -> None:
        if next(steps) == step:
            end()
        reduce(*arguments)

    state.reduce_gradients = reduce_or_end  # type: ignore[assignment]


def die() -> None:
    """As by ``kill -9``."""
    os._exit(9)


def fail() -> None:
    """As by a tower with a slip in it."""
    raise KeyError("colour")


if __name__ == "__main__":
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    if len(sys.argv) > 4:
        ends_after(int(sys.argv[5]), {"die": die, "fail": fail}[sys.argv[4]])
    with connected(rank, size, folder / "meeting") as world:
        if size == 2:
            (folder / f"exchanged-{rank}.json").write_text(json.dumps(exchanged(world)))
        train_here(Job(**json.loads((folder / "job.json").read_text())), world)
        (folder / f"sent-{rank}.json").write_text(json.dumps(dict(world.sent)))

"""One of several processes that train together, for the tests: ``one_worker.py RANK SIZE FOLDER [DIES_AFTER_STEP]``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

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


def dies_after(step: int) -> None:
    """Let this process vanish in the middle of a step, as by ``kill -9``."""
    reduce = state.reduce_gradients

    def reduce_or_die(*arguments: object) -> None:
        dies_after.seen = getattr(dies_after, "seen", 0) + 1  # type: ignore[attr-defined]
        if dies_after.seen > step:  # type: ignore[attr-defined]
            os._exit(9)
        reduce(*arguments)  # type: ignore[arg-type]

    state.reduce_gradients = reduce_or_die  # type: ignore[assignment]


if __name__ == "__main__":
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    if len(sys.argv) > 4:
        dies_after(int(sys.argv[4]))
    with connected(rank, size, folder / "meeting") as world:
        if size == 2:
            (folder / f"exchanged-{rank}.json").write_text(json.dumps(exchanged(world)))
        train_here(Job(**json.loads((folder / "job.json").read_text())), world)
        (folder / f"sent-{rank}.json").write_text(json.dumps(dict(world.sent)))

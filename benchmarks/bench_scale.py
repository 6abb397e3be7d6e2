"""Bytes that workers exchange in an epoch: both ways to learn, queries at home or not; and the same predicted from the data alone.

Two id towers learn from Gowalla, against candidates that a batch shares or against its own positives. Workers are processes
of this machine that gloo connects over its loopback interface, without Ray, which sends nothing while they train. Each cell
takes some steps of an epoch:

- ``bytes``: what all workers put on the wire in an epoch, as :class:`towerkit.scale.processes.Processes` counts it, by the
  mean of the steps;
- ``loopback``: the same from the counters of the interface, headers and whatever else runs on the machine included;
- ``predicted``: by the formulas of ``docs/scale.md``, from the users and items of the batches, without any training;
- ``optimizer``: bytes that one worker's optimizer holds; ``step_s``: the median time of a step.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from harness import report, stopwatch
from library import dataset_of
from pairs import gowalla

CELLS = [(update, partition) for update in ("two_backprop", "one_backprop") for partition in ("rows", "query")]
SHARED = {"kind": "uniform", "count": 1024, "shared": True}
SORTS: dict[str, tuple[dict[str, Any], str]] = {
    "shared": (SHARED, "touched"),
    "in batch": ({"kind": "in_batch"}, "touched"),
    "shared, rows all": (SHARED, "all"),
}
"""Negatives, and which rows of a table move."""


def spec_of(update: str, partition: str, sort: str, batch: int, dim: int) -> dict[str, Any]:
    """A retrieval spec in plain data."""
    tower, (negatives, rows) = {"kind": "id", "dim": dim}, SORTS[sort]
    optimizer = {"kind": "adam", "lr": 0.01, "rows": rows}
    return {
        "model": {"kind": "two_tower", "query": tower, "candidate": tower},
        "objective": {"loss": {"kind": "sampled_softmax"}, "negatives": [negatives]},
        "update": {"kind": update},
        "training": {"batch_size": batch, "partition": partition, "engine": "torch", "optimizer": optimizer},
    }


def worker(rank: int, size: int, meeting: Path, cells: list[dict[str, Any]], steps: int, *, tiny: bool) -> None:
    """One process: take some steps of each cell, and print what they cost."""
    import torch

    from towerkit.scale.processes import connected

    torch.set_num_threads(1)
    data = dataset_of(gowalla(tiny=tiny).pairs)
    with connected(rank, size, meeting) as world:
        for given in cells:
            print(json.dumps(steps_of(world, data, given, steps)), flush=True)


def steps_of(world: Any, data: Any, given: dict[str, Any], steps: int) -> dict[str, Any]:
    """Some steps of a cell; the first one, which makes what the optimizer remembers, does not count."""
    from towerkit.core.spec import parse
    from towerkit.experiment import recipe_of
    from towerkit.spec import ModelingSpec
    from towerkit.training.crew import Crew
    from towerkit.training.fit import batches_of
    from towerkit.training.loop import Stretch
    from towerkit.training.state import seeded_torch, train_step

    spec = parse(ModelingSpec, given)
    with seeded_torch(0):
        found = recipe_of(spec, data).prepare(data, data.parts.train, spec.training)
        crew = Crew.of(world, found, spec.training)
        crew.shard(found.state, spec.training, Stretch())
        batches = batches_of(found, data.parts.train, spec.training, 0, 0, crew)
        train_step(found.state, next(batches))
        world.told("together")
        before, sent, seconds = loopback(), world.sent.total(), []
        for batch in islice(batches, steps):
            seconds.append(stopwatch(lambda batch=batch: train_step(found.state, batch)))
        sent = world.sent.total() - sent
        world.told("together")
        optimizer = sum(tensor.nbytes for tensor in found.state.optimizer.state().values())
    return {"sent": sent, "loopback": loopback() - before, "optimizer": optimizer, "seconds": seconds}


def loopback() -> int:
    """Bytes that the loopback interface has sent."""
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()
    return next(int(line.split(":")[1].split()[8]) for line in lines if line.strip().startswith("lo:"))


def measured(size: int, cells: list[dict[str, Any]], steps: int, *, tiny: bool) -> list[list[dict[str, Any]]]:
    """Of each worker what it tells of each cell."""
    with tempfile.TemporaryDirectory() as folder:
        words = [str(size), f"{folder}/meeting", json.dumps(cells), str(steps), *(["--tiny"] if tiny else [])]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        started = [
            subprocess.Popen(
                [sys.executable, __file__, "--worker", str(rank), *words],
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for rank in range(size)
        ]
        told = [process.communicate()[0].splitlines() for process in started]
    return [[json.loads(line) for line in lines] for lines in told]


def predicted(size: int, given: dict[str, Any], data: Any) -> float:
    """Bytes that all workers send in an epoch; the formulas of ``docs/scale.md``."""
    from towerkit.models.wiring import pair_of

    rows, training = data.parts.train, given["training"]
    users, items = (np.unique(data.labelled(name, rows).to_numpy(), return_inverse=True)[1] for name in pair_of(data))
    width, batch = 4 * given["model"]["query"]["dim"], training["batch_size"]
    at_home, one = training["partition"] == "query", given["update"]["kind"] == "one_backprop"
    (negatives,) = given["objective"]["negatives"]
    draw = np.random.default_rng(0)
    order, total = draw.permutation(len(rows)), 0.0
    for start in range(0, len(rows), batch):
        chosen = order[start : start + batch]
        owned = (
            [chosen[users[chosen] % size == rank] for rank in range(size)] if at_home else np.array_split(chosen, size)
        )
        drawn = (
            items[chosen] if negatives["kind"] == "in_batch" else draw.integers(0, items.max() + 1, negatives["count"])
        )
        is_dense = training["optimizer"]["rows"] == "all"
        total += exchanged(
            [np.union1d(items[own], drawn) for own in owned], width, items.max() + 2 if is_dense else None
        )
        if not at_home and one:
            total += (size - 1) * len(chosen) * (width + 8)
        elif not at_home:
            total += exchanged([np.unique(users[own]) for own in owned], width, users.max() + 2 if is_dense else None)
    return total


def exchanged(touched: list[Any], width: int, table_rows: int | None) -> float:
    """Bytes for the gradient of a table: as a whole where ``table_rows`` is given, else of the rows that each worker touched."""
    others, rows, distinct = len(touched) - 1, sum(map(len, touched)), len(np.unique(np.concatenate(touched)))
    if table_rows is not None:
        return 2.0 * others * table_rows * width
    return others * (4.0 * rows + width * min(2 * distinct, rows))


def main() -> None:
    """All cells, for every sort of negatives and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--tiny", "--peers", "--quality"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--worker", nargs=5, help="of this script itself: one process")
    parser.add_argument("--workers", nargs="*", type=int, help="how many; 2 and 4 when not given")
    parser.add_argument("--sorts", nargs="*", default=list(SORTS), choices=list(SORTS))
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    if options.worker:
        rank, size, meeting, cells, steps = options.worker
        worker(int(rank), int(size), Path(meeting), json.loads(cells), int(steps), tiny=options.tiny)
        return
    batch, dim, steps = (64, 8, 3) if options.tiny else (8192, 64, options.steps)
    sorts = options.sorts[:1] if options.tiny else options.sorts
    for size in options.workers or ([2] if options.tiny else [2, 4]):
        specs = {(sort, *cell): spec_of(*cell, sort, batch, dim) for sort in sorts for cell in CELLS}
        told = measured(size, list(specs.values()), steps, tiny=options.tiny)
        data = dataset_of(gowalla(tiny=options.tiny).pairs)
        found = {
            key: figures([own[place] for own in told], given, data, steps)
            for place, (key, given) in enumerate(specs.items())
        }
        for sort in sorts:
            cells = {f"{update}, {partition}": found[sort, update, partition] for update, partition in CELLS}
            least, most = cells["one_backprop, query"]["bytes"], cells["two_backprop, rows"]["bytes"]
            ratios = {"one_backprop, query / two_backprop, rows": {"median": round(least / most, 4)}}
            about = {"workers": size, "batch": batch, "dim": dim, "steps": steps, "cells": cells, "ratios": ratios}
            report(f"scale, {sort}, {size} workers", {}, **about)


def figures(told: list[dict[str, Any]], given: dict[str, Any], data: Any, steps: int) -> dict[str, float]:
    """A cell, scaled from its steps to an epoch."""
    scale = len(data.parts.train) / given["training"]["batch_size"] / steps
    return {
        "bytes": round(scale * sum(each["sent"] for each in told)),
        "loopback": round(scale * max(each["loopback"] for each in told)),
        "predicted": round(predicted(len(told), given, data)),
        "optimizer": told[0]["optimizer"],
        "step_s": round(float(np.median(told[0]["seconds"])), 4),
    }


if __name__ == "__main__":
    main()

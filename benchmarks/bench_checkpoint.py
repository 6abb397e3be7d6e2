"""What a checkpoint costs: writing one and reading it back, for tables of two sizes, beside an epoch of the same training.

Flushing to the disk is most of it for small models; ``TMPDIR`` says which disk.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import report

from towerkit.core.spec import parse
from towerkit.data.dataset import make_dataset
from towerkit.data.readers import read_table
from towerkit.data.spec import DataSpec
from towerkit.experiment import checkpoints_of, recipe_of
from towerkit.spec import ModelingSpec
from towerkit.training.fit import batches_of
from towerkit.training.loop import Stretch
from towerkit.training.state import train_step, weights_of


def measure(num_rows: int, num_users: int, num_items: int, dim: int, repeats: int) -> None:
    """Time an epoch, some saves and some loads of one size."""
    draw = np.random.default_rng(0)
    columns = {"user": draw.integers(0, num_users, num_rows), "item": draw.integers(0, num_items, num_rows)}
    examples = {"path": "benchmark", "query": "user", "candidate": "item"}
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    dataset = make_dataset(parse(DataSpec, {"examples": examples, "split": split}), read_table(columns))
    tower = {"kind": "id", "dim": dim}
    spec = parse(ModelingSpec, {"model": {"kind": "two_tower", "query": tower, "candidate": tower}})
    prepared = recipe_of(spec, dataset).prepare(dataset, dataset.parts.train, spec.training)
    started = time.perf_counter()
    for batch in batches_of(prepared, dataset.parts.train, spec.training, 0):
        train_step(prepared.state, batch)
    seconds: dict[str, list[float]] = {"epoch": [time.perf_counter() - started], "save": [], "load and verify": []}
    stretch = Stretch(best_weights=weights_of(prepared.state.model))
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = checkpoints_of(Path(folder) / "run", spec, dataset)
        for _ in range(repeats):
            for name, work in (
                ("save", lambda: checkpoints.save(prepared.state, stretch)),
                ("load and verify", checkpoints.load),
            ):
                started = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - started)
        newest = max((Path(folder) / "run.checkpoint").iterdir())
        size = sum(file.stat().st_size for file in newest.iterdir())
    weights = sum(tensor.numel() * 4 for tensor in prepared.state.model.state_dict().values())
    report("checkpoint", seconds, n=num_rows, rows=num_users + num_items, dim=dim, bytes=size, weight_bytes=weights)


def main() -> None:
    """Measure a small and a large training."""
    tiny = "--tiny" in sys.argv
    measure(4_000 if tiny else 80_000, 943, 1_682, 32, 3 if tiny else 15)
    if not tiny:
        measure(400_000, 100_000, 100_000, 64, 7)


if __name__ == "__main__":
    main()

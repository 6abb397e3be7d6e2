"""Training on vectors that frozen encoders gave before: how many rows a second, and how long until the second training begins.

Three towers of 64 (vectors of the width of MiniLM, of EfficientNet-lite0, and a few numbers) are merged by a gate, in batches of
1,024. Beside the library's epoch stand the cutting of its batches alone, and a plain PyTorch loop over the same arithmetic.

The second part is ``examples/posters_genres.yaml`` in processes of its own, with an empty folder of vectors and again with the
filled one: seconds from the start of the process to the end of the first step. It needs the public data sets, and the encoder that
docs/images.md converts; says so where they are missing.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from harness import ROOT, alternate_timed, data_folder, ratio, report, stopwatch
from library import epoch_timer, fastest_threads, train
from torch import Tensor, nn
from torch.nn import functional

from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, make_dataset, read_dataset
from towerkit.data.readers import read_table
from towerkit.data.spec import DataSpec
from towerkit.training.fit import batches_of
from towerkit.training.progress import Silent, Step
from towerkit.training.spec import TrainingSpec

WIDTHS = {"text": 384, "picture": 1280, "numbers": 32}
DIM, BATCH, LR = 64, 1024, 1e-3
POSTERS = "examples/posters_genres.yaml"


def modeling() -> dict[str, Any]:
    """Three towers, a gate, a binary head."""
    towers = {name: {"kind": "vector", "columns": [name], "scale": "none", "dim": DIM} for name in WIDTHS}
    heads = {"liked": {"kind": "binary", "column": "liked"}}
    model = {"kind": "tower_model", "towers": towers, "backbone": {"kind": "gated", "dim": DIM}, "heads": heads}
    return {"model": model, "training": {"batch_size": BATCH, "optimizer": {"kind": "adam", "lr": LR}}}


def dataset_of(vectors: dict[str, np.ndarray[Any, Any]], liked: np.ndarray[Any, Any]) -> Dataset:
    """Columns of vectors, as Parquet gives them; all rows are for training."""
    columns = {name: pa.FixedSizeListArray.from_arrays(pa.array(v.ravel()), v.shape[1]) for name, v in vectors.items()}
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    table = pa.table({**columns, "liked": pa.array(liked)})
    return make_dataset(parse(DataSpec, {"examples": {"path": "benchmark"}, "split": split}), read_table(table))


class ByHand(nn.Module):
    """The same arithmetic, written down once."""

    def __init__(self) -> None:
        super().__init__()
        self.towers = nn.ModuleList(nn.Linear(width, DIM) for width in WIDTHS.values())
        self.values = nn.ModuleList(nn.Linear(DIM, DIM) for _ in WIDTHS)
        self.gates, self.head = nn.Linear(len(WIDTHS) * DIM, len(WIDTHS) * DIM), nn.Linear(DIM, 1)

    def forward(self, given: list[Tensor]) -> Tensor:
        """Logits ``[batch]``."""
        parts = [tower(each) for tower, each in zip(self.towers, given, strict=True)]
        gates = torch.sigmoid(self.gates(torch.cat(parts, dim=1))).chunk(len(parts), dim=1)
        values = [torch.tanh(value(part)) for value, part in zip(self.values, parts, strict=True)]
        merged = torch.stack([gate * value for gate, value in zip(gates, values, strict=True)]).sum(dim=0)
        found: Tensor = self.head(merged)[:, 0]
        return found


def loop_by_hand(vectors: dict[str, np.ndarray[Any, Any]], liked: np.ndarray[Any, Any]) -> Any:
    """An epoch of a plain loop over tensors."""
    model, given = ByHand(), [torch.from_numpy(each) for each in vectors.values()]
    truth = torch.from_numpy(liked).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)

    def epoch() -> None:
        for rows in torch.randperm(len(truth)).split(BATCH):
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(model([each[rows] for each in given]), truth[rows]).backward()
            optimizer.step()

    return epoch


def rows_per_second(*, tiny: bool) -> None:
    """The library's epoch, its batches alone, and the plain loop, in turns."""
    n, random = 2_000 if tiny else 50_000, np.random.default_rng(0)
    vectors = {name: random.standard_normal((n, width), dtype=np.float32) for name, width in WIDTHS.items()}
    liked = random.integers(0, 2, n)
    dataset = dataset_of(vectors, liked)
    training = parse(TrainingSpec, modeling()["training"])
    prepared = train(dataset, modeling(), epochs=1).prepared
    epoch = loop_by_hand(vectors, liked)

    def cut() -> None:
        for _ in batches_of(prepared, dataset.parts.train, training, 1):
            pass

    def median_of(work: Callable[[], None]) -> float:
        return statistics.median(stopwatch(work) for _ in range(epochs))

    epochs = 1 if tiny else 3
    sides, threads = {}, {}
    for name, timed in {
        "by hand": partial(median_of, epoch),
        "batches alone": partial(median_of, cut),
        "towerkit": epoch_timer(dataset, modeling(), epochs=epochs),
    }.items():
        sides[name], threads[name] = fastest_threads(timed)
    seconds = alternate_timed(sides, 2 if tiny else 9)
    names = ("by hand", "batches alone")
    ratios = {f"{name} / towerkit": ratio(seconds[name], seconds["towerkit"]) for name in names}
    about = {"widths": WIDTHS, "dim": DIM, "batch": BATCH, "threads_of": threads}
    report("cached vectors", seconds, n=n, dtype="float32", **about, ratios=ratios)


class Stepped(Exception):
    """The first step is done."""


class Until(Silent):
    """Stops a training after its first step."""

    def step(self, step: Step) -> None:
        """That was it."""
        raise Stepped


def child(spec: Path) -> None:
    """Train as the command does, say that the first step is done, and stop."""
    from towerkit.experiment import train_and_evaluate
    from towerkit.spec import load_spec

    experiment = load_spec(spec)
    dataset = read_dataset(experiment.data, base=spec.parent, seed=experiment.training.seed)
    with suppress(Stepped):
        train_and_evaluate(experiment, dataset, Until())
    print("stepped", flush=True)


def seconds_to_first_step(data: Path, cache: str) -> float:
    """From the start of a process to the end of its first step."""
    environment = {**os.environ, "TOWERKIT_CACHE": cache, "TOWERKIT_DATA": str(data)}
    begun = time.perf_counter()
    command = [sys.executable, __file__, "--child", str(ROOT / POSTERS)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        took = time.perf_counter() - begun
    if said.strip() != "stepped":
        sys.exit(f"bench_cached: no step was taken; the training ended with status {process.returncode}")
    return took


def first_step() -> None:
    """Processes with an empty folder of vectors, and after each one some with the filled one."""
    data, encoder = data_folder(), ROOT / "encoders" / "efficientnet_lite0"
    if data is None or not data_folder("mm-ml1m-posters") or not encoder.exists():
        print(f"bench_cached needs the public data sets and {encoder} for its second part", file=sys.stderr)
        return
    seconds: dict[str, list[float]] = {"empty cache": [], "filled cache": []}
    for _ in range(2):
        with tempfile.TemporaryDirectory() as cache:
            for name in ("empty cache", *["filled cache"] * 4):
                seconds[name].append(seconds_to_first_step(data, cache))
    report("first step", seconds, data=POSTERS)


def main() -> None:
    """Both parts; or a child of the second."""
    if "--child" in sys.argv:
        child(Path(sys.argv[-1]))
        return
    tiny = "--tiny" in sys.argv
    rows_per_second(tiny=tiny)
    if not tiny:
        first_step()


if __name__ == "__main__":
    main()

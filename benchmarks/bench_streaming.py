"""Training from Parquet that is never in memory: time per interaction of a log ten times as long, and the memory it takes.

Two synthetic logs have the same users and items, so the tables are the same; only the rows differ. Each is read once, encoded
on disk and gathered, and these passes are told apart. Then both are trained in turns: every measurement is as many rows as a
window of the order has, reading and shuffling included, and goes on where the one before stopped. Processor time is told
beside the time, for a busy machine takes turns with others.

Memory is measured in a process of its own that does everything from the Parquet files to some windows of training, and with
``--run`` to the evaluated Run after one whole epoch. ``anonymous`` is what the process holds for itself (``RssAnon``), sampled;
``resident`` (``VmHWM``) has the pages of files besides, which the system takes back when memory is short.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from harness import alternate_timed, ratio, report, stopwatch

from towerkit.api import fit
from towerkit.core.random import generator, stream
from towerkit.core.spec import parse
from towerkit.data.stream.learned import learned_pairs
from towerkit.data.stream.log import Log
from towerkit.data.stream.opening import open_log
from towerkit.experiment import log_recipe_of
from towerkit.spec import ExperimentSpec
from towerkit.training.fit import Prepared
from towerkit.training.state import seeded_torch
from towerkit.training.steps import Stepped

_CHUNK_ROWS = 1 << 20
_SAMPLE_S = 0.02
_USER_POWER, _ITEM_POWER = 1.5, 3.0
"""``floor(count * u^power)`` for uniform ``u``: the low numbers come more often."""


@dataclass(frozen=True)
class Size:
    """How large the logs and the tables are."""

    rows: tuple[int, int] = (10_000_000, 100_000_000)
    users: int = 1_000_000
    items: int = 100_000
    dim: int = 32
    file_rows: int = 10_000_000
    window_rows: int = 1 << 22
    repeats: int = 7
    held_out: float = 0.001
    """Share of validation and of test each."""


TINY = Size((3_000, 30_000), 500, 100, 8, 10_000, 1 << 11, 2, 0.02)


def write_log(folder: Path, rows: int, size: Size) -> float:
    """Every user and every item once, then skewed draws; the seconds it took."""
    started = time.perf_counter()
    folder.mkdir()
    draw = generator(0, "benchmark log", rows)
    everyone = draw.permutation(size.users).astype(np.int32)
    for start in range(0, rows, size.file_rows):
        stop = min(rows, start + size.file_rows)
        with pq.ParquetWriter(folder / f"part-{start // size.file_rows:03}.parquet", _SCHEMA) as writer:
            for low in range(start, stop, _CHUNK_ROWS):
                count = min(_CHUNK_ROWS, stop - low)
                user = (size.users * draw.random(count) ** _USER_POWER).astype(np.int32)
                item = (size.items * draw.random(count) ** _ITEM_POWER).astype(np.int32)
                first = np.arange(low, min(low + count, size.users))
                user[: len(first)], item[: len(first)] = everyone[first], first % size.items
                writer.write_table(pa.table({"user": user, "item": item}, schema=_SCHEMA))
    return time.perf_counter() - started


_SCHEMA = pa.schema([("user", pa.int32()), ("item", pa.int32())])


def spec_of(folder: Path, size: Size) -> ExperimentSpec:
    """BPR by the compiled engine, one epoch."""
    tower = {"kind": "id", "dim": size.dim}
    cache = {"cache": str(folder.parent / f"{folder.name}-cache")}
    return parse(
        ExperimentSpec,
        {
            "data": {
                "examples": {"path": str(folder), "query": "user", "candidate": "item", "stream": cache},
                "split": {"kind": "random", "validation": size.held_out, "test": size.held_out},
            },
            "model": {"kind": "two_tower", "query": tower, "candidate": tower, "match": {"kind": "dot"}},
            "objective": {"loss": {"kind": "bpr"}, "negatives": [{"kind": "uniform", "count": 1}]},
            "update": {"kind": "two_backprop"},
            "training": {"engine": "compiled", "epochs": 1, "refit": False, "window_rows": size.window_rows},
            "evaluation": {"baselines": [{"kind": "popularity"}]},
        },
    )


@dataclass
class Training:
    """A log that is ready to be trained, and how long it took to get there."""

    log: Log
    prepared: Prepared
    passes: dict[str, float]
    steps: Iterator[Stepped]
    cpu: list[float] = field(default_factory=list)
    """Seconds of processor time per interaction, of each measurement."""

    @classmethod
    def begin(cls, folder: Path, size: Size, phase: Callable[[str], Any]) -> Training:
        """Encode, gather, build."""
        spec, passes = spec_of(folder, size), {}
        with phase("encode"):
            started = time.perf_counter()
            log = open_log(spec.data)
            passes["encode_s"] = time.perf_counter() - started
        with phase("gather"):
            passes["gather_s"] = stopwatch(lambda: learned_pairs(log))
        with phase("build"), seeded_torch(stream(0, "torch")):
            started = time.perf_counter()
            prepared = log_recipe_of(spec, log).prepare(log, log.parts.train, spec.training)
            passes["open_and_build_s"] = time.perf_counter() - started
        assert prepared.engine is not None
        steps = chain.from_iterable(prepared.engine.steps(epoch, 0) for epoch in count())
        return cls(log, prepared, {name: round(seconds, 2) for name, seconds in passes.items()}, steps)

    def train_window(self) -> float:
        """Train on as many rows as a window has, where the last time stopped; seconds per interaction."""
        engine = self.prepared.engine
        assert engine is not None
        batches, done = engine.training.window_rows // engine.training.batch_size, 0
        worked, started = time.process_time(), time.perf_counter()
        while done < batches:
            done += len(next(self.steps).losses)
        rows = done * engine.training.batch_size
        self.cpu.append((time.process_time() - worked) / rows)
        return (time.perf_counter() - started) / rows


@contextmanager
def no_phase(name: str) -> Iterator[None]:
    """Nothing is looked at."""
    yield


class Memory:
    """The most that each phase held, sampled by a thread."""

    def __init__(self) -> None:
        self.peaks: dict[str, dict[str, int]] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Look on while the block runs."""
        done, peak = threading.Event(), self.peaks.setdefault(name, {"anonymous": 0, "resident": 0})

        def look() -> None:
            while True:
                held = status()
                peak["anonymous"] = max(peak["anonymous"], held["RssAnon"])
                peak["resident"] = max(peak["resident"], held["VmRSS"])
                if done.wait(_SAMPLE_S):
                    return

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


def status() -> dict[str, int]:
    """Bytes of this process by the system's names."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0].rstrip(":"): 1024 * int(line[1]) for line in lines if line[-1] == "kB"}


def measure_time(folders: list[Path], size: Size) -> None:
    """Windows of both logs, in turns."""
    both = [Training.begin(folder, size, no_phase) for folder in folders]
    names = [f"{rows:,} rows" for rows in size.rows]
    sides = {name: each.train_window for name, each in zip(names, both, strict=True)}
    for each in both:
        each.train_window()  # compiles, and touches the tables
        each.cpu.clear()
    seconds = alternate_timed(sides, size.repeats)
    longer = ratio(seconds[names[1]], seconds[names[0]])
    worked = ratio(both[1].cpu, both[0].cpu)
    about: dict[str, Any] = {"n": size.rows[1], "users": size.users, "items": size.items, "dim": size.dim}
    about |= {
        "window": size.window_rows,
        "batch": 1024,
        "dtype": "float32",
        "engine": "compiled",
        "unit": "per interaction",
    }
    about["passes"] = {name: each.passes for name, each in zip(names, both, strict=True)}
    about["cpu_seconds"] = {name: float(np.median(each.cpu)) for name, each in zip(names, both, strict=True)}
    ratios = {f"{names[1]} / {names[0]}": longer, f"{names[1]} / {names[0]}, processor time": worked}
    report("streamed interactions", seconds, **about, ratios=ratios)


def measure_memory(folder: Path, size: Size, *, whole: bool) -> None:
    """One log from its files on, by phases."""
    memory = Memory()
    training = Training.begin(folder, size, memory.phase)
    with memory.phase("train"):
        for _ in range(2):
            training.train_window()
    told: dict[str, Any] = {"passes": training.passes}
    del training
    if whole:
        with memory.phase("run"), tempfile.TemporaryDirectory(dir=folder.parent) as place:
            started = time.perf_counter()
            run = fit(spec_of(folder, size), run=Path(place) / "run")
            told["run_s"] = round(time.perf_counter() - started, 1)
            told["metrics"] = {name: run.evaluation.metrics[name].value for name in ("ndcg@10", "recall@10")}
    told |= {"phases": memory.peaks, "whole": whole, "resident_bytes": status()["VmHWM"]}
    told["peak_bytes"] = max(peak["anonymous"] for peak in memory.peaks.values())
    about = {"n": size.rows[1], "users": size.users, "items": size.items, "dim": size.dim, "dtype": "float32"}
    report("streamed peak memory", {}, **about, **told)


def main() -> None:
    """Write both logs, then measure in processes of their own; the folder is removed at the end."""
    tiny, size = "--tiny" in sys.argv, TINY if "--tiny" in sys.argv else Size()
    if "--child" in sys.argv:
        what, *folders = json.loads(sys.argv[sys.argv.index("--child") + 1])
        torch.set_num_threads(int(os.environ.get("TOWERKIT_BENCH_THREADS", torch.get_num_threads())))
        if what == "time":
            measure_time([Path(folder) for folder in folders], size)
        else:
            measure_memory(Path(folders[0]), size, whole=what == "run")
        return
    with tempfile.TemporaryDirectory(prefix="towerkit-streaming-") as place:
        folders = [Path(place) / f"log-{rows}" for rows in size.rows]
        for folder, rows in zip(folders, size.rows, strict=True):
            seconds = write_log(folder, rows, size)
            print(f"wrote {rows:,} rows in {seconds:.0f} s", file=sys.stderr, flush=True)
        whole = "run" if tiny or "--run" in sys.argv else "memory"
        for what in ([whole, str(folders[1])], ["time", *map(str, folders)]):
            command = [sys.executable, __file__, "--child", json.dumps(what), *(["--tiny"] if tiny else [])]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

"""What `--on` costs and keeps: an epoch with one worker on Ray beside the plain command, and how good two workers end beside one.

Gowalla, ids only: the same spec by the plain command and by ``--on local --workers 1``, in turns; an epoch is the median of all
but the first, which compiles, and what the whole command takes more is the start. MovieLens-1M: one and two workers with the same
batch of all, early stopping included. A log of 10^8 synthetic rows in Parquet: one epoch by the command with a worker on Ray,
and the most that a process of Ray's holds meanwhile. Needs Ray; the last two parts need ``--quality``, for they take a quarter of
an hour each.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import yaml
from bench_streaming import Size, spec_of, write_log
from harness import ROOT, data_folder, ratio, report, train_by_command
from pairs import gowalla

WORKERS: dict[str, list[str]] = {"plain": [], "one worker": ["--on", "local", "--workers", "1"]}
RESULTS = ROOT / "benchmarks" / "results"


def overhead(place: Path, *, tiny: bool) -> None:
    """Epochs of Gowalla, plain and with one worker on Ray."""
    source = gowalla(tiny=tiny)
    pyarrow.parquet.write_table(
        pa.table({"user": source.pairs.users, "item": source.pairs.items}), place / "pairs.parquet"
    )
    spec = yaml.safe_load((RESULTS / "gowalla.yaml").read_text())
    spec["data"] = {
        "examples": {"path": "pairs.parquet", "query": "user", "candidate": "item"},
        "split": {"kind": "random", "validation": 0.0, "test": 0.01},
    }
    (place / "spec.yaml").write_text(yaml.safe_dump(spec))
    settings = {
        "training.epochs": 3 if tiny else 11,
        "training.engine": "auto" if not tiny else "torch",
        "training.checkpoint_every": 0,
        "evaluation.baselines": ["popularity"],
    }
    epochs: dict[str, list[float]] = {name: [] for name in WORKERS}
    whole: dict[str, list[float]] = {name: [] for name in WORKERS}
    for _ in range(1 if tiny else 3):
        for name, words in WORKERS.items():
            _, records, seconds = train_by_command([str(place / "spec.yaml"), *words], settings)
            epochs[name].append(statistics.median(np.diff([record["seconds"] for record in records])))
            whole[name].append(seconds)
    start = statistics.median(whole["one worker"]) - statistics.median(whole["plain"])
    ratios = {"one worker / plain": ratio(epochs["one worker"], epochs["plain"])}
    about = {"data": source.origin, "n": len(source.pairs.users), "epochs": settings["training.epochs"]}
    report("one worker on Ray", epochs, **about, start_s=round(start, 1), ratios=ratios)


def quality() -> None:
    """MovieLens-1M by one worker and by two, the same batch of all."""
    settings = {"training.engine": "torch", "training.epochs": 30, "evaluation.baselines": ["popularity"]}
    found = {}
    for update in ("two_backprop", "one_backprop"):
        for workers in (1, 2):
            chosen = settings | {"update.kind": update}
            words = [str(RESULTS / "ml1m.yaml"), "--on", "local", "--workers", str(workers)]
            answer, _, seconds = train_by_command(words, chosen)
            metrics = {name: answer["metrics"][name] for name in ("recall@20", "ndcg@20")}
            found[f"{update}, {workers}"] = {"metrics": metrics, "epochs": answer["epochs"], "seconds": round(seconds)}
    report("one and two workers", {}, data="ml-1m, LightGCN-style split", sides_found=found)


class Held(threading.Thread):
    """The most that a worker of Ray's holds on this machine, sampled: pages of mapped files counted in, and without."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over, self.resident, self.own = threading.Event(), 0, 0

    def run(self) -> None:
        """Look until it is over."""
        while not self.over.wait(0.2):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if (process / "cmdline").read_bytes().startswith(b"ray::"):
                        lines = (process / "status").read_text(encoding="utf-8").splitlines()
                        sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
                        self.resident = max(self.resident, 1024 * int(sizes["VmHWM"]))
                        self.own = max(self.own, 1024 * int(sizes["RssAnon"]))
                except (OSError, KeyError):
                    continue  # it has ended


def streamed(place: Path) -> None:
    """An epoch of 10^8 rows by a worker on Ray, from the Parquet files to the Run."""
    size = Size()
    folder, rows = place / "log", size.rows[1]
    print(f"wrote {rows:,} rows in {write_log(folder, rows, size):.0f} s", file=sys.stderr, flush=True)
    spec = place / "streamed.yaml"
    spec.write_text(yaml.safe_dump(spec_of(folder, size).model_dump(mode="json", exclude_unset=True)))
    held = Held()
    held.start()
    answer, _, seconds = train_by_command([str(spec), "--on", "local", "--workers", "1"], {})
    held.over.set()
    told = {"resident_bytes": held.resident, "peak_bytes": held.own, "seconds": round(seconds)}
    about = {"n": rows, "users": size.users, "items": size.items, "dim": size.dim, "engine": "compiled"}
    metrics = {name: answer["metrics"][name]["value"] for name in ("ndcg@10", "recall@10")}
    report("streamed on Ray, peak memory", {}, **about, **told, metrics=metrics)


def main() -> None:
    """Both parts."""
    if importlib.util.find_spec("ray") is None:
        print("bench_workers needs towerkit[ray]", file=sys.stderr)
        return
    tiny = "--tiny" in sys.argv
    with tempfile.TemporaryDirectory() as place:
        overhead(Path(place), tiny=tiny)
    if "--quality" in sys.argv:
        if data_folder("ml-1m") is not None:
            quality()
        with tempfile.TemporaryDirectory(prefix="towerkit-workers-") as place:
            streamed(Path(place))


if __name__ == "__main__":
    main()

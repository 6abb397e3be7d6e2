"""``towerkit train --preset spectral`` on five public data sets, beside the baselines, as ``presets.json``.

Usage: ``python benchmarks/results/presets.py [NAME ...]`` with ``TOWERKIT_DATA`` at the folder of the data sets. Each row is one
run of the command line on the files alone: nothing is set but how a file is read where it does not say it itself. The baselines
have their default settings; EASE is left out where its matrix does not fit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TOWERKIT_DATA", ROOT.parent / "shared" / "data"))
OUT = Path(__file__).with_name("presets.json")
GOWALLA = "gowalla/light_gcn_gowalla.zip::light_gcn_gowalla"
SETS: dict[str, list[str]] = {
    "ml-100k": ["--data", "ml-100k/reference_split/100k_train.csv", "--test", "ml-100k/reference_split/100k_test.csv"],
    "last.fm": ["--data", "lightgcn-lastfm/data1.txt", "--test", "lightgcn-lastfm/test1.txt"],
    "beauty": [
        *("--data", "seq-s3rec/Beauty.txt", "--set", "data.examples.format=sequences"),
        *("--set", "data.split={kind: leave_last, position: position}"),
    ],
    "ml-1m": ["--data", "ml-1m/lightgcn_style/train.txt", "--test", "ml-1m/lightgcn_style/test.txt"],
    "gowalla": ["--data", f"{GOWALLA}/train.txt", "--test", f"{GOWALLA}/test.txt"],
}
BASELINES = "evaluation.baselines=[popularity, item_knn, ials, ease]"
"""All of them take minutes on Gowalla."""


def main(names: list[str]) -> None:
    """Run each data set twice: as a user would, for the time, and with all baselines beside it."""
    rows = json.loads(OUT.read_text()) if OUT.exists() else {}
    for name in names or list(SETS):
        rows[name] = measure(SETS[name])
        print(name, json.dumps(rows[name]))
        OUT.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")


def measure(options: list[str]) -> dict[str, Any]:
    """One data set: seconds of the plain command, its figures, and those of the baselines."""
    located = [str(DATA / each) if before in ("--data", "--test") else each for before, each in pairs(options)]
    load = os.getloadavg()[0]
    plain, seconds = train(located)
    beside, _ = train([*located, "--set", BASELINES])
    shown = ("recall@20", "ndcg@20")
    assert all(plain["metrics"][m]["value"] == beside["metrics"][m]["value"] for m in shown), "the preset must repeat"
    figures = {"spectral": plain["metrics"], **beside["baselines"]}
    return {
        "figures": {of: {m: round(metrics[m]["value"], 4) for m in shown} for of, metrics in figures.items()},
        "left_out": beside["protocol"].get("baselines_left_out", {}),
        "chosen": {key: value for key, value in plain["chosen"].items() if key not in ("kind", "entity")},
        "queries": plain["metrics"]["ndcg@20"]["n"],
        "candidates": plain["protocol"]["candidates"],
        "split": plain["protocol"]["split"],
        "command_seconds": round(seconds, 1),
        "load_before": round(load, 1),
        "cpus": os.cpu_count(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def pairs(options: list[str]) -> list[tuple[str, str]]:
    """Each option with the one before it."""
    return list(zip(["", *options], options, strict=False))


def train(options: list[str]) -> tuple[dict[str, Any], float]:
    """Run the command; what it printed, and its seconds from start to end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "towerkit", "train", "--preset", "spectral", *options]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--run", f"{folder}/run", "--json"], capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout), seconds


if __name__ == "__main__":
    main(sys.argv[1:])

"""``towerkit train --preset``, ``spectral`` and ``best``, on five public data sets, beside the baselines, as ``presets.json``.

Usage: ``python benchmarks/results/presets.py [NAME ...] [--without-baselines]`` with ``TOWERKIT_DATA`` at the folder of the data
sets. Each row is one
run of the command line on the files alone: nothing is set but how a file is read where it does not say it itself. The baselines
have their default settings; EASE is left out where its matrix does not fit. ``--without-baselines`` keeps the figures of the
baselines that the file has, which stay the same for the same split.
"""

from __future__ import annotations

import json
import os
import resource
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
    """Run each data set as a user would, with each preset, and once more with all baselines beside."""
    rows = json.loads(OUT.read_text()) if OUT.exists() else {}
    kept = "--without-baselines" in names
    for name in [name for name in names if name in SETS] or list(SETS):
        rows[name] = measure(SETS[name], rows.get(name, {}) if kept else None)
        print(name, json.dumps(rows[name]))
        OUT.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")


def measure(options: list[str], kept: dict[str, Any] | None = None) -> dict[str, Any]:
    """One data set: what the plain commands take, their figures, and those of the baselines.

    Args:
        options: Of the command.
        kept: What was measured before, whose baselines stay; None measures them.
    """
    located = [str(DATA / each) if before in ("--data", "--test") else each for before, each in pairs(options)]
    load = os.getloadavg()[0]
    plain, seconds, processor = train("spectral", located)
    best, best_seconds, best_processor = train("best", located)
    figures = {"best": rounded(best["metrics"]), "spectral": rounded(plain["metrics"])}
    if kept is None:
        beside, _, _ = train("spectral", [*located, "--set", BASELINES])
        assert rounded(plain["metrics"]) == rounded(beside["metrics"]), "the preset must repeat"
        figures |= {name: rounded(metrics) for name, metrics in beside["baselines"].items()}
        left_out = beside["protocol"].get("baselines_left_out", {})
    else:
        figures |= {name: value for name, value in kept.get("figures", {}).items() if name not in figures}
        figures.setdefault("popularity", rounded(plain["baselines"]["popularity"]))
        left_out = kept.get("left_out", {})
    return {
        "figures": figures,
        "left_out": left_out,
        "chosen": {key: value for key, value in plain["chosen"].items() if key not in ("kind", "entity")},
        "chosen_best": best["chosen"],
        "queries": plain["metrics"]["ndcg@20"]["n"],
        "candidates": plain["protocol"]["candidates"],
        "split": plain["protocol"]["split"],
        "command_seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "best_seconds": round(best_seconds, 1),
        "best_processor_seconds": round(best_processor, 1),
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


def rounded(metrics: dict[str, Any]) -> dict[str, float]:
    """The figures that are shown."""
    return {name: round(metrics[name]["value"], 4) for name in ("recall@20", "ndcg@20")}


def train(preset: str, options: list[str]) -> tuple[dict[str, Any], float, float]:
    """Run the command; what it printed, its seconds from start to end, and those of the processors."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "towerkit", "train", "--preset", preset, *options]
        started, before = time.perf_counter(), spent()
        done = subprocess.run(
            [*command, "--run", f"{folder}/run", "--json"], capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout), seconds, spent() - before


def spent() -> float:
    """Processor seconds of all commands that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1:])

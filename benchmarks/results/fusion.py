"""Measure many towers and fusion as docs/results.md shows them: each question with its models, seeds and paired differences.

    python benchmarks/results/fusion.py --out build/fusion [--only adult posters] [--seeds 0 1]

``fusion_rows.py`` says what is asked and of which models. Each training is the command ``towerkit train SPEC --set …`` with one
thread; two models of one seed, which have the same test rows, are compared as ``towerkit compare`` does, in one metric or two that
were named beforehand. What is there already is not run again, so an interrupted measurement continues; whatever is measured is
added to ``fusion.json`` beside this file, from which ``write.py`` makes the page.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from fusion_rows import ROWS, Model, Row
from safetensors import safe_open

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FIGURES = HERE / "fusion.json"


def main() -> None:
    """Train what is missing, compare, and add it to the figures that are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the Runs and their answers")
    parser.add_argument("--only", nargs="*", default=[row.name for row in ROWS])
    parser.add_argument("--seeds", nargs="*", type=int, help="instead of those of each row")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for row in ROWS:
        for seed in (options.seeds or row.seeds) if row.name in options.only else ():
            keep([of_row(row, train(row, model, seed, options.out)) for model in row.models], "runs")
            keep(list(compared(row, seed, options.out)), "differences")


def train(row: Row, model: Model, seed: int, out: Path) -> dict[str, Any]:
    """Run one training as a process of its own; what it measured."""
    run = folder(row, model, seed, out)
    answer = run.with_suffix(".json")
    if answer.exists():
        return dict(json.loads(answer.read_text()))
    settings = {**row.settings, **model.settings_with(ROOT), "training.seed": seed}
    command = ["train", str(ROOT / model.spec), "--run", str(run), "--overwrite", "--json"]
    for key, value in settings.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    started = time.perf_counter()
    report = towerkit(command)
    tasks = model.keep.get("heads", ())
    prefix = f"{tasks[0]}/" if len(tasks) == 1 else ""
    found = {
        "row": row.name,
        "model": model.name,
        "seed": seed,
        "spec": model.spec,
        "settings": settings,
        "metrics": named(report["metrics"], prefix),
        "beside": {name: named(values, prefix) for name, values in report["baselines"].items()},
        "protocol": {
            key: report["protocol"][key] for key in ("queries", "candidates", "rows") if key in report["protocol"]
        },
        "parameters": parameters(run),
        "epochs": report["epochs"],
        "training_seconds": report["seconds"],
        "measured": f"{date.today()} at {commit()}",
    }
    answer.write_text(json.dumps(found))
    shown = {name: round(value["value"], 4) for name, value in of_row(row, found)["metrics"].items()}
    print(f"{time.strftime('%H:%M:%S')} {run.name}: {time.perf_counter() - started:.0f} s, {shown}", flush=True)
    return found


def compared(row: Row, seed: int, out: Path) -> Iterator[dict[str, Any]]:
    """The differences that the row asks for, each model against each one named beside it, in what both are measured by."""
    models = {model.name: model for model in row.models}
    for ahead, behind in row.pairs:
        runs = [folder(row, models[name], seed, out) for name in (behind, ahead)]
        known = [json.loads(run.with_suffix(".json").read_text())["metrics"] for run in runs]
        command = ["compare", *map(str, runs), "--json"]
        for metric in row.compared or row.metrics:
            command += ["--metric", metric] if all(metric in each for each in known) else []
        (differences,) = towerkit(command)["differences"].values()
        yield {"row": row.name, "model": ahead, "than": behind, "seed": seed, "metrics": differences}
        shown = {
            metric: [round(each[key], 4) for key in ("difference", "low", "high")]
            for metric, each in differences.items()
        }
        print(f"{time.strftime('%H:%M:%S')} {row.name}-{seed}: {ahead} against {behind}: {shown}", flush=True)


def towerkit(command: list[str]) -> dict[str, Any]:
    """One command with ``--json``; what it says."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "towerkit", *command],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=ROOT,
    )
    if done.returncode:
        raise SystemExit(f"towerkit {' '.join(command)}\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout))


def named(metrics: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Metrics of a model of one task go by the names that they have beside others."""
    return {prefix + name: value for name, value in metrics.items()}


def of_row(row: Row, found: dict[str, Any]) -> dict[str, Any]:
    """An answer with the metrics that the row shows."""
    cut = {name: found["metrics"][name] for name in row.metrics if name in found["metrics"]}
    if not cut:
        raise SystemExit(f"{row.name}, {found['model']} has none of {row.metrics}; it has {sorted(found['metrics'])}")
    beside = {
        name: {metric: values[metric] for metric in row.metrics if metric in values}
        for name, values in found["beside"].items()
    }
    return {**found, "metrics": cut, "beside": {name: values for name, values in beside.items() if values}}


def parameters(run: Path) -> int:
    """Numbers in the weights of a Run that training moves or made, those of a frozen encoder left out."""
    total = 0
    for path in run.glob("model/**/*.safetensors"):
        if "pretrained" not in path.parts and path.name == "weights.safetensors":
            with safe_open(path, "np") as file:
                total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - no mapping
    return total


def folder(row: Row, model: Model, seed: int, out: Path) -> Path:
    """Where a Run lies."""
    return out / f"{row.name}-{model.name.replace(' ', '_').replace(',', '')}-{seed}"


def commit() -> str:
    """What was measured."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def keep(found: list[dict[str, Any]], part: str) -> None:
    """Put figures in the place of those of the same row, model and seed."""
    content = json.loads(FIGURES.read_text()) if FIGURES.exists() else {"runs": [], "differences": []}
    place = {tuple(each.get(key) for key in ("row", "model", "than", "seed")): each for each in content[part]}
    place |= {tuple(each.get(key) for key in ("row", "model", "than", "seed")): each for each in found}
    content[part] = list(place.values())
    FIGURES.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()

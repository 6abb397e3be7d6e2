"""Measure the examples of prediction and search that docs/results.md shows: over seeds, with intervals and baselines.

    python benchmarks/results/examples.py --out build/results [--only scifact] [--seeds 0 1 2]

Each training is the command ``towerkit train examples/NAME.yaml`` with the settings that the file has, chosen on validation
before; a seed draws its own split and its own training, and its test part is read once. What is there already is not run
again, so an interrupted measurement continues. ``write.py`` makes the page from ``examples.json``, which is written beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from specs import EXAMPLES, SEEDS, Example

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FIGURES = HERE / "examples.json"


def main() -> None:
    """Train what is missing and write the figures of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the answers of the trainings")
    parser.add_argument("--only", nargs="*", default=[example.name for example in EXAMPLES])
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for example in EXAMPLES:
        for seed in options.seeds if example.name in options.only else ():
            train(example, seed, options.out)
    found = sorted(options.out.glob("example-*.json"))
    FIGURES.write_text(json.dumps([json.loads(path.read_text()) for path in found], indent=1) + "\n")
    print(f"{len(found)} Runs measured: {FIGURES}")


def train(example: Example, seed: int, out: Path) -> None:
    """Run one training as a process of its own, and keep what it measured."""
    answer = out / f"example-{example.name}-{seed}.json"
    if answer.exists():
        return
    settings = {**example.settings, "training.seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "towerkit",
            "train",
            str(ROOT / example.spec),
            "--run",
            f"{folder}/run",
            "--json",
        ]
        for key, value in settings.items():
            command += ["--set", f"{key}={json.dumps(value)}"]
        started = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    report = json.loads(done.stdout)
    lacking = set(example.metrics) - set(report["metrics"])
    if lacking:
        raise SystemExit(f"{example.name} has no figure {sorted(lacking)}; it has {sorted(report['metrics'])}")
    wanted = {
        name: {metric: values[metric] for metric in example.metrics}
        for name, values in {example.model: report["metrics"], **report["baselines"]}.items()
        if set(example.metrics) <= set(values)
    }
    answer.write_text(json.dumps(kept(example, settings, wanted, report["protocol"])))
    print(
        f"{time.strftime('%H:%M:%S')} {answer.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True
    )


def kept(
    example: Example, settings: dict[str, Any], metrics: dict[str, Any], protocol: dict[str, Any]
) -> dict[str, Any]:
    """What the page needs of one training."""
    about = {key: protocol[key] for key in ("queries", "candidates", "positives", "rows", "split") if key in protocol}
    return {"example": example.name, "settings": settings, "metrics": metrics, "protocol": about}


if __name__ == "__main__":
    main()

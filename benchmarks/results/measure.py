"""Measure what docs/results.md shows: updates beside each other and beside baselines, over seeds.

    python benchmarks/results/measure.py --out build/results [--jobs 2] [--only gowalla] [--tiny]

1. Choose: every variant's settings on validation alone, seed 0; the test table is not even read.
2. Measure: the chosen settings with each seed, refitted on training and validation rows where that is quick; test is read once
   per seed.
3. Cost: time of a step and bytes of optimizer state, the variants taking turns in one process.

Every training is the command ``towerkit train SPEC --set …`` in a process with one thread. What is there already is not
run again, so an interrupted measurement continues. ``write.py`` makes the page from the file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from specs import DATA, SEEDS, VARIANTS, Data, Settings, Variant

HERE = Path(__file__).parent
Trial = tuple[Data, Variant, Settings]
FEW: Settings = {"evaluation.baselines": ["popularity"]}


def main() -> None:
    """Choose, measure, and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the Runs and results.json")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    parser.add_argument("--only", nargs="*", default=[data.name for data in DATA])
    parser.add_argument("--tiny", action="store_true", help="two epochs and one setting, to test the script")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    chosen_data = [data for data in DATA if data.name in options.only]
    with ThreadPoolExecutor(options.jobs) as pool:
        chosen = choose(chosen_data, options, pool)
        measured = measure(chosen, options, pool)
    costs = [cost(data, options) for data in chosen_data]
    content = {"machine": machine(), "tiny": options.tiny, "runs": measured, "costs": costs}
    (options.out / "results.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"{len(measured)} Runs measured: {options.out / 'results.json'}")


def choose(data: Iterable[Data], options: argparse.Namespace, pool: ThreadPoolExecutor) -> list[Trial]:
    """The settings of each variant with the best validation NDCG@20."""
    trials = [
        (each, variant, settings)
        for each in data
        for variant in VARIANTS
        for settings in (variant.trials(each)[:1] if options.tiny else variant.trials(each))
    ]
    without_test: Settings = {"data.test": None, "training.refit": False, "training.seed": 0, **FEW}
    plan = [(data, variant, {**settings, **without_test}) for data, variant, settings in trials]
    found = list(pool.map(lambda each: train(*each, "choose", options), plan))
    best: dict[tuple[str, str], tuple[float, Trial]] = {}
    for trial, run in zip(trials, found, strict=True):
        key = trial[0].name, trial[1].name
        if key not in best or run["validation"] > best[key][0]:
            best[key] = run["validation"], trial
    return [trial for _, trial in best.values()]


def measure(chosen: list[Trial], options: argparse.Namespace, pool: ThreadPoolExecutor) -> list[dict[str, Any]]:
    """The chosen settings with each seed, on test."""
    seeds = SEEDS[:1] if options.tiny else SEEDS
    plan = [
        (
            data,
            variant,
            {**settings, "training.refit": data.wide, "training.seed": seed, **baselines_of(data, variant, seed)},
        )
        for data, variant, settings in chosen
        for seed in seeds
    ]
    return list(pool.map(lambda each: train(*each, "measure", options), plan))


def baselines_of(data: Data, variant: Variant, seed: int) -> Settings:
    """One training of each data set is measured beside all baselines; they do not depend on the rest."""
    if variant is VARIANTS[0] and seed == SEEDS[0]:
        return {"evaluation.baselines": list(data.baselines)}
    return FEW


def train(data: Data, variant: Variant, settings: Settings, stage: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one training as a process of its own; its figures as plain data."""
    budget: Settings = {
        "training.epochs": 2 if options.tiny else data.epochs,
        "training.validate_every": data.validate_every,
    }
    settings = {**budget, **settings}
    values = [str(value) for value in settings.values() if not isinstance(value, dict | list)]
    name = "-".join([data.name, variant.name.replace(" ", "_"), stage, *values])
    folder, answer = options.out / name, options.out / f"{name}.json"
    if not answer.exists():
        command = [sys.executable, "-m", "towerkit", "train", str(HERE / data.spec)]
        command += ["--run", str(folder), "--overwrite", "--json"]
        for key, value in settings.items():
            command += ["--set", f"{key}={json.dumps(value)}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
        report = json.loads(done.stdout)
        history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        validation = [record["validation/ndcg@20"] for record in history if "validation/ndcg@20" in record]
        answer.write_text(
            json.dumps(
                {
                    "data": data.name,
                    "variant": variant.name,
                    "stage": stage,
                    "settings": settings,
                    "validation": max(validation),
                    "epochs": report["epochs"],
                    "seconds": round(time.perf_counter() - started, 1),
                    "metrics": report["metrics"] if stage == "measure" else None,
                    "baselines": report["baselines"] if stage == "measure" else None,
                    "protocol": report["protocol"] if stage == "measure" else None,
                }
            )
        )
        print(
            f"{time.strftime('%H:%M:%S')} {name}: validation NDCG@20 {max(validation):.4f}", file=sys.stderr, flush=True
        )
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def cost(data: Data, options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a step and bytes of optimizer state of each variant, taking turns."""
    from towerkit.core.random import stream
    from towerkit.data.dataset import read_dataset
    from towerkit.spec import load_spec
    from towerkit.training.fit import batches_of
    from towerkit.training.loop import Selection
    from towerkit.training.recipes import RetrievalRecipe
    from towerkit.training.state import seeded_torch, train_step

    steps = 4 if options.tiny else 30
    prepared = {}
    for variant in VARIANTS:
        settings = [f"{key}={json.dumps(value)}" for key, value in variant.trials(data)[0].items()]
        spec = load_spec(HERE / data.spec, settings)
        dataset = read_dataset(spec.data, base=HERE, seed=0)
        recipe = RetrievalRecipe(spec.model, spec.objective, spec.update, Selection("ndcg@20", True), lambda *_: {})
        with seeded_torch(stream(0, "torch")):
            made = recipe.prepare(dataset, dataset.parts.train, spec.training)
        prepared[variant.name] = made, batches_of(made, dataset.parts.train, spec.training, 0)
    times: dict[str, list[float]] = {name: [] for name in prepared}
    for _ in range(steps + 2):
        for name, (made, batches) in prepared.items():
            started = time.perf_counter()
            train_step(made.state, next(batches))
            times[name].append(time.perf_counter() - started)
    return {
        "data": data.name,
        "variants": {
            name: {
                "step_ms": round(1000 * sorted(times[name][2:])[steps // 2], 2),
                "optimizer_bytes": sum(
                    moments.first.numel() * moments.first.element_size()
                    + moments.second.numel() * moments.second.element_size()
                    for moments in made.state.optimizer.moments.values()
                ),
                "weights_bytes": sum(p.numel() * p.element_size() for p in made.state.model.parameters()),
            }
            for name, (made, _) in prepared.items()
        },
    }


def machine() -> str:
    """What it ran on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, one thread per training, Python {platform.python_version()}"


if __name__ == "__main__":
    main()

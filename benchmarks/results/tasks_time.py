"""How long one model of five tasks trains, beside a model for each: processor seconds of the trainings alone.

    python benchmarks/results/tasks_time.py [--repeats 3] [--seeds 0 1 2]

The models are those of the row ``films_tasks`` of ``fusion_rows.py``, trained one after the other within one process, for each seed
in turn, as often as asked for; the least of each counts. Reading and encoding the data, the loop with its validations, and the
refit are timed; measuring on test rows, baselines and writing a Run are not. What was found goes to ``tasks_time.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch
from fusion import ROOT, commit
from fusion_rows import ROWS, Model

from towerkit.data.dataset import read_dataset
from towerkit.outcomes.recipes import recipe_of
from towerkit.spec import load_spec
from towerkit.training.fit import fit_recipe
from towerkit.training.progress import Silent

FOUND = Path(__file__).with_suffix(".json")


def main() -> None:
    """Train, in turn, and keep what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", nargs="*", type=int, help="instead of those of the row")
    options = parser.parse_args()
    torch.set_num_threads(1)
    (row,) = (each for each in ROWS if each.name == "films_tasks")
    seeds = options.seeds or row.seeds
    took: dict[str, list[dict[str, float]]] = {}
    for repeat in range(options.repeats + 1):  # the first fills the caches
        for seed in seeds:
            for model in row.models:
                found = timed(model, seed)
                if repeat:
                    took.setdefault(f"{model.name}/{seed}", []).append(found)
    least = {name: {key: min(each[key] for each in every) for key in every[0]} for name, every in took.items()}
    shares = {seed: share(least, row.models, seed) for seed in seeds}
    about = {"measured": f"{date.today()} at {commit()}", "repeats": options.repeats, "load": os.getloadavg()[0]}
    FOUND.write_text(json.dumps({**about, "shares": shares, "least": least}, indent=1) + "\n")
    print(json.dumps(shares, indent=1))


def timed(model: Model, seed: int) -> dict[str, float]:
    """Processor seconds of one training, and of its loops alone."""
    settings = [
        f"{key}={json.dumps(value)}" for key, value in (model.settings_with(ROOT) | {"training.seed": seed}).items()
    ]
    spec = load_spec(ROOT / model.spec, settings)
    dataset = read_dataset(spec.data, base=(ROOT / model.spec).parent, seed=seed)
    started = time.process_time()
    trained = fit_recipe(recipe_of(spec, dataset), dataset, spec.training, Silent())
    return {
        "whole": time.process_time() - started,
        "epochs": len(trained.history.records),
        "loop": trained.history.seconds,
    }


def share(least: dict[str, Any], models: tuple[Model, ...], seed: int) -> dict[str, float]:
    """What the first model took, as a share of the others together."""
    first, *others = (least[f"{model.name}/{seed}"] for model in models)
    return {key: round(first[key] / sum(each[key] for each in others), 3) for key in first}


if __name__ == "__main__":
    main()

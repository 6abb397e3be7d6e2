"""Train early, late and hybrid fusion on the clothing reviews and print how each falls as its texts or its table are lost.

    TOWERKIT_DATA=… python tools/robustness_curves.py --out FOLDER

The table on the page about evaluation is what this printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import towerkit as tk
from towerkit.data.dataset import read_dataset
from towerkit.spec import load_spec

SPEC = Path(__file__).parents[1] / "examples" / "clothing_late.yaml"
COLUMNS = ["Age", "Rating", "Department Name"]
LIKED = {"kind": "binary", "column": "Recommended IND"}
TEXT = {
    "kind": "text",
    "columns": ["Review Text"],
    "encoder": {"kind": "hashed_ngrams", "buckets": 65536},
    "dim": 64,
    "dropout": 0.5,
}
TABLE = {"kind": "table", "columns": COLUMNS, "layers": [64], "dim": 32}
TREES = {"kind": "xgboost", "columns": COLUMNS, "task": LIKED}
TRAINING = {"epochs": 30, "batch_size": 256, "patience": 3, "optimizer": {"kind": "adam", "lr": 2e-3}}


def model(**towers: Any) -> dict[str, Any]:
    """A tower model of the one task."""
    gated = {"kind": "gated", "dim": 64} if len(towers) > 1 else {"kind": "concat"}
    return {"kind": "tower_model", "towers": towers, "backbone": gated, "heads": {"recommended": LIKED}}


def fusion(**members: Any) -> dict[str, Any]:
    """A late fusion with fitted weights."""
    return {"kind": "late_fusion", "members": members, "combine": {"kind": "weighted", "calibrate": "temperature"}}


MODELS = {
    "early": model(text=TEXT, table=TABLE),
    "late": fusion(text=model(text=TEXT), table=TREES),
    "hybrid": fusion(both=model(text=TEXT, table=TABLE), table=TREES),
}


def main() -> None:
    """Train, lose, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    data = read_dataset(load_spec(SPEC).data, base=SPEC.parent, seed=0)
    test = data.examples.data.take(data.parts.test)
    for name, spec in MODELS.items():
        run = tk.fit({"model": spec, "training": TRAINING}, data, run=out / name, overwrite=True)
        for loss in ("blank", "permute"):
            curves = run.robustness(test, {"text": ["Review Text"], "table": COLUMNS}, loss=loss)
            for group, curve in curves.items():
                figures = " | ".join(f"{metrics['auc'].value:.4f}" for metrics in curve.metrics)
                print(f"| {name} | {group} | {loss} | {figures} |", flush=True)


if __name__ == "__main__":
    main()

"""Measure the examples of docs/gallery.md that have no page of their own: each beside its baselines and what it is compared with.

    python benchmarks/results/gallery.py [--only gate synergy] [--seeds 3]

Each training is the command ``towerkit train SPEC --set …`` with a seed of its own, which random splits follow too, on one
thread. A line is a model: the mean over the seeds of its figure on test rows, with the least and the most. Questions about real
data are left out visibly where ``TOWERKIT_DATA`` does not lead to it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Question:
    """An example, the figures that answer its question, and the models beside it."""

    spec: str
    metrics: tuple[str, ...]
    models: dict[str, list[str]] = field(default_factory=dict)
    """Name -> settings of the spec that make it; one with a minus takes a tower out."""
    real: bool = False


AS_IT_IS: dict[str, list[str]] = {"as it is": []}
SENTIMENT = {
    **AS_IT_IS,
    "text alone": ["-model.towers.picture"],
    "picture alone": ["-model.towers.text"],
}
COMBINED = {
    "stack": [],
    **{kind: [f"model.combine={{kind: {kind}}}"] for kind in ("weighted", "average", "vote")},
}
GATED = {"gate": [], "weighted": ["model.combine={kind: weighted}"]}
TOLD = {
    "told": [],
    "told, weight 1": ["objective.synergy.weight=1.0"],
    "the same towers, not told": ["objective.synergy=null"],
}
QUESTIONS = {
    "sentiment": Question("shop_sentiment", ("auc", "log_loss"), SENTIMENT),
    "topics": Question("airline_topics", ("accuracy", "f1_macro"), COMBINED, real=True),
    "topics-shop": Question("shop_topics", ("accuracy", "f1_macro"), COMBINED),
    "gate": Question("ml100k_gate", ("ndcg@20", "recall@20"), GATED, real=True),
    "gate-shop": Question("shop_gate", ("ndcg@10", "recall@20"), GATED),
    "synergy": Question("ml100k_synergy", ("ndcg@20", "recall@20"), TOLD, real=True),
    "synergy-shop": Question("shop_synergy", ("ndcg@10", "recall@20"), TOLD),
    "newcomers": Question("shop_newcomers", ("ndcg@10", "recall@20"), AS_IT_IS),
    "snacks": Question("shop_joint", ("product_id/ndcg@10", "snack_id/ndcg@10"), AS_IT_IS),
    "pictures": Question("shop_pictures", ("accuracy",), AS_IT_IS),
    "hybrid": Question("shop_hybrid", ("accuracy",), AS_IT_IS),
    "tags": Question("shop_tags", ("tags/f1_micro", "stars/mae"), AS_IT_IS),
}


def main() -> None:
    """Train, and print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(QUESTIONS))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    for name in options.only:
        question = QUESTIONS[name]
        if question.real and not os.environ.get("TOWERKIT_DATA"):
            print(f"{name}: SKIPPED: set TOWERKIT_DATA", flush=True)
            continue
        for model, settings in question.models.items():
            show(name, model, question, [trained(question, settings, seed) for seed in range(options.seeds)])


def trained(question: Question, settings: list[str], seed: int) -> dict[str, dict[str, float]]:
    """Model or baseline -> figures of one training, its segments among them."""
    wanted = [*settings, f"training.seed={seed}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "towerkit", "train", f"examples/{question.spec}.yaml"]
        command += ["--run", str(Path(folder) / "run"), "--json"]
        for setting in wanted:
            command += ["--set", without(question.spec, setting[1:]) if setting.startswith("-") else setting]
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
    report: dict[str, Any] = json.loads(done.stdout)
    found = {"": _values(report["metrics"])}
    for column, bands in report.get("segments", {}).items():
        for band, own in bands.items():
            found[f"{column} {band}"] = _values(own.get("metrics", own))
    return found | {name: _values(metrics) for name, metrics in report["baselines"].items()}


def without(spec: str, place: str) -> str:
    """The setting that leaves one part of a spec out.

    Args:
        spec: The example's name.
        place: ``model.towers.NAME``.
    """
    *parents, name = place.split(".")
    part = yaml.safe_load((ROOT / "examples" / f"{spec}.yaml").read_text(encoding="utf-8"))
    for parent in parents:
        part = part[parent]
    return f"{'.'.join(parents)}={json.dumps({key: value for key, value in part.items() if key != name})}"


def _values(metrics: dict[str, Any]) -> dict[str, float]:
    """Of the metrics that have a value: some do not on rows of one class."""
    known = {name: each.get("value") for name, each in metrics.items() if isinstance(each, dict)}
    return {name: float(value) for name, value in known.items() if value is not None}


def show(name: str, model: str, question: Question, runs: list[dict[str, dict[str, float]]]) -> None:
    """Mean, least and most over the seeds: of the model, and of what was measured beside it."""
    for who in runs[0]:
        told = []
        for metric in question.metrics:
            values = [run[who][metric] for run in runs if metric in run.get(who, {})]
            if values:
                told.append(f"{metric} {statistics.mean(values):.4f} [{min(values):.4f}, {max(values):.4f}]")
        if told:
            print(f"{name}: {model}{f' | {who}' if who else ''}: {', '.join(told)}, {len(runs)} seeds", flush=True)


if __name__ == "__main__":
    main()

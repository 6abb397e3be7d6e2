"""How good, and how soon: the rows of the table that are trainings rather than ratios. Only with ``--quality``: minutes each.

MovieLens-100K by one-backprop: learning rate and weight decay are chosen on validation with seed 0, where the test table is not
read; five seeds are then trained for the epochs that validation liked, afresh on all training rows, and measured on test once.
Gowalla by each preset: the whole command, from its start to the evaluated Run. Both need the public data sets.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from itertools import product
from typing import Any

from harness import ROOT, data_folder, report, train_by_command

SPEC = ROOT / "examples" / "ml100k_one_backprop.yaml"
RATES, DECAYS = (0.001, 0.002, 0.005), (0.0, 3e-6, 1e-5, 3e-5)
SEEDS = 5
T_95 = 2.776
"""Two-sided 95 % quantile of Student's t for five seeds."""
BUDGET = {
    "training.engine": "auto",
    "training.epochs": 1500,
    "training.validate_every": 10,
    "training.patience": 6,
    "training.optimizer.rows": "all",
    "training.checkpoint_every": 0,
}


def train(words: list[str], settings: dict[str, Any]) -> tuple[dict[str, Any], float, float]:
    """Run ``towerkit train``; its answer, the seconds, and the best validation NDCG@20 where there was one."""
    answer, records, seconds = train_by_command(words, settings)
    return answer, seconds, max((record.get("validation/ndcg@20", -math.inf) for record in records), default=-math.inf)


def one_backprop() -> None:
    """MovieLens-100K."""
    chosen, best, started = {}, -math.inf, time.perf_counter()
    for rate, decay in product(RATES, DECAYS):
        settings = {**BUDGET, "training.optimizer.lr": rate, "training.optimizer.weight_decay": decay}
        alone = {"data.test": None, "training.refit": False, "evaluation.baselines": ["popularity"]}
        _, _, value = train([str(SPEC)], {**settings, **alone})
        print(f"lr {rate}, weight decay {decay}: validation NDCG@20 {value:.4f}", file=sys.stderr, flush=True)
        if value > best:
            chosen, best = settings, value
    values, epochs, baselines = [], [], {}
    for seed in range(SEEDS):
        asked = ["ease", "item_knn", "popularity"] if seed == 0 else ["popularity"]
        answer, _, _ = train([str(SPEC)], {**chosen, "training.seed": seed, "evaluation.baselines": asked})
        values.append(answer["metrics"]["ndcg@20"]["value"])
        epochs.append(answer["epochs"])
        baselines = baselines or {name: metrics["ndcg@20"]["value"] for name, metrics in answer["baselines"].items()}
    half = T_95 * statistics.stdev(values) / math.sqrt(SEEDS)
    mean = statistics.mean(values)
    beside = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in baselines.items())
    beside += "; the public reference .448 at its last epoch"
    metrics = {"ndcg@20": {"value": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}}
    about = {"data": "ml-100k", "model": "one_backprop", "seconds": round(time.perf_counter() - started, 1)}
    settings = {"settings": chosen, "epochs": epochs, "seeds": SEEDS}
    report("quality", {}, **about, metrics=metrics, beside=beside, **settings)


def gowalla(preset: str) -> None:
    """The whole command of a preset."""
    archive = data_folder("gowalla", "light_gcn_gowalla.zip")
    files = [f"{archive}::light_gcn_gowalla/{part}.txt" for part in ("train", "test")]
    answer, seconds, _ = train(["--preset", preset, "--data", files[0], "--test", files[1]], {})
    metrics = {name: answer["metrics"][name] for name in ("recall@20", "ndcg@20")}
    about = {"data": "gowalla", "model": preset, "seconds": round(seconds, 1), "metrics": metrics}
    report("quality", {}, **about, beside="BSPM .1920 / .1597 (Recall@20 / NDCG@20, as published)")


def main() -> None:
    """All of them; one that fails does not stop the others."""
    if "--quality" not in sys.argv or "--tiny" in sys.argv or data_folder("ml-100k") is None:
        print("trainings for quality are left out; they need --quality and the public data sets", file=sys.stderr)
        return
    work = {"ml100k": one_backprop, "spectral": lambda: gowalla("spectral"), "best": lambda: gowalla("best")}
    only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else ""
    failed = []
    for name, run in work.items():
        try:
            if only in name:
                run()
        except RuntimeError as error:
            print(error, file=sys.stderr)
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

"""General preferences, then specific ones: films of MovieLens-1M as the start on a tenth of MovieLens-100K, matched by title.

    python benchmarks/transfer.py DATA_FOLDER WORK_FOLDER [two_backprop | one_backprop]

prints one JSON line: for the model from scratch and the one whose films start from the other set, the step size that validation
chose, the figures on the same test rows, and their paired difference.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import towerkit as tk
from towerkit.core.random import generator
from towerkit.data.dataset import Dataset
from towerkit.data.readers import read_table
from towerkit.evaluation.compare import compare_runs

RATES = (3e-4, 1e-3, 3e-3, 1e-2)
SHARE = 0.1
DIM = 32


def ratings_1m(data: Path) -> pa.Table:
    """``user`` and ``title`` of every rating."""
    lines = (data / "ml-1m/raw/movies.dat").read_text(encoding="latin-1").splitlines()
    titles = {int(line.split("::")[0]): line.split("::")[1] for line in lines}
    rows = read_table(str(data / "ml-1m/ratings.csv.gz")).data
    names = [titles[int(item)] for item in rows.column("movieID").to_pylist()]
    return pa.table({"user": [f"1m-{user}" for user in rows.column("userID").to_pylist()], "title": names})


def ratings_100k(data: Path) -> pa.Table:
    """``user`` and ``title`` of every rating; a film that stands there twice is one."""
    lines = (data / "ml-100k/raw/u.item").read_text(encoding="latin-1").splitlines()
    titles = {line.split("|")[0]: line.split("|")[1] for line in lines}
    rows = [line.split("\t") for line in (data / "ml-100k/raw/u.data").read_text().splitlines()]
    return pa.table({"user": [row[0] for row in rows], "title": [titles[row[1]] for row in rows]})


def spec(update: str, rate: float, epochs: int, towers: dict[str, Any] | None = None) -> dict[str, Any]:
    """Two id towers."""
    ids = {"kind": "id", "dim": DIM}
    training = {"epochs": epochs, "patience": 4, "refit": False, "optimizer": {"kind": "adam", "lr": rate}}
    return {
        "model": {"kind": "two_tower", "query": ids, "candidate": ids},
        "objective": {"loss": {"kind": "sampled_softmax"}, "negatives": [{"kind": "uniform", "count": 10}]},
        "update": {"kind": update} | ({"beta": 0.9} if update == "one_backprop" else {}),
        "training": training | ({} if towers is None else {"towers": towers}),
        "evaluation": {"k": [20], "baselines": ["popularity"]},
    }


def a_tenth(dataset: Dataset) -> Dataset:
    """The same with a tenth of its training rows."""
    train = dataset.parts.train
    kept = np.sort(generator(0, "tenth").permutation(train)[: round(SHARE * len(train))])
    return dataset.with_parts(replace(dataset.parts, train=kept))


def best_of(
    folder: Path, name: str, update: str, dataset: Dataset, towers: dict[str, Any] | None
) -> tuple[float, tk.Run]:
    """The Run of the step size whose validation figure is the highest."""
    found = []
    for rate in RATES:
        run = tk.fit(spec(update, rate, 60, towers), dataset, run=folder / f"{name}-{rate:g}", overwrite=True)
        records = [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]
        found.append((max(each["validation/ndcg@20"] for each in records), rate, run))
    _, rate, run = max(found, key=lambda each: each[0])
    return rate, run


def main(data: Path, folder: Path, update: str) -> None:
    """Train the general model, then both special ones."""
    split = {"kind": "per_query", "validation": 0.1, "test": 0.2}
    general = tk.read(
        ratings_1m(data), query="user", candidate="title", duplicates="first", split={**split, "test": 0.05}
    )
    before = tk.fit(spec(update, 3e-3, 10), general, run=folder / "general", overwrite=True)
    special = a_tenth(tk.read(ratings_100k(data), query="user", candidate="title", duplicates="first", split=split))
    start = {"candidate.id": {"start": {"path": str(before.path)}}}
    scratch_rate, scratch = best_of(folder, "scratch", update, special, None)
    tuned_rate, tuned = best_of(folder, "tuned", update, special, start)
    known = set(before.model.candidate.keys.to_pylist())
    shared = sum(title in known for title in special.examples.data.column("title").unique().to_pylist())
    pairs = compare_runs(scratch.evaluation, {"tuned": tuned.evaluation})["tuned"].metrics
    told = {name: pairs[name].as_dict() for name in ("ndcg@20", "recall@20")}
    popularity = scratch.baselines["popularity"].metrics["ndcg@20"].value
    about = {"rows": special.parts.sizes(), "films in both": shared, "popularity ndcg@20": popularity}
    print(json.dumps({**about, "lr": {"scratch": scratch_rate, "tuned": tuned_rate}, "differences": told}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), (sys.argv[3:] or ["two_backprop"])[0])

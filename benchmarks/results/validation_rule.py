"""Which validation rows choose better for later test rows: each query's last ones, or any. As ``validation_rule.json``.

Usage: ``python benchmarks/results/validation_rule.py [NAME ...]`` with ``TOWERKIT_DATA`` at the folder of the data sets. The test
rows of ``later`` are the last fifth of each user's; of ``cut``, all after one moment, which leaves four fifths before it. On
the rows before, the spectral preset chooses twice, on validation rows that are each user's last (``last``) or drawn
(``random``), and is fitted on all of them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

import towerkit as tk
from towerkit.core.spec import parse
from towerkit.experiment import train_and_evaluate
from towerkit.presets import choose, start_of, told
from towerkit.spec import ModelingSpec, plain
from towerkit.training.progress import Silent

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TOWERKIT_DATA", ROOT.parent / "shared" / "data"))
OUT = Path(__file__).with_name("validation_rule.json")
FILES = {"ml-latest-small": "ml-latest-small/ratings.csv", "ml-1m": "ml-1m/ratings.csv.gz"}
ROLES = {"query": "user", "candidate": "item"}


def main(names: list[str]) -> None:
    """Each data set, each kind of later rows, each rule."""
    rows = json.loads(OUT.read_text()) if OUT.exists() else {}
    for name in names or ["ml-latest-small", "lastfm-sequences"]:
        pairs = sequences() if name == "lastfm-sequences" else ratings(name)
        for kind in ("later",) if "time" not in pairs.column_names else ("later", "cut"):
            known, test = divided(pairs, kind)
            for take in ("random", "last"):
                rows[f"{name}, {kind}, {take}"] = measured(known, test, take)
                print(name, kind, take, json.dumps(rows[f"{name}, {kind}, {take}"]), flush=True)
                OUT.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")


def ratings(name: str) -> pa.Table:
    """Pairs in the order of time; what they were rated does not matter."""
    table = pc.read_csv(DATA / FILES[name])
    table = table.rename_columns(["user", "item", "rating", "time"]).select(["user", "item", "time"])
    return table.sort_by("time")


def sequences() -> pa.Table:
    """Lines of a user and its items, the oldest first."""
    lines = [line.split() for line in (DATA / "seq-s3rec" / "LastFM.txt").read_text().splitlines()]
    pairs = [(user, item) for user, *items in lines for item in items]
    return pa.table(dict(zip(("user", "item"), map(list, zip(*pairs, strict=True)), strict=True)))


def divided(pairs: pa.Table, kind: str) -> tuple[pa.Table, pa.Table]:
    """What is known, and what comes later."""
    if kind == "cut":
        known = np.arange(len(pairs)) < 0.8 * len(pairs)
    else:
        _, user = np.unique(pairs["user"].to_numpy(), return_inverse=True)
        place, count = np.zeros(len(user), int), np.bincount(user)
        order = np.argsort(user, kind="stable")
        place[order] = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
        known = place < 0.8 * count[user]
    return pairs.select(["user", "item"]).filter(pa.array(known)), pairs.select(["user", "item"]).filter(
        pa.array(~known)
    )


def measured(known: pa.Table, test: pa.Table, take: str) -> dict[str, Any]:
    """What the rule chose, and how good that is on the later rows."""
    dataset = tk.read(known, **ROLES, test=test, split={"kind": "per_query", "validation": 0.1, "take": take})
    chosen = choose(parse(ModelingSpec, start_of("spectral"), "the preset"), dataset, Silent())
    metrics = train_and_evaluate(chosen.spec, chosen.dataset, Silent()).evaluation.metrics
    figures = {name: round(metrics[name].value, 4) for name in ("recall@20", "ndcg@20")}
    return {**figures, "queries": metrics["ndcg@20"].n, "chosen": told(plain(chosen.spec.model))}


if __name__ == "__main__":
    main(sys.argv[1:])

"""Other libraries at the same task, in turns with this one: only with ``--peers``, since their environments need a package index.

``make bench BENCH_FLAGS=--peers`` or ``make bench-peers``; ``--only implicit`` for one of them. A peer that cannot be installed
is left out, and a line says why. With ``--tiny`` nothing is installed either way.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_training import bpr_spec
from harness import ROOT, alternate_timed, ratio, report
from library import dataset_of, fastest_threads, library_sides
from pairs import Source, gowalla, ml100k
from peers.environment import PeerError, peer


@dataclass(frozen=True)
class Contest:
    """One peer at one task, and our spec of the same task."""

    name: str
    """Of the peer: that of its requirements file, and of its side."""
    task: str
    source: Source
    spec: Mapping[str, Any]
    alike: str
    """What differs between the sides, in words."""
    script: str
    dim: int = 64
    batch: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    """More that the peer's script is told."""

    def job(self, folder: Path) -> dict[str, Any]:
        """What the peer's script is told; the arrays are written into a folder."""
        pairs = self.source.pairs
        pairs.users.tofile(folder / "users")
        pairs.items.tofile(folder / "items")
        files = {"users": str(folder / "users"), "items": str(folder / "items")}
        sizes = {"num_users": pairs.num_users, "num_items": pairs.num_items}
        return {**files, **sizes, "dim": self.dim, "batch": self.batch, "lr": 0.05, "epochs": 2, **self.told}


def graph_spec(dim: int) -> dict[str, Any]:
    """LightGCN: id vectors smoothed over the training pairs, three layers, BPR."""
    tower = {"kind": "graph", "layers": 3, "of": {"kind": "id", "dim": dim}}
    spec = bpr_spec(dim, {"kind": "adam", "lr": 0.001, "rows": "all"})
    return {**spec, "model": {"kind": "two_tower", "query": tower, "candidate": tower, "match": {"kind": "dot"}}}


def batched(spec: Mapping[str, Any], size: int) -> dict[str, Any]:
    """The same with batches of this size."""
    return {**spec, "training": {**spec["training"], "batch_size": size}}


def two_tower(objective: Mapping[str, Any], match: str) -> dict[str, Any]:
    """Ids only, width 64, dense Adam, batches of 1,024."""
    spec = batched(bpr_spec(64, {"kind": "adam", "lr": 0.001, "rows": "all"}), 1024)
    return {**spec, "objective": dict(objective), "model": {**spec["model"], "match": {"kind": match}}}


def contests() -> list[Contest]:
    """Who is compared with what."""
    sgd = bpr_spec(64, {"kind": "sgd", "lr": 0.05, "rows": "touched"})
    hogwild = (
        "implicit moves its vectors after each pair, threads writing without locks, so no two runs are alike, and draws "
        "negatives by popularity; towerkit takes batches of 1,024, uniform negatives, and repeats bit by bit"
    )
    adam = batched(bpr_spec(64, {"kind": "adam", "lr": 0.001, "rows": "all"}), 2048)
    same = "the same batches of 2,048, dense Adam, one uniform negative per pair; RecBole trains on 98 % of the pairs, scaled up"
    recbole = {"environment": {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}, "batch": 2048, "script": "recbole_pairs.py"}
    small = ml100k()
    return [
        Contest("implicit", "bpr against implicit", gowalla(), sgd, hogwild, script="implicit_bpr.py"),
        Contest("implicit", "bpr against implicit, small", small, sgd, hogwild, script="implicit_bpr.py"),
        Contest("recbole", "bpr against RecBole", small, adam, same, told={"model": "BPR"}, **recbole),
        Contest(
            "recbole",
            "LightGCN against RecBole",
            small,
            batched(graph_spec(64), 2048),
            same,
            told={"model": "LightGCN"},
            **recbole,
        ),
        Contest(
            "rechub",
            "DSSM against torch-rechub",
            small,
            two_tower({"loss": {"kind": "bce"}, "negatives": [{"kind": "uniform", "count": 1}]}, "cosine"),
            "ids alone without layers above them, cosines, binary cross-entropy, dense Adam, 1,024 positives and as many "
            "negatives a step; torch-rechub's are drawn once before the training, towerkit's anew in each epoch",
            script="rechub_dssm.py",
            batch=1024,
        ),
        Contest(
            "keras_rs",
            "in-batch softmax against keras-rs",
            small,
            two_tower(
                {
                    "loss": {"kind": "sampled_softmax"},
                    "negatives": [{"kind": "in_batch"}],
                    "log_q": False,
                    "mask_positives": False,
                },
                "dot",
            ),
            "ids alone, dot products, softmax over the 1,024 of the batch without correction, dense Adam",
            script="keras_rs_retrieval.py",
            batch=1024,
            environment={"KERAS_BACKEND": "torch"},
        ),
    ]


def contend(contest: Contest) -> None:
    """Let both sides take turns, and report the seconds of an epoch; a peer that is not to be had is said to be so."""
    dataset = dataset_of(contest.source.pairs)
    sizes = {"n": len(contest.source.pairs.users), "dim": contest.dim, "data": contest.source.origin}
    try:
        with tempfile.TemporaryDirectory() as folder:
            job = contest.job(Path(folder))
            with peer(contest.name, contest.script, job, contest.environment) as other:
                own, refused = library_sides(
                    dataset, contest.spec, epochs={"torch": 1, "compiled": 2}, fastest_only=True
                )
                chosen = {name: fastest_threads(timed) for name, timed in own.items()}
                sides = {contest.name: other, **{name: timed for name, (timed, _) in chosen.items()}}
                seconds = alternate_timed(sides, repeats=5)
    except PeerError as error:
        report(contest.task, {}, **sizes, left_out=str(error).replace(str(ROOT), "."), ratios={})
        return
    ratios = {f"{contest.name} / {name}": ratio(seconds[contest.name], seconds[name]) for name in own}
    speed = {
        name: f"{sizes['n'] * contest.dim / sorted(times)[len(times) // 2]:.3g}" for name, times in seconds.items()
    }
    threads = {contest.name: other.about["threads"], **{name: count for name, (_, count) in chosen.items()}}
    about = {"peer": other.about, "alike": contest.alike, "dtype": "float32", "threads_of": threads, "refused": refused}
    report(contest.task, seconds, **sizes, **about, pairs_x_dim_per_second=speed, ratios=ratios)


def main() -> None:
    """Every contest, one after the other."""
    if "--peers" not in sys.argv or "--tiny" in sys.argv:
        print("peers are left out; make bench-peers installs them and measures", file=sys.stderr)
        return
    only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else ""
    for contest in contests():
        if only in contest.name:
            contend(contest)


if __name__ == "__main__":
    main()

"""What a full evaluation of Gowalla's size costs, beside the bare product and beside ``topk`` over masked scores.

29,858 queries and 40,981 candidates in the pairs of Gowalla (LightGCN's files) where they lie in ``shared/data`` beside the
repository, else random pairs of about the same numbers; vectors are random.

- ``product``: chunked ``torch.mm(out=)`` and nothing else.
- ``topk``: the same, the seen pairs of each chunk masked, and its 20 best by ``torch.topk``: no order of ties, no metrics, no AUC.
- ``ranking``: what a validation after an epoch ranks. ``evaluation``: all metrics at all ``k``, AUC and intervals.

At dim 1,024, on every tenth query, validation's ranking with bfloat16 shortlists stands beside itself without, and beside the
product. ``--part`` takes every tenth query at dim 64 too, ``--cpu`` gives PyTorch one thread and counts processor time, which a
busy machine disturbs less than the time on the clock.
"""

from __future__ import annotations

import io
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench_ranking import KS, catalogue
from harness import alternate, report
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.evaluation.ranking import evaluate_ranking, ranked
from towerkit.evaluation.ranking_task import RankingTask, ranking_task
from towerkit.index.vectors import VectorRanker

GOWALLA = Path(__file__).resolve().parents[2] / "shared/data/gowalla/light_gcn_gowalla.zip"
SHAPE = 29_858, 40_981
CHUNK_ROWS = 400
"""About 64 MB of scores: the fastest of 16 to 1,024 rows for the bare product on the machine this was written on."""

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def gowalla_pairs() -> dict[str, Pairs]:
    """``train`` and ``test`` pairs from lines of a user and its items."""
    found = {}
    with zipfile.ZipFile(GOWALLA) as archive:
        for part in ("train", "test"):
            text = io.TextIOWrapper(archive.open(f"light_gcn_gowalla/{part}.txt"), encoding="utf-8")
            rows = [np.array(line.split(), dtype=np.int64) for line in text]
            users = np.concatenate([np.full(len(row) - 1, row[0]) for row in rows if len(row)])
            found[part] = users, np.concatenate([row[1:] for row in rows if len(row)])
    return found


def random_pairs(num_queries: int, num_candidates: int) -> dict[str, Pairs]:
    """Long-tailed pairs: as many per query as Gowalla has, a few queries with many, popular candidates more often."""
    draw = np.random.default_rng(0)
    found = {}
    for part, mean in (("train", 27.1), ("test", 7.3)):
        sizes = 1 + draw.geometric(1 / mean, num_queries)
        places = num_candidates * draw.random(sizes.sum()) ** 3
        found[part] = np.repeat(np.arange(num_queries), sizes), places.astype(np.int64)
    return found


def task_of(pairs: dict[str, Pairs], num_queries: int, num_candidates: int) -> RankingTask:
    """The ranking task of held-out pairs."""
    users, items = pairs["train"]
    shape = num_queries + 1, num_candidates + 1
    seen = csr_array((np.ones(len(users), np.float32), (users + 1, items + 1)), shape=shape)
    seen.sum_duplicates()
    query, candidate = catalogue(num_queries), catalogue(num_candidates)
    users, items = pairs["test"]
    return ranking_task(query, candidate, seen, query.keys.take(users), candidate.keys.take(items))


def part_of(task: RankingTask) -> RankingTask:
    """The same task for every tenth query."""
    rows = np.arange(0, len(task.keys), 10)
    return replace(
        task,
        keys=task.keys.take(rows),
        queries=task.queries[rows],
        positives=csr_array(task.positives[rows]),
        exclude=csr_array(task.exclude[rows]),
    )


def product_alone(queries: torch.Tensor, candidates: torch.Tensor, kept: torch.Tensor) -> None:
    """Chunked ``torch.mm(out=)``."""
    for rows in queries.split(CHUNK_ROWS):
        torch.mm(rows, candidates.T, out=kept[: len(rows)])


def topk_of_masked(queries: torch.Tensor, candidates: torch.Tensor, kept: torch.Tensor, exclude: csr_array) -> None:
    """The same with seen pairs masked and ``topk``."""
    for start in range(0, len(queries), CHUNK_ROWS):
        rows = queries[start : start + CHUNK_ROWS]
        scores = torch.mm(rows, candidates.T, out=kept[: len(rows)])
        pointers = exclude.indptr[start : start + len(rows) + 1]
        owner = torch.from_numpy(np.repeat(np.arange(len(rows)), np.diff(pointers)))
        columns = torch.from_numpy(exclude.indices[pointers[0] : pointers[-1]].astype(np.int64))
        scores[owner, columns] = -torch.inf
        torch.topk(scores, max(KS), dim=1)


def sides(task: RankingTask, dim: int, num_queries: int, num_candidates: int) -> dict[str, Callable[[], object]]:
    """What takes turns."""
    draw = torch.Generator().manual_seed(1)
    queries, candidates = (torch.randn(size, dim, generator=draw) for size in (num_queries + 1, num_candidates))
    asked, kept = queries[torch.from_numpy(task.queries)], torch.empty(CHUNK_ROWS, num_candidates)
    rankers = {
        shortlist: VectorRanker(queries.numpy(), candidates.numpy(), "dot", shortlist=shortlist)
        for shortlist in (False, True)
    }
    product = partial(product_alone, asked, candidates, kept)
    if dim > 64:
        return {
            "product": product,
            "ranking": partial(ranked, rankers[False], task, KS),
            "ranking by shortlists": partial(ranked, rankers[True], task, KS),
        }
    return {
        "product": product,
        "topk": partial(topk_of_masked, asked, candidates, kept, task.exclude),
        "ranking": partial(ranked, rankers[False], task, KS),
        "ranking and auc": partial(ranked, rankers[False], task, KS, auc=True),
        "evaluation": partial(evaluate_ranking, rankers[False], task, KS, part="test", split={}),
    }


def ratio(seconds: dict[str, list[float]], side: str, other: str) -> dict[str, float]:
    """Median and quartiles of the ratio of two sides that took turns."""
    ratios = np.array(seconds[side]) / np.array(seconds[other])
    return {
        name: round(float(np.quantile(ratios, q)), 3) for name, q in (("median", 0.5), ("low", 0.25), ("high", 0.75))
    }


def measured(work: dict[str, Callable[[], object]], repeats: int, *, cpu: bool) -> dict[str, list[float]]:
    """Seconds of each side, after one round that compiles and touches all memory."""
    alternate(work, 1)
    if not cpu:
        return alternate(work, repeats)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, side in work.items():
            started = time.process_time()
            side()
            seconds[name].append(time.process_time() - started)
    return seconds


def main() -> None:
    """Time the sides in turns and print the ratios."""
    tiny, cpu = "--tiny" in sys.argv, "--cpu" in sys.argv
    real = GOWALLA.exists() and not tiny
    shape = (50, 60) if tiny else SHAPE
    if cpu:
        torch.set_num_threads(1)
    whole = task_of(gowalla_pairs() if real else random_pairs(*shape), *shape)
    for dim, task in {64: part_of(whole) if "--part" in sys.argv else whole, 1024: part_of(whole)}.items():
        seconds = measured(sides(task, dim, *shape), 1 if tiny else 5, cpu=cpu)
        wanted = [("evaluation", "product"), ("topk", "evaluation"), ("topk", "ranking")]
        if dim > 64:
            wanted = [
                ("product", "ranking"),
                ("product", "ranking by shortlists"),
                ("ranking", "ranking by shortlists"),
            ]
        report(
            "evaluation",
            seconds,
            pairs="gowalla" if real else "random",
            queries=len(task.keys),
            candidates=shape[1],
            dim=dim,
            positives=int(task.num_positives.sum()),
            torch_threads=torch.get_num_threads(),
            clock="processor time" if cpu else "wall",
            ratios={f"{side} to {other}": ratio(seconds, side, other) for side, other in wanted},
        )


if __name__ == "__main__":
    main()

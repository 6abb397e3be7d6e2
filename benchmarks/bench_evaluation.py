"""What a full evaluation of Gowalla's size costs, beside the bare product and beside ``topk`` over masked scores.

29,858 queries and 40,981 candidates of dim 64, in the pairs of Gowalla (LightGCN's files) where they lie in ``shared/data``
beside the repository, else random pairs of the same numbers; vectors are random. ``product`` is chunked ``torch.mm(out=)`` and
nothing else; ``topk`` masks the seen pairs of each chunk and takes its 20 best, without tie order, metrics or AUC. A part is
measured on a share of the queries, so that the sides take turns often.
"""

from __future__ import annotations

import io
import statistics
import sys
import zipfile
from collections.abc import Callable
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


def part_of(task: RankingTask, share: slice) -> RankingTask:
    """The same task for some of its queries."""
    from dataclasses import replace

    rows = np.arange(len(task.keys))[share]
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


def sides(task: RankingTask, vectors: tuple[torch.Tensor, torch.Tensor], dim: int) -> dict[str, Callable[[], object]]:
    """What takes turns."""
    queries, candidates = vectors
    asked, kept = queries[torch.from_numpy(task.queries)], torch.empty(CHUNK_ROWS, len(candidates))
    ranker = VectorRanker(queries.numpy(), candidates.numpy(), "dot")
    return {
        "product": partial(product_alone, asked, candidates, kept),
        "topk": partial(topk_of_masked, asked, candidates, kept, task.exclude),
        "ranking": partial(ranked, ranker, task, KS),
        "ranking and auc": partial(ranked, ranker, task, KS, auc=True),
        "evaluation": partial(evaluate_ranking, ranker, task, KS, part="test", split={}),
    }


def paired(seconds: dict[str, list[float]], side: str, other: str) -> dict[str, float]:
    """Median and quartiles of the ratio of two sides that took turns."""
    ratios = [a / b for a, b in zip(seconds[side], seconds[other], strict=True)]
    low, high = np.quantile(ratios, [0.25, 0.75])
    return {"median": round(statistics.median(ratios), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def main() -> None:
    """Time the sides in turns and print the ratios."""
    tiny = "--tiny" in sys.argv
    real = GOWALLA.exists() and not tiny
    num_queries, num_candidates = (50, 60) if tiny else SHAPE
    task = task_of(gowalla_pairs() if real else random_pairs(num_queries, num_candidates), num_queries, num_candidates)
    if "--part" in sys.argv:
        task = part_of(task, slice(None, None, 10))
    for dim in [64]:
        draw = torch.Generator().manual_seed(1)
        vectors = tuple(torch.randn(size, dim, generator=draw) for size in (num_queries + 1, num_candidates))
        work = sides(task, vectors, dim)
        alternate(work, 1)  # compiles, and touches all memory
        seconds = alternate(work, 1 if tiny else 5)
        report(
            "evaluation",
            seconds,
            pairs="gowalla" if real else "random",
            queries=len(task.keys),
            candidates=num_candidates,
            dim=dim,
            positives=int(task.num_positives.sum()),
            torch_threads=torch.get_num_threads(),
            evaluation_to_product=paired(seconds, "evaluation", "product"),
            topk_to_evaluation=paired(seconds, "topk", "evaluation"),
            topk_to_ranking=paired(seconds, "topk", "ranking"),
        )


if __name__ == "__main__":
    main()

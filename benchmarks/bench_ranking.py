"""What evaluating a ranking costs: the metrics that each epoch pays for, AUC beside them, and a whole evaluation with segments.

The shapes are those of MovieLens-1M, and a tenth of the queries of Gowalla with all its candidates; vectors are random.
"""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pyarrow as pa
from harness import alternate, report
from scipy.sparse import csr_array

from towerkit.data.table import Table
from towerkit.evaluation.ranking import evaluate_ranking, ranking_values
from towerkit.evaluation.ranking_task import RankingTask, ranking_task
from towerkit.evaluation.segments import Segment, ranking_segments
from towerkit.features.encoded import Catalogue
from towerkit.index.vectors import VectorRanker

KS = [5, 10, 20]
SHAPES = {"ml1m": (6040, 3260, 30, 120), "gowalla, a tenth of the queries": (2986, 40981, 7, 27)}
"""Name -> queries, candidates, held-out and seen pairs per query."""


def catalogue(size: int) -> Catalogue:
    """Keys and nothing else."""
    keys = pa.array([f"k{place:06d}" for place in range(size)])
    return Catalogue("key", keys, size, Table(pa.table({"key": keys}), "keys"))


def asked(num_queries: int, num_candidates: int, held: int, seen: int) -> tuple[RankingTask, list[Segment]]:
    """A task of random pairs, and segments by what training saw."""
    draw = np.random.default_rng(0)
    cells = np.repeat(np.arange(1, num_queries + 1), seen), draw.integers(1, num_candidates + 1, num_queries * seen)
    pairs = csr_array((np.ones(len(cells[0]), np.float32), cells), shape=(num_queries + 1, num_candidates + 1))
    pairs.sum_duplicates()
    query, candidate = catalogue(num_queries), catalogue(num_candidates)
    keys = (
        query.keys.take(pa.array(np.repeat(np.arange(num_queries), held))),
        candidate.keys.take(pa.array(draw.integers(0, num_candidates, num_queries * held))),
    )
    segments = ranking_segments(
        ["activity", "popularity"], query, candidate, csr_array(pairs[1:, 1:]), ("query", "candidate")
    )
    return ranking_task(query, candidate, pairs, *keys), segments


def main() -> None:
    """Time the four, in turns, for each shape."""
    tiny = "--tiny" in sys.argv
    for name, shape in SHAPES.items():
        num_queries, num_candidates, held, seen = (min(size, 50) for size in shape) if tiny else shape
        draw = np.random.default_rng(1)
        ranker = VectorRanker(draw.normal(size=(num_queries + 1, 64)), draw.normal(size=(num_candidates, 64)), "dot")
        task, segments = asked(num_queries, num_candidates, held, seen)
        whole = partial(evaluate_ranking, ranker, task, KS, part="test", split={})
        seconds = alternate(
            {
                "metrics at all k": partial(ranking_values, ranker, task, KS),
                "and auc": partial(ranking_values, ranker, task, KS, auc=True),
                "evaluation": whole,
                "evaluation, two segments": partial(whole, segments=segments),
            },
            repeats=1 if tiny else 5,
        )
        report("ranking", seconds, shape=name, queries=num_queries, candidates=num_candidates, dim=64)


if __name__ == "__main__":
    main()

"""Ranking evaluation: every candidate known before the cut-off is ranked, seen pairs removed, all k in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.errors import DataError
from towerkit.evaluation.result import INTERVAL, Evaluation
from towerkit.features.encoded import Catalogue
from towerkit.index.ranker import Ranker
from towerkit.metrics.intervals import mean_intervals
from towerkit.metrics.ranking import ranking_metrics

RESAMPLES = 1000


@dataclass(frozen=True)
class RankingTask:
    """Which queries to answer, what is right, and what may not be answered."""

    keys: pa.Array
    """``[queries]`` the queries' keys."""
    queries: NDArray[np.int64]
    """``[queries]`` rows in the query catalogue; 0 for a query that training never saw."""
    positives: csr_array
    """``[queries, candidates]`` right answers that can be given."""
    num_positives: NDArray[np.int64]
    """``[queries]`` all right answers, those of cold candidates included: they can only be missed."""
    exclude: csr_array
    """``[queries, candidates]`` pairs seen in training; never answered."""
    repeats: int
    """Held-out pairs that training had seen: left out, since seen pairs cannot be answered."""

    @property
    def cold_candidates(self) -> int:
        """Right answers that are not in the catalogue."""
        return int(self.num_positives.sum() - self.positives.nnz)


def ranking_task(
    query: Catalogue, candidate: Catalogue, seen: csr_array, query_keys: pa.Array, candidate_keys: pa.Array
) -> RankingTask:
    """Build the task from held-out pairs.

    Args:
        query: The query catalogue.
        candidate: The candidate catalogue; only its known part is ranked.
        seen: ``[query rows, candidate rows]`` trained pairs; row 0 and column 0 stand for unknown.
        query_keys: ``[pairs]`` keys of the held-out pairs, none missing; their order and repetitions mean nothing.
        candidate_keys: ``[pairs]``.

    Raises:
        DataError: If no pair is left to ask for.
    """
    pairs = pa.table({"query": query_keys, "candidate": candidate_keys})
    pairs = pairs.group_by(["query", "candidate"]).aggregate([])
    pairs = pairs.sort_by(
        [("query", "ascending"), ("candidate", "ascending")]
    )  # else the intervals follow the rows' order
    query_keys, candidate_keys = (pairs.column(name).combine_chunks() for name in ("query", "candidate"))
    query_rows, candidate_rows = query.rows(query_keys), candidate.rows(candidate_keys)
    candidate_rows = np.where(candidate_rows <= candidate.num_known, candidate_rows, 0)
    fresh = ~_contains(seen, query_rows, candidate_rows)
    repeats = int((~fresh).sum())
    encoded = pc.dictionary_encode(query_keys.filter(pa.array(fresh)))
    keys = encoded.dictionary
    if not len(keys):
        raise DataError(
            f"No held-out pair is left to evaluate: {repeats:,} of {len(pairs):,} were seen in training, and seen pairs "
            "are removed. Give rows that training did not have."
        )
    owner = encoded.indices.to_numpy().astype(np.int64)
    queries = query.rows(keys)
    queries = np.where(queries <= query.num_known, queries, 0)
    shape = (len(keys), candidate.num_known)
    places = candidate_rows[fresh]
    reachable = places > 0
    positives = csr_array(
        (np.ones(int(reachable.sum()), np.int8), (owner[reachable], places[reachable] - 1)), shape=shape
    )
    exclude = csr_array(seen[queries][:, 1 : candidate.num_known + 1])
    return RankingTask(keys, queries, positives, np.bincount(owner, minlength=len(keys)), exclude, repeats)


def ranking_values(ranker: Ranker, task: RankingTask, ks: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Every ranking metric of every query.

    Args:
        ranker: Ranks by query row; row 0 is the unknown query.
        task: What to ask.
        ks: How deep; a ``k`` above the number of candidates counts the missing places as misses.

    Returns:
        ``{"recall@20": [queries], …}``.
    """
    depth = min(max(ks), ranker.num_candidates)  # behind the last candidate nothing can be hit
    rows = ranker.rank(task.queries, depth, exclude=task.exclude).rows  # [queries, depth]
    owner = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    hits = _contains(task.positives, owner.ravel(), np.maximum(rows, 0).ravel()).reshape(rows.shape) & (rows >= 0)
    return ranking_metrics(hits, task.num_positives, ks, whole_ranking=depth == ranker.num_candidates)


def evaluate_ranking(
    ranker: Ranker, task: RankingTask, ks: Sequence[int], *, part: str, split: Mapping[str, Any], seed: int = 0
) -> Evaluation:
    """Ranking metrics with intervals over queries.

    Args:
        ranker: The model or baseline.
        task: What to ask.
        ks: How deep.
        part: Which part of the data this is, for the protocol.
        split: How the parts were made, for the protocol.
        seed: Of the bootstrap.
    """
    values = ranking_values(ranker, task, ks)
    protocol = {
        "kind": "ranking",
        "part": part,
        "split": dict(split),
        "queries": len(task.keys),
        "unknown_queries": int((task.queries == 0).sum()),
        "candidates": ranker.num_candidates,
        "positives": int(task.num_positives.sum()),
        "cold_candidates": task.cold_candidates,
        "repeats_left_out": task.repeats,
        "seen": "training pairs removed",
        "ties": "a fixed random order",
        "exact": ranker.exact,
        "k": list(ks),
        "interval": f"{INTERVAL} over queries, {RESAMPLES:,} resamples",
    }
    details = pa.table({"query": task.keys, **values})
    return Evaluation(protocol, mean_intervals(values, resamples=RESAMPLES, seed=seed), {"ranking": details})


def _contains(matrix: csr_array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the matrix stores an entry at each of some places, found by binary search."""
    if not matrix.nnz or not len(rows):
        return np.zeros(len(rows), bool)
    matrix = matrix.sorted_indices()  # a copy: the caller's matrix stays as it is
    owner = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    stored = owner * matrix.shape[1] + matrix.indices
    wanted = rows * matrix.shape[1] + columns
    place = np.minimum(np.searchsorted(stored, wanted), len(stored) - 1)
    return np.asarray(stored[place] == wanted)

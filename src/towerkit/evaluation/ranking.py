"""Ranking evaluation: every known candidate is ranked for each query in chunks, and all figures come from that one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.evaluation.ranking_task import RankingTask, entries
from towerkit.evaluation.result import INTERVAL, Evaluation
from towerkit.evaluation.segments import Segment
from towerkit.index.ranker import Ranker, candidate_tie_order
from towerkit.metrics.beyond import expected_ranks, list_metrics, novelty, self_information, serendipity
from towerkit.metrics.gains import Gain, Gains, gains_of, ideal_gains
from towerkit.metrics.intervals import Interval, mean_intervals
from towerkit.metrics.ranking import ranking_metrics

RESAMPLES = 1000
POSITIVES = "positives"
"""Column of the segments of candidates in the details: how many right answers of that value the query has."""

Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Answers:
    """Where the right answers of a task came in a ranking."""

    task: RankingTask
    ks: Sequence[int]
    rows: NDArray[np.int64]
    """``[queries, depth]`` the ranked candidates, -1 where a list has ended."""
    entry: NDArray[np.int64]
    """``[queries, depth]`` which positive of the task stands there, -1 where none does."""
    beaten: NDArray[np.float64] | None
    """``[positives]`` the share of negatives that each one beats; None where nobody asked."""
    gain: Gain = "linear"

    def relevance(
        self, kept: NDArray[np.bool_] | None = None, kept_cold: NDArray[np.bool_] | None = None
    ) -> tuple[Values, NDArray[np.int64], NDArray[np.int64]]:
        """The metrics of finding right answers.

        Args:
            kept: ``[positives]`` which of them count as right; all when not given. The others keep their ranks.
            kept_cold: ``[cold positives]`` likewise.

        Returns:
            ``{"recall@20": [asked], …}``, ``auc`` among them where it was asked for; the queries that have a right answer; and how
            many each of these has.
        """
        task = self.task
        kept = np.ones(task.positives.nnz, bool) if kept is None else kept
        kept_cold = np.ones(task.cold_candidates, bool) if kept_cold is None else kept_cold
        owner = np.concatenate([task.owner[kept], task.cold_owner[kept_cold]])
        num_positives = np.bincount(owner, minlength=len(task.keys))
        asked = np.flatnonzero(num_positives)
        entry, counts = self.entry[asked], num_positives[asked]
        hits = (entry >= 0) & np.append(kept, False)[entry]  # -1 reads the last one
        gains = self._gains(hits, entry, owner, kept, kept_cold, asked) if task.graded else None
        whole = self.rows.shape[1] == task.positives.shape[1]
        values = ranking_metrics(hits, counts, self.ks, gains=gains, whole_ranking=whole)
        if self.beaten is not None:
            beaten = np.bincount(task.owner[kept], self.beaten[kept], minlength=len(task.keys))
            values["auc"] = beaten[asked] / counts
        return values, asked, counts

    def _gains(
        self,
        hits: NDArray[np.bool_],
        entry: NDArray[np.int64],
        owner: NDArray[np.int64],
        kept: NDArray[np.bool_],
        kept_cold: NDArray[np.bool_],
        asked: NDArray[np.int64],
    ) -> Gains:
        own, cold = (gains_of(grades, self.gain) for grades in (self.task.positives.data, self.task.cold_grades))
        depth = min(max(self.ks), int(np.bincount(owner).max()))
        ideal = ideal_gains(owner, np.concatenate([own[kept], cold[kept_cold]]), len(self.task.keys), depth)
        return Gains(np.where(hits, np.append(own, 0.0)[entry], 0.0), ideal[asked])

    def beyond(self) -> Values:
        """Novelty and serendipity of every query at every ``k``; a cold positive is nowhere, so it is in neither."""
        task = self.task
        information = self_information(task.popularity, task.num_trained)
        hits = self.entry >= 0
        right = np.where(hits, self.rows, -1)  # of all others serendipity does not ask
        ties = candidate_tie_order(task.positives.shape[1])
        expected = expected_ranks(right, task.exclude, task.popularity, ties)
        return {f"novelty@{k}": novelty(self.rows, k, information) for k in self.ks} | {
            f"serendipity@{k}": serendipity(hits, expected, k) for k in self.ks
        }


def ranked(
    ranker: Ranker, task: RankingTask, ks: Sequence[int], *, auc: bool = False, gain: Gain = "linear"
) -> Answers:
    """Rank all candidates for the queries of a task, once for all depths.

    Args:
        ranker: Ranks by query row; row 0 is the unknown query.
        task: What to ask.
        ks: How deep; a ``k`` above the number of candidates counts the missing places as misses.
        auc: Also count the candidates that each right answer beats, in the same pass.
        gain: What a grade is worth to NDCG.
    """
    depth = min(max(ks), ranker.num_candidates)  # behind the last candidate nothing can be hit
    found = ranker.rank(task.queries, depth, exclude=task.exclude, positives=task.positives if auc else None)
    rows = found.rows  # [queries, depth]
    owner = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    entry = entries(task.positives, owner.ravel(), np.maximum(rows, 0).ravel()).reshape(rows.shape)
    return Answers(task, ks, rows, np.where(rows >= 0, entry, -1), found.beaten, gain)


def ranking_values(
    ranker: Ranker, task: RankingTask, ks: Sequence[int], *, auc: bool = False, gain: Gain = "linear"
) -> Values:
    """Every metric of finding right answers, of every query; arguments as in :func:`ranked`.

    Returns:
        ``{"recall@20": [queries], …}``.
    """
    return ranked(ranker, task, ks, auc=auc, gain=gain).relevance()[0]


def evaluate_ranking(
    ranker: Ranker,
    task: RankingTask,
    ks: Sequence[int],
    *,
    part: str,
    split: Mapping[str, Any],
    seed: int = 0,
    gain: Gain = "linear",
    segments: Sequence[Segment] = (),
) -> Evaluation:
    """Ranking metrics with intervals over queries.

    Args:
        ranker: The model or baseline.
        task: What to ask.
        ks: How deep.
        part: Which part of the data this is, for the protocol.
        split: How the parts were made, for the protocol.
        seed: Of the bootstrap.
        gain: What a grade is worth to NDCG, where pairs are graded.
        segments: Also measure each value of these apart.
    """
    answers = ranked(ranker, task, ks, auc=True, gain=gain)
    values = {**answers.relevance()[0], **answers.beyond()}
    metrics = mean_intervals(values, resamples=RESAMPLES, seed=seed)
    for name, value in list_metrics(answers.rows, ks, ranker.num_candidates).items():
        # A resample repeats queries, and repeated lists show less of the catalogue: it would say nothing of this figure.
        metrics[name] = Interval(value, float("nan"), float("nan"), len(task.keys))
    details = {"ranking": pa.table({"query": task.keys, **values})}
    apart = {segment.name: _apart(segment, answers, values) for segment in segments}
    if apart:
        details["segments"] = _long(apart, task.keys)
    figures = {
        name: {value: mean_intervals(each.values, resamples=RESAMPLES, seed=seed) for value, each in of.items()}
        for name, of in apart.items()
    }
    protocol = _protocol(ranker, task, ks, gain) | {"part": part, "split": dict(split)}
    return Evaluation(protocol, metrics, details, segments=figures)


def _protocol(ranker: Ranker, task: RankingTask, ks: Sequence[int], gain: Gain) -> dict[str, Any]:
    return {
        "kind": "ranking",
        "part": "",
        "split": {},
        "queries": len(task.keys),
        "unknown_queries": int((task.queries == 0).sum()),
        "queries_without_positive": task.not_asked,
        "empty": "queries without a positive are not asked",
        "candidates": ranker.num_candidates,
        "candidates_are": "all known before the cut-off",
        "positives": int(task.num_positives.sum()),
        "gain": gain if task.graded else "binary",
        "cold_candidates": task.cold_candidates,
        "repeats_left_out": task.repeats,
        "seen": "training pairs removed" if task.exclude_seen else "training pairs may be answered",
        "ties": "a fixed random order",
        "exact": ranker.exact,
        "k": list(ks),
        "interval": f"{INTERVAL} over queries, {RESAMPLES:,} resamples",
    }


@dataclass(frozen=True)
class _Part:
    """One value of a segment."""

    values: Values
    queries: NDArray[np.int64]
    """Those that have it, or a right answer that has it."""
    positives: NDArray[np.int64] | None = None
    """Of a segment of candidates: how many such right answers each of them has."""


def _apart(segment: Segment, answers: Answers, values: Values) -> dict[str, _Part]:
    """Value of the segment -> its figures per query; values that nobody has are left out."""
    task, found = answers.task, {}
    for code, value in enumerate(segment.values):
        if segment.side == "query":
            chosen = np.flatnonzero(segment.codes[task.queries] == code)
            part = _Part({name: column[chosen] for name, column in values.items()}, chosen)
        else:
            known = segment.codes[1:][task.positives.indices] == code
            cold = np.full(task.cold_candidates, segment.codes[0] == code)
            if not (known.any() or cold.any()):
                continue
            part = _Part(*answers.relevance(known, cold))
        if len(part.queries):
            found[value] = part
    return found


def _long(apart: Mapping[str, Mapping[str, _Part]], keys: pa.Array) -> pa.Table:
    """One row per segment, value and query; null where a metric is not measured for a segment."""
    tables = [
        pa.table(
            {
                "segment": pa.array([name] * len(part.queries), pa.string()),
                "value": pa.array([value] * len(part.queries), pa.string()),
                "query": keys.take(pa.array(part.queries)),
                **({} if part.positives is None else {POSITIVES: part.positives}),
                **part.values,
            }
        )
        for name, of in apart.items()
        for value, part in of.items()
    ]
    return pa.concat_tables(tables, promote_options="default").combine_chunks()

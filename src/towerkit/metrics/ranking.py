"""Ranking metrics: which ranks are hits, turned into one value per query.

Two arrays describe a ranking of every query. ``hits[i, r]`` says whether the candidate at rank ``r`` (0 is the
best) is a positive of query ``i``; ranks beyond the list that was returned are False. ``num_positives[i]``
counts all positives of query ``i`` in the test, also those that no ranking could reach, so that a candidate
missing from the catalogue costs recall. Where positives are graded, :class:`~towerkit.metrics.gains.Gains` says
what each of them is worth; only NDCG looks at it, and to all other metrics a positive is a positive.

A query without a positive has no recall and no ideal ranking: it is refused, and the caller filters such
queries (and reports how many there were). Every function returns float64 ``[queries]`` with values in [0, 1];
averaging comes last and is the caller's.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import DataError, ShapeError, SpecError
from towerkit.metrics.gains import Gains, check_gains

Hits = NDArray[np.bool_]
Counts = NDArray[np.int64]
PerQuery = NDArray[np.float64]


def precision(hits: Hits, num_positives: Counts, k: int) -> PerQuery:
    """Share of the first ``k`` ranks that are hits.

    The divisor is always ``k``. Some libraries divide by ``min(k, positives)``, which gives higher numbers for
    queries with few positives; the two are not comparable.

    Args:
        hits: ``[queries, depth]`` bool.
        num_positives: ``[queries]`` positives of each query, at least 1.
        k: How many ranks count, at most ``depth``.

    Returns:
        ``[queries]``.

    Raises:
        DataError: If a query has no positive, or fewer than it has hits.
        ShapeError: If the arrays do not belong together.
        SpecError: If ``k`` is not in 1 to ``depth``.

    Example:
        >>> precision(np.array([[True, False, True, False]]), np.array([3]), 4)
        array([0.5])
    """
    return _precision(_Running(hits, num_positives, [k]), k)


def recall(hits: Hits, num_positives: Counts, k: int) -> PerQuery:
    """Share of the query's positives found in the first ``k`` ranks; arguments as in :func:`precision`.

    Example:
        >>> recall(np.array([[True, False, True, False]]), np.array([4]), 4)
        array([0.5])
    """
    return _recall(_Running(hits, num_positives, [k]), k)


def f1(hits: Hits, num_positives: Counts, k: int) -> PerQuery:
    """Harmonic mean of precision and recall, 0 without a hit; arguments as in :func:`precision`.

    It equals ``2 hits / (k + positives)``, which needs no case for zero.

    Example:
        >>> f1(np.array([[True, False, True, False]]), np.array([4]), 4)
        array([0.5])
    """
    return _f1(_Running(hits, num_positives, [k]), k)


def hit_rate(hits: Hits, num_positives: Counts, k: int) -> PerQuery:
    """1 where the first ``k`` ranks hold a hit, otherwise 0; arguments as in :func:`precision`.

    Example:
        >>> hit_rate(np.array([[False, True], [False, False]]), np.array([1, 1]), 2)
        array([1., 0.])
    """
    return _hit_rate(_Running(hits, num_positives, [k]), k)


def ndcg(hits: Hits, num_positives: Counts, k: int, *, gains: Gains | None = None) -> PerQuery:
    """Discounted gain of the hits, divided by that of the best possible ranking.

    The discount at rank ``r`` (from 1) is ``1 / log2(r + 1)``. Without ``gains`` each hit gains 1, and the best
    possible ranking has hits at its first ``min(k, positives)`` ranks.

    Args:
        hits: ``[queries, depth]`` bool.
        num_positives: ``[queries]`` positives of each query, at least 1.
        k: How many ranks count, at most ``depth``.
        gains: What graded positives are worth.

    Returns:
        ``[queries]``.

    Raises:
        DataError: If a query has no positive, or fewer than it has hits, or a gain is not one.
        ShapeError: If the arrays do not belong together.
        SpecError: If ``k`` is not in 1 to ``depth``.

    Example:
        >>> ndcg(np.array([[False, False, True]]), np.array([1]), 3)
        array([0.5])
        >>> ndcg(np.array([[True, False]]), np.array([2]), 1, gains=Gains(np.array([[1.0, 0.0]]), np.array([[2.0, 1.0]])))
        array([0.5])

    Reference: Järvelin and Kekäläinen, ACM TOIS 2002.
    """
    return _ndcg(_Running(hits, num_positives, [k], gains=gains), k)


def mrr(hits: Hits, num_positives: Counts, k: int) -> PerQuery:
    """One over the rank of the first hit within ``k``, 0 without one; arguments as in :func:`precision`.

    Example:
        >>> mrr(np.array([[False, True, True, False]]), np.array([2]), 4)
        array([0.5])
    """
    return _mrr(_Running(hits, num_positives, [k]), k)


def average_precision(hits: Hits, num_positives: Counts, k: int) -> PerQuery:
    """Precision at the rank of each hit within ``k``, summed and divided by ``min(k, positives)``.

    Its mean over queries is MAP. With this divisor a ranking that starts with hits only has the value 1;
    trec_eval and ranx divide by all positives, so a query with more than ``k`` positives scores lower there.
    Arguments as in :func:`precision`.

    Example:
        >>> average_precision(np.array([[True, False, False, True]]), np.array([2]), 4)
        array([0.75])
    """
    return _average_precision(_Running(hits, num_positives, [k]), k)


def ranking_metrics(
    hits: Hits,
    num_positives: Counts,
    ks: Sequence[int],
    *,
    gains: Gains | None = None,
    whole_ranking: bool = False,
) -> dict[str, PerQuery]:
    """Every metric of :data:`RANKING_METRICS` at every ``k``, from one pass over the ranks.

    Args:
        hits: ``[queries, depth]`` bool.
        num_positives: ``[queries]`` positives of each query, at least 1.
        ks: How many ranks count, each in 1 to ``depth``.
        gains: What graded positives are worth to NDCG; 1 each when not given.
        whole_ranking: The ranks hold every candidate there is, so a ``k`` may lie beyond them: nothing more can be hit.

    Returns:
        ``{"recall@20": [queries], …}``, ordered by metric and then as in ``ks``.

    Raises:
        DataError: If a query has no positive, or fewer than it has hits, or a gain is not one.
        ShapeError: If the arrays do not belong together.
        SpecError: If ``ks`` is empty or holds a number outside 1 to ``depth``.

    Example:
        >>> values = ranking_metrics(np.array([[True, False, True]]), np.array([2]), [1, 3])
        >>> values["recall@1"], values["recall@3"]
        (array([0.5]), array([1.]))
    """
    running = _Running(hits, num_positives, ks, gains=gains, whole_ranking=whole_ranking)
    return {f"{name}@{k}": formula(running, k) for name, formula in _FORMULAS.items() for k in running.ks}


class _Running:
    """Sums that run along the ranks, each made when first asked for and shared by all metrics and all ``k``."""

    def __init__(
        self,
        hits: Hits,
        num_positives: Counts,
        ks: Sequence[int],
        *,
        gains: Gains | None = None,
        whole_ranking: bool = False,
    ) -> None:
        hits, num_positives = np.asarray(hits), np.asarray(num_positives)
        _check_arrays(hits, num_positives)
        self.ks = _checked_ks(ks, depth=None if whole_ranking else hits.shape[1])
        if gains is not None:
            check_gains(gains, hits, most=min(max(self.ks), int(num_positives.max())))
        self.hits = hits[:, : max(self.ks)]
        self.num_positives = num_positives
        self.gains = gains
        self.ranks = np.arange(1, self.hits.shape[1] + 1)

    def at(self, sums: NDArray[Any], k: int) -> NDArray[Any]:
        """``[queries]`` a running sum at rank ``k``; it no longer grows behind the last candidate."""
        return sums[:, min(k, sums.shape[1]) - 1]

    @cached_property
    def found(self) -> Counts:
        """``[queries, depth]`` hits up to and including each rank."""
        return np.cumsum(self.hits, axis=1, dtype=np.int64)

    @cached_property
    def gain(self) -> NDArray[np.float64]:
        """``[queries, depth]`` discounted gain up to each rank."""
        gain = self.hits if self.gains is None else self.gains.found[:, : self.hits.shape[1]]
        return np.cumsum(gain / np.log2(self.ranks + 1), axis=1)

    @cached_property
    def ideal_gain(self) -> NDArray[np.float64]:
        """``[queries or 1, most positives]`` discounted gain up to each rank of a ranking that begins with the best."""
        most = min(max(self.ks), int(self.num_positives.max()))
        best = np.ones((1, most)) if self.gains is None else self.gains.ideal[:, :most]
        return np.cumsum(best / np.log2(np.arange(1, best.shape[1] + 1) + 1), axis=1)

    @cached_property
    def precision_at_hits(self) -> NDArray[np.float64]:
        """``[queries, depth]`` sum, up to each rank, of the precision at those ranks that are hits."""
        return np.cumsum(self.hits * self.found / self.ranks, axis=1)

    @cached_property
    def first_hit(self) -> Counts:
        """``[queries]`` rank of the first hit, from 1; meaningless for a query without a hit."""
        rank: Counts = np.argmax(self.hits, axis=1) + 1
        return rank


def _precision(running: _Running, k: int) -> PerQuery:
    return running.at(running.found, k) / k


def _recall(running: _Running, k: int) -> PerQuery:
    return running.at(running.found, k) / running.num_positives


def _f1(running: _Running, k: int) -> PerQuery:
    return 2 * running.at(running.found, k) / (k + running.num_positives)


def _hit_rate(running: _Running, k: int) -> PerQuery:
    return (running.at(running.found, k) > 0).astype(np.float64)


def _ndcg(running: _Running, k: int) -> PerQuery:
    ideal, last = running.ideal_gain, np.minimum(k, running.num_positives) - 1
    row = np.zeros_like(last) if len(ideal) == 1 else np.arange(len(last))
    best: PerQuery = ideal[row, last]
    return running.at(running.gain, k) / best


def _mrr(running: _Running, k: int) -> PerQuery:
    return _hit_rate(running, k) / running.first_hit


def _average_precision(running: _Running, k: int) -> PerQuery:
    return running.at(running.precision_at_hits, k) / np.minimum(k, running.num_positives)


_FORMULAS: dict[str, Callable[[_Running, int], PerQuery]] = {
    "precision": _precision,
    "recall": _recall,
    "f1": _f1,
    "hit_rate": _hit_rate,
    "ndcg": _ndcg,
    "mrr": _mrr,
    "map": _average_precision,
}

RANKING_METRICS = tuple(_FORMULAS)
"""Names of the ranking metrics, as they stand before ``@k``; higher is better for each."""


def _check_arrays(hits: Hits, num_positives: Counts) -> None:
    if hits.ndim != 2 or num_positives.shape != hits.shape[:1]:
        raise ShapeError(
            f"hits must be [queries, depth] and num_positives [queries], got {hits.shape} and {num_positives.shape}; "
            "give one row of hits and one count per query."
        )
    if hits.dtype != np.bool_ or not np.issubdtype(num_positives.dtype, np.integer):
        raise DataError(
            f"hits must be bool and num_positives integers, got {hits.dtype} and {num_positives.dtype}; "
            "compare the ranked candidates with the positives to get hits."
        )
    if len(hits) == 0:
        raise DataError("A ranking metric needs at least one query, got 0; check the filters before the evaluation.")
    found = np.count_nonzero(hits, axis=1)
    for bad, rule in (
        (num_positives < 1, "every query needs at least one positive"),
        (found > num_positives, "a query cannot have more hits than positives"),
    ):
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"In ranking metrics {rule}; query row {row} has {num_positives[row]} positives and {found[row]} hits "
                f"({np.count_nonzero(bad)} such of {len(hits)} queries). Filter these queries, or count positives anew."
            )


def _checked_ks(ks: Sequence[int], *, depth: int | None) -> list[int]:
    if len(ks) == 0:
        raise SpecError("Ranking metrics need at least one k, got none; give for example ks=[10].")
    for k in ks:
        if isinstance(k, bool | np.bool_) or not isinstance(k, int | np.integer) or k < 1:
            raise SpecError(f"k must be a positive integer, got {k!r}; give for example k=10.")
        if depth is not None and k > depth:
            raise SpecError(f"k must not exceed the ranked depth, got k={k} with depth {depth}; rank {k} candidates.")
    return [operator.index(k) for k in ks]

"""What a ranking is like beyond being right: how much of the catalogue it shows, how evenly, how novel, how unexpected.

``rows[i, r]`` is the candidate at rank ``r`` (0 is the best) of query ``i``, -1 where the list has ended. Coverage and
Gini describe all lists together: they are no mean over queries, and they depend on how many queries there are. Novelty
and serendipity are values per query.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Rows = NDArray[np.int64]
PerQuery = NDArray[np.float64]

LIST_METRICS = ("coverage", "gini")
"""Names of the metrics of all lists together; higher is better for coverage, lower for Gini."""


def coverage(rows: Rows, k: int, num_candidates: int) -> float:
    """Share of the catalogue that stands in the first ``k`` ranks of at least one query.

    Args:
        rows: ``[queries, depth]`` candidate rows, -1 where there is none.
        k: How many ranks count.
        num_candidates: Size of the catalogue.

    Returns:
        In [0, 1]; it can only grow with the number of queries.

    Example:
        >>> coverage(np.array([[0, 1], [0, 2]]), 1, 4), coverage(np.array([[0, 1], [0, 2]]), 2, 4)
        (0.25, 0.75)

    Reference: Ge, Delgado-Battenfeld and Jannach, RecSys 2010 (catalog coverage).
    """
    return float(np.count_nonzero(_times_shown(rows, k, num_candidates)) / num_candidates)


def gini(rows: Rows, k: int, num_candidates: int) -> float:
    """How unevenly the first ``k`` ranks show the catalogue: 0 all candidates equally often, 1 always the same one.

    With ``s_1 <= … <= s_n`` the share that each candidate has of all places,
    ``G = sum_j (2 j - n - 1) s_j / (n - 1)``.

    Args:
        rows: ``[queries, depth]`` candidate rows, -1 where there is none.
        k: How many ranks count.
        num_candidates: Size of the catalogue ``n``; those that are never shown count too.

    Returns:
        In [0, 1]; nan where nothing is shown, 0 for a catalogue of one.

    Example:
        >>> gini(np.array([[0], [0]]), 1, 4), gini(np.array([[0], [1], [2], [3]]), 1, 4)
        (1.0, 0.0)

    Reference: Shani and Gunawardana, Evaluating Recommendation Systems, 2011, section 8.3.5.
    """
    shown = np.sort(_times_shown(rows, k, num_candidates))
    if not shown.any():
        return float("nan")
    weights = 2 * np.arange(1, num_candidates + 1) - num_candidates - 1
    return float(weights @ shown / (shown.sum() * max(num_candidates - 1, 1)))


def list_metrics(rows: Rows, ks: Sequence[int], num_candidates: int) -> dict[str, float]:
    """Coverage and Gini at every ``k``; arguments as in :func:`coverage`."""
    functions = {"coverage": coverage, "gini": gini}
    return {f"{name}@{k}": functions[name](rows, k, num_candidates) for name in LIST_METRICS for k in ks}


def self_information(counts: NDArray[np.int64], num_queries: int) -> PerQuery:
    """How surprising it is that a query had a candidate: ``-log2((c + 1) / (n + 1))`` bits.

    Adding one keeps a candidate that nobody had finite: it counts like one whose only query is about to come.

    Args:
        counts: ``[candidates]`` distinct training queries ``c`` that had each.
        num_queries: Distinct training queries ``n`` in all.

    Returns:
        ``[candidates]``, 0 for a candidate that all of them had.

    Example:
        >>> self_information(np.array([7, 3, 0]), 7)
        array([0., 1., 3.])

    Reference: Zhou et al., PNAS 2010 (self-information); Castells, Vargas and Wang, DDR 2011.
    """
    return np.log2(num_queries + 1) - np.log2(counts + 1.0)


def novelty(rows: Rows, k: int, information: PerQuery) -> PerQuery:
    """Mean self-information of the candidates in the first ``k`` ranks, in bits.

    Args:
        rows: ``[queries, depth]`` candidate rows, -1 where there is none.
        k: How many ranks count.
        information: ``[candidates]`` as :func:`self_information` gives it.

    Returns:
        ``[queries]``; empty places do not count, and a list without any candidate has 0.

    Example:
        >>> novelty(np.array([[0, 1], [1, -1]]), 2, np.array([4.0, 1.0]))
        array([2.5, 1. ])
    """
    first = rows[:, :k]
    there = first >= 0
    total = np.where(there, information[np.maximum(first, 0)], 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(there.sum(axis=1), 1), np.float64)


def serendipity(hits: NDArray[np.bool_], expected: Rows, k: int) -> PerQuery:
    """Share of the first ``k`` ranks that are hits and that popularity would not have shown there.

    Args:
        hits: ``[queries, depth]`` bool.
        expected: ``[queries, depth]`` the rank, from 0, that popularity gives the candidate, as from :func:`expected_ranks`.
        k: How many ranks count, of both rankings.

    Returns:
        ``[queries]`` in [0, 1], at most the precision; 0 for the ranking by popularity itself.

    Example:
        >>> serendipity(np.array([[True, True, False]]), np.array([[0, 9, 1]]), 2)
        array([0.5])

    Reference: Ge, Delgado-Battenfeld and Jannach, RecSys 2010, with the popularity ranking as the primitive model that
    says what is expected, and relevance as usefulness.
    """
    return (hits[:, :k] & (expected[:, :k] >= k)).sum(axis=1) / k


def expected_ranks(rows: Rows, exclude: csr_array, counts: NDArray[np.int64], tie_order: NDArray[np.int64]) -> Rows:
    """The rank, from 0, that each shown candidate has for the same query in a ranking by popularity.

    Args:
        rows: ``[queries, depth]`` candidate rows, -1 where there is none.
        exclude: ``[queries, candidates]`` what may not be shown, by neither ranking; without repeated entries.
        counts: ``[candidates]`` distinct training queries that had each.
        tie_order: ``[candidates]`` place of each candidate among those of equal count.

    Returns:
        ``[queries, depth]``; 0 where ``rows`` is -1.

    Example:
        >>> taken = csr_array(np.array([[0, 0, 1]]))
        >>> expected_ranks(np.array([[0, 1, -1]]), taken, np.array([1, 5, 9]), np.arange(3))
        array([[1, 0, 0]])
    """
    num_candidates = len(counts)
    place = np.empty(num_candidates, np.int64)
    place[np.lexsort((tie_order, -counts))] = np.arange(num_candidates)
    starts = exclude.indptr.astype(np.int64)
    owner = np.repeat(np.arange(len(rows), dtype=np.int64), np.diff(starts))
    taken = np.sort(owner * num_candidates + place[exclude.indices])  # [entries], by query and then by place
    shown, rank = np.nonzero(rows >= 0)
    own = place[rows[shown, rank]]  # [places that hold a candidate]
    expected = np.zeros(rows.shape, np.int64)
    expected[shown, rank] = own - (np.searchsorted(taken, shown * num_candidates + own) - starts[shown])
    return expected


def _times_shown(rows: Rows, k: int, num_candidates: int) -> NDArray[np.int64]:
    first = rows[:, :k]
    return np.bincount(first[first >= 0], minlength=num_candidates)

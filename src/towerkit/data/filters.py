"""Which rows of a set of pairs stay: without duplicates, with enough rows per key, or in the k-core.

Pure functions of codes: they see only the rows they are handed, so that rows held out cannot reach what is learned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]


def pair_groups(queries: Codes, candidates: Codes) -> Codes:
    """``[rows]`` a number per distinct pair."""
    width = int(candidates.max(initial=0)) + 1
    return np.unique(queries * width + candidates, return_inverse=True)[1].astype(np.int64).reshape(-1)


def one_of_each(groups: Codes, order: NDArray[np.float64] | None, *, last: bool) -> Mask:
    """The first or the last row of each group.

    Args:
        groups: ``[rows]`` a number per group.
        order: ``[rows]`` what first and last go by; a NaN lies before everything. By row where it is None or ties.
        last: The last, not the first.

    Returns:
        ``[rows]``, true for exactly one row of each group.

    Example:
        >>> one_of_each(np.array([0, 1, 0]), np.array([5.0, 0.0, 2.0]), last=False)
        array([False,  True,  True])
    """
    rows = np.arange(len(groups))
    moment = np.zeros(len(groups)) if order is None else np.where(np.isnan(order), -np.inf, order)
    by_group = np.lexsort((rows, moment, groups))
    edge = groups[by_group][1:] != groups[by_group][:-1]
    ends = np.append(edge, True) if last else np.insert(edge, 0, True)
    kept = np.zeros(len(groups), bool)
    kept[by_group[ends[: len(groups)]]] = True
    return kept


def frequent(codes: Codes, least: int) -> Mask:
    """The rows whose key stands in at least ``least`` rows.

    Example:
        >>> frequent(np.array([7, 3, 7]), 2)
        array([ True, False,  True])
    """
    return np.asarray(np.bincount(codes)[codes] >= least) if len(codes) else np.ones(0, bool)


def k_core(queries: Codes, candidates: Codes, k: int) -> Mask:
    """The largest set of rows in which every query and every candidate has at least ``k`` rows.

    Args:
        queries: ``[rows]`` a number per query.
        candidates: ``[rows]`` a number per candidate.
        k: Least number of rows.

    Returns:
        ``[rows]``; nothing where no such set exists.

    Example:
        >>> k_core(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), 2)
        array([ True,  True,  True,  True, False])

    Reference: Seidman, Social Networks 5 (1983), on the bipartite graph of rows.
    """
    kept = np.arange(len(queries))
    while True:
        stays = frequent(queries[kept], k) & frequent(candidates[kept], k)
        if stays.all():
            break
        kept = kept[stays]
    found = np.zeros(len(queries), bool)
    found[kept] = True
    return found

"""Graded relevance: what each positive is worth, at the ranks where it was found and in the best possible ranking.

A grade is a number of 0 or more that somebody gave to a pair; a pair of grade 0 was judged and is no positive. A gain is
what NDCG counts, made from the grade by :func:`gains_of`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import DataError, ShapeError

Gain = Literal["linear", "exponential"]
Floats = NDArray[np.float64]

_LARGEST_EXPONENT = 1000.0  # 2 to this power can still be summed


@dataclass(frozen=True)
class Gains:
    """What graded positives are worth: a gain is a positive number, such as the grade itself."""

    found: NDArray[np.float64]
    """``[queries, depth]`` the gain at each rank, 0 where there is no hit."""
    ideal: NDArray[np.float64]
    """``[queries, n]`` the gains of all positives of a query from the largest on, unreachable ones included, then zeros.

    Of the positives of a query it may leave out those behind the largest ``k``.
    """


def gains_of(grades: Floats, gain: Gain) -> Floats:
    """What grades are worth: the grade itself (``linear``), or ``2 ** grade - 1`` (``exponential``).

    With grades of 0 and 1 both are the same.

    Args:
        grades: Any shape, 0 or more.
        gain: Which of the two.

    Returns:
        The shape of ``grades``.

    Raises:
        DataError: If a grade is negative, not finite, or above 1,000 for the exponential gain.

    Example:
        >>> gains_of(np.array([0.0, 1.0, 3.0]), "exponential")
        array([0., 1., 7.])

    Reference: linear: Järvelin and Kekäläinen, ACM TOIS 2002; exponential: Burges et al., ICML 2005.
    """
    limit = np.inf if gain == "linear" else _LARGEST_EXPONENT
    bad = ~(np.isfinite(grades) & (grades >= 0) & (grades <= limit))
    if bad.any():
        most = "" if gain == "linear" else " and at most 1,000 for the exponential gain"
        raise DataError(
            f"A grade of relevance must be a finite number of 0 or more{most}; received {np.asarray(grades)[bad][0]} "
            f"({np.count_nonzero(bad):,} such grades). Correct the grades, or use linear gain."
        )
    return grades.astype(np.float64) if gain == "linear" else np.exp2(grades) - 1.0


def ideal_gains(owner: NDArray[np.int64], gains: NDArray[np.float64], num_queries: int, depth: int) -> Floats:
    """The largest gains of each query, for :class:`Gains`.

    Args:
        owner: ``[positives]`` the query of each positive.
        gains: ``[positives]`` what it is worth.
        num_queries: How many queries there are.
        depth: How many gains to keep of each.

    Returns:
        ``[queries, depth]`` from the largest on, zeros where a query has fewer positives.

    Example:
        >>> ideal_gains(np.array([0, 1, 0, 0]), np.array([1.0, 2.0, 3.0, 2.0]), 2, 2)
        array([[3., 2.],
               [2., 0.]])
    """
    order = np.lexsort((-gains, owner))
    owner, gains = owner[order], gains[order]
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)  # among the positives of its query
    kept = place < depth
    best = np.zeros((num_queries, depth))
    best[owner[kept], place[kept]] = gains[kept]
    return best


def check_gains(gains: Gains, hits: NDArray[np.bool_], most: int) -> None:
    """Refuse gains that do not belong to the hits.

    Args:
        gains: What the hits are worth.
        hits: ``[queries, depth]``.
        most: How many positives of one query can stand within the largest ``k``, at least 1.

    Raises:
        DataError: If a gain is negative or not finite, or a hit has none; names the query.
        ShapeError: If the arrays do not belong together.
    """
    found, ideal = gains.found, gains.ideal
    if found.shape != hits.shape or ideal.ndim != 2 or len(ideal) != len(hits) or ideal.shape[1] < most:
        raise ShapeError(
            f"gains.found must be [queries, depth] like hits and gains.ideal [queries, {most} or more], got {found.shape} and "
            f"{ideal.shape} with hits of {hits.shape}; give one row of gains per query, and in gains.ideal one for each positive."
        )
    for bad, rule in (
        (~np.isfinite(found).all(axis=1) | ~np.isfinite(ideal).all(axis=1), "gains must be finite"),
        (((found > 0) != hits).any(axis=1), "a hit has a gain above 0 and every other rank has 0"),
        (
            (ideal[:, 0] <= 0) | (ideal < 0).any(axis=1) | (np.diff(ideal, axis=1) > 0).any(axis=1),
            "the ideal gains begin with a gain above 0 and never rise",
        ),
    ):
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"In ranking metrics {rule}; query row {row} has gains {found[row, :5].tolist()} with hits "
                f"{hits[row, :5].tolist()} and ideal gains {ideal[row, :5].tolist()} ({np.count_nonzero(bad)} such of "
                f"{len(hits)} queries). Make gains from grades of 0 or more."
            )

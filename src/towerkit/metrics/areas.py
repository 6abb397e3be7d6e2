"""The areas under the ROC and the precision-recall curve: how well scores tell positive rows from negative ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from towerkit.core.errors import DataError, ShapeError
from towerkit.metrics.checks import Codes, Floats, checked_codes, checked_weight
from towerkit.metrics.weighted import ratio


def roc_auc(truth: ArrayLike, scores: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Probability that a random row of class 1 scores above one of class 0, a tie counting half.

    With one class only there is no such pair: the value is nan, and the caller reports it as undefined.

    Args:
        truth: ``[rows]`` codes 0 or 1.
        scores: ``[rows]``, any real numbers; only their order matters.
        weight: ``[rows]``, zero or more; ones if not given.

    Returns:
        In [0, 1], or nan.

    Raises:
        DataError: If there are no rows, a code or weight is out of range, or a score is not a number.
        ShapeError: If the arrays differ in length.

    Example:
        >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
        0.875
    """
    rows, weights = _checked(truth, scores, weight)
    return float(rows.areas(weights)[0][0])


def average_precision(truth: ArrayLike, scores: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Area under the precision-recall curve, as a sum of steps: ``Σ (R_i - R_(i-1)) P_i``.

    ``P_i`` and ``R_i`` are precision and recall of the rows whose score is at least the i-th largest one, so equal
    scores are taken together. A collapsed score has the share of the positives. Without a positive the value is nan.

    Args:
        truth: ``[rows]`` codes 0 or 1.
        scores: ``[rows]``, any real numbers; only their order matters.
        weight: ``[rows]``, zero or more; ones if not given.

    Returns:
        In (0, 1], or nan.

    Raises:
        DataError: If there are no rows, a code or weight is out of range, or a score is not a number.
        ShapeError: If the arrays differ in length.

    Example:
        >>> average_precision([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8])
        0.8333333333333333
    """
    rows, weights = _checked(truth, scores, weight)
    return float(rows.areas(weights)[1][0])


class RankedRows:
    """Rows in the order of their scores, sorted once: both areas come cheaply under any weights.

    Args:
        positive: ``[rows]`` which rows are positive.
        scores: ``[rows]``.
    """

    def __init__(self, positive: NDArray[np.bool_], scores: Floats) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self.negative = (~positive).astype(np.float64)
        ordered, is_positive = scores[self.order], positive[self.order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))  # of each group of ties
        ends = np.append(starts[1:], len(scores))
        self.positives = np.flatnonzero(is_positive)
        groups = np.searchsorted(starts, self.positives, side="right") - 1
        kept, self.offsets = np.unique(groups, return_index=True)  # groups without a positive move neither area
        self.starts: Codes = starts[kept]
        self.ends: Codes = ends[kept]

    def areas(self, weights: Floats) -> tuple[Floats, Floats]:
        """The areas under both curves.

        Args:
            weights: ``[weightings, rows]``, zero or more.

        Returns:
            ROC AUC, nan where a class has no weight, and average precision, nan where the positives have none;
            ``[weightings]`` each.
        """
        if not len(self.positives):
            return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
        ordered = np.take(weights, self.order, axis=1)
        above = np.zeros((len(weights), ordered.shape[1] + 1))
        np.cumsum(ordered, axis=1, out=above[:, 1:])
        end, start = above[:, self.ends], above[:, self.starts]  # [weightings, groups]
        hits = np.add.reduceat(ordered[:, self.positives], self.offsets, axis=1)
        found = np.cumsum(hits, axis=1)
        positives, negatives = found[:, -1], weights @ self.negative
        below = negatives[:, None] - (end - found)
        tied = end - start - hits
        pairs = np.einsum("ij,ij->i", hits, below + tied / 2)
        steps = np.einsum("ij,ij->i", hits, ratio(found, end))
        return ratio(pairs, positives * negatives, np.nan), ratio(steps, positives, np.nan)


def _checked(truth: ArrayLike, scores: ArrayLike, weight: ArrayLike | None) -> tuple[RankedRows, Floats]:
    codes = checked_codes("truth", truth, 2)
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != codes.shape:
        raise ShapeError(f"scores must be one per row of truth, got {values.shape} for {codes.shape}; align them.")
    if np.isnan(values).any():
        raise DataError(f"scores must be numbers, got nan in row {int(np.isnan(values).argmax())}; check the model.")
    return RankedRows(codes == 1, values), checked_weight(weight, len(codes))[None]

"""Proper scoring rules: what stated probabilities cost. Both are lowest in the mean for the true probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from towerkit.metrics.checks import Codes, Floats, checked_codes, checked_probabilities, checked_weight

_SMALLEST_PROBABILITY = 1e-15


def log_loss(truth: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted mean of ``-log p(true class)`` in nats, with probabilities below 1e-15 counted as 1e-15.

    Args:
        truth: ``[rows]`` class codes.
        probabilities: ``[rows, classes]``, each row summing to one.
        weight: ``[rows]``, zero or more; ones if not given.

    Returns:
        Zero or more; lower is better.

    Raises:
        DataError: If there are no rows, or a code, weight or probability is out of range.
        ShapeError: If the arrays do not belong together.

    Example:
        >>> round(log_loss([0, 1], [[0.5, 0.5], [0.5, 0.5]]), 4)
        0.6931
    """
    codes, table, weights = _checked(truth, probabilities, weight)
    return float(np.average(row_log_loss(codes, table), weights=weights))


def brier_score(truth: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted mean squared distance of the probabilities from what came true; arguments as in :func:`log_loss`.

    For two classes ``(p(1) - truth)²``, in [0, 1]; for more the sum of ``(p(c) - [truth = c])²`` over the classes, in
    [0, 2]. Lower is better.

    Example:
        >>> brier_score([0, 1], [[0.5, 0.5], [0.25, 0.75]])
        0.15625

    Reference: Brier, Monthly Weather Review 78(1), 1950.
    """
    codes, table, weights = _checked(truth, probabilities, weight)
    return float(np.average(row_brier(codes, table), weights=weights))


def row_log_loss(truth: Codes, probabilities: Floats) -> Floats:
    """``[rows]`` of :func:`log_loss`."""
    return cell_log_loss(probabilities[np.arange(len(truth)), truth])


def cell_log_loss(own: Floats) -> Floats:
    """Minus the logarithm of the probability of what came true."""
    loss: Floats = 0.0 - np.log(np.clip(own, _SMALLEST_PROBABILITY, 1.0))  # the subtraction spares 1 its "-0.0"
    return loss


def row_brier(truth: Codes, probabilities: Floats) -> Floats:
    """``[rows]`` of :func:`brier_score`."""
    if probabilities.shape[1] == 2:
        return np.asarray((probabilities[:, 1] - truth) ** 2, dtype=np.float64)
    came_true: NDArray[np.bool_] = truth[:, None] == np.arange(probabilities.shape[1])
    return np.asarray(((probabilities - came_true) ** 2).sum(axis=1), dtype=np.float64)


def _checked(truth: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None) -> tuple[Codes, Floats, Floats]:
    table = checked_probabilities(probabilities)
    codes = checked_codes("truth", truth, table.shape[1], rows=len(table))
    return codes, table, checked_weight(weight, len(codes))

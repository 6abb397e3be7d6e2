"""Metrics of class codes, true ones against predicted ones: all that a confusion matrix knows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from towerkit.core.errors import SpecError
from towerkit.metrics.averages import Average, Counts, PrecisionRecallF1, check_average
from towerkit.metrics.checks import Codes, Floats, checked_codes, checked_weight
from towerkit.metrics.weighted import ratio, row_mean, totals


def confusion_matrix(
    truth: ArrayLike, predicted: ArrayLike, num_classes: int, weight: ArrayLike | None = None
) -> Floats:
    """Weight of the rows by true class (row) and predicted class (column).

    Args:
        truth: ``[rows]`` class codes.
        predicted: ``[rows]`` class codes.
        num_classes: Number of classes; codes are below it.
        weight: ``[rows]``, zero or more; ones if not given.

    Returns:
        ``[num_classes, num_classes]``.

    Raises:
        DataError: If there are no rows, or a code or weight is out of range.
        ShapeError: If the arrays differ in length.

    Example:
        >>> confusion_matrix([0, 1, 1], [0, 0, 1], 2)
        array([[1., 0.],
               [1., 1.]])
    """
    true_codes, codes, weights = _checked_pair(truth, predicted, weight, num_classes)
    cells = totals(true_codes * num_classes + codes, weights[None], num_classes**2)
    return cells.reshape(num_classes, num_classes)


def accuracy(truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted share of rows whose predicted class is the true one.

    Args:
        truth: ``[rows]`` class codes.
        predicted: ``[rows]`` class codes.
        weight: ``[rows]``, zero or more; ones if not given.

    Returns:
        In [0, 1].

    Raises:
        DataError: If there are no rows, or a code or weight is out of range.
        ShapeError: If the arrays differ in length.

    Example:
        >>> accuracy([0, 1, 1, 1], [0, 0, 1, 1])
        0.75
    """
    true_codes, codes, weights = _checked_pair(truth, predicted, weight)
    return float(np.average(true_codes == codes, weights=weights))


def precision_recall_f1(
    truth: ArrayLike,
    predicted: ArrayLike,
    num_classes: int,
    *,
    average: Average,
    weight: ArrayLike | None = None,
) -> PrecisionRecallF1:
    """Precision, recall and F1 of class 1 (``binary``), or averaged over the classes.

    The averages and what is 0 or left out: see :mod:`towerkit.metrics.averages`. All three micro-averages, and the
    weighted recall, are the accuracy. Macro F1 is the mean of the F1 values, not the F1 of the means.

    Args:
        truth: ``[rows]`` class codes.
        predicted: ``[rows]`` class codes.
        num_classes: Number of classes, 2 for ``binary``.
        average: ``binary``, ``micro``, ``macro`` or ``weighted``.
        weight: ``[rows]``, zero or more; ones if not given.

    Returns:
        Named tuple of the three.

    Raises:
        DataError: If there are no rows, or a code or weight is out of range.
        ShapeError: If the arrays differ in length.
        SpecError: If ``average`` is unknown, or ``binary`` with other than 2 classes.

    Example:
        >>> precision_recall_f1([0, 1, 1, 1], [0, 0, 1, 1], 2, average="binary").precision
        1.0
    """
    check_average(average, ("binary", "micro", "macro", "weighted"))
    if average == "binary" and num_classes != 2:
        raise SpecError(f"average='binary' needs 2 classes, got num_classes={num_classes}; use average='macro'.")
    true_codes, codes, weights = _checked_pair(truth, predicted, weight, num_classes)
    values = class_counts(true_codes, codes, weights[None], num_classes).averaged(average)
    return PrecisionRecallF1(*(float(value[0]) for value in values))


def mean_absolute_class_error(truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted mean of ``|predicted - truth|`` in classes, for ordered classes; arguments as in :func:`accuracy`.

    Example:
        >>> mean_absolute_class_error([0, 4], [1, 2])
        1.5
    """
    true_codes, codes, weights = _checked_pair(truth, predicted, weight)
    return float(np.average(np.abs(codes - true_codes), weights=weights))


def quadratic_kappa(truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Cohen's kappa with squared distances, for ordered classes; arguments as in :func:`accuracy`.

    One minus the mean squared distance of predicted and true class, divided by what it would be if the same two sets
    of classes were paired at random: 1 is perfect, 0 is chance, less is worse. Where all rows have one class and are
    predicted as it, chance is perfect too, and the value is nan.

    Example:
        >>> quadratic_kappa([0, 1, 2, 2], [0, 1, 2, 1])
        0.8

    Reference: Cohen, Psychological Bulletin 70(4), 1968 (weighted kappa).
    """
    true_codes, codes, weights = _checked_pair(truth, predicted, weight)
    return float(kappa(true_codes, codes, weights[None])[0])


def class_counts(truth: Codes, predicted: Codes, weights: Floats, num_classes: int) -> Counts:
    """What precision and recall of each class are made of, under many weightings."""
    correct = totals(truth, weights * (truth == predicted), num_classes)
    return Counts(correct, totals(truth, weights, num_classes), totals(predicted, weights, num_classes))


def kappa(truth: Codes, predicted: Codes, weights: Floats) -> Floats:
    """``[weightings]`` of :func:`quadratic_kappa`.

    The distance expected by chance needs no table of classes: ``E(t - p)² = E t² + E p² - 2 E t E p`` for ``t`` and ``p``
    drawn apart; it is 0 only where both are constant and equal.
    """
    mean_truth, mean_predicted = row_mean(weights, truth), row_mean(weights, predicted)
    spread = row_mean(weights, truth**2) - mean_truth**2 + row_mean(weights, predicted**2) - mean_predicted**2
    chance = spread + (mean_truth - mean_predicted) ** 2
    negligible = chance <= 1e-12 * (1 + row_mean(weights, truth**2))  # of one class, but for rounding
    missed = row_mean(weights, (truth - predicted) ** 2)
    found = 1 - ratio(missed, np.where(negligible, 0.0, chance), np.nan)
    return np.where(np.abs(found) < 1e-12, 0.0, found)  # chance itself, but for rounding


def _checked_pair(
    truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike | None, num_classes: int | None = None
) -> tuple[Codes, Codes, Floats]:
    true_codes = checked_codes("truth", truth, num_classes)
    codes = checked_codes("predicted", predicted, num_classes, rows=len(true_codes))
    return true_codes, codes, checked_weight(weight, len(true_codes))

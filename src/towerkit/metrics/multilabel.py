"""Metrics of tasks with any number of labels per row: each label is there or not, and has a probability of its own.

``truth`` is ``[rows, labels]`` of 0 and 1, ``probabilities`` ``[rows, labels]``; a label is predicted where its
probability reaches its threshold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from towerkit.metrics.areas import RankedRows
from towerkit.metrics.averages import Average, Counts, PrecisionRecallF1, check_average
from towerkit.metrics.calibration import calibration_error, row_gaps
from towerkit.metrics.checks import (
    Floats,
    checked_label_probabilities,
    checked_label_table,
    checked_thresholds,
    checked_weight,
)
from towerkit.metrics.scoring import cell_log_loss
from towerkit.metrics.weighted import mean_of_defined, ratio, row_mean

_AVERAGES: tuple[Average, ...] = ("micro", "macro", "weighted", "samples")
MULTILABEL_METRICS: tuple[str, ...] = (
    "subset_accuracy",
    "hamming_loss",
    *(f"{name}_{average}" for average in _AVERAGES for name in ("precision", "recall", "f1")),
    *("auc", "average_precision", "log_loss", "brier", "ece"),
)
"""Names of the metrics, in the order of the results."""


class MultilabelRows:
    """Checked predictions, sorted once, from which the metrics under many weightings come cheaply.

    Args:
        truth: ``[rows, labels]`` 0 or 1.
        probabilities: ``[rows, labels]``.
        threshold: Probability from which a label is predicted; one for all, one for each label, or ``[rows, labels]``.

    Raises:
        DataError: If there are no rows, or a value is out of range.
        ShapeError: If the arrays do not belong together.
        SpecError: If a threshold is no probability.
    """

    def __init__(self, truth: ArrayLike, probabilities: ArrayLike, *, threshold: ArrayLike = 0.5) -> None:
        labels = checked_label_table(truth)
        table = checked_label_probabilities(probabilities, labels.shape)
        self.num_rows, self.num_labels = labels.shape
        self.truth = labels.astype(np.float64)
        self.predicted = (table >= checked_thresholds(threshold, table.shape)).astype(np.float64)
        self._correct = self.truth * self.predicted
        self._per_row = np.stack(
            [
                (self.truth == self.predicted).all(axis=1),
                (self.truth != self.predicted).mean(axis=1),
                cell_log_loss(np.where(labels == 1, table, 1 - table)).mean(axis=1),
                ((table - self.truth) ** 2).mean(axis=1),
            ]
        )
        self._samples, self._has_sample = _sample_figures(self.truth, self.predicted, self._correct)
        self._gaps = row_gaps(self.truth, table)
        self._ranked = [RankedRows(labels[:, label] == 1, table[:, label]) for label in range(self.num_labels)]

    def metrics(self, weights: Floats) -> dict[str, Floats]:
        """The metrics under each weighting.

        Args:
            weights: ``[weightings, rows]``, zero or more, not all zero in a row.

        Returns:
            ``{"subset_accuracy": [weightings], …}``, named as in :data:`MULTILABEL_METRICS`.
        """
        counts = self.counts(weights)
        subset, hamming, loss, brier = (row_mean(weights, values) for values in self._per_row)
        values = [subset, hamming]
        values += [figure for average in ("micro", "macro", "weighted") for figure in counts.averaged(average)]
        some = weights @ self._has_sample
        values += [ratio(weights @ (figure * self._has_sample), some, np.nan) for figure in self._samples]
        areas = [ranked.areas(weights) for ranked in self._ranked]
        values += [mean_of_defined(list(each)) for each in zip(*areas, strict=True)]
        values += [loss, brier, calibration_error(self._gaps, weights)]
        return dict(zip(MULTILABEL_METRICS, values, strict=True))

    def counts(self, weights: Floats) -> Counts:
        """``[weightings, labels]`` weight of the rows that have each label, were predicted as it, and both."""
        return Counts(*(np.asarray(weights @ table) for table in (self._correct, self.truth, self.predicted)))


def multilabel_precision_recall_f1(
    truth: ArrayLike, predicted: ArrayLike, *, average: Average, weight: ArrayLike | None = None
) -> PrecisionRecallF1:
    """Precision, recall and F1 of sets of labels.

    ``samples`` is the mean over rows, of each row's own labels; a row that has no label and was predicted none is left
    out. The other averages: see :mod:`towerkit.metrics.averages`.

    Args:
        truth: ``[rows, labels]`` 0 or 1.
        predicted: ``[rows, labels]`` 0 or 1.
        average: ``micro``, ``macro``, ``weighted`` or ``samples``.
        weight: ``[rows]``, zero or more; ones if not given.

    Returns:
        Named tuple of the three; nan where nothing is left to average.

    Raises:
        DataError: If there are no rows, or a value is out of range.
        ShapeError: If the arrays do not belong together.
        SpecError: If ``average`` is unknown.

    Example:
        >>> multilabel_precision_recall_f1([[1, 0], [1, 1]], [[1, 0], [0, 1]], average="micro").recall
        0.6666666666666666
    """
    check_average(average, _AVERAGES)
    rows = MultilabelRows(truth, predicted)
    values = rows.metrics(checked_weight(weight, rows.num_rows)[None])
    return PrecisionRecallF1(*(float(values[f"{name}_{average}"][0]) for name in PrecisionRecallF1._fields))


def multilabel_confusion(truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike | None = None) -> Floats:
    """A matrix of two classes for each label: rows are absent and present in truth, columns in the prediction.

    Args:
        truth: ``[rows, labels]`` 0 or 1.
        predicted: ``[rows, labels]`` 0 or 1.
        weight: ``[rows]``, zero or more; ones if not given.

    Returns:
        ``[labels, 2, 2]``.

    Raises:
        DataError: If there are no rows, or a value is out of range.
        ShapeError: If the arrays do not belong together.

    Example:
        >>> multilabel_confusion([[1, 0], [1, 1]], [[1, 0], [0, 1]])[0].tolist()
        [[0.0, 0.0], [1.0, 1.0]]
    """
    rows = MultilabelRows(truth, predicted)
    weights = checked_weight(weight, rows.num_rows)[None]
    correct, true, claimed = (counts[0] for counts in rows.counts(weights))
    absent = weights.sum() - true - claimed + correct
    cells = [[absent, claimed - correct], [true - correct, correct]]
    return np.moveaxis(np.array(cells), 2, 0)


def _sample_figures(truth: Floats, predicted: Floats, correct: Floats) -> tuple[list[Floats], Floats]:
    """Precision, recall and F1 of each row, and whether it has a label or was predicted one; ``[rows]`` each."""
    counts = Counts(*(table.sum(axis=1) for table in (correct, truth, predicted)))
    return counts.figures(), counts.seen.astype(np.float64)

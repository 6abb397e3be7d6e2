"""All metrics of tasks with one class per row, under one weighting or many.

``truth`` holds class codes ``0 … classes - 1`` per row and ``probabilities`` is ``[rows, classes]``, also for
two classes. The predicted class is the most probable one, the lower code on a tie; for ``binary`` it is class 1 where
its probability reaches the threshold.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from towerkit.core.errors import ShapeError
from towerkit.metrics.areas import RankedRows
from towerkit.metrics.calibration import calibration_error, row_gaps
from towerkit.metrics.checks import (
    ClassKind,
    Codes,
    Floats,
    Kind,
    check_kind,
    checked_codes,
    checked_probabilities,
    checked_thresholds,
)
from towerkit.metrics.confusion import class_counts, kappa
from towerkit.metrics.scoring import row_brier, row_log_loss
from towerkit.metrics.weighted import mean_of_defined, row_mean

_PROBABILITY = ("auc", "average_precision", "log_loss", "brier", "ece")
_MACRO = ("precision_macro", "recall_macro", "f1_macro")
_WEIGHTED = ("precision_weighted", "f1_weighted")  # the weighted recall and all micro-averages are the accuracy
_MULTICLASS = ("accuracy", *_MACRO, *_WEIGHTED, *_PROBABILITY)
CLASSIFICATION_METRICS: dict[Kind, tuple[str, ...]] = {
    "binary": ("accuracy", "precision", "recall", "f1", *_PROBABILITY),
    "multiclass": _MULTICLASS,
    "ordinal": (*_MULTICLASS, "mae", "quadratic_kappa"),
}
"""Names of the metrics of each kind of task, in the order of the results."""


class ClassificationRows:
    """Checked predictions, sorted once, from which the metrics under many weightings come cheaply.

    For more than two classes ``auc`` and ``average_precision`` are one class against the rest, averaged over the classes
    for which they are defined; they are nan where they are for none.

    Args:
        truth: ``[rows]`` class codes.
        probabilities: ``[rows, classes]``, each row summing to one; two columns for ``binary``.
        kind: ``binary``, ``multiclass`` or ``ordinal``.
        threshold: Probability of class 1 from which it is predicted, or one for each row; used by ``binary`` only.

    Raises:
        DataError: If there are no rows, or a code or probability is out of range.
        ShapeError: If the arrays do not belong together or the number of columns does not fit ``kind``.
        SpecError: If ``kind`` or ``threshold`` is not possible.
    """

    def __init__(
        self, truth: ArrayLike, probabilities: ArrayLike, *, kind: ClassKind, threshold: ArrayLike = 0.5
    ) -> None:
        check_kind(kind, get_args(ClassKind))
        table = checked_probabilities(probabilities)
        self.num_rows, self.num_classes = table.shape
        if self.num_classes < 2 or (kind == "binary" and self.num_classes != 2):
            rule = "exactly 2" if kind == "binary" else "2 or more"
            raise ShapeError(f"kind '{kind}' needs {rule} columns of probabilities, got {self.num_classes}.")
        self.kind = kind
        self.truth = checked_codes("truth", truth, self.num_classes, rows=self.num_rows)
        self.predicted = predicted_codes(table, kind, checked_thresholds(threshold, (self.num_rows,)))
        self._losses = np.stack([row_log_loss(self.truth, table), row_brier(self.truth, table)])
        came_true, stated = statements(self.truth, table, kind)
        self._gaps = row_gaps(came_true[:, None], stated[:, None])
        compared = [1] if kind == "binary" else range(self.num_classes)
        self._ranked = [RankedRows(self.truth == code, table[:, code]) for code in compared]

    def metrics(self, weights: Floats) -> dict[str, Floats]:
        """The metrics under each weighting.

        Args:
            weights: ``[weightings, rows]``, zero or more, not all zero in a row.

        Returns:
            ``{"accuracy": [weightings], …}``, named as in :data:`CLASSIFICATION_METRICS`.
        """
        counts = class_counts(self.truth, self.predicted, weights, self.num_classes)
        values = [row_mean(weights, self.truth == self.predicted)]
        if self.kind == "binary":
            values += counts.averaged("binary")
        else:
            precision, _, f1 = counts.averaged("weighted")
            values += [*counts.averaged("macro"), precision, f1]
        areas = [ranked.areas(weights) for ranked in self._ranked]
        values += [mean_of_defined(list(each)) for each in zip(*areas, strict=True)]
        values += [row_mean(weights, loss) for loss in self._losses]
        values.append(calibration_error(self._gaps, weights))
        if self.kind == "ordinal":
            values.append(row_mean(weights, np.abs(self.predicted - self.truth)))
            values.append(kappa(self.truth, self.predicted, weights))
        return dict(zip(CLASSIFICATION_METRICS[self.kind], values, strict=True))


def predicted_codes(probabilities: Floats, kind: str, threshold: Floats | float) -> Codes:
    """``[rows]`` the class that each row is taken for."""
    if kind == "binary":
        return (probabilities[:, 1] >= threshold).astype(np.int64)
    most_probable: Codes = np.argmax(probabilities, axis=1)
    return most_probable


def statements(truth: Codes, probabilities: Floats, kind: str) -> tuple[Floats, Floats]:
    """The statements whose calibration is measured: whether each came true, and its probability; ``[rows]`` each.

    For ``binary`` that the row is of class 1, else that its most probable class is right.
    """
    if kind == "binary":
        return truth.astype(np.float64), np.minimum(probabilities[:, 1], 1.0)
    best = probabilities.argmax(axis=1)
    return (best == truth).astype(np.float64), np.minimum(probabilities[np.arange(len(best)), best], 1.0)

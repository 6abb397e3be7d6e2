"""Classification metrics of class codes and probabilities, with optional row weights.

``truth`` holds class codes ``0 … classes - 1`` per row and ``probabilities`` is ``[rows, classes]``, also for
two classes. A row of weight 2 counts as two equal rows and a row of weight 0 as none; the bootstrap in
:mod:`towerkit.metrics.intervals` relies on that and passes resample counts as weights.

The predicted class is the most probable one, the lower code on a tie; for ``binary`` it is class 1 where its
probability reaches the threshold.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from towerkit.core.errors import DataError, ShapeError, SpecError, listed, nearest
from towerkit.metrics.checks import (
    Codes,
    Floats,
    Kind,
    check_kind,
    checked_codes,
    checked_probabilities,
    checked_weight,
)
from towerkit.metrics.ranking import RANKING_METRICS

_BINARY = ("accuracy", "precision", "recall", "f1", "auc", "log_loss")
_MULTICLASS = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "auc", "log_loss")
CLASSIFICATION_METRICS: dict[Kind, tuple[str, ...]] = {
    "binary": _BINARY,
    "multiclass": _MULTICLASS,
    "ordinal": (*_MULTICLASS, "mae"),
}
"""Names of the metrics of each kind of task, in the order of the results."""

_LOWER_IS_BETTER = ("log_loss", "mae")
_SMALLEST_PROBABILITY = 1e-15


class PrecisionRecallF1(NamedTuple):
    """The three figures, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


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
    true_codes = checked_codes("truth", truth, num_classes)
    codes = checked_codes("predicted", predicted, num_classes, rows=len(true_codes))
    weights = checked_weight(weight, len(true_codes))
    cells = _totals(true_codes * num_classes + codes, weights[None], num_classes**2)
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


def mean_absolute_class_error(truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Weighted mean of ``|predicted - truth|`` in classes, for ordered classes; arguments as in :func:`accuracy`.

    Example:
        >>> mean_absolute_class_error([0, 4], [1, 2])
        1.5
    """
    true_codes, codes, weights = _checked_pair(truth, predicted, weight)
    return float(np.average(np.abs(codes - true_codes), weights=weights))


def precision_recall_f1(
    truth: ArrayLike,
    predicted: ArrayLike,
    num_classes: int,
    *,
    average: Literal["macro", "binary"],
    weight: ArrayLike | None = None,
) -> PrecisionRecallF1:
    """Precision, recall and F1 of class 1 (``binary``), or their plain means over the classes (``macro``).

    A class that no row has and no row was predicted as is left out of the macro means. A class that was never
    predicted has precision 0, one that no row has recall 0. Both are scikit-learn's defaults; and macro F1 is the mean
    of the F1 values, not the F1 of the means.

    Args:
        truth: ``[rows]`` class codes.
        predicted: ``[rows]`` class codes.
        num_classes: Number of classes, 2 for ``binary``.
        average: ``macro`` or ``binary``.
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
    if average not in ("macro", "binary"):
        raise SpecError(
            f"average must be one of 'binary', 'macro', got {average!r}{nearest(average, ('binary', 'macro'))}"
        )
    if average == "binary" and num_classes != 2:
        raise SpecError(f"average='binary' needs 2 classes, got num_classes={num_classes}; use average='macro'.")
    true_codes = checked_codes("truth", truth, num_classes)
    codes = checked_codes("predicted", predicted, num_classes, rows=len(true_codes))
    weights = checked_weight(weight, len(true_codes))
    values = _precision_recall_f1(true_codes, codes, weights[None], num_classes, average)
    return PrecisionRecallF1(*(float(value[0]) for value in values))


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
    table = checked_probabilities(probabilities)
    codes = checked_codes("truth", truth, table.shape[1], rows=len(table))
    return float(np.average(_row_loss(codes, table), weights=checked_weight(weight, len(codes))))


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
    codes = checked_codes("truth", truth, 2)
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != codes.shape:
        raise ShapeError(f"scores must be one per row of truth, got {values.shape} for {codes.shape}; align them.")
    if np.isnan(values).any():
        raise DataError(f"scores must be numbers, got nan in row {int(np.isnan(values).argmax())}; check the model.")
    weights = checked_weight(weight, len(codes))
    return float(_AucRows(codes == 1, values).value(weights[None])[0])


def classification_metrics(
    truth: ArrayLike,
    probabilities: ArrayLike,
    *,
    kind: Kind,
    threshold: float = 0.5,
    weight: ArrayLike | None = None,
) -> dict[str, float]:
    """Every metric that fits the kind of task, named as in :data:`CLASSIFICATION_METRICS`.

    For ``multiclass`` and ``ordinal``, ``auc`` is one class against the rest, averaged over the classes for which
    both sides have rows. It is nan where no class (for ``binary``: where one class only) has.

    Args:
        truth: ``[rows]`` class codes.
        probabilities: ``[rows, classes]``, each row summing to one; two columns for ``binary``.
        kind: ``binary``, ``multiclass`` or ``ordinal``.
        threshold: Probability of class 1 from which it is predicted; used by ``binary`` only.
        weight: ``[rows]``, zero or more; ones if not given.

    Returns:
        ``{"accuracy": …, …}``.

    Raises:
        DataError: If there are no rows, or a code, weight or probability is out of range.
        ShapeError: If the arrays do not belong together or the number of columns does not fit ``kind``.
        SpecError: If ``kind`` or ``threshold`` is not possible.

    Example:
        >>> values = classification_metrics([0, 1], [[0.9, 0.1], [0.2, 0.8]], kind="binary")
        >>> values["accuracy"], values["auc"]
        (1.0, 1.0)
    """
    rows = ClassificationRows(truth, probabilities, kind=kind, threshold=threshold)
    weights = checked_weight(weight, rows.num_rows)
    return {name: float(value[0]) for name, value in rows.metrics(weights[None]).items()}


def higher_is_better(metric_name: str) -> bool:
    """Whether a larger value of the metric is better.

    Args:
        metric_name: A name with or without task and ``k``: ``"log_loss"``, ``"ndcg@20"``, ``"click/auc"``.

    Returns:
        False for ``log_loss`` and ``mae``, True for the others.

    Raises:
        SpecError: If there is no such metric.

    Example:
        >>> higher_is_better("purchase/ndcg@20"), higher_is_better("rating/mae")
        (True, False)
    """
    known = {*RANKING_METRICS, *CLASSIFICATION_METRICS["binary"], *CLASSIFICATION_METRICS["ordinal"]}
    name = metric_name.rpartition("/")[2].partition("@")[0]
    if name not in known:
        raise SpecError(f"Unknown metric '{metric_name}'{nearest(name, known) or '.'} Metrics are {listed(known, 30)}.")
    return name not in _LOWER_IS_BETTER


class ClassificationRows:
    """Checked predictions, sorted once, from which the metrics under many weightings come cheaply.

    Args:
        truth: ``[rows]`` class codes.
        probabilities: ``[rows, classes]``, each row summing to one; two columns for ``binary``.
        kind: ``binary``, ``multiclass`` or ``ordinal``.
        threshold: Probability of class 1 from which it is predicted; used by ``binary`` only.

    Raises:
        DataError: If there are no rows, or a code or probability is out of range.
        ShapeError: If the arrays do not belong together or the number of columns does not fit ``kind``.
        SpecError: If ``kind`` or ``threshold`` is not possible.
    """

    def __init__(self, truth: ArrayLike, probabilities: ArrayLike, *, kind: Kind, threshold: float = 0.5) -> None:
        check_kind(kind, threshold)
        table = checked_probabilities(probabilities)
        self.num_rows, self.num_classes = table.shape
        if self.num_classes < 2 or (kind == "binary" and self.num_classes != 2):
            rule = "exactly 2" if kind == "binary" else "2 or more"
            raise ShapeError(f"kind '{kind}' needs {rule} columns of probabilities, got {self.num_classes}.")
        self.kind = kind
        self.truth = checked_codes("truth", truth, self.num_classes, rows=self.num_rows)
        self.predicted = _predicted(table, kind, threshold)
        self.row_loss = _row_loss(self.truth, table)
        compared = [1] if kind == "binary" else range(self.num_classes)
        self._auc = [_AucRows(self.truth == code, table[:, code]) for code in compared]

    def metrics(self, weights: Floats) -> dict[str, Floats]:
        """The metrics under each weighting.

        Args:
            weights: ``[weightings, rows]``, zero or more, not all zero in a row.

        Returns:
            ``{"accuracy": [weightings], …}``, named as in :data:`CLASSIFICATION_METRICS`.
        """
        average: Literal["macro", "binary"] = "binary" if self.kind == "binary" else "macro"
        total = weights.sum(axis=1)
        values = [weights @ (self.truth == self.predicted) / total]
        values += _precision_recall_f1(self.truth, self.predicted, weights, self.num_classes, average)
        values += [_mean_of_defined([auc.value(weights) for auc in self._auc]), weights @ self.row_loss / total]
        if self.kind == "ordinal":
            values.append(weights @ np.abs(self.predicted - self.truth) / total)
        return dict(zip(CLASSIFICATION_METRICS[self.kind], values, strict=True))


class _AucRows:
    """Where each positive row stands among the sorted negatives: all that AUC needs under any weights."""

    def __init__(self, positive: NDArray[np.bool_], scores: Floats) -> None:
        negatives = np.flatnonzero(~positive)
        self.positives = np.flatnonzero(positive)
        self.negatives = negatives[np.argsort(scores[negatives], kind="stable")]
        ordered = scores[self.negatives]
        self.below = np.searchsorted(ordered, scores[self.positives], side="left")
        self.below_or_tied = np.searchsorted(ordered, scores[self.positives], side="right")

    def value(self, weights: Floats) -> Floats:
        """``[weightings, rows]`` weights to ``[weightings]`` AUC, nan where a class has no weight."""
        positive = np.take(weights, self.positives, axis=1)
        beaten = np.zeros((len(weights), len(self.negatives) + 1))  # weight of the negatives below
        np.cumsum(np.take(weights, self.negatives, axis=1), axis=1, out=beaten[:, 1:])
        twice = np.take(beaten, self.below, axis=1) + np.take(beaten, self.below_or_tied, axis=1)
        pairs = positive.sum(axis=1) * beaten[:, -1]
        return _ratio(np.einsum("ij,ij->i", positive, twice) / 2, pairs, otherwise=np.nan)


def _precision_recall_f1(
    truth: Codes, predicted: Codes, weights: Floats, num_classes: int, average: Literal["macro", "binary"]
) -> list[Floats]:
    """Three arrays ``[weightings]``."""
    correct = _totals(truth, weights * (truth == predicted), num_classes)  # [weightings, classes]
    true, claimed = _totals(truth, weights, num_classes), _totals(predicted, weights, num_classes)
    per_class = [_ratio(correct, claimed), _ratio(correct, true), _ratio(2 * correct, true + claimed)]
    if average == "binary":
        return [value[:, 1] for value in per_class]
    present = (true + claimed > 0).sum(axis=1)
    return [value.sum(axis=1) / present for value in per_class]


def _totals(codes: Codes, weights: Floats, size: int) -> Floats:
    """``[weightings, size]`` weight of the rows of each code."""
    cells = codes + size * np.arange(len(weights))[:, None]
    totals = np.bincount(cells.ravel(), weights.ravel(), minlength=size * len(weights))
    return np.asarray(totals, dtype=np.float64).reshape(-1, size)


def _ratio(numerator: Floats, denominator: Floats, otherwise: float = 0.0) -> Floats:
    defined = denominator > 0
    return np.where(defined, numerator / np.where(defined, denominator, 1.0), otherwise)


def _mean_of_defined(values: list[Floats]) -> Floats:
    """Mean over the arrays, without their nans; nan where all are."""
    table = np.stack(values)
    defined = ~np.isnan(table)
    return _ratio(np.where(defined, table, 0.0).sum(axis=0), defined.sum(axis=0).astype(np.float64), otherwise=np.nan)


def _row_loss(truth: Codes, probabilities: Floats) -> Floats:
    own = probabilities[np.arange(len(truth)), truth]
    return 0.0 - np.log(np.clip(own, _SMALLEST_PROBABILITY, 1.0))  # the subtraction spares a perfect row its "-0.0"


def _predicted(probabilities: Floats, kind: Kind, threshold: float) -> Codes:
    if kind == "binary":
        return (probabilities[:, 1] >= threshold).astype(np.int64)
    most_probable: Codes = np.argmax(probabilities, axis=1)
    return most_probable


def _checked_pair(truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike | None) -> tuple[Codes, Codes, Floats]:
    true_codes = checked_codes("truth", truth)
    codes = checked_codes("predicted", predicted, rows=len(true_codes))
    return true_codes, codes, checked_weight(weight, len(true_codes))

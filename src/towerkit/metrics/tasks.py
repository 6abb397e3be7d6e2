"""One door to the metrics of every kind of task: what each has, which way is better, and the figures of some rows."""

from __future__ import annotations

from typing import Protocol, get_args

from numpy.typing import ArrayLike

from towerkit.core.errors import SpecError, listed, nearest
from towerkit.metrics.checks import Floats, Kind, check_kind, checked_weight
from towerkit.metrics.classification import CLASSIFICATION_METRICS, ClassificationRows
from towerkit.metrics.multilabel import MULTILABEL_METRICS, MultilabelRows
from towerkit.metrics.ranking import RANKING_METRICS
from towerkit.metrics.regression import COUNT_METRICS, REGRESSION_METRICS, CountRows, RegressionRows

TASK_METRICS: dict[Kind, tuple[str, ...]] = {
    **CLASSIFICATION_METRICS,
    "multilabel": MULTILABEL_METRICS,
    "regression": REGRESSION_METRICS,
    "count": COUNT_METRICS,
}
"""Names of the metrics of each kind of task, in the order of the results."""

WITHOUT_INTERVAL = ("ece",)
"""Resamples of rows repeat some and so make gaps of their own: a bootstrap interval of these lies above the value."""
_LOWER_IS_BETTER = ("log_loss", "brier", "ece", "mae", "rmse", "medae", "hamming_loss", "deviance")


class TaskRows(Protocol):
    """Checked predictions of one task, whose metrics under many weightings come cheaply."""

    num_rows: int

    def metrics(self, weights: Floats) -> dict[str, Floats]:
        """``[weightings, rows]`` weights to ``{metric: [weightings]}``."""


def task_rows(kind: Kind, truth: ArrayLike, predictions: ArrayLike, *, threshold: ArrayLike = 0.5) -> TaskRows:
    """Check predictions of a task of any kind, and sort them once.

    Args:
        kind: Of the task.
        truth: ``[rows]`` class codes; ``[rows, labels]`` 0 or 1 for ``multilabel``; ``[rows]`` numbers for ``regression``.
        predictions: ``[rows, classes]`` probabilities that sum to one; ``[rows, labels]`` probabilities for
            ``multilabel``; ``[rows, 1]`` numbers for ``regression`` and ``count``.
        threshold: Probability from which class 1 of ``binary``, or a label of ``multilabel``, is predicted; one for all,
            one for each row of ``binary``, one for each label or ``[rows, labels]`` of ``multilabel``. Other kinds have none.

    Raises:
        DataError: If there are no rows, or a value is out of range.
        ShapeError: If the arrays do not belong together or do not fit ``kind``.
        SpecError: If ``kind`` or ``threshold`` is not possible.
    """
    check_kind(kind, get_args(Kind))
    if kind == "regression":
        return RegressionRows(truth, predictions)
    if kind == "count":
        return CountRows(truth, predictions)
    if kind == "multilabel":
        return MultilabelRows(truth, predictions, threshold=threshold)
    return ClassificationRows(truth, predictions, kind=kind, threshold=threshold)


def task_metrics(
    truth: ArrayLike,
    predictions: ArrayLike,
    *,
    kind: Kind,
    threshold: ArrayLike = 0.5,
    weight: ArrayLike | None = None,
) -> dict[str, float]:
    """Every metric that fits the kind of task, named as in :data:`TASK_METRICS`; nan where one is undefined.

    Args:
        truth: As for :func:`task_rows`.
        predictions: As for :func:`task_rows`.
        kind: Of the task.
        threshold: As for :func:`task_rows`.
        weight: ``[rows]``, zero or more; ones if not given.

    Returns:
        ``{"accuracy": …, …}``.

    Raises:
        DataError: If there are no rows, or a value is out of range.
        ShapeError: If the arrays do not belong together or do not fit ``kind``.
        SpecError: If ``kind`` or ``threshold`` is not possible.

    Example:
        >>> values = task_metrics([0, 1], [[0.9, 0.1], [0.2, 0.8]], kind="binary")
        >>> values["accuracy"], values["auc"]
        (1.0, 1.0)
    """
    rows = task_rows(kind, truth, predictions, threshold=threshold)
    weights = checked_weight(weight, rows.num_rows)
    return {name: float(value[0]) for name, value in rows.metrics(weights[None]).items()}


def higher_is_better(metric_name: str) -> bool:
    """Whether a larger value of the metric is better.

    Args:
        metric_name: A name with or without task and ``k``: ``"log_loss"``, ``"ndcg@20"``, ``"click/auc"``.

    Returns:
        False for losses and errors, True for the others.

    Raises:
        SpecError: If there is no such metric.

    Example:
        >>> higher_is_better("purchase/ndcg@20"), higher_is_better("rating/mae")
        (True, False)
    """
    known = {*RANKING_METRICS, *(name for names in TASK_METRICS.values() for name in names)}
    name = metric_name.rpartition("/")[2].partition("@")[0]
    if name not in known:
        raise SpecError(f"Unknown metric '{metric_name}'{nearest(name, known) or '.'} Metrics are {listed(known, 60)}.")
    return name not in _LOWER_IS_BETTER

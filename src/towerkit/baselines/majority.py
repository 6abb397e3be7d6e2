"""The prediction that looks at nothing: how frequent each class was in training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import DataError, ShapeError


@dataclass(frozen=True)
class Majority:
    """Gives every row the class frequencies of the training data.

    Attributes:
        frequencies: ``[classes]``, summing to 1.

    Example:
        >>> Majority.fit(np.array([0, 1, 1, 1]), num_classes=2).predict(1).tolist()
        [[0.25, 0.75]]
    """

    frequencies: NDArray[np.float64]

    @classmethod
    def fit(cls, labels: NDArray[np.int64], num_classes: int, weight: NDArray[np.floating] | None = None) -> Majority:
        """Count the classes.

        Args:
            labels: ``[rows]`` class codes in ``[0, num_classes)``.
            num_classes: Number of classes, those without a row included.
            weight: ``[rows]`` weights; by default all 1.

        Returns:
            The fitted baseline.

        Raises:
            DataError: If there are no labels, a label is no class, or a weight is negative or not finite.
            ShapeError: If labels and weights are not vectors of the same length.
        """
        totals = class_totals(labels, num_classes, weight)
        return cls(totals / totals.sum())

    def predict(self, num_rows: int) -> NDArray[np.float64]:
        """``[num_rows, classes]`` the frequencies, once per row."""
        return np.tile(self.frequencies, (num_rows, 1))


def class_totals(
    labels: NDArray[np.int64], num_classes: int, weight: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """Check labels and weights and sum the weights of each class.

    Args:
        labels: ``[rows]`` class codes in ``[0, num_classes)``.
        num_classes: Number of classes.
        weight: ``[rows]`` weights; by default all 1.

    Returns:
        ``[classes]`` total weight; at least one is positive.

    Raises:
        DataError: If there are no labels, a label is no class, or a weight is negative or not finite.
        ShapeError: If labels and weights are not vectors of the same length.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or (weight is not None and weight.shape != labels.shape):
        raise ShapeError(
            f"labels must be a vector of integer class codes and weights as long; received labels {labels.shape} of "
            f"{labels.dtype} and weights {None if weight is None else weight.shape}. Encode the classes first."
        )
    _check_rows("labels", labels, (labels >= 0) & (labels < num_classes), f"class codes in [0, {num_classes})")
    if weight is not None:
        _check_rows("weights", weight, np.isfinite(weight) & (weight >= 0), "finite and not negative")
    totals = np.bincount(labels, weight, minlength=num_classes).astype(np.float64)
    if totals.sum() <= 0:
        raise DataError(
            f"A baseline needs at least one row of positive weight; received {len(labels)} rows. Check the split."
        )
    return totals


def _check_rows(name: str, values: NDArray[np.generic], good: NDArray[np.bool_], rule: str) -> None:
    wrong = np.flatnonzero(~good)
    if len(wrong):
        raise DataError(
            f"{name} must be {rule}; row {wrong[0]} has {values[wrong[0]]} ({len(wrong):,} such rows). "
            "Drop these rows or repair the column."
        )

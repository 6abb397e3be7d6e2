"""Metrics of predicted numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from towerkit.metrics.checks import Floats, checked_numbers, refuse_bad_cells
from towerkit.metrics.weighted import ratio, row_mean

REGRESSION_METRICS: tuple[str, ...] = ("mae", "rmse", "medae", "r2", "spearman")
"""Names of the metrics, in the order of the results.

``mae``, ``rmse`` and ``medae`` are the mean, root mean square and median absolute error, in the unit of the label. ``r2``
is ``1 - Σ(y - p)² / Σ(y - mean y)²``: 0 for the mean of these very rows, below 0 for worse. ``spearman`` is the
correlation of the ranks, equal values sharing their mean rank. The last two are undefined (nan) where all labels, for
``spearman`` also where all predictions, are equal.
"""

COUNT_METRICS: tuple[str, ...] = ("deviance", *REGRESSION_METRICS)
"""The same of counts, with the mean deviance of Poisson distributions in front: ``2 (y log(y / p) - y + p)``, 0 where exact."""

_NEGLIGIBLE = 1e-12
"""A variance this far below the mean square is that of equal numbers, but for rounding."""


class RegressionRows:
    """Checked predictions, sorted once, from which the metrics under many weightings come cheaply.

    Args:
        truth: ``[rows]`` numbers.
        prediction: ``[rows]`` or ``[rows, 1]``, in the same unit.

    Raises:
        DataError: If there are no rows, or a number is not finite.
        ShapeError: If the arrays differ in length.

    Example:
        >>> rows = RegressionRows([1.0, 2.0, 4.0], [1.0, 3.0, 2.0])
        >>> {name: round(float(value[0]), 4) for name, value in rows.metrics(np.ones((1, 3))).items()}
        {'mae': 1.0, 'rmse': 1.291, 'medae': 1.0, 'r2': -0.0714, 'spearman': 0.5}
    """

    def __init__(self, truth: ArrayLike, prediction: ArrayLike) -> None:
        self.truth = checked_numbers("truth", truth)
        self.prediction = checked_numbers("prediction", prediction, rows=len(self.truth))
        self.num_rows = len(self.truth)
        self._error = np.abs(self.prediction - self.truth)
        self._centered = self.truth - self.truth.mean()  # squares of large numbers would eat the digits
        self._by_error = np.argsort(self._error, kind="stable")
        self._truth_ranks, self._prediction_ranks = _Ranks(self.truth), _Ranks(self.prediction)

    def metrics(self, weights: Floats) -> dict[str, Floats]:
        """The metrics under each weighting.

        Args:
            weights: ``[weightings, rows]``, zero or more, not all zero in a row.

        Returns:
            ``{"mae": [weightings], …}``, named as in :data:`REGRESSION_METRICS`.
        """
        squared = row_mean(weights, self._error**2)
        mean_square = row_mean(weights, self._centered**2)
        variance = mean_square - row_mean(weights, self._centered) ** 2
        values = [
            row_mean(weights, self._error),
            np.sqrt(squared),
            self._median_error(weights),
            1 - ratio(squared, np.where(variance > _NEGLIGIBLE * mean_square, variance, 0.0), np.nan),
            _correlation(self._truth_ranks.under(weights), self._prediction_ranks.under(weights), weights),
        ]
        return dict(zip(REGRESSION_METRICS, values, strict=True))

    def _median_error(self, weights: Floats) -> Floats:
        """The middle of the errors, repeated as often as they weigh; the mean of the two middle ones where there are two."""
        errors = self._error[self._by_error]
        below = np.cumsum(np.take(weights, self._by_error, axis=1), axis=1)
        half = below[:, -1:] / 2
        return np.asarray((errors[(below >= half).argmax(axis=1)] + errors[(below > half).argmax(axis=1)]) / 2)


class CountRows(RegressionRows):
    """Checked expectations of counts; see :class:`RegressionRows`.

    Args:
        truth: ``[rows]`` counts.
        prediction: ``[rows]`` or ``[rows, 1]``, above 0.

    Raises:
        DataError: If there are no rows, a number is not finite, a count is below 0 or an expectation not above it.
        ShapeError: If the arrays differ in length.

    Example:
        >>> rows = CountRows([0.0, 2.0], [1.0, 2.0])
        >>> rows.metrics(np.ones((1, 2)))["deviance"].tolist()
        [1.0]
    """

    def __init__(self, truth: ArrayLike, prediction: ArrayLike) -> None:
        super().__init__(truth, prediction)
        refuse_bad_cells("truth", self.truth, self.truth < 0, "0 or more, as counts are")
        refuse_bad_cells(
            "prediction", self.prediction, self.prediction <= 0, "above 0, as the expectation of a count is"
        )
        self._deviance = 2 * (xlogy(self.truth, self.truth / self.prediction) - self.truth + self.prediction)

    def metrics(self, weights: Floats) -> dict[str, Floats]:
        """The metrics under each weighting.

        Args:
            weights: As for :meth:`RegressionRows.metrics`.

        Returns:
            ``{"deviance": [weightings], …}``, named as in :data:`COUNT_METRICS`.
        """
        return {"deviance": row_mean(weights, self._deviance), **super().metrics(weights)}


class _Ranks:
    """Numbers sorted once: their ranks under any weights, where a row of weight 2 takes two places."""

    def __init__(self, values: Floats) -> None:
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        self.starts = np.flatnonzero(is_first)
        self.groups = np.empty(len(values), dtype=np.int64)
        self.groups[self.order] = np.cumsum(is_first) - 1

    def under(self, weights: Floats) -> Floats:
        """``[weightings, rows]`` mean places, counted from a half below the first."""
        tied = np.add.reduceat(np.take(weights, self.order, axis=1), self.starts, axis=1)  # [weightings, groups]
        places = np.cumsum(tied, axis=1) - tied / 2
        return np.take(places, self.groups, axis=1)


def _correlation(a: Floats, b: Floats, weights: Floats) -> Floats:
    """Weighted Pearson correlation; nan where one side is constant."""
    total = weights.sum(axis=1)
    a, b = (values - (weights * values).sum(axis=1, keepdims=True) / total[:, None] for values in (a, b))
    spread_a, spread_b = ((weights * values**2).sum(axis=1) / total for values in (a, b))
    least = _NEGLIGIBLE * total**2
    product = np.where((spread_a > least) & (spread_b > least), spread_a * spread_b, 0.0)
    return ratio((weights * a * b).sum(axis=1) / total, np.sqrt(product), np.nan)

"""Calibration: whether what is said with probability 0.8 comes true in 8 of 10 cases.

The statements are sorted into ten bins of equal width by their probability. A bin is well calibrated if its mean
probability is the share of its statements that came true. A statement is, for two classes, that a row is of class 1;
for more classes that the most probable one is right; for labels that may stand together, each label of each row.

Reference: Guo, Pleiss, Sun and Weinberger, ICML 2017 (expected calibration error of the most probable class).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from towerkit.core.errors import SpecError
from towerkit.metrics.checks import Codes, Floats, checked_codes, checked_share, checked_weight
from towerkit.metrics.weighted import totals

BINS = 10
"""Of equal width, when not told otherwise."""


class CalibrationBin(NamedTuple):
    """The statements of one bin."""

    low: float
    high: float
    """Probabilities from ``low`` to below ``high``; the last bin holds 1."""
    predicted: float
    """Their mean probability."""
    observed: float
    """The share of them that came true."""
    n: float
    """Their weight: how many they are, without weights."""


def calibration_curve(
    truth: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None, *, bins: int = BINS
) -> list[CalibrationBin]:
    """Mean probability and share that came true, bin by bin; empty bins are left out.

    Args:
        truth: ``[rows]`` 1 where the statement came true, else 0.
        probabilities: ``[rows]`` in [0, 1], of the statement.
        weight: ``[rows]``, zero or more; ones if not given.
        bins: Bins of equal width.

    Returns:
        The bins, from the lowest probability on.

    Raises:
        DataError: If there are no rows, or a value is out of range.
        ShapeError: If the arrays differ in length.
        SpecError: If ``bins`` is below 1.

    Example:
        >>> curve = calibration_curve([0, 1, 1], [0.25, 0.25, 0.75], bins=2)
        >>> [(bin.predicted, bin.observed, bin.n) for bin in curve]
        [(0.25, 0.5, 2.0), (0.75, 1.0, 1.0)]
    """
    codes, shares, weights = _checked(truth, probabilities, weight, bins)
    places = bins_of(shares, bins)
    sums = totals(places, np.stack([weights, weights * shares, weights * codes]), bins)  # [3, bins]
    return [
        CalibrationBin(place / bins, (place + 1) / bins, stated / n, true / n, n)
        for place, (n, stated, true) in enumerate(sums.T.tolist())
        if n > 0
    ]


def expected_calibration_error(
    truth: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None, *, bins: int = BINS
) -> float:
    """Mean distance of probability and share that came true, ``Σ n_b/n |observed_b - predicted_b|``.

    Arguments as in :func:`calibration_curve`. Chance alone keeps it above 0 in small bins: it falls with more rows.

    Example:
        >>> expected_calibration_error([0, 1, 1], [0.25, 0.25, 0.75], bins=2)
        0.25
    """
    codes, shares, weights = _checked(truth, probabilities, weight, bins)
    gaps = row_gaps(codes[:, None].astype(np.float64), shares[:, None], bins)
    return float(calibration_error(gaps, weights[None])[0])


def bins_of(probabilities: Floats, bins: int = BINS) -> Codes:
    """The bin of each probability."""
    edges = np.arange(1, bins) / bins
    return np.asarray(np.searchsorted(edges, probabilities, side="right"), dtype=np.int64)


def row_gaps(came_true: Floats, probabilities: Floats, bins: int = BINS) -> Floats:
    """What each row adds to the gap of each bin, per statement.

    Args:
        came_true: ``[rows, statements]`` ones and zeros.
        probabilities: ``[rows, statements]``.
        bins: Bins of equal width.

    Returns:
        ``[rows, bins]``.
    """
    rows, statements = probabilities.shape
    places = bins_of(probabilities, bins) + bins * np.arange(rows)[:, None]
    gaps = np.bincount(places.ravel(), (came_true - probabilities).ravel(), minlength=rows * bins)
    return np.asarray(gaps, dtype=np.float64).reshape(rows, bins) / statements


def calibration_error(gaps: Floats, weights: Floats) -> Floats:
    """``[weightings]`` of :func:`expected_calibration_error`, from what :func:`row_gaps` gives."""
    return np.asarray(np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1), dtype=np.float64)


def _checked(
    truth: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None, bins: int
) -> tuple[Codes, Floats, Floats]:
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer) or bins < 1:
        raise SpecError(f"bins must be a positive integer, got {bins!r}; give for example bins=10.")
    codes = checked_codes("truth", truth, 2)
    return codes, checked_share(probabilities, len(codes)), checked_weight(weight, len(codes))

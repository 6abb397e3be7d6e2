"""Totals, ratios and means under many weightings at once: ``weights`` is ``[weightings, rows]`` throughout.

A row of weight 2 counts as two equal rows and a row of weight 0 as none; the bootstrap in
:mod:`towerkit.metrics.intervals` relies on that and passes resample counts as weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from towerkit.metrics.checks import Codes, Floats


def totals(codes: Codes, weights: Floats, size: int) -> Floats:
    """``[weightings, size]`` weight of the rows of each code."""
    cells = codes + size * np.arange(len(weights))[:, None]
    counted = np.bincount(cells.ravel(), weights.ravel(), minlength=size * len(weights))
    return np.asarray(counted, dtype=np.float64).reshape(-1, size)


def ratio(numerator: Floats, denominator: Floats, otherwise: float = 0.0) -> Floats:
    """The quotient, and ``otherwise`` where the denominator is not positive."""
    defined = denominator > 0
    return np.where(defined, numerator / np.where(defined, denominator, 1.0), otherwise)


def row_mean(weights: Floats, values: NDArray[np.float64] | NDArray[np.int64] | NDArray[np.bool_]) -> Floats:
    """``[weightings]`` weighted mean of ``[rows]`` values."""
    return np.asarray(weights @ values / weights.sum(axis=1), dtype=np.float64)


def mean_of_defined(values: list[Floats]) -> Floats:
    """Mean over the arrays, without their nans; nan where all are."""
    table = np.stack(values)
    defined = ~np.isnan(table)
    return ratio(np.where(defined, table, 0.0).sum(axis=0), defined.sum(axis=0).astype(np.float64), otherwise=np.nan)

"""Scores of several rankers into one, in one pass over each row: its mean and deviation, then its part of the sum."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from towerkit.kernels.compiled import compiled


@compiled(parallel=True)
def add_standardized(scores: NDArray[np.float32], weight: float, total: NDArray[np.float64]) -> None:
    """``total += weight * (scores - mean) / deviation``, row by row; nothing where the known scores of a row are all alike.

    Args:
        scores: ``[rows, n]``; column 0 is the unknown candidate, which does not count for mean and deviation.
        weight: Of these scores.
        total: ``[rows, n]``, added to.
    """
    for row in numba.prange(len(scores)):
        own, out = scores[row], total[row]
        count = len(own) - 1
        least, most, mean = own[1], own[1], 0.0
        for place in range(1, count + 1):
            value = own[place]
            mean += value
            least, most = min(least, value), max(most, value)
        if least < most:
            mean /= count
            squares = 0.0
            for place in range(1, count + 1):
                away = own[place] - mean
                squares += away * away
            factor = weight / np.sqrt(squares / count)
            for place in range(count + 1):
                out[place] += factor * (own[place] - mean)

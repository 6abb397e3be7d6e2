"""What every linear baseline answers with: features times coefficients plus intercepts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.errors import ShapeError

Features = csr_array | NDArray[np.floating]


def linear_scores(
    features: Features, coefficients: NDArray[np.float64], intercept: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``features @ coefficients + intercept``.

    Args:
        features: ``[rows, features]``.
        coefficients: ``[features, outputs]``.
        intercept: ``[outputs]``.

    Returns:
        ``[rows, outputs]``.

    Raises:
        ShapeError: If the number of features is another one than in training.
    """
    if features.shape[1] != len(coefficients):
        raise ShapeError(
            f"This model was fitted on {len(coefficients)} features; received {features.shape[1]}. "
            "Build the features as in training."
        )
    found: NDArray[np.float64] = features @ coefficients + intercept
    return found

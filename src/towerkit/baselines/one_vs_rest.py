"""A logistic regression per label, for rows that may have several labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from towerkit.baselines.linear import Features, linear_scores
from towerkit.baselines.logistic import fit_logistic


@dataclass(frozen=True)
class OneVsRest:
    """Fitted regressions, one per label.

    Attributes:
        coefficients: ``[features, labels]``.
        intercept: ``[labels]``; plus or minus infinity for a label that every or no training row has.
    """

    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def predict(self, features: Features) -> NDArray[np.float64]:
        """``[rows, labels]`` probability of having each label.

        Args:
            features: ``[rows, features]``.

        Raises:
            ShapeError: If the number of features is another one than in training.
        """
        found: NDArray[np.float64] = expit(linear_scores(features, self.coefficients, self.intercept))
        return found


def fit_one_vs_rest(
    features: Features,
    truth: NDArray[np.integer],
    *,
    l2: float = 1.0,
    weight: NDArray[np.floating] | None = None,
    max_iterations: int = 200,
) -> OneVsRest:
    """Fit each label against the rows without it; see :func:`fit_logistic`.

    Args:
        features: ``[rows, features]``.
        truth: ``[rows, labels]`` 0 or 1.
        l2: Strength of the penalty.
        weight: ``[rows]`` weights of the losses; by default all 1.
        max_iterations: Limit of the optimizer, for each label.

    Returns:
        The fitted model.

    Example:
        >>> model = fit_one_vs_rest(np.array([[-1.0], [1.0]]), np.array([[0, 1], [1, 0]]))
        >>> model.predict(np.array([[0.0]])).round(3).tolist()
        [[0.5, 0.5]]
    """
    shape = features.shape[1], truth.shape[1]
    coefficients, intercept = np.zeros(shape), np.zeros(shape[1])
    counted = truth if weight is None else truth[weight > 0]  # a row that weighs nothing shows nothing
    for label in range(shape[1]):
        if counted[:, label].min() == counted[:, label].max():
            intercept[label] = np.inf if counted[0, label] else -np.inf
            continue
        codes = truth[:, label].astype(np.int64)
        found = fit_logistic(features, codes, 2, l2=l2, weight=weight, max_iterations=max_iterations)
        coefficients[:, label], intercept[label] = found.coefficients[:, 1], found.intercept[1]
    return OneVsRest(coefficients, intercept)

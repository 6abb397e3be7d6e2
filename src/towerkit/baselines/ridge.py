"""Ridge regression on dense or sparse features, in the parametrization of scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, lsqr

from towerkit.baselines.linear import Features, linear_scores
from towerkit.core.errors import DataError, ShapeError, SpecError


@dataclass(frozen=True)
class Ridge:
    """A fitted linear model.

    Attributes:
        coefficients: ``[features, 1]``.
        intercept: ``[1]``.
    """

    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def predict(self, features: Features) -> NDArray[np.float64]:
        """``[rows, 1]`` the number of each row.

        Args:
            features: ``[rows, features]``.

        Raises:
            ShapeError: If the number of features is another one than in training.
        """
        return linear_scores(features, self.coefficients, self.intercept)


def fit_ridge(
    features: Features,
    target: NDArray[np.floating],
    *,
    l2: float = 1.0,
    weight: NDArray[np.floating] | None = None,
    max_iterations: int = 2000,
) -> Ridge:
    """Minimize the summed squared error plus ``l2`` times the squared coefficients, intercept left out.

    The solution is that of scikit-learn's ``Ridge`` with ``alpha = l2``. The least squares are solved around the weighted
    means, which takes the intercept out of them, and never form the matrix of products: hashed features are many.

    Args:
        features: ``[rows, features]``.
        target: ``[rows]`` finite numbers.
        l2: Strength of the penalty.
        weight: ``[rows]`` weights of the squared errors; by default all 1.
        max_iterations: Limit of the solver.

    Returns:
        The fitted model.

    Raises:
        DataError: If there is no row of positive weight, or a target or a weight cannot be used.
        ShapeError: If the arguments do not have the same number of rows.
        SpecError: If ``l2`` is negative.

    Example:
        >>> model = fit_ridge(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0]), l2=0.0)
        >>> model.predict(np.array([[3.0]])).round(6).tolist()
        [[7.0]]

    Reference: Paige and Saunders, LSQR, ACM Transactions on Mathematical Software 1982.
    """
    weights = np.ones(len(target)) if weight is None else weight.astype(np.float64)
    _check(features, target, weights, l2)
    total, root = weights.sum(), np.sqrt(weights)
    means = (features.T @ weights) / total  # [features]
    mean = float(weights @ target / total)

    def forward(point: NDArray[np.float64]) -> NDArray[np.float64]:
        return root * (features @ point.ravel() - means @ point.ravel())

    def backward(errors: NDArray[np.float64]) -> NDArray[np.float64]:
        weighted = root * errors.ravel()
        return features.T @ weighted - means * weighted.sum()

    centered = LinearOperator(features.shape, matvec=forward, rmatvec=backward, dtype=np.float64)
    found = lsqr(
        centered, root * (target - mean), damp=float(np.sqrt(l2)), atol=1e-12, btol=1e-12, iter_lim=max_iterations
    )
    coefficients = np.asarray(found[0], np.float64)
    return Ridge(coefficients[:, None], np.array([mean - means @ coefficients]))


def _check(features: Features, target: NDArray[np.floating], weights: NDArray[np.float64], l2: float) -> None:
    if not (0 <= l2 < np.inf):
        raise SpecError(f"l2 must be finite and not negative; received {l2}.")
    if target.ndim != 1 or weights.shape != target.shape or features.shape[0] != len(target):
        raise ShapeError(
            f"features must be [rows, features] with a target and a weight per row; received {features.shape}, "
            f"{target.shape} and {weights.shape}."
        )
    for name, values, good in (
        ("target", target, np.isfinite(target)),
        ("weight", weights, np.isfinite(weights) & (weights >= 0)),
    ):
        if not good.all():
            row = int((~good).argmax())
            raise DataError(
                f"{name} must be finite{' and not negative' if name == 'weight' else ''}; row {row} has {values[row]}."
            )
    if weights.sum() <= 0:
        raise DataError(
            f"A baseline needs at least one row of positive weight; received {len(target)} rows. Check the split."
        )

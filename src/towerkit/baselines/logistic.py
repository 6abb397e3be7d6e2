"""Logistic regression by L-BFGS, on dense or sparse features, in the parametrization of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit, log_softmax, softmax

from towerkit.baselines.linear import Features, linear_scores
from towerkit.baselines.majority import class_totals
from towerkit.core.errors import DataError, ShapeError, SpecError

Objective = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]


@dataclass(frozen=True)
class LogisticRegression:
    """A fitted softmax regression.

    Attributes:
        coefficients: ``[features, classes]``. With two classes the first column is 0, and the second is the
            weight vector of the sigmoid.
        intercept: ``[classes]``; minus infinity for a class that had no training row, which gets probability 0.
        iterations: Steps that the optimizer took.
        converged: Whether it stopped by itself, before its limit of iterations.
    """

    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]
    iterations: int
    converged: bool

    def predict(self, features: Features) -> NDArray[np.float64]:
        """The probability of each class for each row.

        Args:
            features: ``[rows, features]``.

        Returns:
            ``[rows, classes]`` probabilities.

        Raises:
            ShapeError: If the number of features is another one than in training.
            DataError: If a feature is not finite.
        """
        scores = linear_scores(_checked_features(features), self.coefficients, self.intercept)
        probabilities: NDArray[np.float64] = softmax(scores, axis=1)
        return probabilities


def fit_logistic(
    features: Features,
    labels: NDArray[np.int64],
    num_classes: int,
    *,
    l2: float = 1.0,
    weight: NDArray[np.floating] | None = None,
    max_iterations: int = 200,
) -> LogisticRegression:
    """Minimize the summed cross-entropy in nats plus ``l2 / 2`` times the squared coefficients, intercept left out.

    Two classes are fitted as one sigmoid, more as a softmax, so that the solution is the one of scikit-learn with
    ``C = 1 / l2``. Classes without a row of positive weight are left out of the fit.

    Args:
        features: ``[rows, features]``.
        labels: ``[rows]`` class codes in ``[0, num_classes)``.
        num_classes: Number of classes.
        l2: Strength of the penalty.
        weight: ``[rows]`` weights of the losses; by default all 1.
        max_iterations: Limit of the optimizer.

    Returns:
        The fitted model.

    Raises:
        DataError: If a label, weight or feature is unusable, or only one class is present.
        ShapeError: If the arguments do not have the same number of rows.
        SpecError: If ``l2`` is negative or ``max_iterations`` is below 1.

    Example:
        >>> model = fit_logistic(np.array([[-1.0], [1.0]]), np.array([0, 1]), 2)
        >>> model.predict(np.array([[0.0]])).round(3).tolist()
        [[0.5, 0.5]]
    """
    _check_settings(l2, max_iterations)
    present = _present_classes(labels, num_classes, weight)
    checked = _checked_features(features)
    if checked.shape[0] != len(labels):
        raise ShapeError(f"features have {checked.shape[0]} rows and labels {len(labels)}; give one label per row.")
    weights = np.ones(len(labels)) if weight is None else weight.astype(np.float64)
    codes = np.searchsorted(present, labels).clip(max=len(present) - 1)  # rows of other classes have weight 0
    used = _used_columns(checked)
    table, iterations, converged = _minimize(checked[:, used], codes, weights, l2, max_iterations)
    coefficients, intercept = np.zeros((checked.shape[1], num_classes)), np.full(num_classes, -np.inf)
    coefficients[np.ix_(used, present)], intercept[present] = table[:-1], table[-1]
    return LogisticRegression(coefficients, intercept, iterations, converged)


def _minimize(
    features: Features, labels: NDArray[np.int64], weight: NDArray[np.float64], l2: float, max_iterations: int
) -> tuple[NDArray[np.float64], int, bool]:
    """The best ``[features + 1, classes]`` parameters, the intercepts in the last row; iterations; convergence.

    L-BFGS works on parameters scaled by an upper bound of their curvature, so that rare and frequent features, and
    features in other units, are learned equally fast. The solution is the same.
    """
    num_classes = int(labels.max()) + 1
    num_columns = 1 if num_classes == 2 else num_classes
    make = sigmoid_objective if num_classes == 2 else softmax_objective
    objective = make(features, labels, weight, l2)
    squares = features.multiply(features) if isinstance(features, csr_array) else features**2
    curvature = np.append(l2 + 0.25 * (squares.T @ weight), 0.25 * weight.sum())
    scale = np.repeat(1 / np.sqrt(np.maximum(curvature / curvature[-1], 1e-12)), num_columns)

    def scaled(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        loss, gradient = objective(point * scale)
        return loss, gradient * scale

    found = minimize(
        scaled,
        np.zeros(len(scale)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iterations, "maxfun": 20 * max_iterations, "gtol": 1e-7, "ftol": 1e-13, "maxls": 50},
    )
    table = (found.x * scale).reshape(-1, num_columns)
    if num_columns == 1:
        table = np.column_stack([np.zeros(len(table)), table])
    return table, int(found.nit), bool(found.success)


def _used_columns(features: Features) -> NDArray[np.int64]:
    """Columns with a value; the others would get the coefficient 0, and hashed features leave many empty."""
    if isinstance(features, np.ndarray):
        return np.flatnonzero(features.any(axis=0))
    counts = np.bincount(
        features.indices[features.data != 0], minlength=features.shape[1]
    )  # ten times as fast as unique
    return np.flatnonzero(counts)


def softmax_objective(
    features: Features, labels: NDArray[np.int64], weight: NDArray[np.float64], l2: float
) -> Objective:
    """The softmax loss and its gradient, both divided by the total weight.

    Returns:
        A function of the flat ``[features + 1, classes]`` parameters, the intercepts in the last row.
    """
    num_classes, total, columns = int(labels.max()) + 1, weight.sum(), features.T
    rows = np.arange(len(labels))

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        table = flat.reshape(-1, num_classes)
        log_probabilities = log_softmax(features @ table[:-1] + table[-1], axis=1)
        loss = l2 / 2 * np.square(table[:-1]).sum() - (weight * log_probabilities[rows, labels]).sum()
        errors = np.exp(log_probabilities)  # [rows, classes]
        errors[rows, labels] -= 1
        errors *= weight[:, None]
        gradient = np.vstack([columns @ errors + l2 * table[:-1], errors.sum(axis=0)])
        return float(loss / total), gradient.ravel() / total

    return objective


def sigmoid_objective(
    features: Features, labels: NDArray[np.int64], weight: NDArray[np.float64], l2: float
) -> Objective:
    """The logistic loss of labels 0 and 1 and its gradient, both divided by the total weight.

    Returns:
        A function of the ``[features + 1]`` parameters, the intercept last.
    """
    total, columns = weight.sum(), features.T
    signs = np.where(labels == 1, 1.0, -1.0)

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins = signs * (features @ flat[:-1] + flat[-1])
        loss = l2 / 2 * np.square(flat[:-1]).sum() + (weight * np.logaddexp(0.0, -margins)).sum()
        errors = -signs * weight * expit(-margins)  # [rows]
        gradient = np.append(columns @ errors + l2 * flat[:-1], errors.sum())
        return float(loss / total), gradient / total

    return objective


def _present_classes(
    labels: NDArray[np.int64], num_classes: int, weight: NDArray[np.floating] | None
) -> NDArray[np.int64]:
    present = np.flatnonzero(class_totals(labels, num_classes, weight) > 0)
    if len(present) < 2:
        raise DataError(
            f"Logistic regression needs at least two classes; all {len(labels):,} rows are of class {present[0]}. "
            "Use more rows, or the majority baseline."
        )
    return present


def _checked_features(features: Features) -> Features:
    """Float64 features, all finite."""
    dense = isinstance(features, np.ndarray)
    checked: Features = features.astype(np.float64) if dense else csr_array(features).astype(np.float64)
    if checked.ndim != 2:
        raise ShapeError(f"features must be [rows, features]; received shape {checked.shape}. Give one row per label.")
    values = checked.ravel() if isinstance(checked, np.ndarray) else checked.data
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        first = int(wrong[0])
        if isinstance(checked, np.ndarray):
            row, column = divmod(first, checked.shape[1])
        else:
            row, column = int(np.searchsorted(checked.indptr, first, side="right")) - 1, int(checked.indices[first])
        raise DataError(
            f"Features must be finite; row {row}, column {column} has {values[first]} ({len(wrong):,} such values). "
            "Fill missing values before fitting."
        )
    return checked


def _check_settings(l2: float, max_iterations: int) -> None:
    if not 0 <= l2 < np.inf:
        raise SpecError(f"l2 must be finite and not negative; received {l2}. Larger values shrink more.")
    if max_iterations < 1:
        raise SpecError(f"max_iterations must be at least 1; received {max_iterations}. The default is 200.")

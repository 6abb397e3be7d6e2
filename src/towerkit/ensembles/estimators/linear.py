"""Linear estimators: a logistic regression for classes, a ridge regression for numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from towerkit.ensembles.estimators.base import (
    Arrays,
    Estimator,
    EstimatorSpec,
    Features,
    Floats,
    Goal,
    agreeing,
    floats,
    from_sklearn,
    linked,
)


@dataclass(frozen=True, eq=False)
class Linear:
    """``features · coefficients + intercept``, as log-odds, logits or a number."""

    goal: Goal
    coefficients: Floats
    """``[inputs, logits]``; one logit where there are two classes."""
    intercept: Floats
    """``[logits]``."""

    def predict(self, features: Features) -> Floats:
        """``[rows, classes]`` probabilities; of a number ``[rows, 1]``."""
        return linked(np.asarray(features @ self.coefficients + self.intercept, np.float64), self.goal)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Coefficients and intercept."""
        return {"coefficients": self.coefficients, "intercept": self.intercept}


def restored_linear(arrays: Arrays, goal: Goal) -> Linear:
    """From its stored arrays."""
    logits = goal.classes if goal.classes > 2 else 1
    return Linear(goal, floats(arrays, "coefficients", (goal.inputs, logits)), floats(arrays, "intercept", (logits,)))


class LogisticRegressionSpec(EstimatorSpec):
    """Logistic regression with a quadratic penalty."""

    reads_sparse: ClassVar[bool] = True
    predicts_numbers: ClassVar[bool] = False
    kind: Literal["logistic_regression"] = "logistic_regression"
    C: float = Field(1.0, gt=0.0)
    max_iter: int = Field(1000, ge=1)

    def fit(self, features: Features, truth: NDArray[Any], weight: Floats | None, goal: Goal, seed: int) -> Estimator:
        """By L-BFGS; nothing is drawn."""
        theirs = from_sklearn("linear_model").LogisticRegression(C=self.C, max_iter=self.max_iter)
        theirs.fit(features, truth, sample_weight=weight)
        found = Linear(goal, np.asarray(theirs.coef_.T, np.float64), np.asarray(theirs.intercept_, np.float64))
        return agreeing(found, theirs, features, goal)

    def restore(self, arrays: Arrays, goal: Goal) -> Estimator:
        """From coefficients and intercept."""
        return restored_linear(arrays, goal)


class RidgeSpec(EstimatorSpec):
    """Least squares with a quadratic penalty."""

    reads_sparse: ClassVar[bool] = True
    predicts_classes: ClassVar[bool] = False
    kind: Literal["ridge"] = "ridge"
    alpha: float = Field(1.0, ge=0.0)

    def fit(self, features: Features, truth: NDArray[Any], weight: Floats | None, goal: Goal, seed: int) -> Estimator:
        """In closed form, or by conjugate gradients for a sparse matrix; nothing is drawn."""
        theirs = from_sklearn("linear_model").Ridge(alpha=self.alpha)
        theirs.fit(features, truth, sample_weight=weight)
        coefficients = np.asarray(theirs.coef_, np.float64)[:, None]
        return agreeing(
            Linear(goal, coefficients, np.atleast_1d(np.asarray(theirs.intercept_, np.float64))), theirs, features, goal
        )

    def restore(self, arrays: Arrays, goal: Goal) -> Estimator:
        """From coefficients and intercept."""
        return restored_linear(arrays, goal)

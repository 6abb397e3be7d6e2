"""Gaussian naive Bayes: a mean and a variance of each column in each class."""

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
    softmax,
)


@dataclass(frozen=True, eq=False)
class GaussianBayes:
    """The statistics of the classes."""

    goal: Goal
    means: Floats
    """``[classes, inputs]``."""
    variances: Floats
    """``[classes, inputs]``."""
    log_prior: Floats
    """``[classes]``."""

    def predict(self, features: Features) -> Floats:
        """``[rows, classes]`` probabilities."""
        assert isinstance(features, np.ndarray)
        logits = np.empty((len(features), self.goal.classes))
        for code, (mean, variance) in enumerate(zip(self.means, self.variances, strict=True)):
            density = -0.5 * (np.log(2.0 * np.pi * variance) + (features - mean) ** 2 / variance)  # [rows, inputs]
            logits[:, code] = self.log_prior[code] + density.sum(axis=1)
        return softmax(logits)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The statistics."""
        return {"means": self.means, "variances": self.variances, "log_prior": self.log_prior}


class NaiveBayesSpec(EstimatorSpec):
    """Each class a normal distribution of every column, the columns independent."""

    predicts_numbers: ClassVar[bool] = False
    kind: Literal["naive_bayes"] = "naive_bayes"
    var_smoothing: float = Field(1e-3, gt=0.0)
    """Added to every variance, as a share of the largest."""

    def fit(self, features: Features, truth: NDArray[Any], weight: Floats | None, goal: Goal, seed: int) -> Estimator:
        """Take the statistics; nothing is drawn."""
        theirs = from_sklearn("naive_bayes").GaussianNB(var_smoothing=self.var_smoothing)
        theirs.fit(np.asarray(features, np.float64), truth, sample_weight=weight)
        found = GaussianBayes(goal, theirs.theta_, theirs.var_, np.log(theirs.class_prior_))
        return agreeing(found, theirs, features, goal)

    def restore(self, arrays: Arrays, goal: Goal) -> Estimator:
        """From the statistics."""
        shape = (goal.classes, goal.inputs)
        variances = floats(arrays, "variances", shape)
        if (variances <= 0).any():
            raise ValueError("a variance is not positive")
        return GaussianBayes(goal, floats(arrays, "means", shape), variances, floats(arrays, "log_prior", shape[:1]))

"""Support vector machines: a margin for each class against the others, and its probability by Platt's method.

Reference: Platt, Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods, 1999.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.distance import cdist
from scipy.special import expit

from towerkit.baselines.logistic import fit_logistic
from towerkit.core.errors import DataError
from towerkit.core.random import generator
from towerkit.ensembles.estimators.base import (
    Arrays,
    Estimator,
    EstimatorSpec,
    Features,
    Floats,
    Goal,
    floats,
    from_sklearn,
    untouched_random,
)

_FOLDS = 3
_CELLS = 1 << 24


@dataclass(frozen=True, eq=False)
class Machine:
    """One decision function: of the columns themselves, or of the kernel between a row and the support vectors."""

    coefficients: Floats
    """``[inputs]`` for a linear one, else ``[vectors]``."""
    intercept: float
    vectors: Floats | None
    """``[vectors, inputs]``."""
    gamma: float

    def margin(self, features: Features) -> Floats:
        """``[rows]``."""
        if self.vectors is None:
            return np.asarray(features @ self.coefficients, np.float64) + self.intercept
        assert isinstance(features, np.ndarray)
        step = max(1, _CELLS // max(1, len(self.vectors)))
        parts = [
            np.exp(-self.gamma * cdist(features[start : start + step], self.vectors, "sqeuclidean")) @ self.coefficients
            for start in range(0, len(features), step)
        ]
        return np.concatenate([np.empty(0), *parts]) + self.intercept


@dataclass(frozen=True, eq=False)
class Machines:
    """A machine per class, or one for two classes or a number."""

    goal: Goal
    machines: tuple[Machine, ...]
    sigmoids: Floats
    """``[machines, 2]`` slope and offset from a margin to log-odds; without meaning for a number."""

    def predict(self, features: Features) -> Floats:
        """``[rows, classes]`` probabilities; of a number ``[rows, 1]``."""
        margins = np.stack([each.margin(features) for each in self.machines], axis=1)  # [rows, machines]
        if not self.goal.classes:
            return margins
        yes = expit(margins * self.sigmoids[:, 0] + self.sigmoids[:, 1])
        found = np.concatenate([1.0 - yes, yes], axis=1) if self.goal.classes == 2 else np.maximum(yes, 1e-12)
        return np.asarray(found / found.sum(axis=1, keepdims=True), np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Per machine its numbers, and all sigmoids."""
        found: dict[str, NDArray[Any]] = {"sigmoids": self.sigmoids}
        for number, each in enumerate(self.machines):
            found[f"coefficients-{number}"] = each.coefficients
            found[f"constants-{number}"] = np.array([each.intercept, each.gamma])
            if each.vectors is not None:
                found[f"vectors-{number}"] = each.vectors
        return found


class SVMSpec(EstimatorSpec):
    """A support vector machine; of classes each one against the others, calibrated on three folds."""

    reads_sparse: ClassVar[bool] = True
    kind: Literal["svm"] = "svm"
    kernel: Literal["linear", "rbf"] = "rbf"
    """``rbf`` takes time that grows faster than the square of the rows, and reads no texts."""
    C: float = Field(1.0, gt=0.0)
    gamma: float | None = Field(None, gt=0.0)
    """Of ``rbf``; 1 over the columns' number and variance when not given."""
    max_iter: int = Field(10_000, ge=1)
    """Of ``linear``."""

    def fit(self, features: Features, truth: NDArray[Any], weight: Floats | None, goal: Goal, seed: int) -> Estimator:
        """Fit the machines, and their sigmoids on margins of rows that they had not seen."""
        gamma = self._gamma(features)
        if not goal.classes:
            return Machines(goal, (self._machine(features, truth, weight, gamma, seed, number=True),), np.ones((1, 2)))
        machines, sigmoids = [], []
        for code in [1] if goal.classes == 2 else range(goal.classes):
            is_it = truth == code
            machines.append(self._machine(features, is_it, weight, gamma, seed))
            sigmoids.append(self._sigmoid(features, is_it, weight, gamma, seed))
        return Machines(goal, tuple(machines), np.stack(sigmoids))

    def _sigmoid(
        self, features: Features, is_it: NDArray[np.bool_], weight: Floats | None, gamma: float, seed: int
    ) -> Floats:
        """Slope and offset of one class."""
        fold = np.empty(len(is_it), np.int64)
        for value in (False, True):  # both sides in every fold, where there are as many rows
            rows = np.flatnonzero(is_it == value)
            if len(rows) < 2:
                raise DataError(
                    f"An svm is calibrated on folds and needs two training rows of each class; one has {len(rows)}. Leave the "
                    "class out, give more rows, or use another estimator."
                )
            fold[rows] = generator(seed, "svm", value).permutation(np.arange(len(rows)) % _FOLDS)
        margins = np.empty(len(is_it))
        for number in range(_FOLDS):
            inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            machine = self._machine(
                features[inside], is_it[inside], None if weight is None else weight[inside], gamma, seed
            )
            margins[outside] = machine.margin(features[outside])
        found = fit_logistic(margins[:, None], is_it.astype(np.int64), 2, l2=1e-6, weight=weight)
        return np.array(
            [
                found.coefficients[0, 1] - found.coefficients[0, 0],
                found.intercept[1] - found.intercept[0],
            ]
        )

    def _gamma(self, features: Features) -> float:
        if self.gamma is not None or self.kernel == "linear":
            return self.gamma or 1.0
        assert isinstance(features, np.ndarray)
        return 1.0 / (features.shape[1] * float(features.var(dtype=np.float64)) or 1.0)

    def _machine(
        self,
        features: Features,
        truth: NDArray[Any],
        weight: Floats | None,
        gamma: float,
        seed: int,
        *,
        number: bool = False,
    ) -> Machine:
        module, end = from_sklearn("svm"), "R" if number else "C"
        if self.kernel == "linear":
            theirs = getattr(module, f"LinearSV{end}")(C=self.C, max_iter=self.max_iter, random_state=seed % 2**32)
            theirs.fit(features, truth, sample_weight=weight)
            return Machine(
                np.asarray(theirs.coef_, np.float64).ravel(), float(np.ravel(theirs.intercept_)[0]), None, 1.0
            )
        theirs = module.SVR(C=self.C, gamma=gamma) if number else module.SVC(C=self.C, gamma=gamma, random_state=0)
        with untouched_random():
            theirs.fit(features, truth, sample_weight=weight)
        vectors = np.asarray(theirs.support_vectors_, np.float64)
        return Machine(np.asarray(theirs.dual_coef_, np.float64)[0], float(theirs.intercept_[0]), vectors, gamma)

    def restore(self, arrays: Arrays, goal: Goal) -> Estimator:
        """From the machines' numbers."""
        count = goal.classes if goal.classes > 2 else 1
        machines = []
        for number in range(count):
            vectors = None
            if self.kernel == "rbf":
                vectors = floats(arrays, f"vectors-{number}", (None, goal.inputs))
            width = goal.inputs if vectors is None else len(vectors)
            intercept, gamma = floats(arrays, f"constants-{number}", (2,)).tolist()
            machines.append(Machine(floats(arrays, f"coefficients-{number}", (width,)), intercept, vectors, gamma))
        return Machines(goal, tuple(machines), floats(arrays, "sigmoids", (count, 2)))

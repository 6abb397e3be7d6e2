"""The nearest rows: what is stored are the training rows themselves, encoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.distance import cdist

from towerkit.core.errors import DataError
from towerkit.ensembles.estimators.base import Arrays, Estimator, EstimatorSpec, Features, Floats, Goal, floats

_CELLS = 1 << 24
"""Distances that are held at a time."""


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Training rows with their answers; scikit-learn fits nothing here either."""

    goal: Goal
    count: int
    by_distance: bool
    rows: NDArray[np.float32]
    """``[known, inputs]``."""
    answers: Floats
    """``[known, outputs]`` one-hot classes, or numbers."""
    weight: Floats
    """``[known]``."""

    def predict(self, features: Features) -> Floats:
        """The weighted mean answer of the nearest rows; of equally near ones the earlier."""
        assert isinstance(features, np.ndarray)
        step = max(1, _CELLS // len(self.rows))
        parts = [self._some(features[start : start + step]) for start in range(0, len(features), step)]
        return np.concatenate([np.empty((0, self.goal.outputs)), *parts])

    def _some(self, features: NDArray[np.float32]) -> Floats:
        distances = cdist(features, self.rows)  # [rows, known]
        nearest = np.argsort(distances, axis=1, kind="stable")[:, : self.count]
        weight = self.weight[nearest]
        if self.by_distance:
            near = np.take_along_axis(distances, nearest, axis=1)
            same = near == 0  # a row that is known exactly is answered by its equals alone
            close = 1.0 / np.where(same, 1.0, near)
            weight = weight * np.where(same.any(axis=1, keepdims=True), same, close)
        total = (weight[:, :, None] * self.answers[nearest]).sum(axis=1)
        return np.asarray(total / weight.sum(axis=1, keepdims=True), np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The rows, their answers and weights."""
        return {"rows": self.rows, "answers": self.answers, "weight": self.weight}


class KNNSpec(EstimatorSpec):
    """The nearest training rows by Euclidean distance between encoded columns. They are stored in the Run."""

    kind: Literal["knn"] = "knn"
    n_neighbors: int = Field(5, ge=1)
    weights: Literal["uniform", "distance"] = "uniform"

    def fit(self, features: Features, truth: NDArray[Any], weight: Floats | None, goal: Goal, seed: int) -> Estimator:
        """Keep the rows."""
        assert isinstance(features, np.ndarray)
        if len(truth) < self.n_neighbors:
            raise DataError(
                f"estimator.n_neighbors: {self.n_neighbors} need as many training rows; there are {len(truth):,}. Lower it."
            )
        answers = np.eye(goal.classes)[truth] if goal.classes else np.asarray(truth, np.float64)[:, None]
        weight = np.ones(len(truth)) if weight is None else weight
        return Neighbors(goal, self.n_neighbors, self.weights == "distance", features, answers, weight)

    def restore(self, arrays: Arrays, goal: Goal) -> Estimator:
        """From the rows."""
        rows = floats(arrays, "rows", (None, goal.inputs)).astype(np.float32)
        answers = floats(arrays, "answers", (len(rows), goal.outputs))
        weight = floats(arrays, "weight", (len(rows),))
        if len(rows) < self.n_neighbors or (weight <= 0).any():
            raise ValueError(f"{len(rows):,} rows have no {self.n_neighbors} neighbors of positive weight")
        return Neighbors(goal, self.n_neighbors, self.weights == "distance", rows, answers, weight)

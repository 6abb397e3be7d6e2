"""Weighted means and votes of members' predictions: weights given, or fitted on rows that no member learned from.

The weights that lower the loss of a mean of probabilities most are found by expectation maximization, whose every step lowers
it and whose end is the one best. Of numbers they are those of the least squared error. Both lie on the simplex: none is negative,
and their sum is one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, minimize, minimize_scalar

from towerkit.ensembles.stackers import Probabilities
from towerkit.features.labels import Labels, Truth, is_known

Floats = NDArray[np.float64]
Votes = Literal["soft", "hard"]

_SMALLEST = 1e-12
_TIE = 1e-6
"""Share of the mean probabilities in a hard vote: enough to decide between classes with as many votes, and no more."""
_RANGE = 20.0
_STEPS = 2000


@dataclass(frozen=True, eq=False)
class Mixture:
    """The weights of the members that predict a task, and the temperature of each."""

    weights: Floats
    """``[members]``; they sum to one."""
    temperatures: Floats
    """``[members]``."""
    votes: Votes = "soft"

    def combined(
        self, labels: Labels, predictions: Sequence[Probabilities], silent: NDArray[np.bool_] | None = None
    ) -> Probabilities:
        """The members' predictions as one.

        Args:
            labels: Of the task.
            predictions: Per member ``[rows, classes]``; of a regression its numbers ``[rows, 1]``.
            silent: ``[members, rows]`` who says nothing of a row, whose weight goes to the others; where nobody says anything all
                count. None where all speak.
        """
        each = [cooled(labels, values, t) for values, t in zip(predictions, self.temperatures.tolist(), strict=True)]
        mean = self._mean(np.stack(each), silent)
        if self.votes == "soft":
            return mean
        cast = self._mean(np.stack([vote(labels, values) for values in each]), silent)
        return np.asarray((1.0 - _TIE) * cast + _TIE * mean, np.float64)

    def _mean(self, values: Floats, silent: NDArray[np.bool_] | None) -> Floats:
        """``[rows, classes]`` the weighted mean over the first axis of ``[members, rows, classes]``."""
        mean = np.asarray(np.tensordot(self.weights, values, axes=1), np.float64)
        rows = np.flatnonzero([] if silent is None else silent.any(axis=0))
        if silent is None or not len(rows):
            return mean
        quiet = silent[:, rows]
        weights = np.where(quiet, 0.0, self.weights[:, None])  # [members, rows]
        weights = np.where(weights.sum(axis=0) > 0, weights, ~quiet)  # only members without a weight are left
        weights = np.where(quiet.all(axis=0), self.weights[:, None], weights)
        mean[rows] = np.einsum("mr,mrc->rc", weights / weights.sum(axis=0), values[:, rows])
        return mean


def vote(labels: Labels, values: Probabilities) -> Probabilities:
    """1 for the most probable class of each row, of two the second from a half on; of several labels for each from a half on."""
    if labels.kind == "multilabel":
        return (values >= 0.5).astype(np.float64)
    place = (values[:, 1] >= 0.5).astype(np.int64) if labels.kind == "binary" else values.argmax(axis=1)
    return np.asarray(np.eye(values.shape[1])[place], np.float64)


def cooled(labels: Labels, values: Probabilities, temperature: float) -> Probabilities:
    """Probabilities whose log-odds are divided by a temperature; numbers stay as they are.

    Example:
        >>> tags = Labels("t", "multilabel", ("a", "b"))
        >>> cooled(tags, np.array([[0.9, 0.5]]), 2.0).round(3).tolist()
        [[0.75, 0.5]]
    """
    if labels.is_number or temperature == 1.0:
        return values
    logs = np.log(np.clip(values, _SMALLEST, 1.0)) / temperature
    if labels.kind == "multilabel":
        rest = np.log(np.clip(1.0 - values, _SMALLEST, 1.0)) / temperature
        return np.asarray(1.0 / (1.0 + np.exp(rest - logs)), np.float64)
    found = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(found / found.sum(axis=1, keepdims=True), np.float64)


def fit_temperature(labels: Labels, values: Probabilities, truth: Truth, weight: Floats) -> float:
    """The temperature with the lowest loss on some rows; 1 where colder is always better, and for numbers.

    Args:
        labels: Of the task.
        values: ``[rows, classes]`` of a member that did not learn from the rows.
        truth: The labels of the rows, all known.
        weight: ``[rows]``.
    """
    if labels.is_number or not weight.sum() > 0:
        return 1.0

    def loss(log_temperature: float) -> float:
        right = chance_of_truth(labels, cooled(labels, values, math.exp(log_temperature)), truth)
        return float(-(weight[:, None] * np.log(np.maximum(right, _SMALLEST))).sum() / weight.sum())

    end = math.log(_RANGE)
    found = float(minimize_scalar(loss, bounds=(-end, end), method="bounded", options={"xatol": 1e-6}).x)
    return 1.0 if found < -end + 1e-3 else math.exp(found)


def fit_weights(
    labels: Labels, predictions: Sequence[Probabilities], truth: Truth, weight: NDArray[np.floating] | None = None
) -> Floats:
    """The weights with the lowest loss on some rows.

    Args:
        labels: Of the task.
        predictions: Per member ``[rows, classes]``, of rows that it did not learn from.
        truth: The labels of the rows; rows without one are left out.
        weight: ``[rows]``; by default all 1.

    Returns:
        ``[members]``; all alike where no row has a label.
    """
    known = is_known(truth)
    alike = np.full(len(predictions), 1.0 / len(predictions))
    each = np.ones(int(known.sum())) if weight is None else np.asarray(weight, np.float64)[known]
    if not each.sum() > 0:
        return alike
    values = [one[known] for one in predictions]
    if labels.scale is not None:
        return _least_squares(labels, values, truth[known], each)
    right = np.stack([chance_of_truth(labels, one, truth[known]) for one in values])  # [members, rows, labels or 1]
    right = np.maximum(right, _SMALLEST)
    share = np.broadcast_to(each[:, None], right.shape[1:]) / (each.sum() * right.shape[2])
    found = alike
    for _ in range(_STEPS):
        mixed = np.tensordot(found, right, axes=1)
        better = found * (right * (share / mixed)).sum(axis=(1, 2))
        done = np.abs(better - found).max() < 1e-9
        found = better / better.sum()
        if done:
            break
    return found


def chance_of_truth(labels: Labels, values: Probabilities, truth: Truth) -> Floats:
    """``[rows, 1]`` the probability of the true class, of several labels ``[rows, labels]`` that of each label as it is."""
    if labels.kind == "multilabel":
        return np.asarray(np.where(truth == 1, values, 1.0 - values), np.float64)
    return np.asarray(values[np.arange(len(truth)), truth][:, None], np.float64)


def _least_squares(labels: Labels, values: Sequence[Probabilities], truth: Truth, weight: Floats) -> Floats:
    scale = labels.scale
    assert scale is not None
    wanted = scale.inside(torch.from_numpy(np.asarray(truth, np.float64))).numpy()
    inside = np.concatenate([scale.inside(torch.from_numpy(one)).numpy() for one in values], axis=1)  # [rows, members]
    gap = inside - wanted[:, None]
    gram = gap.T @ (gap * (weight / weight.sum())[:, None])
    count = len(values)
    start: Floats = np.full(count, 1.0 / count)

    def loss(point: Floats) -> float:
        return float(point @ gram @ point)

    def slope(point: Floats) -> Floats:
        return np.asarray(2.0 * gram @ point, np.float64)

    simplex = LinearConstraint(np.ones((1, count)), 1.0, 1.0)
    found = minimize(
        loss,
        start,
        jac=slope,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * count,
        constraints=[simplex],
        options={"ftol": 1e-12},
    ).x
    found = np.maximum(found, 0.0)
    return np.asarray(found / found.sum(), np.float64)

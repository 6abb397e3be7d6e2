"""Stackers: from the members' predictions of a task to one, by a linear model fitted on out-of-fold predictions."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from towerkit.baselines.logistic import LogisticRegression, fit_logistic
from towerkit.baselines.one_vs_rest import OneVsRest, fit_one_vs_rest
from towerkit.baselines.ridge import Ridge, fit_ridge
from towerkit.core.random import generator
from towerkit.data.splits import Rows
from towerkit.features.labels import Labels, Truth, is_known

Probabilities = NDArray[np.float64]
"""``[rows, classes]``; of a regression the numbers ``[rows, 1]``."""
_SMALLEST = 1e-6


def folds(num_rows: int, num_folds: int, seed: int) -> Rows:
    """The fold of each row: random, of equal sizes within one, a pure function of the seed."""
    return generator(seed, "folds").permutation(np.arange(num_rows) % num_folds)


class Stacker(Protocol):
    """A linear model: logistic for a class, one per label for several, ridge for a number."""

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """``[inputs, outputs]``."""

    @property
    def intercept(self) -> NDArray[np.float64]:
        """``[outputs]``."""

    def predict(self, features: NDArray[np.float64]) -> Probabilities:
        """``[rows, outputs]`` from ``[rows, inputs]``."""


def fit_stacker(
    labels: Labels,
    predictions: list[Probabilities],
    truth: Truth,
    *,
    l2: float,
    weight: NDArray[np.floating] | None = None,
) -> Stacker:
    """Learn how much to trust each member.

    Args:
        labels: Of the task.
        predictions: Per member ``[rows, classes]``, of rows that it never saw.
        truth: The labels of the rows; rows without one are left out.
        l2: Strength of the penalty.
        weight: ``[rows]``; by default all 1.
    """
    known = is_known(truth)
    inputs = inputs_of(labels, [values[known] for values in predictions])
    truth, weight = truth[known], None if weight is None else weight[known]
    if labels.scale is not None:
        return fit_ridge(inputs, labels.scale.inside(torch.from_numpy(truth)).numpy(), l2=l2, weight=weight)
    if labels.kind == "multilabel":
        return fit_one_vs_rest(inputs, truth, l2=l2, weight=weight)
    return fit_logistic(inputs, truth, len(labels.classes), l2=l2, weight=weight)


def stacked(labels: Labels, stacker: Stacker, predictions: list[Probabilities]) -> Probabilities:
    """The members' predictions as one.

    Args:
        labels: Of the task.
        stacker: What was fitted.
        predictions: Per member ``[rows, classes]``.
    """
    found = stacker.predict(inputs_of(labels, predictions))
    return found if labels.scale is None else labels.scale.outside(torch.from_numpy(found)).numpy()


def restored_stacker(labels: Labels, coefficients: NDArray[np.float64], intercept: NDArray[np.float64]) -> Stacker:
    """The stacker of a task from its stored numbers."""
    if labels.is_number:
        return Ridge(coefficients, intercept)
    if labels.kind == "multilabel":
        return OneVsRest(coefficients, intercept)
    return LogisticRegression(coefficients, intercept, iterations=0, converged=True)


def inputs_of(labels: Labels, predictions: list[Probabilities]) -> Probabilities:
    """The members' predictions as inputs of the stacker: log-odds, or numbers in the unit that they are learned in.

    Args:
        labels: Of the task.
        predictions: Per member ``[rows, classes]``.

    Returns:
        ``[rows, inputs]``.
    """
    if labels.scale is not None:
        scale = labels.scale
        return np.concatenate([scale.inside(torch.from_numpy(values)).numpy() for values in predictions], axis=1)
    if labels.kind == "multilabel":
        clipped = [np.clip(values, _SMALLEST, 1.0 - _SMALLEST) for values in predictions]
        return np.concatenate([np.log(values) - np.log1p(-values) for values in clipped], axis=1)
    return log_odds(predictions)


def log_odds(predictions: list[Probabilities]) -> Probabilities:
    """The members' probabilities of one class out of several as inputs.

    Args:
        predictions: Per member ``[rows, classes]``.

    Returns:
        ``[rows, inputs]``: for two classes each member's log-odds, for more each member's log-probabilities.
    """
    logs = [np.log(np.clip(values, _SMALLEST, 1.0)) for values in predictions]
    return np.concatenate([log[:, 1:] - log[:, :1] if log.shape[1] == 2 else log for log in logs], axis=1)

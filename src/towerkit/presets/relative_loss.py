"""One number for a model of any tasks: its loss as a share of that of the answer that looks at no column."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from towerkit.ensembles.mixtures import chance_of_truth
from towerkit.features.labels import Labels, Truth, is_known

Floats = NDArray[np.float64]
_LEAST_CHANCE = 1e-15
_LEAST_LOSS = 1e-12


def relative_losses(
    answers: Mapping[str, Floats],
    truth: Mapping[str, Truth],
    constants: Mapping[str, Floats],
    tasks: Mapping[str, Labels],
    shares: Mapping[str, float],
    weight: Floats | None = None,
) -> Floats:
    """Values of rows whose mean is the weighted mean of the tasks' relative losses: 0 is perfect, 1 as good as the constant.

    The loss of a task is the one that heads learn by: of classes the log loss, of several labels its mean over the labels, of a
    number the squared error in the unit that it is learned in, of a count half the deviance.

    Args:
        answers: Task -> ``[rows, classes]``; of a number ``[rows, 1]``.
        truth: Task -> labels of the rows; one without a label counts for the other tasks alone.
        constants: Task -> ``[classes]`` the constant answer, from the training rows.
        tasks: Task -> its classes.
        shares: Task -> its weight.
        weight: ``[rows]``; by default all 1.

    Returns:
        ``[rows]``.

    Example:
        >>> labels = Labels("y", "binary", ("0", "1"), (0.5, 0.5))
        >>> even = {"y": np.array([0.5, 0.5])}
        >>> said = {"y": np.array([[0.5, 0.5], [0.0, 1.0]])}
        >>> relative_losses(said, {"y": np.array([1, 1])}, even, {"y": labels}, {"y": 1.0}).tolist()
        [1.0, 0.0]
    """
    rows = len(next(iter(truth.values())))
    each = np.ones(rows) if weight is None else np.asarray(weight, np.float64)
    total, found = 0.0, np.zeros(rows)
    for task, labels in tasks.items():
        known = is_known(truth[task])
        own = each[known]
        if not own.sum() > 0:
            continue
        told = truth[task][known]
        alone = _losses(labels, np.tile(constants[task], (len(told), 1)), told)
        unit = max(float(np.average(alone, weights=own)), _LEAST_LOSS)
        found[known] += shares[task] * _losses(labels, answers[task][known], told) / unit * own * (rows / own.sum())
        total += shares[task]
    return found / total


def _losses(labels: Labels, answers: Floats, truth: Truth) -> Floats:
    """``[rows]`` of one task."""
    if labels.kind == "count":
        rates, counts = answers[:, 0], np.asarray(truth, np.float64)
        logs = np.log(np.where(counts > 0, counts, 1.0) / rates)  # y log(y / r) is 0 where y is
        return np.asarray(np.where(counts > 0, counts * logs, 0.0) - counts + rates, np.float64)
    if labels.scale is not None:
        wanted = labels.scale.inside(torch.from_numpy(np.asarray(truth, np.float64))).numpy()
        said = labels.scale.inside(torch.from_numpy(np.asarray(answers[:, 0], np.float64))).numpy()
        return np.asarray((said - wanted) ** 2, np.float64)
    chances = np.clip(chance_of_truth(labels, answers, truth), _LEAST_CHANCE, 1.0)
    return np.asarray(0.0 - np.log(chances).mean(axis=1), np.float64)

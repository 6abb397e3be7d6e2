"""Baselines of prediction tasks: what looks at no column, and a linear model of the same columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.baselines.linear import Features
from towerkit.baselines.logistic import fit_logistic
from towerkit.baselines.majority import Majority
from towerkit.baselines.one_vs_rest import fit_one_vs_rest
from towerkit.baselines.ridge import fit_ridge
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.features.design import design_matrix
from towerkit.features.encoded import encode
from towerkit.features.encoder import Demand, Encoder
from towerkit.features.labels import Labels, Truth, is_known

Predictions = dict[str, NDArray[np.float64]]
_ITERATIONS = 100


def task_baselines(
    demand: Demand, dataset: Dataset, train: Rows, held_out: Rows, tasks: Mapping[str, Labels] | None = None
) -> Mapping[str, Predictions]:
    """Fit both baselines on training rows and predict held-out rows.

    The first gives every row the class frequencies or the mean. The second is a logistic regression, for several labels per
    row one for each, and for a number a ridge regression. Where all tasks are numbers they are called by that.

    Args:
        demand: The columns and labels of the model that they are compared with.
        dataset: The raw tables.
        train: Rows to fit on.
        held_out: Rows to predict.
        tasks: The model's tasks, whose classes the answers must have: a model that goes on from a Run may know more of them than
            these rows. As found in the training rows when not given.

    Returns:
        Baseline -> task -> ``[held-out rows, classes]``, of a number ``[held-out rows, 1]``.
    """
    encoder = Encoder.fit(demand, dataset, train)
    encoder = replace(encoder, labels=tasks or encoder.labels)
    encoded = encode(encoder, dataset)
    features, asked = _filled(design_matrix(encoded, train)), _filled(design_matrix(encoded, held_out))
    simple: Predictions = {}
    linear: Predictions = {}
    for task, labels in encoder.labels.items():
        truth = encoded.labels[task][train]
        known = is_known(truth)
        weight = None if encoded.weights is None else encoded.weights[train][known]
        simple[task] = np.tile(constant(labels, truth[known], weight), (len(held_out), 1))
        linear[task] = _linear(labels, features[np.flatnonzero(known)], truth[known], weight, asked)
    only_numbers = all(labels.is_number for labels in encoder.labels.values())
    names = ("mean", "ridge_regression") if only_numbers else ("majority", "logistic_regression")
    return dict(zip(names, (simple, linear), strict=True))


def _filled(matrix: csr_array) -> Features:
    """An array where most places have a value, such as an encoder's vectors: its products take less time so."""
    return matrix.toarray() if matrix.nnz > matrix.shape[0] * matrix.shape[1] // 2 else matrix


def constant(labels: Labels, truth: Truth, weight: NDArray[np.floating] | None) -> NDArray[np.float64]:
    """The answer that looks at no column: the share of each class, or the mean of a number.

    Args:
        labels: Of the task.
        truth: ``[rows]`` or ``[rows, labels]``, all known.
        weight: ``[rows]``; by default all 1.

    Returns:
        ``[classes]``, of a number ``[1]``.
    """
    if labels.kind == "multilabel" or labels.is_number:
        return np.atleast_1d(np.average(truth, axis=0, weights=weight)).astype(np.float64)
    return Majority.fit(truth, len(labels.classes), weight).frequencies


def _linear(
    labels: Labels, features: Features, truth: Truth, weight: NDArray[np.floating] | None, asked: Features
) -> NDArray[np.float64]:
    if labels.kind == "multilabel":
        return fit_one_vs_rest(features, truth, weight=weight, max_iterations=_ITERATIONS).predict(asked)
    if labels.scale is not None:
        inside = labels.scale.inside(torch.from_numpy(truth)).numpy()  # as a head learns it
        found = fit_ridge(features, inside, weight=weight).predict(asked)
        return labels.scale.outside(torch.from_numpy(found)).numpy()
    model = fit_logistic(features, truth, len(labels.classes), weight=weight, max_iterations=_ITERATIONS)
    return model.predict(asked)

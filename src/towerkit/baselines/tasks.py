"""Baselines of prediction tasks: the majority's frequencies, and a logistic regression on the same columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from towerkit.baselines.logistic import fit_logistic
from towerkit.baselines.majority import Majority
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.features.design import design_matrix
from towerkit.features.encoded import encode
from towerkit.features.encoder import Demand, Encoder

Predictions = dict[str, NDArray[np.float64]]


def task_baselines(demand: Demand, dataset: Dataset, train: Rows, held_out: Rows) -> Mapping[str, Predictions]:
    """Fit both baselines on training rows and predict held-out rows.

    Args:
        demand: The columns and labels of the model that they are compared with.
        dataset: The raw tables.
        train: Rows to fit on.
        held_out: Rows to predict.

    Returns:
        Baseline -> task -> ``[held-out rows, classes]``.
    """
    encoder = Encoder.fit(demand, dataset, train)
    encoded = encode(encoder, dataset)
    features, held_out_features = design_matrix(encoded, train), design_matrix(encoded, held_out)
    majority: Predictions = {}
    logistic: Predictions = {}
    for task, labels in encoder.labels.items():
        codes = encoded.labels[task][train]
        known = codes >= 0
        num_classes = len(labels.classes)
        weight = None if encoded.weights is None else encoded.weights[train][known]
        majority[task] = Majority.fit(codes[known], num_classes, weight).predict(len(held_out))
        rows = features[np.flatnonzero(known)]
        model = fit_logistic(rows, codes[known], num_classes, weight=weight, max_iterations=100)
        logistic[task] = model.predict(held_out_features)
    return {"majority": majority, "logistic_regression": logistic}

"""Prediction evaluation: probabilities against known labels, task by task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.evaluation.result import INTERVAL, Evaluation
from towerkit.features.labels import Labels
from towerkit.metrics.classification import confusion_matrix
from towerkit.metrics.intervals import Interval, bootstrap_classification, default_resamples

THRESHOLD = 0.5


def evaluate_tasks(
    probabilities: Mapping[str, NDArray[np.float64]],
    truth: Mapping[str, NDArray[np.int64]],
    labels: Mapping[str, Labels],
    *,
    part: str,
    split: Mapping[str, Any],
    seed: int = 0,
    repeats: int | None = None,
) -> Evaluation:
    """Classification metrics with intervals over rows.

    Args:
        probabilities: Task -> ``[rows, classes]``.
        truth: Task -> ``[rows]`` class codes, -1 where the label is missing or unknown; such rows are left out.
        labels: Task -> its classes.
        part: Which part of the data this is, for the protocol.
        split: How the parts were made, for the protocol.
        seed: Of the bootstrap.
        repeats: Rows that equal a training row in every column that is read or predicted; None where nobody counted.

    Raises:
        DataError: If a task has no labelled row.
    """
    metrics: dict[str, Interval] = {}
    details, about, confusion = {}, {}, {}
    for task, label in labels.items():
        known = truth[task] >= 0
        codes, found = truth[task][known], probabilities[task][known]
        if not len(codes):
            raise DataError(
                f"The task '{task}' has no labelled row in the {part} part: the column '{label.column}' is empty or holds "
                f"none of the classes {list(label.classes[:10])}. Give rows with labels."
            )
        prefix = f"{task}/" if len(labels) > 1 else ""
        for name, interval in bootstrap_classification(
            codes, found, label.kind, threshold=THRESHOLD, seed=seed
        ).items():
            metrics[prefix + name] = interval
        details[task] = pa.table(
            {
                "row": np.flatnonzero(known),
                "truth": codes,
                **{f"p{place}": found[:, place] for place in range(found.shape[1])},
            }
        )
        about[task] = {
            "kind": label.kind,
            "column": label.column,
            "classes": list(label.classes),
            **({"positive": label.classes[1]} if label.kind == "binary" else {}),
            "rows": len(codes),
            "unknown_labels": int((~known).sum()),
        }
        confusion[task] = (
            confusion_matrix(codes, predicted_classes(found, label), len(label.classes)).astype(int).tolist()
        )
    rows = len(next(iter(truth.values())))
    protocol = {
        "kind": "prediction",
        "part": part,
        "split": dict(split),
        "rows": rows,
        **({} if repeats is None else {"repeats": repeats}),
        "tasks": about,
        "threshold": THRESHOLD,
        "interval": f"{INTERVAL} over rows, {default_resamples(rows):,} resamples",
    }
    return Evaluation(protocol, metrics, details, confusion)


def predicted_classes(probabilities: NDArray[np.float64], label: Labels) -> NDArray[np.int64]:
    """The class that each row is taken for: by threshold for two classes, else the most probable."""
    if label.kind == "binary":
        return (probabilities[:, 1] >= THRESHOLD).astype(np.int64)
    return probabilities.argmax(axis=1)

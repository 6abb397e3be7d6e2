"""What a model says of raw rows, in words: classes, lists of labels and numbers, each with its probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.evaluation.task_details import predicted_classes, predicted_labels
from towerkit.features.labels import Labels
from towerkit.heads.decision import UNTOUCHED, Decision


def answer_columns(
    task: str, labels: Labels, found: NDArray[np.float64], decision: Decision = UNTOUCHED
) -> dict[str, Any]:
    """The columns that answer one task.

    Args:
        task: Its name, and that of the first column.
        labels: Its classes.
        found: ``[rows, classes]`` probabilities; of a number ``[rows, 1]``.
        decision: The model's thresholds.

    Returns:
        ``TASK``: the class; of a multilabel task the list of labels at or above the threshold, in the order of the classes; of a
        regression the number. Then ``TASK=CLASS``: the probability of each class, of the positive one alone where there are two.

    Example:
        >>> tags = Labels("tags", "multilabel", ("new", "red"))
        >>> answer_columns("tags", tags, np.array([[0.5, 0.75], [0.25, 0.0]]))["tags"].to_pylist()
        [['new', 'red'], []]
    """
    if labels.is_number:
        return {task: found[:, 0]}
    if labels.kind == "multilabel":
        answer, shown = _lists(predicted_labels(found, decision), labels.classes), labels.classes
    else:
        answer = pa.array(labels.classes, pa.string()).take(pa.array(predicted_classes(found, labels, decision)))
        shown = labels.classes[1:] if labels.kind == "binary" else labels.classes
    return {task: answer, **{f"{task}={name}": found[:, labels.classes.index(name)] for name in shown}}


def _lists(has: NDArray[np.bool_], classes: tuple[str, ...]) -> pa.Array:
    """``[rows, labels]`` to the names of each row."""
    offsets = np.concatenate([[0], np.cumsum(has.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(classes, pa.string()).take(pa.array(np.nonzero(has)[1])))

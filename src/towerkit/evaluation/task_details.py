"""What stands behind the figures of a task: its rows as a table and back, its confusion matrix, its calibration curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.features.labels import Labels, Truth
from towerkit.heads.decision import Decision
from towerkit.metrics.calibration import calibration_curve
from towerkit.metrics.classification import predicted_codes, statements
from towerkit.metrics.confusion import confusion_matrix
from towerkit.metrics.multilabel import multilabel_confusion
from towerkit.metrics.tasks import TaskRows, task_rows

Floats = NDArray[np.float64]


def task_details(kind: str, known: NDArray[np.bool_], truth: Truth, predictions: Floats) -> pa.Table:
    """The labelled rows of a task as a table.

    Args:
        kind: Of the task.
        known: ``[rows]`` which rows have a label.
        truth: Labels of these rows, as numbers.
        predictions: ``[labelled rows, classes]``.

    Returns:
        Columns ``row``; ``truth``, a list of zeros and ones for a multilabel task; ``p0``, ``p1`` and so on.
    """
    shown = pa.FixedSizeListArray.from_arrays(truth.ravel(), truth.shape[1]) if kind == "multilabel" else truth
    columns = {f"p{place}": predictions[:, place] for place in range(predictions.shape[1])}
    return pa.table({"row": np.flatnonzero(known), "truth": shown, **columns})


def stored_rows(about: Sequence[Mapping[str, Any]], tables: Sequence[pa.Table]) -> TaskRows:
    """The rows of stored evaluations of one task, one behind the other, each with its own model's thresholds.

    Args:
        about: The task in the protocol of each evaluation.
        tables: The task's table in the details of each, as :func:`task_details` made them.
    """
    kind = about[0]["kind"]
    truth = np.concatenate([_truth(kind, table) for table in tables])
    predictions = np.concatenate([_predictions(table) for table in tables])
    thresholds = np.concatenate(
        [
            np.broadcast_to(one.get("threshold", 0.5), _shape(kind, table))
            for one, table in zip(about, tables, strict=True)
        ]
    )
    return task_rows(kind, truth, predictions, threshold=thresholds)


def confusions(tasks: Mapping[str, tuple[Labels, Truth, Floats, Decision]]) -> dict[str, list[Any]]:
    """Task -> its confusion matrix, true classes as rows; of a multilabel task one of two classes for each label.

    A number has none.
    """
    found: dict[str, list[Any]] = {}
    for task, (label, truth, predictions, decision) in tasks.items():
        if label.kind == "multilabel":
            found[task] = multilabel_confusion(truth, predicted_labels(predictions, decision)).astype(int).tolist()
        elif not label.is_number:
            codes = predicted_classes(predictions, label, decision)
            found[task] = confusion_matrix(truth, codes, len(label.classes)).astype(int).tolist()
    return found


def calibration_bins(tasks: Mapping[str, tuple[Labels, Truth, Floats]]) -> dict[str, list[dict[str, float]]]:
    """Task -> its calibration curve: of each bin, from the lowest probability on, what was said and what came true.

    A number has none.
    """
    found: dict[str, list[dict[str, float]]] = {}
    for task, (label, truth, predictions) in tasks.items():
        if label.is_number:
            continue
        came_true, stated = (
            (truth.ravel(), predictions.ravel())
            if label.kind == "multilabel"
            else statements(truth, predictions, label.kind)
        )
        curve = calibration_curve(came_true.astype(np.int64), stated)
        found[task] = [{**each._asdict(), "n": int(each.n)} for each in curve]
    return found


def predicted_classes(probabilities: Floats, label: Labels, decision: Decision) -> NDArray[np.int64]:
    """The class that each row is taken for: by threshold for two classes, else the most probable."""
    return predicted_codes(probabilities, label.kind, decision.thresholds[0])


def predicted_labels(probabilities: Floats, decision: Decision) -> NDArray[np.bool_]:
    """``[rows, labels]`` which labels of a multilabel task each row is taken to have."""
    return probabilities >= np.asarray(decision.thresholds)


def _truth(kind: str, table: pa.Table) -> Truth:
    column = table.column("truth").combine_chunks()
    if kind != "multilabel":
        return np.asarray(column.to_numpy(zero_copy_only=False))
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(table), -1)


def _predictions(table: pa.Table) -> Floats:
    names = [name for name in table.column_names if name.startswith("p")]
    return np.stack([table.column(name).to_numpy() for name in names], axis=1)


def _shape(kind: str, table: pa.Table) -> tuple[int, ...]:
    return (len(table), sum(name.startswith("p") for name in table.column_names))[: 2 if kind == "multilabel" else 1]

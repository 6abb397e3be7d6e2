"""Prediction evaluation: answers against known labels, task by task, over all rows and within segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.evaluation.result import INTERVAL, Evaluation
from towerkit.evaluation.segments import Valued
from towerkit.evaluation.task_details import calibration_bins, confusions, task_details
from towerkit.features.labels import Labels, Truth, is_known
from towerkit.heads.decision import UNTOUCHED, Decision
from towerkit.metrics.intervals import Interval, bootstrap_task, default_resamples
from towerkit.metrics.tasks import task_rows

SEGMENTS = "segments"
"""The table of an evaluation's details that says which rows stand in which segment; no task may be called so."""


@dataclass(frozen=True)
class _Task:
    """What was answered to the labelled rows of one task."""

    name: str
    label: Labels
    decision: Decision
    known: NDArray[np.bool_]
    """``[rows]`` which rows have a label."""
    truth: Truth
    predictions: NDArray[np.float64]

    def metrics(self, rows: NDArray[np.bool_], seed: int) -> dict[str, Interval]:
        """Figures of some of all rows; none where none of them has a label."""
        chosen = rows[self.known]
        if not chosen.any():
            return {}
        answers = task_rows(
            self.label.kind, self.truth[chosen], self.predictions[chosen], threshold=self.decision.thresholds
        )
        return bootstrap_task(answers, seed=seed)


def evaluate_tasks(
    predictions: Mapping[str, NDArray[np.float64]],
    truth: Mapping[str, Truth],
    labels: Mapping[str, Labels],
    *,
    part: str,
    split: Mapping[str, Any],
    seed: int = 0,
    repeats: int | None = None,
    decisions: Mapping[str, Decision] | None = None,
    segments: Mapping[str, Valued] | None = None,
    segments_left_out: Mapping[str, str] | None = None,
    new_labels: Mapping[str, int] | None = None,
    several: bool | None = None,
) -> Evaluation:
    """The metrics of each task, with intervals over rows.

    Args:
        predictions: Task -> ``[rows, classes]`` probabilities; of a regression ``[rows, 1]`` numbers.
        truth: Task -> labels as numbers; rows whose label is missing or unknown are left out.
        labels: Task -> what its column can say.
        part: Which part of the data this is, for the protocol.
        split: How the parts were made, for the protocol.
        seed: Of the bootstrap.
        repeats: Rows that equal a training row in every column that is read or predicted; None where nobody counted.
        decisions: Task -> the model's thresholds and temperature; a task that is not named has a threshold of a half.
        segments: Name -> the value of each row; the rows of each value are measured apart too.
        segments_left_out: Those that these rows do not have -> why, for the protocol.
        new_labels: Task -> rows with a label, among several, that training never had; for the protocol.
        several: Whether metrics carry the name of their task; where there are several tasks, when not given.

    Raises:
        DataError: If a task has no labelled row.
    """
    made = decisions or {}
    tasks = [_task(task, label, predictions[task], truth[task], made, part) for task, label in labels.items()]
    rows = len(next(iter(truth.values())))
    protocol = {
        "kind": "prediction",
        "part": part,
        "split": dict(split),
        "rows": rows,
        **({} if repeats is None else {"repeats": repeats}),
        "tasks": {task.name: _described(task, (new_labels or {}).get(task.name, 0)) for task in tasks},
        **({"segments_left_out": dict(segments_left_out)} if segments_left_out else {}),
        "interval": f"{INTERVAL} over rows, {_resamples(tasks)} resamples",
    }
    details = {task.name: task_details(task.label.kind, task.known, task.truth, task.predictions) for task in tasks}
    in_full = len(tasks) > 1 if several is None else several
    within, table = _by_segment(tasks, segments or {}, seed, in_full=in_full)
    return Evaluation(
        protocol,
        _named(tasks, np.ones(rows, np.bool_), seed, in_full=in_full),
        {**details, **({} if table is None else {SEGMENTS: table})},
        confusions({t.name: (t.label, t.truth, t.predictions, t.decision) for t in tasks}),
        within,
        calibration_bins({t.name: (t.label, t.truth, t.predictions) for t in tasks}),
    )


def _task(
    name: str,
    label: Labels,
    predictions: NDArray[np.float64],
    truth: Truth,
    decisions: Mapping[str, Decision],
    part: str,
) -> _Task:
    known = is_known(truth)
    if not known.any():
        classes = f" or holds none of the classes {list(label.classes[:10])}" if label.classes else ""
        raise DataError(
            f"The task '{name}' has no labelled row in the {part} part: the column '{label.column}' is empty{classes}. Give "
            "rows with labels."
        )
    return _Task(name, label, decisions.get(name, UNTOUCHED), known, truth[known], predictions[known])


def _resamples(tasks: list[_Task]) -> str:
    """Of the whole part: fewer where there are many labelled rows, so tasks of one table may differ."""
    return " to ".join(f"{number:,}" for number in sorted({default_resamples(int(t.known.sum())) for t in tasks}))


def _named(tasks: list[_Task], rows: NDArray[np.bool_], seed: int, *, in_full: bool) -> dict[str, Interval]:
    """The metrics of all tasks over some rows, ``task/metric`` in full."""
    return {
        f"{task.name}/{name}" if in_full else name: interval
        for task in tasks
        for name, interval in task.metrics(rows, seed).items()
    }


def _by_segment(
    tasks: list[_Task], segments: Mapping[str, Valued], seed: int, *, in_full: bool
) -> tuple[dict[str, dict[str, dict[str, Interval]]], pa.Table | None]:
    """Segment -> value -> metrics, and the table in long form that says which rows stand where."""
    found: dict[str, dict[str, dict[str, Interval]]] = {}
    parts: list[pa.Table] = []
    for segment, valued in segments.items():
        found[segment] = {}
        for code, value in enumerate(valued.values):
            rows = valued.codes == code
            metrics = _named(tasks, rows, seed, in_full=in_full)
            if not metrics:
                continue
            found[segment][value] = metrics
            places = np.flatnonzero(rows)
            told = {"segment": [segment] * len(places), "value": [value] * len(places)}
            parts.append(pa.table({**told, "row": pa.array(places)}))
    return found, pa.concat_tables(parts) if parts else None


def _described(task: _Task, new_labels: int) -> dict[str, Any]:
    """A task, for the protocol."""
    label, decision = task.label, task.decision
    return {
        "kind": label.kind,
        "column": label.column,
        "classes": list(label.classes),
        **({"positive": label.classes[1]} if label.kind == "binary" else {}),
        "rows": int(task.known.sum()),
        "unknown_labels": int((~task.known).sum()),
        **({"rows_with_new_labels": new_labels} if new_labels else {}),
        **(_thresholds(decision) if label.kind in ("binary", "multilabel") else {}),
        **({"temperature": decision.temperature} if decision.calibration == "temperature" else {}),
        **({"decided_on": _rows_read(decision)} if decision.rows else {}),
    }


def _thresholds(decision: Decision) -> dict[str, Any]:
    several = len(decision.thresholds) > 1
    threshold = list(decision.thresholds) if several else decision.thresholds[0]
    return {"threshold": threshold, **({} if decision.chosen_by is None else {"threshold_by": decision.chosen_by})}


def _rows_read(decision: Decision) -> str:
    """Where thresholds and temperature were read off."""
    rows = "validation rows" if decision.read_off == "validation" else "training rows, each answered out of fold"
    return f"{decision.rows:,} {rows}{', before the refit' if decision.before_refit else ''}"

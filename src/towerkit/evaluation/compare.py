"""Two evaluations against each other on the same queries or rows: what differs, and whether it is more than chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import RunError
from towerkit.evaluation.prediction import THRESHOLD
from towerkit.evaluation.result import Evaluation
from towerkit.metrics.classification import ClassificationRows
from towerkit.metrics.intervals import default_resamples, paired_difference, statistic_intervals

_MUST_AGREE = {
    "ranking": ("part", "split", "candidates", "seen", "positives", "cold_candidates", "exact"),
    "prediction": ("part", "split", "rows", "threshold"),
}
_LEARNED = ("learned", "warnings")
"""Of a split: which training rows were learned from, and what is said about it; the rows measured are the same."""
_COUNTING = ("positive", "events", "min_count", "k_core", "filter_on")
"""Of a split: which rows of a test table given apart count."""
_SAME_TASK = ("column", "classes")


@dataclass(frozen=True)
class Difference:
    """``second - first`` of one metric, with its interval."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float | None
    """Of the two-sided randomization test; None for metrics that are not a mean over rows."""
    n: int

    @property
    def is_clear(self) -> bool:
        """The interval does not contain zero."""
        return self.low > 0.0 or self.high < 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "clear": self.is_clear}


def compare(first: Evaluation, second: Evaluation, *, seed: int = 0) -> dict[str, Difference]:
    """Paired differences of every metric that both have.

    Args:
        first: The baseline.
        second: What is compared with it.
        seed: Of the resamples.

    Returns:
        Metric -> ``second - first``.

    Raises:
        RunError: If the two were not measured under one protocol; says what differs.
    """
    _check_protocols(first, second)
    if first.protocol["kind"] == "ranking":
        return _compare_rankings(first, second, seed)
    found: dict[str, Difference] = {}
    for task, table in first.details.items():
        if task in second.details:
            found |= _compare_task(task, table, second.details[task], first, second, seed)
    if not found:
        raise RunError(
            f"The two Runs have no task in common: one predicts {sorted(first.details)}, the other {sorted(second.details)}. "
            "Compare Runs that predict the same columns."
        )
    return found


def _check_protocols(first: Evaluation, second: Evaluation) -> None:
    one, other = first.protocol, second.protocol
    if not (first.details and second.details):
        raise RunError(
            "Runs are compared query by query or row by row, and one of the two keeps figures only, as a Run's baselines "
            "do. Compare the evaluations of two Runs."
        )
    names = ("kind",) if one["kind"] != other["kind"] else _MUST_AGREE[one["kind"]]
    one, other = (
        {**protocol, "split": _deciding(protocol)} if "split" in names else protocol for protocol in (one, other)
    )
    differing = [f"{name}: {one[name]} against {other[name]}" for name in names if one[name] != other[name]]
    if differing:
        raise RunError(
            "Runs can be compared only under one protocol; these differ in "
            + "; ".join(differing)
            + ". Train both on the same data and split."
        )


def _deciding(protocol: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of the split decides which rows were measured: a seed draws nothing by time, nor from a test table given apart."""
    split = protocol["split"]
    if split.get("test") == "given" and protocol["part"] == "test":
        return {"test": "given", **{key: split[key] for key in _COUNTING if key in split}}
    unimportant = {*_LEARNED, *(("seed",) if split["kind"] in ("time", "leave_last") else ())}
    return {key: value for key, value in split.items() if key not in unimportant}


def _compare_rankings(first: Evaluation, second: Evaluation, seed: int) -> dict[str, Difference]:
    one, other = first.details["ranking"], second.details["ranking"]
    same_type = one.column("query").type == other.column("query").type
    place = pc.index_in(one.column("query"), value_set=other.column("query").combine_chunks()) if same_type else None
    if place is None or place.null_count or len(one) != len(other):
        raise RunError("The two Runs were evaluated on different queries; train both on the same data and split.")
    other = other.take(place)
    found = {}
    for metric in one.column_names:
        if metric == "query" or metric not in other.column_names:
            continue
        a, b = one.column(metric).to_numpy(), other.column(metric).to_numpy()
        pair = paired_difference(b, a, seed=seed)
        found[metric] = Difference(
            float(a.mean()), float(b.mean()), pair.difference, pair.low, pair.high, pair.p_value, pair.n
        )
    if not found:
        raise RunError(
            f"The two Runs have no metric in common: one has k {first.protocol['k']}, the other {second.protocol['k']}. "
            "Evaluate both with one evaluation.k."
        )
    return found


def _compare_task(
    task: str, one: pa.Table, other: pa.Table, first: Evaluation, second: Evaluation, seed: int
) -> dict[str, Difference]:
    about, others = first.protocol["tasks"][task], second.protocol["tasks"][task]
    differing = [f"{key}: {about[key]} against {others[key]}" for key in _SAME_TASK if about[key] != others[key]]
    if differing:
        raise RunError(
            f"The task '{task}' is another one in the second Run, they differ in {'; '.join(differing)}; its figures would "
            "mean different things. Give both heads the same column, and the same data."
        )
    if not (one.column("row").equals(other.column("row")) and one.column("truth").equals(other.column("truth"))):
        raise RunError(
            f"The task '{task}' was evaluated on different rows or labels; train both on the same data and split."
        )
    kind = about["kind"]
    rows = [
        ClassificationRows(t.column("truth").to_numpy(), _matrix(t), kind=kind, threshold=THRESHOLD)
        for t in (one, other)
    ]

    def difference(weight: NDArray[np.float64]) -> dict[str, float]:
        a, b = (each.metrics(weight[None]) for each in rows)
        return {name: float(b[name][0] - a[name][0]) for name in a}

    n = len(one)
    base, new = (each.metrics(np.ones((1, n))) for each in rows)
    several = len(first.details) > 1 or len(second.details) > 1
    return {
        f"{task}/{name}" if several else name: Difference(
            float(base[name][0]), float(new[name][0]), interval.value, interval.low, interval.high, None, n
        )
        for name, interval in statistic_intervals(difference, n, resamples=default_resamples(n), seed=seed).items()
    }


def _matrix(table: pa.Table) -> NDArray[np.float64]:
    names = [name for name in table.column_names if name.startswith("p")]
    return np.stack([table.column(name).to_numpy() for name in names], axis=1)

"""What an evaluation gives: figures with intervals, the protocol they were measured under, and the values behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from towerkit.core.errors import RunError
from towerkit.metrics.intervals import Interval
from towerkit.metrics.shown import decision_line

INTERVAL = "95 % percentile bootstrap"


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one model under one protocol."""

    protocol: Mapping[str, Any]
    metrics: Mapping[str, Interval]
    """``recall@20`` or, with several tasks, ``task/auc``."""
    details: Mapping[str, pa.Table] = field(default_factory=dict)
    """The values behind the figures: ``ranking`` has a row per query, a task's table a row per labelled row."""
    confusion: Mapping[str, list[Any]] = field(default_factory=dict)
    """Task -> rows are true classes, columns predicted ones; of a multilabel task one such matrix for each label."""
    segments: Mapping[str, Mapping[str, Mapping[str, Interval]]] = field(default_factory=dict)
    """Segment -> value -> metric, of the queries or rows that have this value; behind them stands ``details["segments"]``."""
    calibration: Mapping[str, list[dict[str, float]]] = field(default_factory=dict)
    """Task -> bins of probability: ``low``, ``high``, the mean ``predicted``, the share ``observed``, and ``n`` statements."""

    def as_dict(self) -> dict[str, Any]:
        """The shape that ``evaluate --json`` promises."""
        found: dict[str, Any] = {
            "protocol": dict(self.protocol),
            "metrics": _described(self.metrics),
        }
        if self.segments:
            found["segments"] = {
                segment: {
                    value: {"n": max((each.n for each in metrics.values()), default=0), "metrics": _described(metrics)}
                    for value, metrics in values.items()
                }
                for segment, values in self.segments.items()
            }
        if self.confusion:
            found["confusion"] = dict(self.confusion)
        if self.calibration:
            found["calibration"] = dict(self.calibration)
        return found

    def with_warnings(self, told: Sequence[str]) -> Evaluation:
        """The same with more warnings in its protocol.

        Args:
            told: Sentences; none leave it as it is.
        """
        if not told:
            return self
        split = self.protocol["split"]
        return replace(
            self, protocol={**self.protocol, "split": {**split, "warnings": [*split.get("warnings", []), *told]}}
        )

    def beside(self, tasks: Evaluation) -> Evaluation:
        """A ranking with what the same model answers beside it.

        Args:
            tasks: Measured on the same part; its metrics carry the names of their tasks.
        """
        told = {name: tasks.protocol[name] for name in ("tasks", "rows", "repeats") if name in tasks.protocol}
        return replace(
            self,
            protocol={**self.protocol, **told},
            metrics={**self.metrics, **tasks.metrics},
            details={**self.details, **tasks.details},
            confusion=tasks.confusion,
            calibration=tasks.calibration,
        )

    def of(self, ranking: str) -> Evaluation:
        """One of the rankings of :func:`side_by_side`, as it was measured.

        Args:
            ranking: Its name.
        """
        named = f"{ranking}/"
        metrics = {name.removeprefix(named): each for name, each in self.metrics.items() if name.startswith(named)}
        details = {"ranking": self.details[ranking]} if ranking in self.details else {}
        return Evaluation(self.protocol["rankings"][ranking], metrics, details)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], details: Mapping[str, pa.Table]) -> Evaluation:
        """The inverse of :meth:`as_dict`.

        Raises:
            RunError: If the data is not an evaluation.
        """
        try:
            segments = {
                segment: {value: _intervals(one["metrics"]) for value, one in values.items()}
                for segment, values in data.get("segments", {}).items()
            }
            metrics = _intervals(data["metrics"])
            confusion, calibration = (_lists(data.get(key, {})) for key in ("confusion", "calibration"))
            return cls(dict(data["protocol"]), metrics, details, confusion, segments, calibration)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RunError(f"A stored evaluation cannot be read ({error!r}); train the Run again.") from None


def side_by_side(rankings: Mapping[str, Evaluation]) -> Evaluation:
    """Several rankings of one model as one evaluation.

    Args:
        rankings: Name -> what was measured; at least one.

    Returns:
        Metrics ``name/metric``; the protocol has that of each ranking.
    """
    first = next(iter(rankings.values())).protocol
    same = {name: first[name] for name in ("part", "split", "interval")}
    return Evaluation(
        {"kind": "joint", **same, "rankings": {name: dict(each.protocol) for name, each in rankings.items()}},
        {f"{name}/{metric}": value for name, each in rankings.items() for metric, value in each.metrics.items()},
        {name: each.details["ranking"] for name, each in rankings.items() if "ranking" in each.details},
    )


def _described(metrics: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval.as_dict() for name, interval in metrics.items()}


def _lists(tasks: Mapping[str, Any]) -> dict[str, Any]:
    """Task -> a list of rows or bins."""
    wrong = [task for task, rows in tasks.items() if not isinstance(rows, list)]
    if wrong:
        raise TypeError(f"'{wrong[0]}' has no list of rows")
    return dict(tasks)


def _intervals(metrics: Mapping[str, Any]) -> dict[str, Interval]:
    return {name: _interval(values) for name, values in metrics.items()}


def _interval(values: Mapping[str, Any]) -> Interval:
    low, high, value = (
        float("nan") if values[name] is None else float(values[name]) for name in ("low", "high", "value")
    )
    return Interval(value=value, low=low, high=high, n=int(values["n"]))


def protocol_line(protocol: Mapping[str, Any]) -> str:
    """The protocol as one line for people."""
    if protocol["kind"] == "ranking":
        parts = [*_ranking_parts(protocol), *_task_lines(protocol.get("tasks", {}))]
    elif protocol["kind"] == "joint":
        parts = [f"{name}: {', '.join(_ranking_parts(each))}" for name, each in protocol["rankings"].items()]
    else:
        parts = [f"{protocol['rows']:,} rows of the {protocol['part']} part", *_task_lines(protocol["tasks"])]
        parts += [f"not by {name}: {why}" for name, why in protocol.get("segments_left_out", {}).items()]
        if protocol.get("repeats"):
            parts.append(f"{protocol['repeats']:,} rows equal a training row in all that is read")
    split = protocol["split"]
    warnings = [f"warning: {warning}" for warning in split.get("warnings", [])]
    return " · ".join([*parts, f"split: {split_line(split)}", *warnings, protocol["interval"]])


def _ranking_parts(protocol: Mapping[str, Any]) -> list[str]:
    parts = [
        f"{protocol['queries']:,} queries of the {protocol['part']} part",
        f"{protocol['candidates']:,} candidates, all ranked",
        f"seen: {protocol['seen']}",
        f"ties: {protocol['ties']}",
    ]
    if protocol["cold_candidates"]:
        parts.append(f"{protocol['cold_candidates']:,} positives are of cold candidates")
    if protocol["repeats_left_out"]:
        parts.append(f"{protocol['repeats_left_out']:,} held-out pairs repeat a training pair: left out")
    if protocol["unknown_queries"]:
        parts.append(f"{protocol['unknown_queries']:,} queries unknown")
    left_out = protocol.get("baselines_left_out", {})
    return [*parts, *(f"the baseline {name} is left out: it {reason}" for name, reason in left_out.items())]


def _task_lines(tasks: Mapping[str, Any]) -> list[str]:
    lines = []
    for task, about in tasks.items():
        unknown = f", {about['unknown_labels']:,} labels missing or unknown" if about["unknown_labels"] else ""
        new = about.get("rows_with_new_labels")
        unknown += f", {new:,} rows with a label that training never had" if new else ""
        named = about.get("positive") not in (None, "1")
        positive = f", positive class {about['positive']}" if named else ""
        decided = f", {how}" if (how := decision_line(about)) else ""
        lines.append(f"{task}: {about['kind']}{positive}, {about['rows']:,} labelled rows{unknown}{decided}")
    return lines


def split_line(split: Mapping[str, Any]) -> str:
    """How the parts were made, as one line for people; warnings are left to the caller."""
    settings = [f"{key} {_words(value)}" for key, value in split.items() if key not in ("kind", "warnings") and value]
    return f"{split['kind']} ({', '.join(settings)})" if settings else str(split["kind"])


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "[" + ", ".join(f"{key} {_counted(inner)}" for key, inner in value.items()) + "]"
    return " ".join(str(each) for each in value) if isinstance(value, list | tuple) else str(value)


def _counted(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _words(value)

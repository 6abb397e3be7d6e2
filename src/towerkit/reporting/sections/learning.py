"""Learning curves: the loss of each epoch, and what validation said."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from towerkit.metrics.shown import headlines
from towerkit.metrics.tasks import higher_is_better
from towerkit.reporting.blocks import Figures, Part, Section, Words
from towerkit.reporting.chart import Chart, slug
from towerkit.reporting.charts import Line, lines
from towerkit.reporting.subject import Subject

_MOST = 8
"""Curves in one drawing."""


def learning_section(subject: Subject) -> Section:
    """A drawing of the losses, and one of the validation figures, of the model or of each member."""
    charts = learning_charts(history_of(subject), subject.anchor)
    block = (
        Figures(tuple(charts))
        if charts
        else Words("Nothing was trained epoch by epoch: it has closed forms, trees or counts.")
    )
    return Section(subject.anchor("learning"), subject.title("Learning curves"), (Part("", (block,)),))


def learning_charts(records: Sequence[dict[str, Any]], anchor: Callable[[str], str] = slug) -> list[Chart]:
    """The drawings of some epochs: the losses and the validation figures of the model, or of each member.

    Args:
        records: Of a history; the training need not be over.
        anchor: Makes the name of a drawing from its title.
    """
    return [chart for name, stages in _grouped(records).items() for chart in _charts(anchor, name, stages)]


def history_of(subject: Subject) -> list[dict[str, Any]]:
    """The records of all epochs of a Run."""
    text = (subject.run.path / "history.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


Stages = dict[str, list[dict[str, Any]]]


def _grouped(records: Sequence[dict[str, Any]]) -> dict[str, Stages]:
    """What was trained -> stage -> its epochs: the model itself has no name, a member has its own."""
    found: dict[str, Stages] = {}
    for record in records:
        whose, colon, stage = str(record["stage"]).rpartition(": ")
        name, comma, fold = whose.partition(", ") if colon else ("", "", "")
        stage = f"{fold} {stage}" if comma else stage
        found.setdefault(name, {}).setdefault(stage, []).append(record)
    return found


def _charts(anchor: Callable[[str], str], name: str, stages: Stages) -> list[Chart]:
    of = f" of {name}" if name else ""
    charts = []
    losses = [_curve(stage, records, "loss") for stage, records in stages.items()]
    validated = {stage: records for stage, records in stages.items() if any(_figures(each) for each in records)}
    losses += [_curve(f"{stage}, validation", records, "validation/loss") for stage, records in validated.items()]
    losses = sorted((line for line in losses if line.points), key=lambda line: line.name.startswith("fold"))
    if losses:
        about = "The mean loss of each epoch; lower is better. "
        about += "Where validation rises while training falls, the model learns by heart."
        charts.append(_drawn(anchor, f"Loss{of}", losses, about, None))
    metrics = [each for each in _names(validated) if each != "loss"]
    for metric in metrics:
        curves = [_curve(stage, records, f"validation/{metric}") for stage, records in validated.items()]
        curves.sort(key=lambda line: line.name.startswith("fold"))
        kept = max(validated.values(), key=len)
        best = _best(kept, metric) if len(validated) == 1 else None
        about = "The figure of the validation rows after each epoch; its best epoch is kept."
        charts.append(_drawn(anchor, f"Validation {metric}{of}", curves, about, best))
    return charts


def _drawn(
    anchor: Callable[[str], str], title: str, curves: Sequence[Line], about: str, best: tuple[float, str] | None
) -> Chart:
    left_out = len(curves) - _MOST
    told = about if left_out <= 0 else f"{about} {left_out} more curves are not drawn."
    return lines(title, curves[:_MOST], about=told, across_name="epoch", upright=best, name=anchor(title))


def _curve(name: str, records: Sequence[Mapping[str, Any]], key: str) -> Line:
    points = [(float(each["epoch"]), float(each[key])) for each in records if isinstance(each.get(key), int | float)]
    return Line(name, tuple(points))


def _figures(record: Mapping[str, Any]) -> list[str]:
    return [key.removeprefix("validation/") for key in record if key.startswith("validation/")]


def _names(stages: Stages) -> list[str]:
    """The headline of each task among what validation measured."""
    measured = dict.fromkeys(name for records in stages.values() for each in records for name in _figures(each))
    return headlines(measured) if measured else []


def _best(records: Sequence[Mapping[str, Any]], metric: str) -> tuple[float, str] | None:
    found = [
        (each[f"validation/{metric}"], each["epoch"])
        for each in records
        if each.get(f"validation/{metric}") is not None
    ]
    if not found:
        return None
    lowest = metric.endswith("loss") or not higher_is_better(metric)
    epoch = (min if lowest else max)(found, key=lambda each: each[0])[1]
    return float(epoch), f"best: epoch {epoch}"

"""The model card: what a Run is, in words for the next person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from towerkit.metrics.shown import decision_line, headlines, value_place


def model_card(
    spec: Mapping[str, Any],
    evaluation: Any,
    baselines: Mapping[str, Any],
    seconds: float,
    continues: Mapping[str, str] | None = None,
) -> str:
    """A page of Markdown.

    Args:
        spec: The spec in plain data.
        evaluation: The model's evaluation.
        baselines: The baselines' evaluations, on the same rows.
        seconds: What training and evaluation took.
        continues: The name and the hash of the Run that the training went on from.
    """
    names = [*baselines, "model"]
    columns = [*baselines.values(), evaluation]
    lines = [
        f"# A {spec['model']['kind']} trained by towerkit",
        "",
        f"Trained and evaluated in {seconds:.1f} s.",
        *_continued(continues),
        "",
        "## Figures",
        "",
        "| metric | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for metric in evaluation.metrics:
        cells = [_cell(column.metrics.get(metric)) for column in columns]
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    lines += _decisions(evaluation.protocol)
    lines += _segments(dict(zip(names, columns, strict=True)))
    lines += [
        "",
        "## Protocol",
        "",
        "```json",
        json.dumps(dict(evaluation.protocol), indent=2, ensure_ascii=False),
        "```",
        "",
        "## Limits",
        "",
        "- The figures hold for the split above and for data like it; they say nothing about another time or place.",
        "- An id that training never saw is answered by the mean vector, and the answer says that it is cold.",
        "- The folder holds keys of the entities it was trained on; treat it as you treat that data.",
        "",
        "## Spec",
        "",
        "```json",
        json.dumps(dict(spec), indent=2, ensure_ascii=False),
        "```",
        "",
    ]
    return "\n".join(lines)


def _continued(run: Mapping[str, str] | None) -> list[str]:
    if run is None:
        return []
    return [
        "",
        f"The training went on from the Run `{run['run']}` (SHA-256 of its files `{run['sha256'][:16]}…`): known keys began at "
        "the vectors they had there, and means and deviations of numbers are those of its data.",
    ]


def _decisions(protocol: Mapping[str, Any]) -> list[str]:
    """A line for each task whose probabilities were scaled, or whose classes do not begin at a half."""
    told = {task: decision_line(about) for task, about in protocol.get("tasks", {}).items()}
    lines = [f"- {_plain(task)}: {line}; every answer goes through it." for task, line in told.items() if line]
    return ["", *lines] if lines else []


def _segments(columns: Mapping[str, Any]) -> list[str]:
    """A table per segment and task, with one figure of each model."""
    lines: list[str] = []
    for segment, values in columns["model"].segments.items():
        for metric in headlines(columns["model"].metrics):
            lines += ["", f"## {metric} by {segment}", "", f"| {segment} | n | " + " | ".join(columns) + " |"]
            lines.append("|---" * (len(columns) + 2) + "|")
            for value in sorted((value for value in values if metric in values[value]), key=value_place):
                cells = [_cell(each.segments.get(segment, {}).get(value, {}).get(metric)) for each in columns.values()]
                lines.append(f"| {_plain(value)} | {values[value][metric].n:,} | " + " | ".join(cells) + " |")
    return lines


def _plain(value: str) -> str:
    """A value of the data cannot break the table it stands in."""
    return " ".join(value.split()).replace("|", "\\|")


def _cell(interval: Any) -> str:
    if interval is None or interval.value != interval.value:
        return "–"
    known = interval.low == interval.low  # a figure of all lists together has no interval
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]" if known else f"{interval.value:.4f}"

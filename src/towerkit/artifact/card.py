"""The model card: what a Run is, in words for the next person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


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


def _cell(interval: Any) -> str:
    return "–" if interval is None else f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"

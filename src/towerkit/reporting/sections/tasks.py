"""What stands behind the figures of a task: its confusion matrix and its calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from towerkit.metrics.shown import decision_line
from towerkit.reporting.blocks import Block, Figures, Part, Section, Words
from towerkit.reporting.chart import Chart, Grid
from towerkit.reporting.charts import Line, heat, lines
from towerkit.reporting.subject import Subject

_MOST_CLASSES = 20
_MOST_CONFUSED = 20


def tasks_section(subject: Subject) -> Section | None:
    """A part for each task; None where it ranks alone."""
    evaluation = subject.run.evaluation
    parts = []
    for task, about in evaluation.protocol.get("tasks", {}).items():
        charts, tables = [], []
        if task in evaluation.confusion:
            drawn, told = _confusion(subject, task, evaluation.confusion[task], about["classes"])
            charts += drawn
            tables += told
        if evaluation.calibration.get(task):
            charts.append(_calibration(subject, task, evaluation.calibration[task]))
        decided = decision_line(about)
        words = [Words(f"Every answer goes through it: {decided}.")] if decided else []
        blocks: list[Block] = [*words, *([Figures(tuple(charts))] if charts else []), *tables]
        if blocks:
            parts.append(Part(f"{task} ({about['kind']})", tuple(blocks)))
    return Section(subject.anchor("tasks"), subject.title("Tasks"), tuple(parts)) if parts else None


def _confusion(
    subject: Subject, task: str, matrix: Sequence[Any], classes: Sequence[str]
) -> tuple[list[Chart], list[Block]]:
    if matrix and isinstance(matrix[0][0], Sequence):
        return [], [_labels(matrix, classes)]
    if len(classes) > _MOST_CLASSES:
        return [], [_most_confused(matrix, classes)]
    title = f"{task}: confusion"
    about = (
        "Rows are the true classes; a cell is filled by its share of the row, so the diagonal should be the fullest."
    )
    return [heat(title, matrix, classes, about=about, name=subject.anchor(title))], []


def _labels(matrix: Sequence[Any], classes: Sequence[str]) -> Grid:
    rows = []
    for name, ((_, wrong), (missed, both)) in zip(classes, matrix, strict=True):
        counts = (f"{count:,}" for count in (missed + both, wrong + both, both))
        rows.append((name, *counts, _share(both, wrong + both), _share(both, missed + both)))
    head = ("label", "has it", "predicted", "both", "precision", "recall")
    return Grid(head, tuple(rows), "Labels that may stand together")


def _most_confused(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Grid:
    wrong = [
        (count, true, taken)
        for true, row in enumerate(matrix)
        for taken, count in enumerate(row)
        if count and true != taken
    ]
    rows = [
        (classes[true], classes[taken], f"{count:,}")
        for count, true, taken in sorted(wrong, reverse=True)[:_MOST_CONFUSED]
    ]
    return Grid(("true", "predicted", "rows"), tuple(rows), f"The classes confused most often, of {len(classes):,}")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.4f}" if whole else "undefined"


def _calibration(subject: Subject, task: str, bins: Sequence[Mapping[str, float]]) -> Chart:
    points = tuple((each["predicted"], each["observed"]) for each in bins)
    most = max(each["n"] for each in bins)
    sizes = tuple(2.0 + 5.0 * (each["n"] / most) ** 0.5 for each in bins)
    told = tuple(
        f"said {each['predicted']:.4f}, came true {each['observed']:.4f}, of {each['n']:,} statements" for each in bins
    )
    title = f"{task}: calibration"
    about = "What was said, and how often it came true; on the dashed line both are equal. "
    about += "A larger mark stands for more statements."
    line = Line("came true", points, sizes, told)
    ends = (0.0, 1.0)
    return lines(
        title,
        [line],
        about=about,
        across_name="probability said",
        diagonal=True,
        x_ends=ends,
        y_ends=ends,
        name=subject.anchor(title),
    )

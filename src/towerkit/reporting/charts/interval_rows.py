"""Figures with their intervals, a row for each: as marks on a line, or as bars from zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from towerkit.metrics.intervals import Interval
from towerkit.metrics.shown import figure
from towerkit.reporting.axis import Axis, axis_of
from towerkit.reporting.chart import (
    WIDTH,
    Chart,
    Grid,
    across,
    label,
    legend,
    mark,
    series_style,
    slug,
)
from towerkit.reporting.markup import Markup, element, joined

_ROW, _LINE, _LEFT, _RIGHT = 12.0, 16.0, 146.0, 58.0


@dataclass(frozen=True)
class Row:
    """One row."""

    label: str
    values: tuple[Interval | None, ...]
    """One of each series; None where it has none."""
    series: int | None = None
    """Of a drawing without several series: the color and the mark of this row."""


def intervals(
    title: str,
    rows: Sequence[Row],
    *,
    about: str,
    series: Sequence[str] = (),
    unit: str = "",
    bars: bool = False,
    zero: bool = False,
    name: str | None = None,
) -> Chart:
    """Rows of figures with their intervals.

    Args:
        title: Of the drawing.
        rows: From the top.
        about: What is seen, in a sentence.
        series: Their names, where there are several.
        unit: Below the axis.
        bars: Bars from zero in place of marks.
        zero: The axis shows zero, with a line.
        name: Of the file; made of the title when not given.
    """
    key, top = legend(series)
    longest = max((len(row.label) for row in rows), default=0)
    over = longest > 20  # a long label has a line of its own above its marks
    left, right = (10.0 if over else _LEFT), WIDTH - (10.0 if len(series) > 1 else _RIGHT)
    ends = [each for row in rows for one in row.values if one for each in (one.value, one.low, one.high)]
    axis = axis_of(ends, left, right, zero=zero or bars)
    parts, y = [key], top + 6
    for row in rows:
        if over:
            parts.append(label(row.label, 4.0, y + 11, room=WIDTH - 8))
            y += _LINE
        middle = y + _ROW * len(row.values) / 2 + 2
        if not over:
            parts.append(label(row.label, left - 8, middle + 4, anchor="end", room=left - 10))
        for place, one in enumerate(row.values):
            which = place if row.series is None else row.series
            parts += _one(one, axis, y + _ROW * place + 8, which, bars=bars)
            if len(row.values) == 1 and one is not None and math.isfinite(one.value):
                parts.append(label(f"{one.value:.4f}", WIDTH - 4, middle + 4, "m small", anchor="end"))
        y += _ROW * max(len(row.values), 1) + 8
    back = [across(axis, top, y, unit)]
    if (zero or bars) and axis.low < 0.0 < axis.high:
        x = axis.place(0.0)
        back.append(element("line", {"class": "ax", "x1": x, "x2": x, "y1": top, "y2": y}))
    height = y + (38.0 if unit else 22.0)
    return Chart(name or slug(title), title, about, height, joined([*back, *parts]), _table(rows, series, unit))


def _one(one: Interval | None, axis: Axis, y: float, series: int, *, bars: bool) -> list[Markup]:
    """A figure, its whisker, and the bar below them."""
    if one is None or not math.isfinite(one.value):
        return []
    x, parts = axis.place(one.value), []
    if bars:
        zero = axis.place(min(max(0.0, axis.low), axis.high))
        sizes: dict[str, object] = {"x": min(x, zero), "y": y - 5, "width": abs(x - zero), "height": 10}
        parts.append(element("rect", {"class": f"fl soft {series_style(series)}", **sizes}))
    if math.isfinite(one.low) and math.isfinite(one.high):
        ends: dict[str, object] = {"x1": axis.place(one.low), "x2": axis.place(one.high), "y1": y, "y2": y}
        parts.append(element("line", {"class": f"ln {series_style(series)}", **ends}))
    return [*parts, mark(series, x, y, told=figure(one))]


def _table(rows: Sequence[Row], series: Sequence[str], unit: str) -> Grid:
    head = ("", *(series or (unit or "value",)), "n")
    cells = []
    for row in rows:
        counts = {each.n for each in row.values if each is not None and each.n}
        cells.append((row.label, *map(figure, row.values), f"{max(counts):,}" if counts else ""))
    return Grid(head, tuple(cells))

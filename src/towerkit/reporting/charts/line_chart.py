"""Curves: figures over epochs, trials or probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from towerkit.reporting.axis import Axis, axis_of, tick_text
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
    upward,
)
from towerkit.reporting.markup import Markup, element, joined
from towerkit.reporting.palette import NUM_SERIES

_LEFT, _RIGHT, _HEIGHT, _MARKED = 48.0, 392.0, 190.0, 40
"""Up to so many points of a curve have a mark each."""


@dataclass(frozen=True)
class Line:
    """One curve."""

    name: str
    points: tuple[tuple[float, float], ...]
    """``(x, y)``; one that is not finite is left out."""
    sizes: tuple[float, ...] = ()
    """Half the width of each mark, where they differ."""
    told: tuple[str, ...] = ()
    """What is said of each point, where it is more than its numbers."""


def lines(
    title: str,
    curves: Sequence[Line],
    *,
    about: str,
    across_name: str,
    upright: tuple[float, str] | None = None,
    diagonal: bool = False,
    log: bool = False,
    steps: bool = False,
    x_ends: tuple[float, float] | None = None,
    y_ends: tuple[float, float] | None = None,
    name: str | None = None,
) -> Chart:
    """Curves in one drawing.

    Args:
        title: Of the drawing.
        curves: In the order of the legend; above eight, colors and dashes come again.
        about: What is seen, in a sentence.
        across_name: What the axis below says.
        upright: A line upwards at this place, with its word.
        diagonal: Also the line where both are equal.
        log: The axis upwards is logarithmic, where all numbers are above 0.
        steps: A curve stays where it is until the next point.
        x_ends: Where the axis below begins and ends; as the points need when not given.
        y_ends: Likewise upwards.
        name: Of the file; made of the title when not given.
    """
    key, top = legend([curve.name for curve in curves], lines=True) if len(curves) > 1 else (joined([]), 0.0)
    top += 8 if upright is None else 20
    bottom = top + _HEIGHT
    found = [point for curve in curves for point in curve.points if all(map(math.isfinite, point))]
    x = _fixed(x_ends, _LEFT, _RIGHT) or axis_of((each for each, _ in found), _LEFT, _RIGHT, room=0.02)
    y = _fixed(y_ends, bottom, top) or axis_of((each for _, each in found), bottom, top, log=log)
    whole = x_ends is None and _are_whole(found)
    parts = [key, across(x, top, bottom, across_name, whole=whole), upward(y, _LEFT, _RIGHT)]
    if diagonal:
        ends: dict[str, object] = {"x1": x.place(x.low), "y1": y.place(y.low), "x2": x.place(x.high)}
        parts.append(element("line", {"class": "ax d1", **ends, "y2": y.place(y.high)}))
    if upright is not None:
        parts.append(_upright(x.place(upright[0]), top, bottom, upright[1]))
    for series, curve in enumerate(curves):
        parts.append(_curve(curve, series, x, y, steps=steps))
    return Chart(name or slug(title), title, about, bottom + 40, joined(parts), _table(curves, across_name, whole))


def _fixed(ends: tuple[float, float] | None, start: float, end: float) -> Axis | None:
    return None if ends is None else Axis(*ends, start, end)


def _are_whole(points: Sequence[tuple[float, float]]) -> bool:
    """Whether all places are whole numbers, as epochs and trials are."""
    return all(float(x).is_integer() for x, _ in points)


def _upright(x: float, top: float, bottom: float, word: str) -> Markup:
    anchor = "start" if x < WIDTH / 2 else "end"
    ends: dict[str, object] = {"class": "ax d1", "x1": x, "x2": x, "y1": top, "y2": bottom}
    return joined([element("line", ends), label(word, x, top - 5, "m small", anchor=anchor, room=WIDTH / 2)])


def _curve(curve: Line, series: int, x: Axis, y: Axis, *, steps: bool) -> Markup:
    places, parts = [], []
    for place, point in enumerate(curve.points):
        if not all(map(math.isfinite, point)):
            continue
        at = x.place(point[0]), y.place(point[1])
        places.append(at)
        if len(curve.points) <= _MARKED:
            size = curve.sizes[place] if curve.sizes else 3.0
            words = curve.told[place] if curve.told else f"{tick_text(point[0])}: {point[1]:.4f}"
            parts.append(mark(series, *at, size, told=f"{curve.name}, {words}"))
    path = "".join(
        f"{'M' if not n else f'H{px:.1f}V' if steps else 'L'}{'' if n and steps else f'{px:.1f} '}{py:.1f}"
        for n, (px, py) in enumerate(places)
    )
    stroke = f"ln d{series % NUM_SERIES} {series_style(series)}"
    return joined([element("path", {"class": stroke, "d": path}), *parts] if path else parts)


def _table(curves: Sequence[Line], first: str, whole: bool) -> Grid:
    places = sorted({x for curve in curves for x, _ in curve.points})
    if len(places) * len(curves) > 2 * sum(len(curve.points) for curve in curves):  # each curve has places of its own
        rows = [(curve.name, tick_text(x), _number(y)) for curve in curves for x, y in curve.points]
        return Grid(("curve", first, "value"), tuple(rows))
    found = [dict(curve.points) for curve in curves]
    rows_of = [
        (f"{x:,.0f}" if whole else tick_text(x), *(_number(each[x]) if x in each else "" for each in found))
        for x in places
    ]
    return Grid((first, *(curve.name for curve in curves)), tuple(rows_of))


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "undefined"

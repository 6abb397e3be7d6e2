"""Parallel coordinates: a line per trial through its settings to its figure, the best ones on top."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from towerkit.reporting.axis import Axis, axis_of, tick_text
from towerkit.reporting.chart import Chart, Grid, label, legend, slug
from towerkit.reporting.markup import Markup, element, joined, text

_TOP, _HEIGHT, _SIDE = 52.0, 220.0, 60.0
_MOST_NAMES = 8


@dataclass(frozen=True)
class Scale:
    """One upright axis: a setting, or the figure at the end."""

    name: str
    values: tuple[Any, ...]
    """One of each trial: numbers, or anything else as a name; None where a trial has none."""
    log: bool = False


def parallel(
    title: str,
    scales: Sequence[Scale],
    *,
    about: str,
    order: Sequence[int],
    kinds: Sequence[int],
    names: Sequence[str],
    told: Sequence[str],
    name: str | None = None,
) -> Chart:
    """Trials as lines through upright axes.

    Args:
        title: Of the drawing.
        scales: From the left.
        about: What is seen, in a sentence.
        order: The trials in the order in which they are drawn: the last ones lie on top.
        kinds: ``[trials]`` the series of each: its place in ``names``, or -1.
        names: Of the series that are set off.
        told: ``[trials]`` what is said of each when it is pointed at.
        name: Of the file; made of the title when not given.
    """
    width = max(400.0, 2 * _SIDE + 96.0 * (len(scales) - 1))
    key, _ = legend(names, lines=True, width=width)
    gap = (width - 2 * _SIDE) / max(len(scales) - 1, 1)
    places = [_SIDE + gap * place for place in range(len(scales))]
    rulers = [_Ruler.of(scale) for scale in scales]
    lines = [_trial(trial, rulers, scales, places, kinds[trial], told[trial]) for trial in order]
    axes = [
        _axis(scale, ruler, x, place, gap)
        for place, (scale, ruler, x) in enumerate(zip(scales, rulers, places, strict=True))
    ]
    rows = tuple((told[trial], *(_shown(scale.values[trial]) for scale in scales)) for trial in range(len(told)))
    grid = Grid(("trial", *(scale.name for scale in scales)), rows)
    return Chart(name or slug(title), title, about, _TOP + _HEIGHT + 16, joined([key, *lines, *axes]), grid, width)


@dataclass(frozen=True)
class _Ruler:
    """Where the values of one scale stand."""

    axis: Axis | None
    names: tuple[str, ...]

    @classmethod
    def of(cls, scale: Scale) -> _Ruler:
        values = [value for value in scale.values if value is not None]
        if values and all(_is_number(value) for value in values) and len(set(values)) > 1:
            return cls(axis_of(map(float, values), _TOP + _HEIGHT, _TOP, log=scale.log), ())
        return cls(None, tuple(dict.fromkeys(_shown(value) for value in values)))

    def place(self, value: Any) -> float | None:
        if value is None:
            return None
        if self.axis is not None:
            return self.axis.place(float(value)) if math.isfinite(float(value)) else None
        return _TOP + _HEIGHT * (self.names.index(_shown(value)) + 0.5) / len(self.names)


def _trial(
    trial: int, rulers: Sequence[_Ruler], scales: Sequence[Scale], places: Sequence[float], kind: int, told: str
) -> Markup:
    path, pen = "", "M"
    for ruler, scale, x in zip(rulers, scales, places, strict=True):
        y = ruler.place(scale.values[trial])
        pen = "M" if y is None else pen
        if y is not None:
            path, pen = f"{path}{pen}{x:.1f} {y:.1f}", "L"
    style = "ln thin soft none" if kind < 0 else f"ln s{kind} d{kind}"
    return element("path", {"class": style, "d": path or "M0 0"}, element("title", {}, text(told)))


def _axis(scale: Scale, ruler: _Ruler, x: float, place: int, gap: float) -> Markup:
    parts = [element("line", {"class": "ax", "x1": x, "x2": x, "y1": _TOP, "y2": _TOP + _HEIGHT})]
    parts.append(label(scale.name, x, _TOP - (8 if place % 2 else 21), "b small", anchor="middle", room=gap * 1.7))
    if ruler.axis is not None:
        ticks = [(tick_text(tick), ruler.axis.place(tick)) for tick in ruler.axis.ticks(4)]
    else:
        ticks = [
            (each, _TOP + _HEIGHT * (n + 0.5) / len(ruler.names)) for n, each in enumerate(ruler.names[:_MOST_NAMES])
        ]
    for words, y in ticks:
        parts.append(element("line", {"class": "ax", "x1": x - 3, "x2": x + 3, "y1": y, "y2": y}))
        parts.append(label(words, x + 5, y + 4, "small", room=gap - 14))
    return joined(parts)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return tick_text(float(value)) if _is_number(value) else str(value)

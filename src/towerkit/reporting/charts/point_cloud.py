"""Points in a plane, by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towerkit.reporting.axis import axis_of
from towerkit.reporting.chart import WIDTH, Chart, Grid, label, legend, mark, slug
from towerkit.reporting.markup import element, joined

_HEIGHT = 360.0


@dataclass(frozen=True)
class Point:
    """One point."""

    x: float
    y: float
    told: str
    group: int = 0
    """Its place among the groups; -1 for one that belongs to none."""


def scatter(
    title: str,
    points: Sequence[Point],
    groups: Sequence[str],
    *,
    about: str,
    axes: tuple[str, str],
    name: str | None = None,
) -> Chart:
    """Points in a plane; one says its name when it is pointed at.

    Args:
        title: Of the drawing.
        points: Those of no group are drawn first.
        groups: Their names; none where there is one group alone.
        about: What is seen, in a sentence.
        axes: What lies across and upwards.
        name: Of the file; made of the title when not given.
    """
    key, top = legend(groups)
    top, bottom = top + 6, top + 6 + _HEIGHT
    x = axis_of((point.x for point in points), 14.0, WIDTH - 6)
    y = axis_of((point.y for point in points), bottom - 6, top + 6)
    size = 3.5 if len(points) <= 300 else 2.6
    parts = [key, element("rect", {"class": "ax gr", "x": 8.0, "y": top, "width": WIDTH - 10, "height": _HEIGHT})]
    for point in sorted(points, key=lambda each: each.group):
        parts.append(mark(point.group, x.place(point.x), y.place(point.y), size, told=point.told))
    parts.append(label(f"→ {axes[0]}   ↑ {axes[1]}", 8.0, bottom + 16, "m small", room=WIDTH - 16))
    counts = [sum(point.group == place for point in points) for place in range(len(groups))]
    rows = tuple((group, f"{count:,}") for group, count in zip(groups, counts, strict=True) if count)
    others = sum(point.group < 0 for point in points) if groups else len(points)
    rows += ((("(other)" if groups else "all"), f"{others:,}"),) if others else ()
    return Chart(name or slug(title), title, about, bottom + 24, joined(parts), Grid(("group", "points"), rows))

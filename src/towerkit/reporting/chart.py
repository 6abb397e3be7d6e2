"""A drawing with its words: what it is called, what it says, and the same numbers as a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from towerkit.reporting.axis import Axis, tick_text
from towerkit.reporting.markup import Markup, element, joined, text
from towerkit.reporting.palette import LIGHT, NUM_SERIES, chart_style

WIDTH = 400.0
"""Units across a drawing: at 360 pixels, its words of 12 units are still 10 pixels high."""
_LETTER = 6.6
"""About so many units is a letter wide."""


@dataclass(frozen=True)
class Grid:
    """A table of texts."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawing."""

    name: str
    """Unique in its page; the name of its file."""
    title: str
    about: str
    """What a reader sees in it, in a sentence."""
    height: float
    marks: Markup
    table: Grid
    width: float = WIDTH

    def inline(self) -> Markup:
        """The drawing within a page, whose style sheet it follows."""
        ids = f"{self.name}-title {self.name}-about"
        words = [
            element("title", {"id": f"{self.name}-title"}, text(self.title)),
            element("desc", {"id": f"{self.name}-about"}, text(self.about)),
        ]
        about: dict[str, object] = {"class": "chart", "role": "img", "aria-labelledby": ids}
        return element("svg", {**about, "viewBox": f"0 0 {self.width:g} {self.height:g}"}, *words, self.marks)

    def alone(self) -> str:
        """The drawing as a file of its own, with its title above it and its colors in it, on a light ground."""
        height = self.height + 24
        about: dict[str, object] = {"xmlns": "http://www.w3.org/2000/svg", "class": "chart", "role": "img"}
        sizes: dict[str, object] = {"width": self.width, "height": height, "viewBox": f"0 0 {self.width:g} {height:g}"}
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + element(
            "svg",
            about | sizes,
            element("title", {}, text(self.title)),
            element("desc", {}, text(self.about)),
            element("style", {}, text(chart_style(LIGHT))),
            element("rect", {"class": "bg", "width": self.width, "height": height}),
            label(self.title, 4.0, 16.0, "b", room=self.width - 8),
            element("g", {"transform": "translate(0 24)"}, self.marks),
        )


def label(words: str, x: float, y: float, style: str = "", *, anchor: str | None = None, room: float = WIDTH) -> Markup:
    """Words in a drawing, cut to the room that they have; whole when pointed at.

    Args:
        words: What to write.
        x: Where.
        y: The line that letters stand on.
        style: Classes of the style sheet.
        anchor: ``middle`` or ``end``; ``start`` when not given.
        room: Units that they may take.
    """
    most = max(int(room / _LETTER), 2)
    short = words if len(words) <= most else words[: most - 1].rstrip() + "…"
    whole = [] if short == words else [element("title", {}, text(words))]
    return element("text", {"x": x, "y": y, "class": style or None, "text-anchor": anchor}, *whole, text(short))


def across(axis: Axis, top: float, bottom: float, name: str = "", *, whole: bool = False) -> Markup:
    """An axis below a drawing, with a line up for each tick; for what is counted, at whole numbers only."""
    parts = []
    for tick in axis.ticks():
        if whole and not tick.is_integer():
            continue
        x = axis.place(tick)
        parts.append(element("line", {"class": "ax gr", "x1": x, "x2": x, "y1": top, "y2": bottom}))
        parts.append(label(tick_text(tick), x, bottom + 15, "m small", anchor="middle"))
    if name:
        parts.append(label(name, (axis.start + axis.end) / 2, bottom + 31, "m", anchor="middle"))
    return joined(parts)


def upward(axis: Axis, left: float, right: float, most: int = 5) -> Markup:
    """An axis beside a drawing, with a line across for each tick."""
    parts = []
    for tick in axis.ticks(most):
        y = axis.place(tick)
        parts.append(element("line", {"class": "ax gr", "x1": left, "x2": right, "y1": y, "y2": y}))
        parts.append(label(tick_text(tick), left - 5, y + 4, "m small", anchor="end"))
    return joined(parts)


def mark(series: int, x: float, y: float, size: float = 4.5, *, told: str = "", soft: bool = False) -> Markup:
    """A mark of a series: each has a shape of its own.

    Args:
        series: Its place.
        x: Of the middle.
        y: Of the middle.
        size: Half its width.
        told: Said when it is pointed at.
        soft: Drawn so that those below it are seen.
    """
    s, tall, half = size, size * 1.3, size * 1.15
    shape, place = (
        ("circle", {"cx": x, "cy": y, "r": f"{s:g}"}),
        ("path", {"d": f"M{x - s:.1f} {y - s:.1f}h{2 * s:g}v{2 * s:g}h{-2 * s:g}z"}),
        ("path", {"d": f"M{x:.1f} {y - s * 1.2:.1f}l{half:.1f} {s * 2:.1f}h{-2 * half:.1f}z"}),
        (
            "path",
            {"d": f"M{x:.1f} {y - tall:.1f}l{tall:.1f} {tall:.1f} {-tall:.1f} {tall:.1f} {-tall:.1f} {-tall:.1f}z"},
        ),
    )[max(series, 0) % 4]
    style = f"fl {series_style(series)}{' soft' if soft else ''}"
    words = [element("title", {}, text(told))] if told else []
    return element(shape, {**place, "class": style}, *words)


def series_style(series: int) -> str:
    """The class of a series; below 0 that of what belongs to none."""
    return "none" if series < 0 else f"s{series % NUM_SERIES}"


def legend(names: Sequence[str], y: float = 12.0, *, lines: bool = False, width: float = WIDTH) -> tuple[Markup, float]:
    """A mark and a name for each series, in as many rows as they need.

    Args:
        names: Of the series.
        y: The line that letters of the first row stand on.
        lines: Also a stroke, as lines have it.
        width: Of the drawing.

    Returns:
        What to draw, and how high it is.
    """
    parts, x, row = [], 4.0, 0
    for series, name in enumerate(names):
        room = min(len(name) * _LETTER, width - 40)
        if x > 4.0 and x + 30 + room > width:
            x, row = 4.0, row + 1
        line = y + 18 * row
        if lines:
            stroke = f"ln d{series % NUM_SERIES} {series_style(series)}"
            parts.append(element("line", {"class": stroke, "x1": x, "x2": x + 18, "y1": line - 4, "y2": line - 4}))
        parts.append(mark(series, x + 9, line - 4, 4.0))
        parts.append(label(name, x + 22, line, room=room + _LETTER))
        x += 36 + room
    return joined(parts), 18.0 * (row + 1) if names else 0.0


def slug(words: str) -> str:
    """Words as the name of a file and of a place in a page.

    Example:
        >>> slug("ndcg@20 by user.Plan"), slug("…")
        ('ndcg-20-by-user-plan', 'x')
    """
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:60] or "x"

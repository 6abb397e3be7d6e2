"""A plan as a drawing: layers from left to right, wires between them, and bars for what each tower holds, costs and brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from towerkit.reporting.chart import Chart, Grid, label
from towerkit.reporting.markup import Markup, element, joined, text
from towerkit.studio.plan import LAYERS, Box, Plan

_BOX, _GAP, _LINE, _PAD, _BETWEEN, _TOP = 206.0, 52.0, 15.0, 8.0, 14.0, 26.0
_MOST_LINES = 7
_BAR = 9.0


@dataclass(frozen=True)
class Bar:
    """How much there is of something, on a box."""

    name: str
    share: float
    """Between 0 and 1; below 0 it is drawn empty."""
    told: str
    series: int


def plan_chart(plan: Plan, bars: Mapping[str, Sequence[Bar]]) -> Chart:
    """The drawing.

    Args:
        plan: Of a model.
        bars: Box -> its bars.
    """
    heights = {box.name: _height(box, bars.get(box.name, ())) for box in plan.boxes}
    places = _places(plan, heights)
    width = len(LAYERS) * _BOX + (len(LAYERS) - 1) * _GAP
    bottom = max(places[box.name] + heights[box.name] for box in plan.boxes)
    heads = [label(name, _left(layer), 14.0, "m") for layer, name in enumerate(LAYERS)]
    wires = [_wire(plan, places, heights, *each) for each in plan.wires]
    boxes = [_drawn(box, places[box.name], heights[box.name], bars.get(box.name, ())) for box in plan.boxes]
    about = "Columns are read by towers, their vectors are merged, and what comes out stands on the right."
    return Chart("plan", "The model", about, bottom + 4, joined([*heads, *wires, *boxes]), _table(plan), width + 2)


def _left(layer: int) -> float:
    return layer * (_BOX + _GAP)


def _lines(box: Box) -> list[str]:
    more = len(box.lines) - _MOST_LINES
    found = list(box.lines if more <= 0 else (*box.lines[: _MOST_LINES - 1], f"and {more + 1} more"))
    return [*found, f"{box.parameters:,} learned numbers"] if box.parameters else found


def _height(box: Box, bars: Sequence[Bar]) -> float:
    return 2 * _PAD + _LINE * (1 + len(_lines(box))) + (_LINE + _BAR) * len(bars)


def _places(plan: Plan, heights: Mapping[str, float]) -> dict[str, float]:
    """Box -> its top: towers one below the other, beside what they read; what follows stands in the middle of what leads to it."""
    found: dict[str, float] = {}
    reads = {after: before for before, after in plan.wires if before.endswith(" reads")}
    y = _TOP
    for box in plan.boxes:
        if box.layer == 1:
            beside = reads.get(box.name)
            tall = max(heights[box.name], heights.get(beside, 0.0) if beside else 0.0)
            found[box.name] = y + (tall - heights[box.name]) / 2
            if beside is not None:
                found[beside] = y + (tall - heights[beside]) / 2
            y += tall + _BETWEEN
    for layer in (2, 3):
        _stack(plan, heights, found, layer)
    return found


def _stack(plan: Plan, heights: Mapping[str, float], found: dict[str, float], layer: int) -> None:
    """Place the boxes of a layer as near as they can be to the middle of what leads to them."""
    own = [box for box in plan.boxes if box.layer == layer]
    wanted: list[float] = []
    for box in own:
        before = [each for each, after in plan.wires if after == box.name]
        middles = [found[each] + heights[each] / 2 for each in before]
        wanted.append(sum(middles) / len(middles) - heights[box.name] / 2 if middles else _TOP)
    y = _TOP
    for box, place in zip(own, wanted, strict=True):
        found[box.name] = max(y, place)
        y = found[box.name] + heights[box.name] + _BETWEEN
    over = sum(found[box.name] - place for box, place in zip(own, wanted, strict=True)) / max(len(own), 1)
    free = min((found[box.name] for box in own), default=_TOP) - _TOP
    for box in own:  # pushed down one by the other: back up together, as far as there is room
        found[box.name] -= min(over, free)


def _wire(plan: Plan, places: Mapping[str, float], heights: Mapping[str, float], one: str, other: str) -> Markup:
    layers = {box.name: box.layer for box in plan.boxes}
    x, y = _left(layers[one]) + _BOX, places[one] + heights[one] / 2
    to_x, to_y = _left(layers[other]), places[other] + heights[other] / 2
    half = (to_x - x) / 2
    path = f"M{x:.1f} {y:.1f}C{x + half:.1f} {y:.1f} {to_x - half:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
    return element("path", {"class": "wire", "d": path})


def _drawn(box: Box, top: float, height: float, bars: Sequence[Bar]) -> Markup:
    left = _left(box.layer)
    parts = [element("rect", {"class": "box", "x": left, "y": top, "width": _BOX, "height": height, "rx": 5})]
    if box.is_tower:
        parts.append(element("rect", {"class": "fl s0", "x": left, "y": top, "width": 4, "height": height}))
    y = top + _PAD + 11
    room = _BOX - 24
    parts.append(label(box.title, left + 12, y, "b", room=room))
    for line in _lines(box):
        y += _LINE
        parts.append(label(line, left + 12, y, "m small", room=room))
    for bar in bars:
        y += _LINE
        parts.append(label(f"{bar.name}: {bar.told}", left + 12, y, "m small", room=room))
        y += _BAR
        parts.append(element("rect", {"class": "track", "x": left + 12, "y": y - 4, "width": room, "height": 5}))
        if bar.share > 0:
            wide = max(room * min(bar.share, 1.0), 1.5)
            parts.append(
                element("rect", {"class": f"fl s{bar.series}", "x": left + 12, "y": y - 4, "width": wide, "height": 5})
            )
    return element("g", {}, element("title", {}, text(f"{box.title}: {', '.join(box.lines)}")), *parts)


def _table(plan: Plan) -> Grid:
    leads = {box.name: [other for one, other in plan.wires if one == box.name] for box in plan.boxes}
    titles = {box.name: box.title for box in plan.boxes}
    rows = tuple(
        (
            box.title,
            LAYERS[box.layer],
            ", ".join(box.lines),
            "" if box.parameters is None else f"{box.parameters:,}",
            ", ".join(titles[each] for each in leads[box.name]),
        )
        for box in plan.boxes
    )
    return Grid(("part", "what", "about it", "learned numbers", "leads to"), rows)

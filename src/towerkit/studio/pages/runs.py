"""The list of Runs: figures with their intervals on one axis each, and the trainings that are not over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from towerkit.metrics.intervals import Interval
from towerkit.metrics.shown import at_largest_k, between, metric_order
from towerkit.reporting.axis import Axis, axis_of
from towerkit.reporting.markup import Markup, element, foreign, joined, text
from towerkit.studio.frame import View, buttons, note, run_address
from towerkit.studio.library import Entry
from towerkit.studio.pages.training import training_card
from towerkit.studio.trainings import Training

_MOST_CHOICES = 12
_WIDE = 96.0


def runs_page(entries: Sequence[Entry], trainings: Sequence[Training], folder: str, metric: str = "") -> View:
    """All Runs as a table.

    Args:
        entries: The Runs.
        trainings: What is on its way.
        folder: What the folder is called.
        metric: The figure that is shown of each; its headline when not given.
    """
    shown = [each for each in entries if not metric or metric in each.metrics]
    parts = [trainings_part(trainings)]
    if not entries:
        parts.append(note("There are no Runs here yet. Train one: towerkit train SPEC.yaml --run " + folder + "/NAME"))
    else:
        parts += [_choices(entries, metric), _tools(), _table(shown, metric)]
    count = f"{len(entries):,} Run{'s' * (len(entries) != 1)} in {folder}"
    return View("Runs", joined(parts), about=count, scripts=("runs", "training"))


def trainings_part(trainings: Sequence[Training]) -> Markup:
    """The trainings that are not over; it is asked for again and again."""
    cards = [training_card(each) for each in trainings]
    heading = [element("h2", {}, text("In training"))] if cards else []
    inner = element("div", {"class": "cards slim"}, *cards)
    return element("section", {"id": "trainings", "data-live": "/live/trainings"}, *heading, inner)


def _choices(entries: Sequence[Entry], metric: str) -> Markup:
    """Links that show another figure."""
    counts: dict[str, int] = {}
    for each in entries:
        for name in each.metrics:
            counts[name] = counts.get(name, 0) + 1
    often = sorted(at_largest_k(list(counts)), key=lambda name: (-counts[name], metric_order(name)))[:_MOST_CHOICES]
    names = [("/", "headline"), *((f"/by/{quote(name)}", name) for name in sorted(often, key=metric_order))]
    return element("nav", {"aria-label": "Figure"}, buttons(names, metric or "headline"))


def _tools() -> Markup:
    find = element(
        "input", {"type": "search", "id": "find", "placeholder": "name, kind or figure", "autocomplete": "off"}
    )
    compare = element("button", {"type": "button", "id": "compare", "disabled": ""}, text("Compare"))
    told = element(
        "span", {"class": "muted", "id": "told", "role": "status"}, text("Choose two Runs or more to compare them.")
    )
    return element("div", {"class": "toolbar"}, element("label", {"for": "find"}, text("Filter ")), find, compare, told)


_COLUMNS = ("", "Run", "Kind", "Figure", "Value", "", "Best baseline", "Trained", "Seconds", "Size")
_SORTED = {
    "Run": "text",
    "Kind": "text",
    "Figure": "text",
    "Value": "number",
    "Trained": "text",
    "Seconds": "number",
    "Size": "number",
}
_NUMBERS = ("Value", "Seconds", "Size")
_NARROW = ("Kind", "Best baseline", "Trained", "Seconds", "Size")
"""Columns that a phone leaves out."""
_WRAPPED = ("Best baseline", "Trained")
"""Columns that take two lines before the table is wider than its page."""


def _table(entries: Sequence[Entry], metric: str) -> Markup:
    axes = _axes(entries, metric)
    head = element("tr", {}, *(_head(name, place) for place, name in enumerate(_COLUMNS)))
    rows = [_row(each, metric or each.headline, axes) for each in entries]
    body = element("tbody", {}, *rows)
    table = element("table", {"class": "wide", "id": "runs"}, element("thead", {}, head), body)
    return element("div", {"class": "scroll", "tabindex": 0, "role": "group", "aria-label": "Runs"}, table)


def _head(name: str, place: int) -> Markup:
    about: dict[str, object] = {"scope": "col", "class": _style(name)}
    if not name:
        return element("td", {}) if place == 0 else element("td", {"class": "drop-narrow"})
    if name not in _SORTED:
        return element("th", about, text(name))
    button = element("button", {"type": "button", "data-sort": _SORTED[name]}, text(name))
    return element("th", {**about, "aria-sort": "none"}, button)


def _style(name: str) -> str | None:
    styles = {"number": _NUMBERS, "drop-narrow": _NARROW, "wraps": _WRAPPED}
    return " ".join(style for style, names in styles.items() if name in names) or None


def _row(entry: Entry, metric: str, axes: Mapping[str, Axis]) -> Markup:
    name = element("a", {"href": run_address(entry.id)}, foreign(entry.name))
    if entry.problem:
        told = element("td", {"colspan": len(_COLUMNS) - 2, "class": "long"}, foreign(entry.problem))
        return element("tr", {}, element("td", {}), element("th", {"scope": "row"}, foreign(entry.name)), told)
    box: dict[str, object] = {"type": "checkbox", "value": entry.id, "aria-label": f"Choose {entry.name}"}
    value = entry.metrics.get(metric)
    best = entry.best_baseline(metric)
    cells = [
        ("Kind", text(entry.kind), None),
        ("Figure", text(metric), None),
        ("Value", _value(value), _sortable(None if value is None else value.value)),
        ("", _whisker(value, axes.get(metric), best), None),
        ("Best baseline", text(f"{best[1].value:.4f} ({best[0]})" if best else ""), None),
        ("Trained", text(entry.created[:16].replace("T", " ")), None),
        ("Seconds", text("" if entry.seconds is None else f"{entry.seconds:,.1f}"), _sortable(entry.seconds)),
        ("Size", text(f"{entry.bytes / 1e6:,.1f} MB"), str(entry.bytes)),
    ]
    tds = [
        element("td", {"class": _style(name) or ("drop-narrow" if not name else None), "data-value": key}, cell)
        for name, cell, key in cells
    ]
    return element(
        "tr",
        {"data-run": entry.id},
        element("td", {}, element("input", box)),
        element("th", {"scope": "row"}, name),
        *tds,
    )


def _value(value: Interval | None) -> Markup:
    """The figure; its ends are left out where there is little room."""
    if value is None or not math.isfinite(value.value):
        return text("" if value is None else "undefined")
    ends = text(f" {between(value.low, value.high)}" if math.isfinite(value.low) else "")
    return joined([text(f"{value.value:.4f}"), element("span", {"class": "drop-narrow muted"}, ends)])


def _sortable(value: float | None) -> str:
    return "" if value is None or value != value else repr(float(value))


def _axes(entries: Sequence[Entry], metric: str) -> dict[str, Axis]:
    """Figure -> the axis that all Runs share which show it."""
    ends: dict[str, list[float]] = {}
    for each in entries:
        name = metric or each.headline
        value, best = each.metrics.get(name), each.best_baseline(name)
        found = [] if value is None else [value.value, value.low, value.high]
        ends.setdefault(name, []).extend([*found, *([best[1].value] if best else [])])
    return {name: axis_of(values, 4.0, _WIDE - 4) for name, values in ends.items()}


def _whisker(value: Interval | None, axis: Axis | None, best: tuple[str, Interval] | None) -> Markup:
    """The figure and its interval, and where the best baseline stands."""
    if value is None or axis is None or not math.isfinite(value.value):
        return text("")
    parts = [element("line", {"class": "ax gr", "x1": 0.0, "x2": _WIDE, "y1": 9.0, "y2": 9.0})]
    if best is not None:
        x = axis.place(best[1].value)
        parts.append(element("line", {"class": "ax d2", "x1": x, "x2": x, "y1": 2.0, "y2": 16.0}))
    if math.isfinite(value.low) and math.isfinite(value.high):
        ends: dict[str, object] = {"x1": axis.place(value.low), "x2": axis.place(value.high), "y1": 9.0, "y2": 9.0}
        parts.append(element("line", {"class": "ln s0", **ends}))
    parts.append(element("circle", {"class": "fl s0", "cx": axis.place(value.value), "cy": 9.0, "r": "3.5"}))
    about: dict[str, object] = {"class": "chart", "viewBox": f"0 0 {_WIDE:g} 18", "aria-hidden": "true"}
    return element("svg", about, *parts)

"""The map of a Run's vectors: colored by a column, with the point that was clicked and its neighbors beside it."""

from __future__ import annotations

from urllib.parse import quote

from towerkit.reporting.markup import Markup, element, foreign, joined, text
from towerkit.studio.frame import View, buttons, note, run_address
from towerkit.studio.opened import Missing, Opened
from towerkit.studio.space import Space, colored, columns_of, nearest_to, places_with, space_of, spaces_of

_FACTS, _LONGEST = 12, 200
_KEYS = "Arrow keys move it, plus and minus zoom, 0 shows all. Find a point by its name below."


def space_page(opened: Opened, which: str = "", column: str = "") -> View:
    """The map of one side; why there is none, where there is none.

    Args:
        opened: Any Run.
        which: Of its maps; the first one when not given.
        column: What points are colored by; the first that groups them when not given, ``-`` for none.
    """
    known = spaces_of(opened)
    if not known:
        why = (
            "its members share no vector" if opened.run.kind == "late_fusion" else "it scores pairs and has no vectors"
        )
        return _view(opened, note(f"There is no map: {why}."))
    which = which or known[0]
    if which not in known:
        raise Missing(f"{opened.entry.name} has no map of {which}.")
    try:
        space = space_of(opened, which)
    except Missing as error:
        return _view(opened, note(str(error)))
    columns = columns_of(space)
    shown = "" if column == "-" else column or next(iter(columns), "")
    body = joined([_choices(opened, known, which, columns, shown), _map(opened, space, shown)])
    return _view(opened, body, "space")


def _view(opened: Opened, body: Markup, *scripts: str) -> View:
    return View(opened.entry.name, body, run=opened.entry.id, topic="space", scripts=scripts)


def _choices(opened: Opened, known: list[str], which: str, columns: list[str], shown: str) -> Markup:
    base = run_address(opened.entry.id, "space")
    sides = buttons([(f"{base}/{quote(each)}", each) for each in known], which) if len(known) > 1 else joined([])
    names = [(f"{base}/{quote(which)}/{quote(each, safe='')}", each) for each in columns]
    colors = buttons([*names, (f"{base}/{quote(which)}/-", "no color")], shown or "no color")
    return element("nav", {"aria-label": "Map"}, sides, colors)


def _map(opened: Opened, space: Space, column: str) -> Markup:
    groups = colored(space, column)
    address = f"/{quote(opened.entry.id, safe='~')}/{quote(space.which)}"
    of = f"{len(space.names):,}" + (f" of {space.of:,}" if space.of > len(space.names) else "")
    words = f"{of} vectors of {space.what} in the plane of their first two principal components, which hold {space.share:.0%} of "
    words += "their variance: what lies apart here is apart, what lies together may still differ."
    canvas: dict[str, object] = {
        "id": "map",
        "tabindex": 0,
        "role": "img",
        "aria-label": f"Map of {len(space.names):,} vectors. {_KEYS}",
        "data-points": f"/points{address}/{quote(column, safe='') or '-'}",
        "data-point": f"/point{address}",
        "data-count": len(space.names),
        "data-order": "" if groups.is_order else None,
    }
    legend = [
        element("li", {}, element("canvas", {"data-group": place}), text(" "), foreign(name))
        for place, name in enumerate(groups.names)
    ]
    other = (
        [element("li", {}, element("canvas", {"data-group": 255}), text(" other or missing"))]
        if groups.names and 255 in groups.groups
        else []
    )
    field = {"type": "search", "id": "find", "list": "found", "autocomplete": "off"}
    find = element(
        "div",
        {"class": "toolbar"},
        element("label", {"for": "find"}, text("Find a point")),
        element("input", dict(field)),
        element("datalist", {"id": "found"}),
        element("button", {"type": "button", "id": "all"}, text("Show all")),
    )
    drawn = element("div", {"class": "space"}, element("canvas", canvas))
    key = element("ul", {"class": "legend", "aria-label": f"Colors by {column}" if column else None}, *legend, *other)
    left = element("div", {}, drawn, key, find, element("p", {"class": "muted"}, text(words)))
    hint = element("p", {"class": "muted"}, text("Click a point to see what it is and what is near it."))
    return element(
        "div", {"class": "columns reversed"}, left, element("div", {"id": "point", "aria-live": "polite"}, hint)
    )


def point_part(space: Space, place: int) -> Markup:
    """What a point is, and its nearest.

    Raises:
        Missing: If there is no such point.
    """
    if not 0 <= place < len(space.names):
        raise Missing("There is no such point.")
    facts = []
    for name in space.rows.column_names:
        value = space.rows.column(name)[place].as_py()
        if value is not None and not isinstance(value, bytes):
            told = f"{value:.6g}" if isinstance(value, float) else str(value)
            facts.append((name, told if len(told) <= _LONGEST else told[: _LONGEST - 1] + "…"))
    listed = [
        joined([element("dt", {}, foreign(name)), element("dd", {}, foreign(value))]) for name, value in facts[:_FACTS]
    ]
    near = [
        element(
            "li",
            {},
            element("button", {"type": "button", "class": "plain", "data-place": each}, foreign(space.names[each])),
            element("span", {"class": "muted"}, text(f" {likeness:.3f}")),
        )
        for each, likeness in nearest_to(space, place)
    ]
    how = "negative squared distance" if space.near == "euclidean" else "cosine"
    return joined(
        [
            element("h2", {"class": "small"}, foreign(space.names[place])),
            element("dl", {"class": "facts"}, *listed),
            element("h3", {"class": "small"}, text(f"Nearest, by {how}")),
            element("ol", {"class": "near"}, *near),
        ]
    )


def found_points(space: Space, wanted: str) -> list[tuple[int, str]]:
    """Places and names of points by a part of their name."""
    return [(place, space.names[place]) for place in places_with(space, wanted)]

"""What a report says, before it is a page: sections of words, tables, drawings and examples. Only here they become HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from towerkit.reporting.chart import Chart, Grid
from towerkit.reporting.markup import Markup, element, foreign, joined, text

_LONG = 48
"""A cell of more letters may take several lines."""


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str
    is_note: bool = False
    """Set off: something that the reader should know before reading on."""


@dataclass(frozen=True)
class Figures:
    """Drawings beside each other."""

    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Folded:
    """What is shown when it is asked for."""

    title: str
    grid: Grid


@dataclass(frozen=True)
class Item:
    """One line of an example."""

    text: str
    tag: str = ""
    """What is to be seen of it, in a word."""
    is_wrong: bool = False


@dataclass(frozen=True)
class Listing:
    """Lines of an example under a heading."""

    title: str
    items: tuple[Item, ...]
    is_ordered: bool = False


@dataclass(frozen=True)
class Example:
    """What a model answered to one query or row."""

    title: str
    facts: tuple[tuple[str, str], ...]
    lists: tuple[Listing, ...]


@dataclass(frozen=True)
class Examples:
    """Examples beside each other."""

    examples: tuple[Example, ...]


Block = Words | Grid | Figures | Folded | Examples


@dataclass(frozen=True)
class Part:
    """A part of a section, with a heading."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Section:
    """A section of a page."""

    name: str
    """Unique in its page: links lead to it."""
    title: str
    parts: tuple[Part, ...] = field(default_factory=tuple)

    def charts(self) -> Iterator[Chart]:
        """Every drawing in it."""
        for part in self.parts:
            for block in part.blocks:
                if isinstance(block, Figures):
                    yield from block.charts


def section_markup(section: Section) -> Markup:
    """A section with its heading."""
    parts = [_part(part) for part in section.parts]
    return element("section", {"id": section.name}, element("h2", {}, foreign(section.title)), *parts)


def _part(part: Part) -> Markup:
    heading = [element("h3", {}, foreign(part.title))] if part.title else []
    below = 4 if part.title else 3
    return joined([*heading, *(_block(block, below) for block in part.blocks)])


def _block(block: Block, below: int) -> Markup:
    """A block; headings in it begin at a level that skips none."""
    match block:
        case Words():
            return element("p", {"class": "note" if block.is_note else None}, foreign(block.text))
        case Grid():
            return grid_markup(block)
        case Figures():
            return element("div", {"class": "figures"}, *(_figure(chart) for chart in block.charts))
        case Folded():
            return element("details", {}, element("summary", {}, foreign(block.title)), grid_markup(block.grid))
        case Examples():
            return element("div", {"class": "cards"}, *(_example(each, below) for each in block.examples))


def grid_markup(grid: Grid) -> Markup:
    """A table that is pushed sideways where it is wider than the screen."""
    head = [element("th", {"scope": "col"}, foreign(cell)) if cell else element("td", {}) for cell in grid.head]
    rows = [element("tr", {}, *_cells(row)) for row in grid.rows]
    caption = [element("caption", {}, foreign(grid.caption))] if grid.caption else []
    table = element("table", {}, *caption, element("thead", {}, element("tr", {}, *head)), element("tbody", {}, *rows))
    about: dict[str, object] = {"class": "scroll", "tabindex": 0, "role": "group"}
    return element("div", about | {"aria-label": grid.caption or " · ".join(filter(None, grid.head))}, table)


def _cells(row: Sequence[str]) -> Iterator[Markup]:
    for place, cell in enumerate(row):
        style: dict[str, object] = {"class": "long" if len(cell) > _LONG else None}
        yield element("td" if place else "th", style | ({} if place else {"scope": "row"}), foreign(cell))


def _figure(chart: Chart) -> Markup:
    is_wide = chart.width > 400
    drawing = chart.inline()
    if is_wide:
        drawing = element(
            "div", {"class": "scroll", "tabindex": 0, "role": "group", "aria-label": chart.title}, drawing
        )
    return element(
        "figure",
        {"id": chart.name, "class": "wide" if is_wide else None},
        element("figcaption", {}, foreign(chart.title)),
        drawing,
        element("p", {}, foreign(chart.about)),
        element("details", {}, element("summary", {}, text("The numbers as a table")), grid_markup(chart.table)),
    )


def _example(example: Example, level: int) -> Markup:
    facts = [
        joined([element("dt", {"class": "muted"}, foreign(name)), element("dd", {}, foreign(value))])
        for name, value in example.facts
    ]
    told = [element("dl", {}, *facts)] if facts else []
    lists = element("div", {"class": "lists"}, *(_listing(each, level + 1) for each in example.lists))
    return element("article", {}, element(f"h{level}", {}, foreign(example.title)), *told, lists)


def _listing(listing: Listing, level: int) -> Markup:
    items = [
        element("li", {}, foreign(item.text), *([text(" "), _tag(item)] if item.tag else [])) for item in listing.items
    ]
    kind = "ol" if listing.is_ordered else "ul"
    return element("div", {}, element(f"h{level}", {}, foreign(listing.title)), element(kind, {}, *items))


def _tag(item: Item) -> Markup:
    return element("span", {"class": "tag wrong" if item.is_wrong else "tag"}, text(item.tag))

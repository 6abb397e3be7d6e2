"""What stands around every page: its head, the way to the other pages, and the pages of one Run beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from towerkit._version import __version__
from towerkit.reporting.markup import Markup, element, foreign, joined, text
from towerkit.studio.assets import address

TOPICS = (("", "Overview"), ("towers", "Towers"), ("try", "Try it"), ("space", "Space"), ("data", "Data"))
"""Pages of a Run: the end of their address, and their name."""


@dataclass(frozen=True)
class View:
    """A page without what stands around it."""

    title: str
    body: Markup
    about: str = ""
    """A line below the title."""
    run: str = ""
    """Id of the Run that it is about."""
    topic: str = ""
    """Which of the pages of a Run it is."""
    scripts: tuple[str, ...] = ()
    """Modules of ours that it needs."""
    here: str = "runs"
    """Which of the pages of the studio it is."""


def document(view: View, *, service: bool = False, account: bool = False) -> str:
    """A whole page.

    Args:
        view: What it shows.
        service: Whether there is a page about a running service.
        account: Whether who reads has signed in, and may sign out.
    """
    links = [
        ("/", "Runs", view.here == "runs"),
        *([("/service", "Service", view.here == "service")] if service else []),
    ]
    out = (
        [element("button", {"type": "button", "class": "plain", "data-leave": ""}, text("Sign out"))] if account else []
    )
    body = element(
        "body",
        {},
        element("a", {"class": "skip", "href": "#main"}, text("To the content")),
        element(
            "header",
            {"class": "top"},
            element("a", {"class": "brand", "href": "/"}, text("towerkit studio")),
            element("nav", {"aria-label": "Pages"}, *(_link(*each) for each in links), *out),
        ),
        element("main", {"id": "main", "tabindex": -1}, _heading(view), view.body),
        element(
            "footer",
            {},
            text(f"towerkit {__version__}. These pages hold rows of the data: treat them as you treat them."),
        ),
    )
    return f"<!DOCTYPE html>\n{element('html', {'lang': 'en'}, _head(view, account), body)}\n"


def _heading(view: View) -> Markup:
    parts = [element("h1", {}, foreign(view.title))]
    if view.about:
        parts.append(element("p", {"class": "muted"}, foreign(view.about)))
    if view.run:
        tabs = [_link(run_address(view.run, end), name, view.topic == end) for end, name in TOPICS]
        parts.append(element("nav", {"class": "tabs", "aria-label": "Pages of this Run"}, *tabs))
    return joined(parts)


def _link(target: str, name: str, is_here: bool) -> Markup:
    return element("a", {"href": target, "aria-current": "page" if is_here else None}, text(name))


def _head(view: View, account: bool) -> Markup:
    scripts = [*view.scripts, *(["session"] if account else [])]
    return element(
        "head",
        {},
        element("meta", {"charset": "utf-8"}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("link", {"rel": "icon", "href": "data:,"}),
        element("link", {"rel": "stylesheet", "href": address("studio.css")}),
        element("title", {}, text(f"{view.title} · towerkit studio")),
        *(element("script", {"type": "module", "src": address(f"{name}.js")}) for name in scripts),
    )


def run_address(run: str, topic: str = "") -> str:
    """Where a page of a Run is.

    Example:
        >>> run_address("shop", "towers"), run_address("a b")
        ('/runs/shop/towers', '/runs/a%20b')
    """
    return f"/runs/{quote(run, safe='~')}" + (f"/{topic}" if topic else "")


def note(words: str) -> Markup:
    """Something that the reader should know, set off."""
    return element("p", {"class": "note"}, foreign(words))


def buttons(names: Sequence[tuple[str, str]], marked: str = "") -> Markup:
    """Links that stand beside each other as choices.

    Args:
        names: Address and name of each.
        marked: The name of the one that is chosen.
    """
    return element("div", {"class": "choices"}, *(_link(target, name, name == marked) for target, name in names))

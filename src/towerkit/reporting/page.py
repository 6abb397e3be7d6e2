"""Sections as one page of HTML: no script, no other file, and a policy under which a browser would load none."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from towerkit._version import __version__
from towerkit.reporting.blocks import Section, section_markup
from towerkit.reporting.markup import Markup, element, foreign, text
from towerkit.reporting.palette import page_style


def page(title: str, about: Sequence[str], sections: Sequence[Section]) -> str:
    """A whole page.

    Args:
        title: Of the page.
        about: Paragraphs below the title.
        sections: From the top.
    """
    style = page_style()
    links = [
        element("li", {}, element("a", {"href": f"#{section.name}"}, foreign(section.title))) for section in sections
    ]
    body = element(
        "body",
        {},
        element("header", {}, element("h1", {}, foreign(title)), *(element("p", {}, foreign(each)) for each in about)),
        element("nav", {"aria-label": "Sections"}, element("ul", {}, *links)),
        element("main", {}, *map(section_markup, sections)),
        element(
            "footer",
            {},
            text(f"Written by towerkit {__version__}. This file holds rows of the data: treat it as you treat them."),
        ),
    )
    return f"<!DOCTYPE html>\n{element('html', {'lang': 'en'}, _head(title, style), body)}\n"


def _head(title: str, style: str) -> Markup:
    return element(
        "head",
        {},
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": _policy(style)}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "referrer", "content": "no-referrer"}),
        element("link", {"rel": "icon", "href": "data:,"}),
        element("title", {}, text(title)),
        Markup(f"<style>{style}</style>"),  # ours; in HTML a style sheet is not escaped
    )


def _policy(style: str) -> str:
    """Nothing is loaded, no script runs, and of style sheets this one alone counts."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"

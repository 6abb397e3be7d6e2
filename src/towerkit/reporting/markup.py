"""Elements of HTML and SVG as text. Whatever comes from data goes in through :func:`text`, which leaves no markup in it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import NewType

Markup = NewType("Markup", str)
"""Text that may stand in a page as it is. Only this module makes it, so that nothing else gets into one unescaped."""

_NO_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EMPTY = frozenset({"img", "input", "meta", "link", "circle", "line", "path", "rect"})
"""Elements that close themselves where they have no content."""


def text(value: object) -> Markup:
    """What something says, with every sign that means something to a browser written out.

    Args:
        value: Of any kind; characters that neither HTML nor XML may hold become U+FFFD.

    Example:
        >>> text('<b onclick="x">&')
        '&lt;b onclick=&quot;x&quot;&gt;&amp;'
    """
    return Markup(html.escape(_NO_CHARACTER.sub("\ufffd", str(value))))


def foreign(value: object) -> Markup:
    """A text of the data within a line of ours: its direction of writing, and signs that turn it, end where it ends.

    Example:
        >>> foreign("שלום")
        '<bdi>שלום</bdi>'
    """
    return element("bdi", {}, text(value))


def element(name: str, attributes: dict[str, object] | None = None, *children: Markup) -> Markup:
    """One element.

    Args:
        name: Of the element.
        attributes: Their values are escaped; one that is None is left out, and numbers lose what nobody sees of them.
        *children: What stands in it.

    Example:
        >>> element("p", {"class": "note", "id": None}, text("1 < 2"))
        '<p class="note">1 &lt; 2</p>'
    """
    told = "".join(
        f' {key}="{text(_short(value) if isinstance(value, float) else value)}"'
        for key, value in (attributes or {}).items()
        if value is not None
    )
    return Markup(
        f"<{name}{told}/>" if name in _EMPTY and not children else f"<{name}{told}>{joined(children)}</{name}>"
    )


def joined(parts: Iterable[Markup], between: str = "") -> Markup:
    """Several pieces as one.

    Args:
        parts: In order.
        between: Stands between two of them; of ours, without markup.
    """
    return Markup(str(text(between)).join(parts))


def _short(number: float) -> str:
    """A place in a drawing, to a tenth."""
    return f"{number:.1f}".removesuffix(".0")

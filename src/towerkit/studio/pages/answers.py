"""The answers of a model that ranks: each with its score, and the share of every tower and of what was met in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from towerkit.models.answer import Retriever
from towerkit.reporting.markup import Markup, element, foreign, joined, text
from towerkit.reporting.sections.recommendations import facts_of, stored_history
from towerkit.studio.asking import Question, answered, engine_of, live_of, picture_column
from towerkit.studio.frame import note, run_address
from towerkit.studio.opened import Opened

_SHOWN_HISTORY, _SHOWN_SHARES = 8, 4


def answers_part(opened: Opened, ranking: str, question: Question) -> Markup:
    """The answers of a Run.

    Raises:
        Problem: If the question does not fit it.
    """
    engine = engine_of(opened, ranking)
    live = live_of(engine)
    answer = answered(engine, question)
    model: Any = live.model
    link = element("a", {"href": run_address(opened.entry.id)}, foreign(opened.entry.name))
    parts = [element("h2", {"class": "small"}, link)]
    if question.query is not None:
        parts.append(_known(live, model, str(question.query)))
    parts += [note(each) for each in answer["notes"]]
    most = max(
        (abs(share) for item in answer["items"] for share in item.get("why", {}).get("towers", {}).values()),
        default=0.0,
    )
    can_meet = isinstance(model, Retriever) and model.takes_history
    pictures = picture_column(model.candidate) is not None
    base = f"/picture/{quote(opened.entry.id, safe='~')}/{quote(ranking) or '-'}/candidate"
    items = []
    for item in answer["items"]:
        row = live.candidate_rows.get(str(item["item"]), 0)
        picture = f"{base}/{row}" if pictures else None
        items.append(_item(item, picture, most, live, can_meet=can_meet))
    parts.append(element("ol", {"class": "answers"}, *items) if items else note("There is no answer left."))
    return element("section", {}, *parts)


def _known(live: Any, model: Any, key: str) -> Markup:
    """A few columns of a known query, and what it had."""
    row = live.query_rows.get(key)
    if row is None:
        return element("p", {"class": "muted"}, text("Nobody knows this asker: these are the answers for a stranger."))
    whole = model.query.keys[row - 1].as_py()
    facts = facts_of(model, whole)
    had = stored_history(model, whole)
    names = [_name(live, each) for each in had[:_SHOWN_HISTORY]]
    more = f" and {len(had) - _SHOWN_HISTORY:,} more" if len(had) > _SHOWN_HISTORY else ""
    facts = [*facts, ("had", (", ".join(names) or "nothing") + more)]
    listed = [joined([element("dt", {}, foreign(name)), element("dd", {}, foreign(value))]) for name, value in facts]
    return element("dl", {"class": "facts"}, *listed)


def _name(live: Any, key: Any) -> str:
    row = live.candidate_rows.get(str(key), 0)
    title = live.titles[row - 1] if row and live.titles is not None else None
    return str(title or key)


def _item(item: Mapping[str, Any], picture: str | None, most: float, live: Any, *, can_meet: bool) -> Markup:
    title = item.get("title")
    shown = (
        element("img", {"src": picture, "alt": "", "loading": "lazy"})
        if picture
        else element("span", {"class": "no-picture"})
    )
    key = [element("span", {"class": "muted"}, text(" "), foreign(item["item"]))] if title else []
    about = {
        "type": "button",
        "class": "plain",
        "data-meet": str(item["item"]),
        "data-title": str(title or item["item"]),
    }
    meet = [element("button", dict(about), text("add to history"))] if can_meet else []
    head = element("div", {"class": "title"}, foreign(title or item["item"]), *key)
    score = element("div", {"class": "score"}, text(f"score {item['score']:.4f}"), *meet)
    why = _why(item["why"], most, live) if "why" in item else joined([])
    return element(
        "li", {}, element("span", {"class": "rank"}, text(item["rank"])), shown, element("div", {}, head, score, why)
    )


def _why(why: Mapping[str, Any], most: float, live: Any) -> Markup:
    """The share of each tower in the score, and of what was met."""
    rows = [(str(name), float(share), "") for name, share in why.get("towers", {}).items()]
    met = [each for each in why.get("history", []) if abs(each["share"]) > 1e-9][:_SHOWN_SHARES]
    rows += [(_name(live, each["item"]), float(each["share"]), "met: ") for each in met]
    if why.get("base") is not None:
        rows.append(("a stranger's score", float(why["base"]), ""))
    if not rows:
        return joined([])
    scale = max([most, *(abs(share) for _, share, _ in rows)]) or 1.0
    parts = []
    for name, share, before in rows:
        words = element("dt", {}, text(before), foreign(name))
        parts.append(
            joined(
                [words, element("dd", {}, bar(share / scale)), element("dd", {"class": "value"}, text(f"{share:+.3f}"))]
            )
        )
    return element("dl", {"class": "shares", "aria-label": "Shares of the score"}, *parts)


def bar(share: float, before: float | None = None) -> Markup:
    """A bar from the left.

    Args:
        share: Between -1 and 1.
        before: Where another one ended, as a line.
    """
    wide = max(min(abs(share), 1.0) * 100, 0.5)
    parts = [element("rect", {"class": "ground", "x": 0, "y": 5, "width": 100, "height": 2})]
    parts.append(
        element("rect", {"class": "minus" if share < 0 else "plus", "x": 0, "y": 2, "width": wide, "height": 8})
    )
    if before is not None:
        x = min(max(before, 0.0), 1.0) * 100
        parts.append(element("line", {"class": "before", "x1": x, "x2": x, "y1": 0, "y2": 12}))
    return element(
        "svg", {"class": "bar", "viewBox": "0 0 100 12", "preserveAspectRatio": "none", "aria-hidden": "true"}, *parts
    )

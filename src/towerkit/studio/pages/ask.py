"""Try it, for a model that ranks: who asks, what is left out, and the answers of one Run or of two beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from towerkit.models.answer import Retriever
from towerkit.reporting.markup import Markup, element, foreign, joined, text
from towerkit.reporting.sections.recommendations import facts_of, stored_history
from towerkit.serving.engine import Engine
from towerkit.studio.asking import Question, answered, engine_of, live_of, picture_column
from towerkit.studio.fields import fields_of, form_field
from towerkit.studio.frame import View, buttons, note, run_address
from towerkit.studio.library import Entry
from towerkit.studio.opened import Opened

_RANKS = ("two_tower", "ranker", "joint", "late_fusion")
_SHOWN_HISTORY, _SHOWN_SHARES = 8, 4


def ask_page(opened: Opened, ranking: str, others: Sequence[Entry]) -> View:
    """The form, and a place for answers.

    Args:
        opened: A Run that ranks.
        ranking: Of a joint one, which sort of candidates.
        others: Runs that may answer beside it.
    """
    engine = engine_of(opened, ranking)
    model = live_of(engine).model
    others = [each for each in others if each.kind in _RANKS and each.id != opened.entry.id]
    address = f"/ask/{quote(opened.entry.id, safe='~')}"
    form = element(
        "form",
        {
            "id": "ask",
            "data-path": address,
            "data-ranking": ranking,
            "data-query": str(next(iter(live_of(engine).query_rows), "")),
        },
        _asker(model, engine),
        _choice(),
        _beside(others),
        element("button", {"class": "main"}, text("Recommend")),
    )
    results = element("div", {"id": "answers", "class": "pair", "aria-live": "polite"})
    parts = [_rankings(opened, ranking), element("div", {"class": "columns"}, form, results)]
    return View(opened.entry.name, joined(parts), run=opened.entry.id, topic="try", scripts=("ask",))


def _rankings(opened: Opened, ranking: str) -> Markup:
    names = opened.run.rankings
    if not names:
        return joined([])
    return buttons([(f"{run_address(opened.entry.id, 'try')}/{quote(name)}", name) for name in names], ranking)


def _asker(model: Any, engine: Engine) -> Markup:
    """Who asks: somebody known, somebody described, or whoever met some candidates."""
    takes_history = isinstance(model, Retriever) and model.takes_history
    fields = fields_of([model.encoder], model.query_entity) if hasattr(model, "encoder") else []
    ways = [("query", f"A known {model.query_entity}")]
    ways += [("features", "Somebody described by columns")] if fields else []
    ways += [("history", f"Whoever met some {model.candidate_entity}")] if takes_history else []
    radios = [
        element(
            "label",
            {},
            element("input", {"type": "radio", "name": "way", "value": way, "checked": "" if way == "query" else None}),
            text(words),
        )
        for way, words in ways
    ]
    parts = [element("legend", {}, text("Who asks")), *radios]
    parts.append(_search("query", "known", f"{model.query_entity}: a part of its key or title"))
    if fields:
        inner = [form_field(each, "row") for each in fields]
        parts.append(element("div", {"data-way": "features", "hidden": ""}, *inner))
    if takes_history:
        met = element("ul", {"class": "tags", "id": "met", "aria-label": "What was met, oldest first"})
        search = _search("candidate", "meet", f"{model.candidate_entity}: a part of its key or title")
        parts.append(element("div", {"data-way": "history", "hidden": ""}, search, met))
    return element("fieldset", {}, *parts)


def _search(side: str, name: str, words: str) -> Markup:
    """A field that proposes keys."""
    about: dict[str, object] = {
        "type": "search",
        "id": name,
        "list": f"{name}-found",
        "data-find": side,
        "autocomplete": "off",
    }
    way = {"data-way": "query"} if side == "query" else {}
    return element(
        "div",
        {"class": "field", **way},
        element("label", {"for": name}, foreign(words)),
        element("input", about),
        element("datalist", {"id": f"{name}-found"}),
    )


def _choice() -> Markup:
    """What may be answered."""
    where = {"type": "text", "id": "where", "placeholder": 'price < 20 and category == "books"', "autocomplete": "off"}
    count = {"type": "number", "id": "k", "min": 1, "max": 50, "value": 10}
    diversity = {"type": "range", "id": "diversity", "min": 0, "max": 1, "step": 0.1, "value": 0}
    return element(
        "fieldset",
        {},
        element("legend", {}, text("Which answers")),
        element(
            "div",
            {"class": "field"},
            element("label", {"for": "where"}, text("Only where")),
            element("input", dict(where)),
        ),
        element(
            "div", {"class": "field"}, element("label", {"for": "k"}, text("How many")), element("input", dict(count))
        ),
        element(
            "div",
            {"class": "field"},
            element("label", {"for": "diversity"}, text("Diversity: 0 leaves the order of the scores")),
            element("input", dict(diversity)),
        ),
        element(
            "label",
            {},
            element("input", {"type": "checkbox", "id": "seen", "checked": ""}),
            text("Leave out what the asker had"),
        ),
    )


def _beside(others: Sequence[Entry]) -> Markup:
    if not others:
        return joined([])
    options = [
        element("option", {"value": ""}, text("nothing")),
        *(element("option", {"value": each.id}, foreign_name(each)) for each in others),
    ]
    return element(
        "div",
        {"class": "field"},
        element("label", {"for": "beside"}, text("Beside it")),
        element("select", {"id": "beside"}, *options),
    )


def foreign_name(entry: Entry) -> Markup:
    """The name of a Run where no element may stand."""
    return text(entry.name)


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
    parts = [element("h3", {}, link)]
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
    rows = [(name, float(share), None) for name, share in why.get("towers", {}).items()]
    met = [each for each in why.get("history", []) if abs(each["share"]) > 1e-9][:_SHOWN_SHARES]
    rows += [(_name(live, each["item"]), float(each["share"]), "met: ") for each in met]
    if why.get("base") is not None:
        rows.append(("a stranger's score", float(why["base"]), None))
    if not rows:
        return joined([])
    scale = max([most, *(abs(share) for _, share, _ in rows)]) or 1.0
    parts = []
    for name, share, before in rows:
        words = element("dt", {}, text(before or ""), foreign(name))
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

"""Try it, for a model that ranks: the form that says who asks, what is left out, and which Run answers beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from towerkit.models.answer import Retriever
from towerkit.reporting.markup import Markup, element, foreign, joined, text
from towerkit.serving.engine import Engine
from towerkit.studio.asking import engine_of, live_of
from towerkit.studio.fields import fields_of, form_field
from towerkit.studio.frame import View, buttons, run_address
from towerkit.studio.library import Entry
from towerkit.studio.opened import Opened

_RANKS = ("two_tower", "ranker", "joint", "late_fusion")


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
        *(element("option", {"value": each.id}, text(each.name)) for each in others),
    ]
    return element(
        "div",
        {"class": "field"},
        element("label", {"for": "beside"}, text("Beside it")),
        element("select", {"id": "beside"}, *options),
    )

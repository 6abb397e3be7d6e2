"""A running service: how fast it answers, what waits, which versions it serves, and the way to put another one in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towerkit.core.errors import RunError
from towerkit.reporting.blocks import Block, Figures, Part, Section, section_markup
from towerkit.reporting.chart import Grid
from towerkit.reporting.charts import Line, lines
from towerkit.reporting.markup import Markup, element, joined, text
from towerkit.studio.frame import View, note
from towerkit.studio.service import Latency, ServiceLink, State

_SHOWN = ("name", "kind", "model_version", "candidates", "queries", "tasks", "online", "index")


def service_page(link: ServiceLink) -> View:
    """The state of a service, drawn anew while somebody looks, and the form of an administrator."""
    body = joined([service_part(link), _form(link)])
    return View("Service", body, about=link.address, scripts=("training", "service"), here="service")


def service_part(link: ServiceLink) -> Markup:
    """What changes from second to second."""
    try:
        inner = _state(link.state())
    except RunError as error:
        inner = [note(str(error))]
    return element("div", {"id": "state", "data-live": "/live/service"}, *inner)


def _state(state: State) -> list[Markup]:
    models = tuple(tuple(_cell(each, key) for key in _SHOWN) for each in state.models)
    counts = [("waiting now", state.waiting), ("batches computed", state.batches), ("events kept", state.events)]
    facts = [
        joined([element("dt", {}, text(name)), element("dd", {}, text(f"{value:,.0f}"))]) for name, value in counts
    ]
    calls = Grid(
        ("call", "answers", "refused", "mean", "half within", "95 % within", "99 % within"),
        tuple(_call(each) for each in state.calls),
        "Since the service began",
    )
    curves = [Line(each.call, each.bounds) for each in state.calls if each.bounds and each.call != "other"]
    blocks: list[Block] = [calls, *([_curves(curves)] if curves else [])]
    served = Section("models", "Served now", (Part("", (Grid(_SHOWN, models),)),))
    told = Section("latency", "Time to an answer", (Part("", tuple(blocks)),))
    return [section_markup(served), element("dl", {"class": "facts"}, *facts), section_markup(told)]


def _curves(curves: list[Line]) -> Figures:
    about = "The share of answers that came within so many milliseconds."
    ends = (0.0, 1.0)
    return Figures(
        (
            lines(
                "Answers within a time",
                curves,
                about=about,
                across_name="ms",
                steps=True,
                x_ends=(0.0, 250.0),
                y_ends=ends,
            ),
        )
    )


def _call(each: Latency) -> tuple[str, ...]:
    return (
        each.call,
        f"{each.answers:,}",
        f"{each.refused:,}",
        f"{each.mean_ms:.2f} ms",
        *(f"{each.within(share):g} ms" for share in (0.5, 0.95, 0.99)),
    )


def _cell(model: Mapping[str, Any], key: str) -> str:
    value = model.get(key, "")
    return (
        ", ".join(map(str, value))
        if isinstance(value, list)
        else f"{value:,}"
        if isinstance(value, int) and not isinstance(value, bool)
        else str(value)
    )


def _form(link: ServiceLink) -> Markup:
    """Swap and roll back."""

    def field(name: str, words: str, kind: str) -> Markup:
        about = {"type": kind, "id": name, "name": name, "autocomplete": "off"}
        return element(
            "div", {"class": "field"}, element("label", {"for": name}, text(words)), element("input", dict(about))
        )

    form = element(
        "form",
        {"id": "change"},
        field("model", "Model that is served", "text"),
        field("candidate", "Candidate: a Run in the service's folder of candidates", "text"),
        field("token", "Admin token: it is passed on, and kept nowhere", "password"),
        element(
            "p",
            {"class": "toolbar"},
            element("button", {"class": "main", "name": "do", "value": "swap"}, text("Swap in")),
            element("button", {"name": "do", "value": "back"}, text("Roll back")),
        ),
        element("div", {"id": "told", "role": "status"}),
    )
    return element("section", {}, element("h2", {}, text("Another version")), form)

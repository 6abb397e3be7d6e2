"""A training that is not over: where it stands, its curves so far, and the button that ends it politely."""

from __future__ import annotations

from urllib.parse import quote

from towerkit.reporting.blocks import Figures, Part, Section, section_markup
from towerkit.reporting.markup import Markup, element, foreign, joined, text
from towerkit.reporting.sections.learning import learning_charts
from towerkit.studio.frame import View, note
from towerkit.studio.trainings import Training


def training_card(training: Training) -> Markup:
    """A training in a few lines."""
    link = element("a", {"href": f"/training/{quote(training.id, safe='~')}"}, foreign(training.name))
    return element("article", {}, element("h3", {}, link), *_state(training))


def training_page(training: Training) -> View:
    """A training with its curves; they are drawn anew while it runs."""
    return View(
        training.name,
        training_part(training),
        about="A training that has not written its Run yet.",
        scripts=("training",),
    )


def training_part(training: Training) -> Markup:
    """What changes as it goes."""
    charts = learning_charts([dict(each) for each in training.records])
    drawn = (
        [section_markup(Section("curves", "Curves so far", (Part("", (Figures(tuple(charts)),)),)))] if charts else []
    )
    body = joined([*_state(training), *drawn] if charts else [*_state(training), note("No epoch is over yet.")])
    address = f"/live/training/{quote(training.id, safe='~')}"
    return element("div", {"id": "training", "data-live": address}, body)


def _state(training: Training) -> list[Markup]:
    last = training.records[-1] if training.records else {}
    facts = [("epoch", f"{last['epoch']} of {last['stage']}" if last else "the first one")]
    facts += [
        (name.removeprefix("validation/") + (" (validation)" if "/" in name else ""), f"{value:.4f}")
        for name, value in training.last().items()
    ]
    if training.process is not None:
        words: Markup = element("span", {"class": "alive"}, text(f"● runs as process {training.process}"))
    else:
        words = element("span", {"class": "muted"}, text("○ stopped: the same command with --resume goes on"))
    if training.records:
        facts.append(("last epoch", _ago(training.quiet_s)))
    listed = [joined([element("dt", {}, text(name)), element("dd", {}, foreign(value))]) for name, value in facts]
    parts = [element("p", {}, words), element("dl", {"class": "facts"}, *listed)]
    return [*parts, _button(training)] if training.process is not None else parts


def _button(training: Training) -> Markup:
    about: dict[str, object] = {"type": "button", "data-stop": f"/training/{quote(training.id, safe='~')}/stop"}
    words = "Stop after the step under way"
    return element("p", {}, element("button", about, text(words)), element("span", {"role": "status"}))


def _ago(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{seconds / 3600:.0f} h ago"

"""Try it, for a model that predicts: a row to fill in, files to drop, towers to switch off, and the probabilities as bars."""

from __future__ import annotations

from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from towerkit.features.labels import Labels
from towerkit.reporting.markup import Markup, element, foreign, joined, text
from towerkit.studio.fields import form_field
from towerkit.studio.frame import View, note
from towerkit.studio.opened import Opened
from towerkit.studio.pages.answers import bar
from towerkit.studio.predicting import Row, form_of, parts_of, predicted, predictor_of

_MOST_CLASSES = 12


def predict_page(opened: Opened) -> View:
    """The form, and a place for answers."""
    model = predictor_of(opened)
    fields = form_of(model)
    form = element(
        "form",
        {"id": "predict", "data-path": f"/predict/{quote(opened.entry.id, safe='~')}"},
        element("p", {}, element("button", {"type": "button", "id": "another"}, text("Take a row of the data"))),
        element("p", {"class": "muted", "id": "from", "role": "status"}),
        *(form_field(each, "row") for each in fields),
        _switches(parts_of(model)),
        element("button", {"class": "main"}, text("Predict")),
    )
    results = element("div", {"id": "answers", "aria-live": "polite"})
    body = element("div", {"class": "columns"}, form, results)
    return View(opened.entry.name, body, run=opened.entry.id, topic="try", scripts=("predict",))


def _switches(names: list[str]) -> Markup:
    """A switch for each tower or member."""
    if not names:
        return joined([])
    boxes = [
        element("label", {}, element("input", {"type": "checkbox", "checked": "", "data-part": name}), foreign(name))
        for name in names
    ]
    legend = element("legend", {}, text("What may speak"))
    return element("fieldset", {}, legend, *boxes)


def predictions_part(opened: Opened, asked: Row) -> Markup:
    """The answer to a row.

    Raises:
        Problem: If the row does not fit.
        DataError: If a value is of another kind.
    """
    answer = predicted(opened, asked)
    model = predictor_of(opened)
    parts = [note(each) for each in answer.remarks]
    if answer.without is not None:
        words = f"Without {', '.join(asked.off)}. The upright line stands where the bar ends when all may speak."
        parts.append(element("p", {"class": "muted"}, foreign(words)))
    for task, labels in model.tasks.items():
        now = answer.whole if answer.without is None else answer.without
        before = None if answer.without is None else answer.whole[task][0]
        parts.append(_task(task, labels, now[task][0], before))
    return element("section", {}, *parts)


def _task(task: str, labels: Labels, now: NDArray[np.float64], before: NDArray[np.float64] | None) -> Markup:
    heading = element("h2", {"class": "small"}, foreign(task), text(f" ({labels.kind})"))
    if not labels.classes:
        was = "" if before is None else f", and {before[0]:.4g} when all may speak"
        return joined([heading, element("p", {}, text(f"{now[0]:.4g}{was}"))])
    names = list(labels.classes)
    if len(now) == 1:  # one probability for each of two classes
        now, before = (np.array([1 - now[0], now[0]]), None if before is None else np.array([1 - before[0], before[0]]))
    order = np.argsort(-now, kind="stable")[:_MOST_CLASSES] if len(names) > _MOST_CLASSES else np.arange(len(names))
    rows = []
    for place in order.tolist():
        old = None if before is None else float(before[place])
        told = f"{now[place]:.1%}" + ("" if old is None else f" ({100 * (now[place] - old):+.1f} points)")
        words = element("dt", {}, foreign(names[place]))
        drawn = element("dd", {}, bar(float(now[place]), old))
        rows.append(joined([words, drawn, element("dd", {"class": "value"}, text(told))]))
    left = len(names) - len(order)
    more = [element("p", {"class": "muted"}, text(f"and {left:,} less likely ones"))] if left > 0 else []
    return joined([heading, element("dl", {"class": "shares tall"}, *rows), *more])

"""Twenty held-out rows as a person reads them: what the model read, what it said, and what was true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.core.random import generator
from towerkit.data.table import values_of
from towerkit.evaluation.result import Evaluation
from towerkit.metrics.classification import predicted_codes
from towerkit.reporting.blocks import Example, Examples, Item, Listing, Part, Section, Words
from towerkit.reporting.subject import HeldOut, Subject
from towerkit.trained import column_groups

_MOST_COLUMNS = 12


def predictions_section(subject: Subject, count: int, seed: int) -> Section:
    """Half of the examples drawn at random, half those that the model was most wrong about.

    Args:
        subject: A Run that predicts.
        count: Rows in all.
        seed: Draws the first half.
    """
    anchor, title = subject.anchor("examples"), subject.title("Examples")
    if subject.data is None:
        why = Words(f"No examples, since the data of the Run is not there: {subject.why_not}", is_note=True)
        return Section(anchor, title, (Part("", (why,)),))
    evaluation = subject.run.evaluation
    task = next(iter(evaluation.protocol["tasks"]))
    details = evaluation.details[task]
    order = generator(seed, "report", "rows").permutation(len(details))[: (count + 1) // 2]
    worst = np.argsort(-_surprise(evaluation, task), kind="stable")[: count // 2]
    rows = np.asarray(details.column("row").to_numpy())
    shown = _Shown(subject, subject.data)
    parts = [
        Part("Drawn at random", (Examples(tuple(shown.example(int(rows[each])) for each in np.sort(order))),)),
        Part(
            f"Where it was most wrong about {task}",
            (
                Words("The held-out rows whose true answer was the least expected: wrong labels are often among them."),
                Examples(tuple(shown.example(int(rows[each])) for each in worst)),
            ),
        ),
    ]
    return Section(anchor, title, tuple(parts))


def _surprise(evaluation: Evaluation, task: str) -> NDArray[np.float64]:
    """``[rows]`` how far each answer is from the truth: its log loss, or its error as a number."""
    details, kind = evaluation.details[task], evaluation.protocol["tasks"][task]["kind"]
    told = _probabilities(details)
    truth = details.column("truth").combine_chunks()
    if kind == "multilabel":
        right = np.asarray(truth.flatten().to_numpy(zero_copy_only=False)).reshape(told.shape)
        return np.asarray(-np.log(np.clip(np.where(right > 0, told, 1 - told), 1e-12, 1)).mean(axis=1))
    values = truth.to_numpy(zero_copy_only=False)
    if told.shape[1] == 1:
        return np.abs(told[:, 0] - values)
    return np.asarray(-np.log(np.clip(told[np.arange(len(told)), values.astype(np.int64)], 1e-12, 1)))


def _probabilities(details: pa.Table) -> NDArray[np.float64]:
    names = [name for name in details.column_names if name.startswith("p")]
    return np.stack([details.column(name).to_numpy() for name in names], axis=1)


class _Shown:
    """Held-out rows by their place in the part."""

    def __init__(self, subject: Subject, data: HeldOut) -> None:
        self.run, self.data = subject.run, data
        evaluation = subject.run.evaluation
        self.tasks: Mapping[str, Mapping[str, Any]] = evaluation.protocol["tasks"]
        self.details = {task: evaluation.details[task] for task in self.tasks}
        self.places = {
            task: {row: place for place, row in enumerate(table.column("row").to_pylist())}
            for task, table in self.details.items()
        }
        self.columns = _columns_read(subject, data)

    def example(self, row: int) -> Example:
        """What was read, said and true of one row."""
        whole = int(self.data.rows[row])
        facts = [(name, _cut(values_of(self.data.dataset.examples.data, name)[whole].as_py())) for name in self.columns]
        answers = [self._answer(task, row) for task in self.tasks]
        return Example(self.data.dataset.examples.where(whole), tuple(facts), tuple(each for each in answers if each))

    def _answer(self, task: str, row: int) -> Listing | None:
        place = self.places[task].get(row)
        if place is None:
            return None
        about, table = self.tasks[task], self.details[task]
        told, truth = _probabilities(table.slice(place, 1)), table.column("truth")[place].as_py()
        kind, classes = about["kind"], about["classes"]
        if kind == "multilabel":
            return _label_answer(task, classes, told[0], truth, about)
        if not classes:
            return Listing(task, (Item(f"said {told[0, 0]:.4g}"), Item(f"true {truth:.4g}")))
        said = int(predicted_codes(told, kind, about.get("threshold", 0.5))[0])
        right = said == int(truth)
        words = f"said {classes[said]} ({told[0, said]:.1%})" if told.shape[1] > 1 else f"said {classes[said]}"
        return Listing(
            task,
            (Item(words, "✓ right" if right else "✗ wrong", is_wrong=not right), Item(f"true {classes[int(truth)]}")),
        )


def _label_answer(
    task: str, classes: Sequence[str], told: NDArray[np.float64], truth: Sequence[int], about: Mapping[str, Any]
) -> Listing:
    said = told >= np.asarray(about.get("threshold", 0.5))
    names = [f"{classes[place]} ({told[place]:.0%})" for place, has in enumerate(said) if has]
    true = [classes[place] for place, has in enumerate(truth) if has]
    right = bool((said == np.asarray(truth, bool)).all())
    tag = "✓ right" if right else "✗ not all right"
    return Listing(
        task,
        (
            Item(f"said {', '.join(names) or 'none'}", tag, is_wrong=not right),
            Item(f"true {', '.join(true) or 'none'}"),
        ),
    )


def _columns_read(subject: Subject, data: HeldOut) -> list[str]:
    """The columns of the examples that the towers or members read, in the order of the table."""
    model: Any = subject.run.model
    model = getattr(model, "predictor", model)
    read = {column for columns in column_groups(model).values() for column in columns}
    return [name for name in data.dataset.examples.data.column_names if name in read][:_MOST_COLUMNS]


def _cut(value: Any, most: int = 240) -> str:
    if value is None:
        return "(missing)"
    if isinstance(value, bytes):
        return f"({len(value):,} bytes)"
    if isinstance(value, Mapping):
        return f"({', '.join(map(str, value))})"
    words = f"{value:.6g}" if isinstance(value, float) else str(value)
    return words if len(words) <= most else words[: most - 1] + "…"

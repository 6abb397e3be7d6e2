"""Which crosses of columns are worth having: each is tried in a linear model and judged on validation rows.

A linear model adds up what each column says. A cross of two columns lets it say what only both together mean, as a network
would have to learn it: so what a cross brings the linear model is a cheap hint of what it may bring a tower. It is no more
than a hint, and the test rows are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.baselines.tasks import task_baselines
from towerkit.core.errors import DataError, SpecError, listed, nearest
from towerkit.data.dataset import Dataset
from towerkit.data.roles import EXAMPLE
from towerkit.data.splits import Rows
from towerkit.data.table import values_of
from towerkit.features.base import FeatureSpec
from towerkit.features.encoder import Demand, Encoder
from towerkit.features.hashed import HashedSpec
from towerkit.features.labels import Labels, Truth, is_known
from towerkit.metrics.significance import Difference, corrected, mean_differences
from towerkit.models.tower_model import TowerModelSpec
from towerkit.spec import ModelingSpec
from towerkit.towers import TableTowerSpec

_MOST_VALUES = 200
"""A column of more distinct values is no part of a cross: most pairs of values would be met once."""
_LEAST = 1e-12


@dataclass(frozen=True)
class Cross:
    """A cross that was tried."""

    tower: str
    columns: tuple[str, str]
    buckets: int
    loss: Difference
    """The mean loss of validation rows with it minus that without it: below zero it helps."""

    @property
    def verdict(self) -> str:
        """``clear`` where it helps by more than chance, ``clearly worse`` where it harms, else ``within chance``."""
        if not self.loss.is_clear:
            return "within chance"
        return "clear" if self.loss.difference < 0 else "clearly worse"

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``entry`` is what goes into the tower's ``columns``."""
        entry = {"cross": list(self.columns), "buckets": self.buckets}
        return {
            "tower": self.tower,
            "entry": entry,
            "gain": -self.loss.difference,
            "verdict": self.verdict,
            "loss": self.loss.as_dict(),
        }


def suggest_crosses(
    spec: ModelingSpec,
    dataset: Dataset,
    *,
    task: str | None = None,
    buckets: int = 1024,
    most: int = 60,
    seed: int = 0,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> list[Cross]:
    """Try each pair of columns that a table tower of a tower model reads, one pair at a time.

    Args:
        spec: Of a tower model with a table tower.
        dataset: Raw tables with a validation part.
        task: Whose loss is looked at; the first when not given.
        buckets: Of each cross.
        most: Pairs that are tried: those of the fewest combinations first.
        seed: Of the intervals.
        tell: Called with the number of pairs tried and of all, after each.

    Returns:
        The crosses, the most helpful one first; p-values are corrected for their number.

    Raises:
        SpecError: If it is another model, has no table tower, no such task, or the split has no validation rows.
        DataError: If no pair of columns can be crossed, or no validation row has a label.
    """
    model, name = _checked(spec, dataset, task)
    towers = {key: tower for key, tower in model.towers.items() if isinstance(tower, TableTowerSpec)}
    base = Demand(labels={name: model.heads[name].label()})
    for tower in towers.values():
        entity = tower.entity or EXAMPLE
        base.add(entity, tower.features(dataset.schemas[entity], None))
    pairs = list(_pairs(towers, dataset))[:most]
    if not pairs:
        raise DataError(
            f"No two columns of a table tower have 2 to {_MOST_VALUES} distinct values each, and no others are crossed. Add "
            "columns of categories to one tower."
        )
    without = _losses(base, dataset, name)
    found = []
    for place, (owner, entity, columns) in enumerate(pairs):
        more = Demand({key: list(features) for key, features in base.features.items()}, base.labels)
        cross: list[FeatureSpec] = [HashedSpec(columns=columns, buckets=buckets)]
        more.add(entity, cross)
        losses = {"loss": _losses(more, dataset, name)}
        pair = mean_differences({"loss": without}, losses, seed=seed)["loss"]
        found.append(Cross(owner, columns, buckets, pair))
        tell(place + 1, len(pairs))
    families = corrected([{str(place): each.loss for place, each in enumerate(found)}])[0]
    found = [Cross(each.tower, each.columns, buckets, families[str(place)]) for place, each in enumerate(found)]
    return sorted(found, key=lambda each: (each.loss.difference, each.columns))


def _checked(spec: ModelingSpec, dataset: Dataset, task: str | None) -> tuple[TowerModelSpec, str]:
    model = spec.model
    if not isinstance(model, TowerModelSpec):
        raise SpecError(
            f"Crosses are suggested for a tower_model, whose tasks a linear model can learn too; received a {model.kind}."
        )
    if not any(isinstance(tower, TableTowerSpec) for tower in model.towers.values()):
        raise SpecError("Crosses stand in a table tower, and this model has none. Add a tower of kind table.")
    if task is not None and task not in model.heads:
        raise SpecError(
            f"There is no task '{task}'{nearest(task, model.heads) or '.'} There are {listed(model.heads)}."
        )
    if not len(dataset.parts.validation):
        raise SpecError("Crosses are judged on validation rows, and the split has none; set split.validation above 0.")
    return model, task or next(iter(model.heads))


def _pairs(towers: dict[str, TableTowerSpec], dataset: Dataset) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Tower, entity and pair of columns, those of the fewest combinations first; what the tower crosses already is left out."""
    found = []
    for name, tower in towers.items():
        entity = tower.entity or EXAMPLE
        table = dataset.examples if entity == EXAMPLE else dataset.entities[entity].table
        features = tower.features(dataset.schemas[entity], None)
        there = {each.column_names() for each in features if len(each.column_names()) > 1}
        single = dict.fromkeys(each.column_names()[0] for each in features if len(each.column_names()) == 1)
        counts = {column: _distinct(table.data, column) for column in single}
        usable = [column for column, count in counts.items() if 2 <= count <= _MOST_VALUES]
        for pair in combinations(usable, 2):
            if pair not in there and pair[::-1] not in there:
                found.append((counts[pair[0]] * counts[pair[1]], name, entity, pair))
    for _, name, entity, pair in sorted(found):
        yield name, entity, pair


def _distinct(data: Any, column: str) -> int:
    """Distinct values; none of a column whose values are lists."""
    try:
        return int(pc.count_distinct(values_of(data, column), mode="only_valid").as_py())
    except (NotImplementedError, TypeError, ValueError):  # Arrow counts no lists
        return 0


def _losses(demand: Demand, dataset: Dataset, task: str) -> NDArray[np.float64]:
    """``[labelled validation rows]`` the loss of a linear model of training rows: log loss, or the squared error."""
    train, validation = dataset.parts.train, dataset.parts.validation
    labels = Encoder.fit(demand, dataset, train).labels[task]
    found = task_baselines(demand, dataset, train, validation)
    predicted = next(each for name, each in found.items() if name not in ("majority", "mean"))[task]
    truth = _truth(labels, dataset, validation)
    known = is_known(truth)
    if not known.any():
        raise DataError(
            f"No validation row has a label of the task '{task}', so nothing could be judged. Give labelled rows."
        )
    return _loss(labels, predicted[known], truth[known])


def _truth(labels: Labels, dataset: Dataset, rows: Rows) -> Truth:
    return labels.encode(dataset.labelled(labels.column, rows))


def _loss(labels: Labels, predicted: NDArray[np.float64], truth: Truth) -> NDArray[np.float64]:
    if labels.is_number:
        return np.asarray((predicted[:, 0] - truth) ** 2, np.float64)
    if labels.kind == "multilabel":
        right = np.where(truth > 0, predicted, 1.0 - predicted)
        return np.asarray(-np.log(np.maximum(right, _LEAST)).mean(axis=1), np.float64)
    return np.asarray(-np.log(np.maximum(predicted[np.arange(len(truth)), truth.astype(np.int64)], _LEAST)), np.float64)

"""The menu of presets: where each starts, and how it chooses the rest on validation."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from towerkit.core.errors import DataError, SpecError, listed, nearest
from towerkit.data.dataset import Dataset
from towerkit.evaluation.selection import ranking_selection
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.presets.search import Search
from towerkit.presets.validation import Validation
from towerkit.spec import ModelingSpec
from towerkit.towers import SpectralTowerSpec
from towerkit.training.progress import Progress

PRESETS = ("spectral",)
_SIDES = ("model.query.", "model.candidate.")


@dataclass(frozen=True)
class Chosen:
    """What a preset chose, and how."""

    spec: ModelingSpec
    dataset: Dataset
    """What the final model learns from: validation rows among the training rows, where a test part is left to measure."""
    records: list[dict[str, Any]]
    """One per setting that was tried, as the lines of a history are."""
    seconds: float


def check_preset(name: str) -> None:
    """Refuse a name that is no preset.

    Raises:
        SpecError: Names those that there are.
    """
    if name not in PRESETS:
        raise SpecError(
            f"There is no preset '{name}'{nearest(name, PRESETS) or '.'} The presets are {listed(PRESETS)}."
        )


def start_of(name: str) -> dict[str, Any]:
    """The spec that a preset starts from, in plain data, without the data: settings are applied to it.

    Args:
        name: Of the preset.

    Raises:
        SpecError: If there is none of this name.

    Example:
        >>> start_of("spectral")["model"]["query"]
        {'kind': 'spectral', 'dim': 128}
    """
    check_preset(name)
    tower = {"kind": "spectral", "dim": 128}
    return {
        "model": {"kind": "two_tower", "query": dict(tower), "candidate": dict(tower)},
        "training": {"epochs": 1},
        "evaluation": {"baselines": ["popularity"]},  # the others may take longer than the preset; ask for them
    }


def held_settings(settings: Iterable[str]) -> frozenset[str]:
    """The keys of the towers that ``--set`` fixes, and which are then not searched.

    Example:
        >>> sorted(held_settings(["model.query.dim=64", "model.candidate.dim=64", "training.seed=1"]))
        ['dim']
    """
    paths = [setting.partition("=")[0].strip() for setting in settings]
    return frozenset(path.removeprefix(side) for path in paths for side in _SIDES if path.startswith(side))


def choose(
    spec: ModelingSpec,
    dataset: Dataset,
    progress: Progress,
    *,
    held: frozenset[str] = frozenset(),
    budget_s: float | None = None,
) -> Chosen:
    """Choose the settings of two spectral towers on the validation rows; test rows are not looked at.

    Args:
        spec: Where to start, from :func:`start_of` and what was set beyond it.
        dataset: Raw tables with their split.
        progress: Told of every setting that is tried, as of an epoch.
        held: Keys of the towers that are left as they are.
        budget_s: Seconds for the search; it then ends with the best so far. None gives it the time it takes, and the same
            answer on any machine.

    Raises:
        SpecError: If the model is another one, or there are no validation rows.
        DataError: If the pairs are those of one query or of one candidate.
    """
    started = time.perf_counter()
    tower = _tower(spec)
    _check_pairs(dataset)
    validation = Validation(spec, dataset)
    deadline = None if budget_s is None else started + budget_s
    search = Search(
        validation.figures, ranking_selection(spec.evaluation), progress, held=held, most=validation.most_directions
    )
    best = search.run(tower, deadline)
    model = spec.model.model_copy(update={"query": best, "candidate": best})
    final = dataset.for_refit() if len(dataset.parts.test) else dataset
    return Chosen(spec.model_copy(update={"model": model}), final, search.records, time.perf_counter() - started)


def _tower(spec: ModelingSpec) -> SpectralTowerSpec:
    model = spec.model
    if not isinstance(model, TwoTowerSpec):
        raise SpecError(f"The preset 'spectral' is a two_tower; received a {model.kind}. Do not change model.kind.")
    for side, tower in (("query", model.query), ("candidate", model.candidate)):
        if not isinstance(tower, SpectralTowerSpec):
            raise SpecError(
                f"The preset 'spectral' chooses the settings of two spectral towers; model.{side} is a "
                f"{getattr(tower, 'kind', 'side of several towers')}. Give a spec file for other towers."
            )
    assert isinstance(model.query, SpectralTowerSpec)
    return model.query


def _check_pairs(dataset: Dataset) -> None:
    if not len(dataset.parts.validation):
        raise SpecError(
            "A preset chooses on validation rows, and the split holds none out; set split.validation above 0."
        )
    for role in ("query", "candidate"):
        column = getattr(dataset.roles, role)
        if column is None:
            raise DataError(
                f"{dataset.examples.name}: a preset needs pairs, and no column plays the {role}. Name it with --{role} "
                f"({role}=... in Python)."
            )
        values = dataset.labelled(column, dataset.parts.train).unique()
        if len(values) < 2:
            raise DataError(
                f"{dataset.examples.name}: a preset learns from what several {role} keys have in common; the training rows "
                f"hold {len(values)} in the column '{column}'. Give pairs of more of them."
            )

"""The menu of presets: where each starts, and how it chooses the rest on validation."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from towerkit.core.errors import DataError, SpecError, listed, nearest
from towerkit.data.dataset import Dataset
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.ensembles.pair_members import AnyPairsSpec
from towerkit.ensembles.rank_combine import WeightedSpec
from towerkit.evaluation.selection import ranking_selection
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.presets.blend import SPECTRAL, Blend
from towerkit.presets.search import Search
from towerkit.presets.trials import Trials
from towerkit.presets.validation import Validation
from towerkit.spec import ModelingSpec
from towerkit.towers import SpectralTowerSpec
from towerkit.training.progress import Progress

PRESETS = ("spectral", "best")
_SIDES = (
    "model.query.",
    "model.candidate.",
    f"model.members.{SPECTRAL}.query.",
    f"model.members.{SPECTRAL}.candidate.",
)
_MEMBERS = "model.members."
_EASE_GB = 0.5
"""What EASE may hold in the preset: about 5,900 candidates, whose weights take 140 MB in the Run."""
_SHARES = (0.6, 0.8)
"""Of the time for the search: until the vectors, and the other members, must be chosen; the blend has the rest."""


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
    model: dict[str, Any] = {"kind": "two_tower", "query": dict(tower), "candidate": dict(tower)}
    if name == "best":
        others = {"cooccurrence": {"kind": "cooccurrence"}, "ease": {"kind": "ease", "memory_gb": _EASE_GB}}
        model = {"kind": "late_fusion", "members": {SPECTRAL: model, **others}, "combine": {"kind": "weighted"}}
    return {
        "model": model,
        "training": {"epochs": 1},
        "evaluation": {"baselines": ["popularity"]},  # the others may take longer than the preset; ask for them
    }


def held_settings(settings: Iterable[str]) -> frozenset[str]:
    """The settings that ``--set`` fixes, and which are then not searched: of the towers, and of the other members.

    Example:
        >>> sorted(held_settings(["model.query.dim=64", "model.candidate.dim=64", "training.seed=1"]))
        ['dim']
        >>> sorted(held_settings(["model.members.spectral.query.power=1", "model.members.ease.l2=300"]))
        ['ease.l2', 'power']
    """
    held = set()
    for path in (setting.partition("=")[0].strip() for setting in settings):
        side = next((side for side in _SIDES if path.startswith(side)), None)
        if side is not None or path.startswith(_MEMBERS):
            held.add(path.removeprefix(side or _MEMBERS))
    return frozenset(held)


def choose(
    spec: ModelingSpec,
    dataset: Dataset,
    progress: Progress,
    *,
    held: frozenset[str] = frozenset(),
    budget_s: float | None = None,
) -> Chosen:
    """Choose settings, and of a blend the weights, on the validation rows; test rows are not looked at.

    Args:
        spec: Where to start, from :func:`start_of` and what was set beyond it.
        dataset: Raw tables with their split.
        progress: Told of every setting that is tried, as of an epoch.
        held: What is left as it is, as :func:`held_settings` names it.
        budget_s: Seconds for the search; it then ends with the best so far. None gives it the time it takes, and the same
            answer on any machine.

    Raises:
        SpecError: If the model is another one, or there are no validation rows.
        DataError: If the pairs are those of one query or of one candidate.
    """
    started = time.perf_counter()
    towers, others = _parts(spec)
    tower = _tower(towers)
    _check_pairs(dataset)
    validation = Validation(spec, dataset, towers=towers)
    trials = Trials(ranking_selection(spec.evaluation), progress)
    ends = [float("inf") if budget_s is None else started + share * budget_s for share in (*_SHARES, 1.0)]
    trials.deadline = ends[0] if others is not None else ends[-1]
    best = Search(validation.figures, trials, held=held, most=validation.most_directions).run(tower)
    model: TwoTowerSpec | LateFusionSpec = towers.model_copy(update={"query": best, "candidate": best})
    if others is not None and validation.keeps_scores:
        best, found, weights = Blend(validation, trials, held).run(best, others, (ends[1], ends[2]))
        model = _blended(towers.model_copy(update={"query": best, "candidate": best}), found, weights)
    final = dataset.for_refit() if len(dataset.parts.test) else dataset
    return Chosen(spec.model_copy(update={"model": model}), final, trials.records, time.perf_counter() - started)


def told(model: Mapping[str, Any]) -> dict[str, Any]:
    """What a preset chose, from the plain data of its model: the settings of each member with its share.

    Example:
        >>> towers = {"kind": "two_tower", "query": {"kind": "spectral", "dim": 64, "entity": None}}
        >>> told(towers)
        {'kind': 'spectral', 'dim': 64}
        >>> members = {"spectral": towers, "ease": {"kind": "ease", "l2": 300.0, "memory_gb": 0.5}}
        >>> told({"members": members, "combine": {"weights": {"spectral": 0.75, "ease": 0.25}}})
        {'spectral': {'share': 0.75, 'kind': 'spectral', 'dim': 64}, 'ease': {'share': 0.25, 'kind': 'ease', 'l2': 300.0}}
    """
    if "members" not in model:
        settings = model.get("query", model)
        return {key: value for key, value in settings.items() if key not in _UNTOLD}
    weights = model["combine"]["weights"]
    return {name: {"share": weights[name], **told(member)} for name, member in model["members"].items()}


_UNTOLD = ("entity", "memory_gb", "max_pairs")


def _blended(
    towers: TwoTowerSpec, others: Mapping[str, AnyPairsSpec], weights: Mapping[str, float]
) -> TwoTowerSpec | LateFusionSpec:
    """The members that weigh something; the towers stay where there would be one alone."""
    members = {SPECTRAL: towers, **{name: member for name, member in others.items() if weights[name]}}
    if len(members) == 1:
        return towers
    return LateFusionSpec(members=members, combine=WeightedSpec(weights={name: weights[name] for name in members}))


def _parts(spec: ModelingSpec) -> tuple[TwoTowerSpec, dict[str, AnyPairsSpec] | None]:
    """The towers, and beside them the other members of a fusion; None of the preset that is towers alone."""
    model = spec.model
    if isinstance(model, TwoTowerSpec):
        return model, None
    members = dict(model.members) if isinstance(model, LateFusionSpec) else {}
    towers = members.pop(SPECTRAL, None)
    others = {name: member for name, member in members.items() if isinstance(member, AnyPairsSpec)}
    if not isinstance(towers, TwoTowerSpec) or len(others) < len(members):
        raise SpecError(
            f"The preset 'spectral' is a two_tower, 'best' a late_fusion of one called '{SPECTRAL}' with members of pairs "
            f"(cooccurrence, ease); received a {model.kind}{f' of {listed(members)}' if members else ''}. Do not change "
            "model.kind, nor add members of other kinds."
        )
    return towers, others


def _tower(model: TwoTowerSpec) -> SpectralTowerSpec:
    for side, tower in (("query", model.query), ("candidate", model.candidate)):
        if not isinstance(tower, SpectralTowerSpec):
            raise SpecError(
                f"A preset chooses the settings of two spectral towers; model.{side} is a "
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

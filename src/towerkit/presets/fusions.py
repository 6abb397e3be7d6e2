"""``backbone: {kind: auto}``: what is compared, and the choice, by nested validation under one budget.

Every model is trained on the same rows, with the same seed and epochs, and chooses its best epoch on validation rows of its own
(:mod:`towerkit.presets.nested`). The validation part of the data set, which none of them has seen, then compares them, row by
row. Test rows are not read. Late and hybrid fusion are made of models that were trained anyway.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from towerkit.core.errors import SpecError, listed
from towerkit.core.spec import Spec, parse
from towerkit.data.dataset import Dataset
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.ensembles.rank_combine import WeightedSpec
from towerkit.fusion import AutoSpec, ConcatSpec
from towerkit.heads.decision import UNTOUCHED
from towerkit.models.tower_model import TowerModelSpec
from towerkit.presets.fusion_table import Fusion, FusionTable, Way
from towerkit.presets.fusion_trials import Contest, Trained
from towerkit.spec import ModelingSpec, plain
from towerkit.towers.ties import OWN, TiedTowerSpec
from towerkit.training.checkpoint import Checkpoints
from towerkit.training.progress import Progress

_EARLY_MEMBER = "early"
"""What a hybrid calls the fusion of all towers; a tower of that name makes it longer."""


@dataclass(frozen=True)
class ChosenFusion:
    """What was chosen, and how."""

    spec: ModelingSpec
    """The spec with the fusion that was chosen in place of ``auto``."""
    table: FusionTable
    records: list[dict[str, Any]]
    """One per fusion that was compared, as the lines of a history are."""


@dataclass(frozen=True)
class Entry:
    """A fusion that needs a training."""

    name: str
    way: Way
    model: TowerModelSpec


def chooses_fusion(model: Spec) -> bool:
    """Whether a model leaves its fusion to validation."""
    return isinstance(model, TowerModelSpec) and isinstance(model.backbone, AutoSpec)


def entries_of(model: TowerModelSpec) -> tuple[list[Entry], dict[str, str]]:
    """What is trained to be compared, in its order: the first backbone, each tower alone, the other backbones.

    Args:
        model: With ``backbone: {kind: auto}``.

    Returns:
        The entries; and the name of what cannot be, with the reason.
    """
    assert isinstance(model.backbone, AutoSpec)
    early: list[Entry] = []
    for backbone in model.backbone.menu(len(model.heads)):
        same = sum(each.model.backbone.kind == backbone.kind for each in early)
        name = f"{backbone.kind} {same + 1}" if same else backbone.kind
        early.append(Entry(name, "early", model.model_copy(update={"backbone": backbone})))
    alone, left_out = [], {}
    for tower in model.towers:
        try:
            alone.append(Entry(f"{tower} alone", "alone", tower_alone(model, tower)))
        except SpecError as error:
            left_out[f"{tower} alone"] = str(error)
    return [early[0], *alone, *early[1:]], left_out


def tower_alone(model: TowerModelSpec, tower: str) -> TowerModelSpec:
    """The same tasks from one of the towers.

    Args:
        model: With several towers.
        tower: Its name.

    Raises:
        SpecError: If the tower cannot stand by itself.
    """
    own = model.towers[tower].model_dump(mode="json")
    own |= {"of": OWN} if isinstance(model.towers[tower], TiedTowerSpec) else {}  # there is no other tower any more
    kept = {**model.model_dump(mode="json"), "towers": {tower: own}, "overlap": []}
    return parse(TowerModelSpec, {**kept, "backbone": ConcatSpec().model_dump()}, f"the tower '{tower}' alone")


def choose_fusion(
    spec: ModelingSpec, dataset: Dataset, progress: Progress, checkpoints: Checkpoints | None = None
) -> ChosenFusion:
    """Compare the fusions of a tower model with ``backbone: {kind: auto}``, and name the cheapest of those that tie with the best.

    Args:
        spec: The model, and how each of the fusions is trained.
        dataset: Raw tables with their split; test rows are not read.
        progress: Told of every epoch, and of each fusion as of an epoch.
        checkpoints: Where each training is saved, and a finished one found again.

    Raises:
        SpecError: If there are no validation rows.
        DataError: If there are too few training rows to cut some off.
    """
    model = spec.model
    assert isinstance(model, TowerModelSpec) and isinstance(model.backbone, AutoSpec)
    contest = Contest(spec, dataset, progress, checkpoints)
    entries, left_out = entries_of(model)
    _train(contest, entries, model.backbone, left_out)
    if model.backbone.late:
        _merge(contest, spec, entries, left_out)
    table = _table(contest, left_out)
    found = contest.models[table.chosen].model
    return ChosenFusion(_with_model(spec, found), table, contest.records)


def _train(contest: Contest, entries: list[Entry], auto: AutoSpec, left_out: dict[str, str]) -> None:
    """Train one after the other until the budget is spent; the first one always is."""
    started = time.perf_counter()
    for place, entry in enumerate(entries):
        if place and auto.trials is not None and place >= auto.trials:
            left_out[entry.name] = f"trials: {auto.trials} were spent."
        elif place and auto.budget_s is not None and time.perf_counter() - started > auto.budget_s:
            left_out[entry.name] = f"the budget of {auto.budget} was spent."
        else:
            contest.train(entry.name, entry.way, entry.model)


def _merge(contest: Contest, spec: ModelingSpec, entries: list[Entry], left_out: dict[str, str]) -> None:
    """Late and hybrid fusion of what was trained, where every tower alone was, and the spec allows it."""
    names = [entry.name for entry in entries if entry.way == "alone"]
    missing = [name for name in (*names, *left_out) if name.endswith(" alone") and name not in contest.models]
    if missing:
        why = f"it needs every tower alone, and {listed(dict.fromkeys(missing))} was not trained."
        left_out |= {"late": why, "hybrid": why}
        return
    alone = {next(iter(entry.model.towers)): contest.models[entry.name] for entry in entries if entry.way == "alone"}
    best = min((one for one in contest.models.values() if one.way == "early"), key=lambda one: one.loss)
    ways: dict[Way, dict[str, Trained]] = {"late": alone, "hybrid": {_other_name(alone): best, **alone}}
    for way, members in ways.items():
        try:
            model = _fusion_of(members, way)
            _with_model(spec, model)
        except SpecError as error:
            left_out[way] = str(error)
        else:
            contest.merge(way, way, model, members)


def _other_name(names: Iterable[str]) -> str:
    found = _EARLY_MEMBER
    while found in names:
        found += "_"
    return found


def _fusion_of(members: Mapping[str, Trained], way: Way) -> LateFusionSpec:
    specs = {name: plain(one.model) for name, one in members.items()}
    decide = {}
    for own in specs.values():  # what decides a class stands in the fusion, and not in its members
        for task, head in own["heads"].items():
            rule = head.pop("threshold", UNTOUCHED.thresholds[0])
            if rule != UNTOUCHED.thresholds[0]:
                decide[task] = {"threshold": rule}
    merged = {"members": specs, "combine": WeightedSpec().model_dump(), "decide": decide}
    return parse(LateFusionSpec, merged, f"the {way} fusion")


def _with_model(spec: ModelingSpec, model: Spec) -> ModelingSpec:
    """The spec with another model, checked as if a user had written it."""
    return parse(type(spec), {**plain(spec), "model": plain(model)}, "the chosen spec")


def _table(contest: Contest, left_out: Mapping[str, str]) -> FusionTable:
    ordered = sorted(contest.models.items(), key=lambda named: named[1].loss)
    fusions = [_described(contest, name, one, ordered[0][1]) for name, one in ordered]
    chosen = min((each for each in fusions if each.ties), key=lambda each: each.parameters)
    return FusionTable(fusions, chosen.name, contest.rows, dict(left_out))


def _described(contest: Contest, name: str, one: Trained, best: Trained) -> Fusion:
    behind = contest.behind(one, best)
    return Fusion(
        name,
        one.way,
        one.loss,
        behind.difference,
        behind.low,
        behind.high,
        ties=one is best or behind.low <= 0.0,
        parameters=one.parameters,
        seconds=round(one.seconds, 3),
        ms_per_row=round(one.ms_per_row, 5),
        epochs=one.epochs,
    )


def candidates_of(spec: ModelingSpec) -> Iterator[tuple[str, ModelingSpec]]:
    """Name and spec of each training that the comparison makes.

    Args:
        spec: With ``backbone: {kind: auto}``.
    """
    assert isinstance(spec.model, TowerModelSpec)
    for entry in entries_of(spec.model)[0]:
        yield entry.name, _with_model(spec, entry.model)

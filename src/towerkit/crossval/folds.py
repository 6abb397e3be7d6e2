"""From a data set and a plan to folds: data sets with the same tables and other parts, nothing fitted in advance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import DataError, SpecError
from towerkit.core.random import generator
from towerkit.crossval.plans import (
    AnyPlan,
    ColdPlan,
    RandomPlan,
    StratifiedPlan,
    TimePlan,
    grouped_folds,
    random_folds,
    stratified_folds,
    time_folds,
)
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Parts, Rows
from towerkit.data.times import times_of
from towerkit.features.encoder import LabelSpec
from towerkit.models.joint import JointSpec
from towerkit.spec import ModelingSpec, ranks

_USUAL_VALIDATION = 0.1
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """One division of the rows."""

    name: str
    dataset: Dataset


def resolved_plan(plan: AnyPlan | None, spec: ModelingSpec, dataset: Dataset) -> AnyPlan:
    """The plan with its column filled in; when none is given, windows where there is a time, and evenly spread folds elsewhere.

    Args:
        plan: What was asked for.
        spec: What is trained.
        dataset: Its roles.

    Raises:
        SpecError: If the plan has no column to go by.
    """
    roles = dataset.roles
    if plan is None:
        plan = TimePlan() if roles.time is not None else StratifiedPlan()
    if isinstance(plan, TimePlan) and roles.time is None:
        raise SpecError("Windows of time need a time column; set data.examples.time, or use --by random.")
    if isinstance(plan, ColdPlan):
        _check_cold(spec, dataset)
    if isinstance(plan, RandomPlan | TimePlan) or plan.column is not None:
        return plan
    own = _strata(spec, dataset) if isinstance(plan, StratifiedPlan) else None
    usual = {"grouped": roles.query, "cold": roles.candidate, "stratified": own}[plan.kind]
    if usual is None and isinstance(plan, StratifiedPlan):
        return RandomPlan(folds=plan.folds)
    if usual is None:
        raise SpecError(f"--by {plan.kind} needs --column, the column whose values are held out together.")
    return plan.model_copy(update={"column": usual})


def _strata(spec: ModelingSpec, dataset: Dataset) -> str | None:
    """The query of a ranking; of predictions the first label that has classes."""
    if ranks(spec.model):
        return dataset.roles.query
    labels = spec.model.demand(dataset).labels.values()
    return next((label.column for label in labels if label.kind in ("binary", "multiclass", "ordinal")), None)


def _check_cold(spec: ModelingSpec, dataset: Dataset) -> None:
    candidate = dataset.roles.candidate
    if not ranks(spec.model) or isinstance(spec.model, JointSpec) or candidate is None:
        raise SpecError(
            f"--by cold holds out the candidates of a ranking, and the model is a {spec.model.kind}. Use --by "
            "grouped --column NAME."
        )
    if candidate not in dataset.entities:
        raise SpecError(
            f"--by cold asks for candidates that no training row has, and of '{candidate}' nothing but the key is known, so none "
            f"could ever be found. Give data.entities.{candidate}, and a tower that reads its columns."
        )


def folds_of(plan: AnyPlan, spec: ModelingSpec, dataset: Dataset, seed: int) -> list[Fold]:
    """Every fold of a plan. A test table that was given apart is left alone.

    Args:
        plan: As :func:`resolved_plan` gives it.
        spec: What is trained; its split says how large the validation part is.
        dataset: All rows.
        seed: Draws.

    Raises:
        DataError: If the rows do not suffice, or a fold lacks a class.
    """
    rows = rows_to_divide(dataset)
    keys = None if isinstance(plan, RandomPlan | TimePlan) else _codes(dataset, str(plan.column), rows)
    times = None if dataset.roles.time is None else times_of(dataset.examples, dataset.roles.time)[rows]
    if isinstance(plan, TimePlan):
        assert times is not None
        stretch = time_folds(times, plan.folds)
        held = range(1, plan.folds + 1)
        learned = {fold: (stretch < fold) & (stretch >= fold - (plan.learn or fold)) for fold in held}
    else:
        if isinstance(plan, RandomPlan):
            stretch = random_folds(len(rows), plan.folds, seed)
        else:
            assert keys is not None
            make = stratified_folds if isinstance(plan, StratifiedPlan) else grouped_folds
            stretch = make(keys, plan.folds, seed)
        held = range(plan.folds)
        learned = {fold: stretch != fold for fold in held}
    found = []
    for number, fold in enumerate(held):
        own = np.flatnonzero(learned[fold])
        validation = _validation(plan, _share(dataset), keys, times, own, seed, number)
        parts = Parts(rows[np.setdiff1d(own, validation)], rows[validation], rows[stretch == fold])
        name = f"fold {number + 1} of {plan.folds}"
        _check_classes(name, parts, spec, dataset)
        found.append(Fold(name, divided(dataset, parts, plan, seed, number)))
    return found


def rows_to_divide(dataset: Dataset) -> Rows:
    """The rows that take part: all that were in a part, but for a test table given apart."""
    parts = dataset.uncut or dataset.parts
    apart = dataset.split.get("test") == "given"
    every = [parts.train, parts.validation, *([] if apart else [parts.test])]
    return np.unique(np.concatenate(every))


def divided(dataset: Dataset, parts: Parts, plan: AnyPlan, seed: int, number: int) -> Dataset:
    """The same tables under other parts; training rows are chosen and weighed anew, from those of the fold alone.

    Args:
        dataset: The tables.
        parts: The fold's rows.
        plan: For the protocol.
        seed: For the protocol.
        number: Of the fold, from 0, for the protocol.
    """
    kept = {k: v for k, v in dataset.split.items() if k in ("positive", "events", "relevance", "grades", "left_out")}
    about: dict[str, Any] = {"kind": "crossval", "plan": plan.model_dump(), "seed": seed, "fold": number, **kept}
    if dataset.learning.takes_all:
        return replace(dataset, parts=parts, uncut=None, split=about)
    chosen = dataset.learning.choose(parts.train)
    return replace(
        dataset,
        parts=replace(parts, train=chosen.rows),
        weights=chosen.weights,
        uncut=parts,
        split=about,
    )


def _share(dataset: Dataset) -> float:
    """Of the training rows of a fold that choose the epoch: as in the spec's split."""
    given = dataset.split.get("validation", _USUAL_VALIDATION)
    if isinstance(given, bool) or not isinstance(given, float | int):  # leave_last, or a table given apart
        return _USUAL_VALIDATION if given else 0.0
    return float(given)


def _validation(
    plan: AnyPlan, share: float, keys: Codes | None, times: NDArray[np.float64] | None, own: Rows, seed: int, fold: int
) -> Rows:
    """Which of the rows that a fold learns from choose the epoch: chosen as the held-out ones are."""
    if not share:
        return own[:0]
    if isinstance(plan, TimePlan):
        assert times is not None
        start = np.quantile(times[own], 1.0 - share, method="higher")
        return own[times[own] >= start] if start > times[own].min() else own[:0]
    draw = generator(seed, "folds", "validation", fold)
    if keys is None or isinstance(plan, StratifiedPlan):
        shuffled = draw.permutation(len(own))
        order = shuffled if keys is None else shuffled[np.argsort(keys[own][shuffled], kind="stable")]
        every = max(2, round(1.0 / share))
        return np.sort(own[order[every - 1 :: every]])
    names = np.unique(keys[own])
    chosen = draw.permutation(names)[: min(len(names) - 1, max(1, round(share * len(names))))]
    return own[np.isin(keys[own], chosen)]


def _codes(dataset: Dataset, column: str, rows: Rows) -> Codes:
    """``[rows]`` a number per value, a missing one among them; by the order of the values."""
    values = dataset.labelled(column, rows)
    if pa.types.is_nested(values.type):
        raise DataError(
            f"{dataset.examples.name}: the column '{column}' holds lists or records, but folds go by one value per row. Choose "
            "another column."
        )
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    names = pc.unique(values.drop_null())
    names = names.take(pc.sort_indices(names))
    found = pc.index_in(values, value_set=names)
    return np.asarray(pc.fill_null(found, len(names)).to_numpy(zero_copy_only=False), np.int64)


def _check_classes(name: str, parts: Parts, spec: ModelingSpec, dataset: Dataset) -> None:
    """Refuse a fold in which a task of two classes has one: nothing could be learned, or no area measured."""
    labels: Mapping[str, LabelSpec] = {} if ranks(spec.model) else spec.model.demand(dataset).labels
    for task, label in labels.items():
        if label.kind != "binary":
            continue
        every = pc.unique(dataset.labelled(label.column, rows_to_divide(dataset)).drop_null())
        for part in ("train", "test"):
            found = pc.unique(dataset.labelled(label.column, parts.get(part)).drop_null())
            if len(found) < 2 <= len(every):
                has = "no label" if not len(found) else f"the one class {found[0].as_py()!r}"
                what = "learns from" if part == "train" else "holds out"
                raise DataError(
                    f"{dataset.examples.name}: {name} {what} {len(parts.get(part)):,} rows with {has} of '{label.column}' (task "
                    f"'{task}'). Use fewer folds, or --by stratified --column {label.column}."
                )

"""Before a training: could its model be measured, and an epoch be chosen? And which rows are held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, overload

from towerkit.baselines import BM25Spec, RecentPopularitySpec
from towerkit.core.errors import DataError, SpecError, listed
from towerkit.data.dataset import Dataset
from towerkit.data.repeats import repeated_rows
from towerkit.data.splits import Rows
from towerkit.data.stream.log import Log
from towerkit.ensembles.decide import check_held_out_labels
from towerkit.ensembles.late_spec import LateFusionSpec, StackSpec
from towerkit.evaluation.prediction import SEGMENTS
from towerkit.evaluation.prediction_segments import check_no_task_is_called_so, prediction_segments
from towerkit.evaluation.segments import check_segments
from towerkit.evaluation.spec import EvaluationSpec
from towerkit.features.encoder import LabelSpec
from towerkit.models.joint import JointSpec, for_candidate
from towerkit.models.ranker import RankerSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.models.wiring import pair_of
from towerkit.spec import ModelingSpec, ranks
from towerkit.training.decisions import check_decidable
from towerkit.training.log_recipe import check_streamable


def check_measurable(spec: ModelingSpec, dataset: Dataset | Log) -> None:
    """Find out before training, not after it, that nothing could be measured, or no epoch be chosen.

    Raises:
        SpecError: If the split holds nothing out, or a baseline was asked for that needs a time.
        DataError: If a label column has no value among the held-out rows, or none that decides has one for validation.
    """
    if isinstance(dataset, Log):
        _check_log(spec, dataset)
        return
    _, held_out, _ = held_out_part(dataset)
    if isinstance(spec.model, JointSpec):
        for name in spec.model.candidates:
            _check_ranking_of(name, spec, for_candidate(dataset, name))
        return
    if ranks(spec.model):
        entities = pair_of(dataset)
        _check_baselines(spec, dataset)
        check_segments(spec.evaluation.segments, entities, dataset.entities)
        if spec.evaluation.exclude_seen:
            _check_new_pairs(dataset)
        if isinstance(spec.model, RankerSpec):
            check_decidable(spec.model.heads, dataset)
            _check_labelled(spec.model.demand(dataset).labels, dataset)
        return
    assert not isinstance(spec.model, TwoTowerSpec | RankerSpec | JointSpec)
    if "positive" in dataset.split:
        raise SpecError(
            f"data.examples.positive says which rows are pairs of a two_tower, and the model is a {spec.model.kind}: it "
            f'would never see the rows without "{dataset.split["positive"]}". Remove the rule.'
        )
    labels, validation = spec.model.demand(dataset).labels, dataset.parts.validation
    _check_prediction_segments(spec.evaluation, labels, dataset, held_out)
    towers = dict(spec.model.towers()).values() if isinstance(spec.model, LateFusionSpec) else [spec.model]
    for model in towers:
        check_decidable(model.heads, dataset)
    if isinstance(spec.model, LateFusionSpec):
        stacks = isinstance(spec.model.combine, StackSpec)
        rows, part_read = (dataset.parts.train, "training") if stacks else (validation, "validation")
        check_held_out_labels(spec.model.decide, labels, dataset, rows, part_read)
    _check_labelled(labels, dataset)
    selected = (spec.evaluation.select_by or "").removesuffix("/loss")
    deciding = [label.column for task, label in labels.items() if selected in (task, "loss", "")]
    if len(validation) and deciding and all(_is_empty(dataset, column, validation) for column in deciding):
        raise DataError(
            f"{dataset.examples.name}: {listed(deciding)} without a value in all {len(validation):,} rows of the validation "
            "part, so no epoch could be chosen. Give labelled rows, another split, or set split.validation to 0."
        )


def _check_ranking_of(candidate: str, spec: ModelingSpec, dataset: Dataset) -> None:
    """What is checked of each ranking of a joint model."""
    empty = [part for part in ("validation", "test") if not len(dataset.parts.get(part))]
    if len(empty) == 2:
        raise DataError(
            f"{dataset.examples.name}: the column '{candidate}' is empty in all validation and test rows, so this ranking could "
            "not be measured. Give rows that have it, or another split."
        )
    _check_baselines(spec, dataset)
    if spec.evaluation.exclude_seen:
        _check_new_pairs(dataset)


def _check_labelled(labels: Mapping[str, LabelSpec], dataset: Dataset) -> None:
    part, held_out, _ = held_out_part(dataset)
    for task, label in labels.items():
        if _is_empty(dataset, label.column, held_out):
            raise DataError(
                f"{dataset.examples.name}: the label column '{label.column}' of the task '{task}' is empty in all "
                f"{len(held_out):,} rows of the {part} part, so nothing could be measured. Give labelled rows."
            )


def _check_log(spec: ModelingSpec, log: Log) -> None:
    """What of :func:`check_measurable` holds for a log, and what only a table in memory can do."""
    held_out_part(log)
    check_streamable(spec.model, spec.update)
    check_segments(spec.evaluation.segments, log.pair, {})
    for name, baseline in spec.evaluation.ranking_baselines(has_time=False).items():
        if isinstance(baseline, BM25Spec | RecentPopularitySpec):
            raise SpecError(
                f"evaluation.baselines: '{name}' reads a table that data.examples.stream does not hold in memory. Remove it."
            )


def _check_prediction_segments(
    evaluation: EvaluationSpec, labels: Mapping[str, Any], dataset: Dataset, held_out: Rows
) -> None:
    if evaluation.segments:
        check_no_task_is_called_so(labels, SEGMENTS)
        rows = replace(dataset.examples, data=dataset.examples.data.take(held_out), first_row=0)
        prediction_segments(evaluation.segments, rows, dataset.entities)


def _check_new_pairs(dataset: Dataset) -> None:
    part, held_out, learned = held_out_part(dataset)
    pair = [name for name in (dataset.roles.query, dataset.roles.candidate) if name is not None]
    if repeated_rows(dataset.examples.data, pair, learned.parts.train, held_out) == len(held_out):
        raise DataError(
            f"No held-out pair is left to evaluate: all {len(held_out):,} rows of the {part} part repeat a pair that training "
            "has, and pairs that were seen are removed. Give rows that training does not have, or set "
            "evaluation.exclude_seen to false."
        )


def _check_baselines(spec: ModelingSpec, dataset: Dataset) -> None:
    members = spec.model.members.values() if isinstance(spec.model, LateFusionSpec) else ()
    for baseline in [*(spec.evaluation.baselines or ()), *(each for each in members if isinstance(each, BM25Spec))]:
        baseline.check(dataset)
    if dataset.roles.time is None and "recent_popularity" in spec.evaluation.ranking_baselines(has_time=False):
        raise SpecError(
            f"evaluation.baselines: 'recent_popularity' needs a time, and {dataset.examples.name} has no time column. Set "
            "data.examples.time, or remove it."
        )


def _is_empty(dataset: Dataset, column: str, rows: Rows) -> bool:
    return bool(dataset.labelled(column, rows).null_count == len(rows))


@overload
def held_out_part(dataset: Dataset) -> tuple[str, Rows, Dataset]: ...


@overload
def held_out_part(dataset: Log) -> tuple[str, Rows, Log]: ...


@overload
def held_out_part(dataset: Dataset | Log) -> tuple[str, Rows, Dataset | Log]: ...


def held_out_part(dataset: Dataset | Log) -> tuple[str, Rows, Dataset | Log]:
    """The name and the rows of the part that is measured, and the data set that the final model may learn from.

    Raises:
        SpecError: If the split holds nothing out.
    """
    parts = dataset.parts
    if len(parts.test):
        return "test", parts.test, dataset.for_refit()
    if not len(parts.validation):
        raise SpecError(
            "The split holds neither validation nor test rows out; set split.validation or split.test above 0."
        )
    return "validation (which also chose the epoch)", parts.validation, dataset

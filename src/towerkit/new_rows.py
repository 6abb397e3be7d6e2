"""A trained model measured on rows that it has not seen, by the rules it was trained and measured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from towerkit.core.errors import DataError, SpecError, listed, nearest
from towerkit.data.roles import EntityTable
from towerkit.data.table import Table, require_columns, values_of
from towerkit.data.usable import Measured, rows_to_measure
from towerkit.ensembles.late import LateFusion
from towerkit.evaluation.prediction import evaluate_tasks
from towerkit.evaluation.prediction_segments import known_segments
from towerkit.evaluation.ranking import evaluate_ranking
from towerkit.evaluation.result import Evaluation
from towerkit.evaluation.robustness import Curve, robustness
from towerkit.evaluation.spec import EvaluationSpec
from towerkit.models.answer import TaskPredictor
from towerkit.models.joint_retriever import JointRetriever
from towerkit.models.pair_scorer import PairScorer
from towerkit.trained import (
    RankingModel,
    column_groups,
    new_labels_of,
    ranker_of,
    ranking_task_of,
    segments_of,
    truth_of,
)


def pairs_of(table: Table, model: RankingModel, split: Mapping[str, Any]) -> Measured:
    """Of new rows the pairs to measure a ranking with.

    Args:
        table: The rows.
        model: Its entities are the columns of the keys.
        split: How the parts were made, as the protocol of the training says.

    Raises:
        DataError: If a column is missing, a key is empty, or no row is a pair by the training's rules.
    """
    _require_keys(table, model.query_entity, model.candidate_entity)
    return rows_to_measure(table, split)


def rows_of(model: JointRetriever, table: Table) -> dict[str, Table]:
    """Of new rows, those that have a candidate of each sort.

    Args:
        model: Its members name the columns.
        table: The rows.

    Raises:
        DataError: If none of the columns is there, or no row has a key in one of them.
    """
    found = {}
    for name in model.members:
        if name in table.data.column_names:
            has = values_of(table.data, name).is_valid()
            if has.true_count:
                found[name] = replace(table, data=table.data.filter(has), first_row=0)
    if not found:
        raise DataError(
            f"{table.name}: no row has a key in {listed(model.members)}, which this Run ranks; the columns are "
            f"{listed(table.data.column_names)}."
        )
    return found


def evaluate_pairs(model: RankingModel, pairs: Measured, spec: EvaluationSpec) -> Evaluation:
    """A ranking model on new pairs; what their queries had in training is left out as it was then."""
    keys = [values_of(pairs.table.data, name) for name in (model.query_entity, model.candidate_entity)]
    task = ranking_task_of(model, *keys, exclude_seen=spec.exclude_seen, grades=pairs.grades)
    about = _about(pairs.table, {"left_out": pairs.left_out} if pairs.left_out else {})
    ranking = evaluate_ranking(
        ranker_of(model), task, spec.k, gain=spec.gain, segments=segments_of(model, spec), **about
    )
    if not isinstance(model, PairScorer) or not _has_labels(model, pairs.table):
        return ranking
    plain = spec.model_copy(update={"segments": ()})
    return ranking.beside(evaluate_answers(model.predictor, pairs.table, plain, several=True))


def _has_labels(model: PairScorer, table: Table) -> bool:
    """Whether pairs have a label of a task beside the ranking: those that have none are measured as a ranking alone."""
    return any(label.column in table.data.column_names for label in model.tasks.values())


def evaluate_answers(
    model: TaskPredictor | LateFusion, table: Table, spec: EvaluationSpec, *, several: bool | None = None
) -> Evaluation:
    """A model that answers tasks on new rows with their labels.

    Args:
        model: What answers.
        table: The rows.
        spec: How it is measured.
        several: Whether metrics carry the name of their task; where there are several tasks, when not given.

    Raises:
        DataError: If the rows cannot be used.
    """
    kept: dict[str, EntityTable] = {}  # columns of entities are known as far as the model keeps them
    if isinstance(model, TaskPredictor):
        kept = {name: EntityTable(name, each.key, each.table) for name, each in model.entities.items()}
    truth = truth_of(model.tasks, table)
    segments, left_out = known_segments(spec.segments, table, kept)
    about: dict[str, Any] = {"segments": segments, "segments_left_out": left_out, "decisions": model.decisions}
    about |= {"new_labels": new_labels_of(model.tasks, table), **_about(table)}
    return evaluate_tasks(model.predict(table), truth, model.tasks, several=several, **about)


def evaluate_losses(
    model: TaskPredictor | LateFusion,
    table: Table,
    spec: EvaluationSpec,
    groups: Mapping[str, Sequence[str]],
    **about: Any,
) -> dict[str, Curve]:
    """How a model's figures fall on new rows that lose a group of columns; see :func:`robustness`.

    Args:
        model: Answers tasks.
        table: The rows with their labels.
        spec: Its segments are left out.
        groups: Name -> columns; a name alone (no columns) is that of a tower or a member.
        **about: ``shares``, ``loss`` and ``seed``.

    Raises:
        SpecError: If a name is that of no tower and no member, or a label would be lost.
    """
    known = column_groups(model)
    labels = {label.column for label in model.tasks.values()}
    chosen: dict[str, Sequence[str]] = {}
    for name, columns in groups.items():
        if not columns and name not in known:
            raise SpecError(
                f"'{name}' is no tower and no member{nearest(name, known) or '.'} There are {listed(known)}; or name columns: "
                f"{name}=column,column."
            )
        chosen[name] = columns or known[name]
        lost = sorted(labels & set(chosen[name]))
        if lost:
            raise SpecError(
                f"{listed(lost)} is what the model predicts; a loss of it says nothing. Name columns that it reads."
            )
    plain = spec.model_copy(update={"segments": ()})
    return robustness(lambda rows: evaluate_answers(model, rows, plain), table, chosen, **about)


def _about(table: Table, left_out: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"part": f"new data ({table.name})", "split": {"kind": "none", **(left_out or {})}}


def _require_keys(table: Table, *names: str) -> None:
    """Refuse a pair to evaluate that lacks one of its keys.

    Raises:
        DataError: If a column is missing, or a key is; names the row.
    """
    require_columns(names, table.data.column_names, table.name)
    for name in names:
        missing = np.flatnonzero(values_of(table.data, name).is_null().to_numpy(zero_copy_only=False))
        if len(missing):
            raise DataError(
                f"{table.where(int(missing[0]))}: the column '{name}' is empty ({len(missing):,} such rows); a pair to "
                "evaluate needs both keys. Drop these rows or fill them."
            )

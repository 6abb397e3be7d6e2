"""What a trained model is worth on the held-out rows: measured once, its members and baselines on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np

from towerkit.baselines.ranking import interactions_of, last_times, ranking_baselines
from towerkit.baselines.tasks import task_baselines
from towerkit.core.remarks import collecting
from towerkit.data.dataset import Dataset
from towerkit.data.repeats import repeated_rows
from towerkit.data.roles import EXAMPLE
from towerkit.data.splits import Rows
from towerkit.data.stream.log import Log
from towerkit.ensembles.late import LateFusion
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.evaluation.prediction import evaluate_tasks
from towerkit.evaluation.prediction_segments import prediction_segments
from towerkit.evaluation.ranking import evaluate_ranking
from towerkit.evaluation.result import Evaluation, side_by_side
from towerkit.evaluation.selection import graded
from towerkit.features.encoder import Demand
from towerkit.features.labels import Labels
from towerkit.measurable import held_out_part
from towerkit.models.answer import TaskPredictor
from towerkit.models.joint import for_candidate
from towerkit.models.joint_retriever import JointRetriever
from towerkit.models.pair_scorer import PairScorer
from towerkit.spec import ModelingSpec
from towerkit.trained import RankingModel, new_labels_of, ranker_of, ranking_task_of, segments_of, truth_of


def ranked_beside_baselines(
    model: RankingModel, spec: ModelingSpec, dataset: Dataset | Log, learned: Rows | range
) -> tuple[Evaluation, dict[str, Evaluation]]:
    """Evaluate what ranks, then its members and baselines, on the same queries."""
    part, held_out, _ = held_out_part(dataset)
    keys = (dataset.labelled(entity, held_out) for entity in (model.query_entity, model.candidate_entity))
    grades = graded(dataset, held_out)
    task = ranking_task_of(model, *keys, exclude_seen=spec.evaluation.exclude_seen, grades=grades)
    about: dict[str, Any] = {"part": part, "split": dataset.split, "seed": spec.training.seed}
    about |= {"gain": spec.evaluation.gain, "segments": segments_of(model, spec.evaluation)}
    times = None if isinstance(dataset, Log) else last_times(model, dataset, np.asarray(learned))
    specs = spec.evaluation.ranking_baselines(has_time=times is not None)
    interactions = interactions_of(model.seen, times, model.query, model.candidate)
    members = model.member_rankers() if isinstance(model, RankFusion) else {}
    others = chain(members.items(), ranking_baselines(interactions, specs))
    baselines = {name: evaluate_ranking(ranker, task, spec.evaluation.k, **about) for name, ranker in others}
    left_out = {name: reason for name, one in specs.items() if (reason := one.obstacle(interactions))}
    evaluation = evaluate_ranking(ranker_of(model), task, spec.evaluation.k, **about)
    if left_out:
        evaluation = replace(evaluation, protocol={**evaluation.protocol, "baselines_left_out": left_out})
    return evaluation, baselines


def joint_beside_baselines(
    model: JointRetriever, spec: ModelingSpec, dataset: Dataset, learned: Rows
) -> tuple[Evaluation, dict[str, Evaluation]]:
    """Evaluate each ranking of a joint model among its baselines."""
    rankings: dict[str, Evaluation] = {}
    baselines: dict[str, dict[str, Evaluation]] = {}
    for name, retriever in model.members.items():
        own = for_candidate(dataset, name)
        seen = np.intersect1d(learned, held_out_part(own)[2].parts.train)
        rankings[name], others = ranked_beside_baselines(retriever, spec, own, seen)
        for baseline, evaluation in others.items():
            baselines.setdefault(baseline, {})[name] = evaluation
    return side_by_side(rankings), {baseline: side_by_side(each) for baseline, each in baselines.items()}


def pairs_beside_baselines(
    model: PairScorer, demand: Demand, spec: ModelingSpec, dataset: Dataset, learned: Rows
) -> tuple[Evaluation, dict[str, Evaluation]]:
    """Evaluate a ranker among baselines, and the tasks beside its ranking among theirs, which are other ones."""
    ranking, baselines = ranked_beside_baselines(model, spec, dataset, learned)
    if not model.tasks:
        return ranking, baselines
    plain = spec.model_copy(update={"evaluation": spec.evaluation.model_copy(update={"segments": ()})})
    tasks, others = predicted_beside_baselines(model.predictor, demand, plain, dataset, several=True)
    return ranking.beside(tasks), {**baselines, **others}


def predicted_beside_baselines(
    model: TaskPredictor | LateFusion,
    demand: Demand,
    spec: ModelingSpec,
    dataset: Dataset,
    alone: Mapping[str, TaskPredictor] = MappingProxyType({}),
    *,
    several: bool | None = None,
) -> tuple[Evaluation, dict[str, Evaluation]]:
    """Evaluate a predictor through its raw-row path; on the same rows its members, models of single tasks, and baselines.

    Args:
        model: What predicts.
        demand: What it reads.
        spec: How it is measured.
        dataset: Raw tables with their split.
        alone: Task -> a model of that task alone.
        several: Whether metrics carry the name of their task; where there are several tasks, when not given.
    """
    several = len(model.tasks) > 1 if several is None else several
    part, held_out, final = held_out_part(dataset)
    learned = final if spec.training.refit else dataset
    table = replace(dataset.examples, data=dataset.examples.data.take(held_out), first_row=0)
    about: dict[str, Any] = {"part": part, "split": dataset.split, "seed": spec.training.seed}
    about["repeats"] = repeated_rows(dataset.examples.data, read_columns(demand), learned.parts.train, held_out)
    about["new_labels"] = new_labels_of(model.tasks, table)
    about["segments"] = prediction_segments(spec.evaluation.segments, table, dataset.entities)
    truth = truth_of(model.tasks, table)
    others = dict(task_baselines(demand, learned, learned.parts.train, held_out, model.tasks))
    with collecting():  # what is odd about these rows was told when all were read, by their place in the file
        if alone:
            others["single_task"] = {task: each.predict(table)[task] for task, each in alone.items()}
        if isinstance(model, LateFusion):
            members = model.all_predictions(table)
            others |= {f"member {name}": values for name, values in members.items()}
            said = {name: values for name, values in members.items() if name in model.members}
            found = model.combined(said, model.silent(table))
        else:
            found = model.predict(table)
    baselines = {
        name: evaluate_tasks(values, truth, _those_of(values, model.tasks), several=several, **about)
        for name, values in others.items()
    }
    return evaluate_tasks(found, truth, model.tasks, decisions=model.decisions, several=several, **about), baselines


def _those_of(values: Mapping[str, Any], tasks: Mapping[str, Labels]) -> dict[str, Labels]:
    """The tasks that were answered: a member of a late fusion need not have all."""
    return {task: labels for task, labels in tasks.items() if task in values}


def read_columns(demand: Demand) -> list[str]:
    """The example columns that a model reads or predicts; an entity counts by its key."""
    features = [name for spec in demand.features.get(EXAMPLE, []) for name in spec.column_names()]
    entities = [entity for entity in demand.features if entity != EXAMPLE]
    return list(dict.fromkeys([*features, *entities, *(label.column for label in demand.labels.values())]))

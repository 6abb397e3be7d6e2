"""A trained model of any kind, as it is asked when it is measured: what ranks, what is right, and by which segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.baselines.ranking import seen_with_unknown
from towerkit.data.roles import EXAMPLE
from towerkit.data.table import Table, require_columns, values_of
from towerkit.ensembles.late import LateFusion, columns_of
from towerkit.ensembles.rank_fusion import FusedRanker, RankFusion
from towerkit.evaluation.ranking_task import RankingTask, ranking_task
from towerkit.evaluation.segments import Segment, ranking_segments
from towerkit.evaluation.spec import EvaluationSpec
from towerkit.features.encoder import named
from towerkit.features.labels import Labels, Truth
from towerkit.index.pairs import PairRanker, pair_ranker, without_unknown
from towerkit.index.ranker import Ranker
from towerkit.index.vectors import VectorRanker
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.models.joint_retriever import JointRetriever
from towerkit.models.pair_scorer import PairScorer

_RANKERS: WeakKeyDictionary[Retriever, VectorRanker] = WeakKeyDictionary()
_PAIR_RANKERS: WeakKeyDictionary[PairScorer, PairRanker] = WeakKeyDictionary()
"""Go with their models, which stand on a lower floor and cannot hold them."""

RankingModel = Retriever | PairScorer | RankFusion
"""What ranks the candidates of its catalogue."""

Model = RankingModel | JointRetriever | TaskPredictor | LateFusion
"""The model kinds, trained; each answers raw rows."""


@overload
def ranker_of(model: Retriever) -> VectorRanker: ...


@overload
def ranker_of(model: PairScorer) -> PairRanker: ...


@overload
def ranker_of(model: RankFusion) -> FusedRanker: ...


def ranker_of(model: RankingModel) -> Ranker:
    """Ranks the catalogue for query rows; row 0 is the unknown query. A model's ranker is made once."""
    if isinstance(model, RankFusion):
        return model.ranker
    if isinstance(model, PairScorer):
        if model not in _PAIR_RANKERS:
            _PAIR_RANKERS[model] = pair_ranker(model)
        return _PAIR_RANKERS[model]
    if model not in _RANKERS:
        vectors = model.query_vectors, model.candidate_vectors[1:]
        _RANKERS[model] = VectorRanker(*vectors, model.model.match.similarity)
    return _RANKERS[model]


def ranker_of_rows(model: PairScorer | RankFusion, table: Table) -> Ranker:
    """Ranks the catalogue for raw query rows, by their place from 0.

    Args:
        model: One that has no vectors of its own to compare.
        table: Rows with the columns that it reads, among them the key; it may be empty or unknown.

    Raises:
        DataError: If a column is missing or holds a value of another kind.
    """
    if isinstance(model, RankFusion):
        return model.ranker_of_rows(table)
    return ranker_of(model).with_queries(without_unknown(model.parts_of_rows(model.query_entity, table)))


def ranker_of_newcomers(model: PairScorer | RankFusion, table: Table) -> Ranker:
    """Ranks the known queries, from 0, for raw candidate rows, by their place from 0; see :func:`ranker_of_rows`."""
    if isinstance(model, RankFusion):
        return model.ranker_of_newcomers(table)
    newcomers = model.parts_of_rows(model.candidate_entity, table)
    return PairRanker(model.model, without_unknown(newcomers), without_unknown(model.query_parts))


def scores_of_rows(
    model: PairScorer | RankFusion, queries: NDArray[np.int64], candidates: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The score of each pair of catalogue rows; row 0 of either side is the unknown one.

    Args:
        model: One that has no vectors of its own to compare.
        queries: ``[pairs]``.
        candidates: ``[pairs]``.
    """
    if isinstance(model, RankFusion):
        return model.pair_scores(queries, candidates)
    return PairRanker(model.model, model.query_parts, model.candidate_parts).of_pairs(queries, candidates)


def ranking_task_of(
    model: RankingModel,
    query_keys: pa.Array,
    candidate_keys: pa.Array,
    *,
    exclude_seen: bool = True,
    grades: NDArray[np.float64] | None = None,
) -> RankingTask:
    """The ranking task that held-out pairs of keys ask of a trained model; see :func:`ranking_task`."""
    seen = seen_with_unknown(model.seen)
    return ranking_task(
        model.query,
        model.candidate,
        seen,
        query_keys,
        candidate_keys,
        grades=grades,
        exclude_seen=exclude_seen,
    )


def segments_of(model: RankingModel, evaluation: EvaluationSpec) -> list[Segment]:
    """The segments that the evaluation of a trained model asks for."""
    entities = model.query_entity, model.candidate_entity
    return ranking_segments(evaluation.segments, model.query, model.candidate, model.seen, entities)


def truth_of(tasks: Mapping[str, Labels], table: Table) -> dict[str, Truth]:
    """Task -> the labels of raw rows.

    Raises:
        DataError: If a label column is missing, or a regression's value is no number.
    """
    require_columns([label.column for label in tasks.values()], table.data.column_names, table.name)
    return {task: named(table.name, label.encode, values_of(table.data, label.column)) for task, label in tasks.items()}


def new_labels_of(tasks: Mapping[str, Labels], table: Table) -> dict[str, int]:
    """Task -> raw rows with a label, among several, that no training row had; see :meth:`Labels.num_unknown`."""
    counts = {task: label.num_unknown(values_of(table.data, label.column)) for task, label in tasks.items()}
    return {task: count for task, count in counts.items() if count}


def column_groups(model: TaskPredictor | LateFusion) -> dict[str, tuple[str, ...]]:
    """The example columns that stand or fall together: of each member, and of each tower of a tower model.

    Args:
        model: Trained.

    Returns:
        ``tower``, ``member``, ``member/tower`` or ``member/member`` -> the columns that it reads; an entity counts by its key.
    """
    if isinstance(model, TaskPredictor):
        known = {*model.encoder.columns(EXAMPLE), *model.entities}
        return {
            name: tuple(sorted(named_columns(tower.model_dump(exclude={"of"})) & known))
            for name, tower in model.spec.towers.items()
        }
    found: dict[str, tuple[str, ...]] = {}
    for name, member in model.members.items():
        inner = column_groups(member) if isinstance(member, TaskPredictor | LateFusion) else {}
        found[name] = tuple(sorted(columns_of(member.encoder)))
        found |= {f"{name}/{each}": columns for each, columns in inner.items() if len(inner) > 1}
    return found


def named_columns(spec: Any) -> set[str]:
    """The columns and entities that a spec names, at any depth."""
    if isinstance(spec, list | tuple):
        return {name for part in spec for name in named_columns(part)}
    if not isinstance(spec, Mapping):
        return {spec} if isinstance(spec, str) else set()
    if "aggregate" in spec:  # what it looks back on stands in the Run
        return {name for name in (spec["by"], spec.get("at")) if name is not None}
    keys = ("column", "columns", "entity", "key", "of", "cross")
    return {
        name for key, part in spec.items() if key in keys or isinstance(part, Mapping) for name in named_columns(part)
    }

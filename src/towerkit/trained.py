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
from towerkit.ensembles.late import LateFusion
from towerkit.ensembles.rank_fusion import FusedRanker, RankFusion
from towerkit.evaluation.ranking_task import RankingTask, ranking_task
from towerkit.evaluation.segments import Segment, ranking_segments
from towerkit.evaluation.spec import EvaluationSpec
from towerkit.features.encoder import named
from towerkit.features.labels import Labels, Truth
from towerkit.index.ranker import Ranker
from towerkit.index.vectors import VectorRanker
from towerkit.models.answer import Retriever, TaskPredictor

_RANKERS: WeakKeyDictionary[Retriever, VectorRanker] = WeakKeyDictionary()
"""Goes with its retriever, which stands on a lower floor and cannot hold it."""

RankingModel = Retriever | RankFusion
"""What ranks the candidates of its catalogue."""

Model = RankingModel | TaskPredictor | LateFusion
"""The model kinds, trained; each answers raw rows."""


@overload
def ranker_of(model: Retriever) -> VectorRanker: ...


@overload
def ranker_of(model: RankFusion) -> FusedRanker: ...


def ranker_of(model: RankingModel) -> Ranker:
    """Ranks the catalogue for query rows; row 0 is the unknown query. A model's ranker is made once."""
    if isinstance(model, RankFusion):
        return model.ranker
    if model not in _RANKERS:
        vectors = model.query_vectors, model.candidate_vectors[1:]
        _RANKERS[model] = VectorRanker(*vectors, model.model.match.similarity)
    return _RANKERS[model]


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
            name: tuple(sorted(_named_in(tower.model_dump(exclude={"of"})) & known))
            for name, tower in model.spec.towers.items()
        }
    found: dict[str, tuple[str, ...]] = {}
    for name, member in model.members.items():
        inner = column_groups(member) if isinstance(member, TaskPredictor | LateFusion) else {}
        own = {*member.encoder.columns(EXAMPLE), *(column for columns in inner.values() for column in columns)}
        found[name] = tuple(sorted(own))
        found |= {f"{name}/{each}": columns for each, columns in inner.items() if len(inner) > 1}
    return found


def _named_in(spec: Any) -> set[str]:
    """The columns and entities that a spec names, at any depth."""
    if isinstance(spec, list | tuple):
        return {name for part in spec for name in _named_in(part)}
    if not isinstance(spec, Mapping):
        return {spec} if isinstance(spec, str) else set()
    keys = ("column", "columns", "entity", "key", "of", "cross")
    return {name for key, part in spec.items() if key in keys or isinstance(part, Mapping) for name in _named_in(part)}

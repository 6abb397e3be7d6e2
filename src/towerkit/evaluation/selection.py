"""Model selection: which validation figure decides, and how a ranking is validated after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from towerkit.core.errors import SpecError, listed, nearest
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.data.stream.log import Log
from towerkit.evaluation.ranking import ranking_values
from towerkit.evaluation.ranking_task import RankingTask, ranking_task
from towerkit.evaluation.spec import EvaluationSpec
from towerkit.features.encoded import Encoded
from towerkit.index.pairs import PairRanker, without_unknown
from towerkit.index.ranker import Ranker
from towerkit.index.vectors import VectorRanker
from towerkit.metrics.ranking import RANKING_METRICS
from towerkit.metrics.tasks import higher_is_better
from towerkit.models.pair_scorer import parts_of
from towerkit.models.tower_model import TowerModel
from towerkit.models.two_tower import TwoTower
from towerkit.models.wiring import pair_of
from towerkit.training.loop import Selection
from towerkit.training.recipes import pairs_matrix

_CHUNK = 4096
"""Queries whose histories are cut at a time."""


def ranking_selection(spec: EvaluationSpec) -> Selection:
    """The ranking figure that decides; NDCG at the largest ``k`` when the spec names none.

    Raises:
        SpecError: If the named figure is not measured.
    """
    known = [*(f"{name}@{k}" for name in RANKING_METRICS for k in spec.k), "auc"]
    return _selection(spec.select_by or f"ndcg@{max(spec.k)}", known)


def joint_selection(spec: EvaluationSpec, candidates: Iterable[str]) -> Selection:
    """The figure that decides of several rankings: their mean NDCG at the largest ``k`` when the spec names none.

    Args:
        spec: Its ``select_by`` names a mean (``ndcg@10``) or the figure of one (``snack/ndcg@10``).
        candidates: The sorts of candidates.

    Raises:
        SpecError: If the named figure is not measured.
    """
    plain = [f"{name}@{k}" for name in RANKING_METRICS for k in spec.k]
    named = [f"{candidate}/{metric}" for candidate in candidates for metric in plain]
    return _selection(spec.select_by or f"ndcg@{max(spec.k)}", [*plain, *named])


def task_selection(spec: EvaluationSpec, tasks: Iterable[str]) -> Selection:
    """The loss that decides; the weighted sum over tasks when the spec names none.

    Raises:
        SpecError: If the named figure is not measured.
    """
    return _selection(spec.select_by or "loss", ["loss", *(f"{task}/loss" for task in tasks)])


def _selection(name: str, known: list[str]) -> Selection:
    if name not in known:
        raise SpecError(
            f"evaluation.select_by: '{name}' is not measured on validation{nearest(name, known) or '.'} "
            f"Measured are {listed(known, limit=30)}."
        )
    return Selection(name, higher_is_better=not name.endswith("loss") and higher_is_better(name))


def ranking_validator(
    dataset: Dataset | Log, spec: EvaluationSpec
) -> Callable[[TwoTower | TowerModel, Encoded, Rows | range, Rows], Mapping[str, float]]:
    """A function that ranks all candidates for the validation queries; the task is built once."""
    tasks: list[RankingTask] = []

    def validate(
        model: TwoTower | TowerModel, encoded: Encoded, train: Rows | range, held_out: Rows
    ) -> Mapping[str, float]:
        entities = dataset.pair if isinstance(dataset, Log) else pair_of(dataset)
        query, candidate = (encoded.catalogues[entity] for entity in entities)
        if not tasks:
            keys: list[pa.Array] = [dataset.labelled(entity, held_out) for entity in entities]
            seen = pairs_matrix(encoded, train, entities)
            grades = graded(dataset, held_out)
            tasks.append(ranking_task(query, candidate, seen, *keys, grades=grades, exclude_seen=spec.exclude_seen))
        auc = spec.select_by == "auc"  # it is only counted where it decides: each epoch would pay for it
        values = ranking_values(model_ranker(model, encoded, entities), tasks[0], spec.k, auc=auc, gain=spec.gain)
        return {name: float(np.mean(value)) for name, value in values.items()}

    return validate


def graded(dataset: Dataset | Log, rows: Rows) -> NDArray[np.float64] | None:
    """``[rows]`` how well each candidate answers its query; None where the data does not say.

    Args:
        dataset: A log has no grades.
        rows: Example rows.
    """
    return None if isinstance(dataset, Log) or dataset.grades is None else dataset.grades[rows]


def model_ranker(model: TwoTower | TowerModel, encoded: Encoded, entities: tuple[str, str]) -> Ranker:
    """The model as it is, ranking the candidates known before the test part; query row 0 is the unknown query.

    Args:
        model: A two-tower, or a ranker's merged towers; set to evaluation.
        encoded: The arrays.
        entities: The query and the candidate entity.
    """
    if isinstance(model, TowerModel):
        return _pair_ranker(model, encoded, entities)
    num_queries = len(encoded.catalogues[model.query_entity].keys) + 1
    with torch.no_grad():
        chunks = torch.arange(num_queries).split(_CHUNK)
        queries = torch.cat([model.query(encoded.columns(model.query_entity, rows)) for rows in chunks])
        candidates = model.candidate(encoded.tables[model.candidate_entity])
    known = encoded.catalogues[model.candidate_entity].num_known
    return VectorRanker(queries.numpy(), candidates[1 : known + 1].numpy(), model.match.similarity)


def _pair_ranker(model: TowerModel, encoded: Encoded, entities: tuple[str, str]) -> PairRanker:
    sizes = len(encoded.catalogues[entities[0]].keys) + 1, encoded.catalogues[entities[1]].num_known + 1
    query, candidate = (
        parts_of(model, entity, encoded.tables[entity], rows) for entity, rows in zip(entities, sizes, strict=True)
    )
    return PairRanker(model, query, without_unknown(candidate))

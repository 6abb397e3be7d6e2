"""A trained ranker that answers raw rows: each side's towers run once per row, the backbone once per pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from scipy.sparse import csr_array
from torch import Tensor

from towerkit.data.batch import Columns, take
from towerkit.data.readers import Table
from towerkit.features.encoded import Catalogue
from towerkit.features.encoder import Encoder
from towerkit.features.labels import Labels
from towerkit.heads.decision import Decision
from towerkit.models.answer import TaskPredictor, known_pairs, known_part
from towerkit.models.ranker import RANKING, RankerSpec
from towerkit.models.tower_model import TowerModel

_CHUNK = 4096

Parts = Mapping[str, Tensor]
"""Tower name -> ``[rows, dim_i]``, of the towers of one entity."""


@torch.no_grad()
def parts_of(model: TowerModel, entity: str, columns: Columns, rows: int) -> dict[str, Tensor]:
    """What the towers of an entity say of each row.

    Args:
        model: Set to evaluation.
        entity: Whose towers.
        columns: Encoded columns, row 0 the unknown one.
        rows: How many there are, the unknown one included.

    Returns:
        Tower name -> ``[rows, dim_i]``.
    """
    found: dict[str, list[Tensor]] = {name: [] for name, own in model.entities.items() if own == entity}
    for chunk in torch.arange(rows).split(_CHUNK):
        own = take(columns, chunk)
        for name, parts in found.items():
            parts.append(model.part(name, own))
    return {name: torch.cat(parts) for name, parts in found.items()}


@torch.no_grad()
def scores_of_parts(model: TowerModel, parts: Parts) -> Tensor:
    """``[pairs]`` scores; a tower that says nothing of the pairs has its learned vector stand in.

    Args:
        model: Set to evaluation.
        parts: Tower name -> ``[pairs, dim_i]``.
    """
    count = len(next(iter(parts.values())))
    whole = {}
    for name in model.towers:
        if name in parts:
            whole[name] = parts[name]
        else:
            assert model.absent is not None
            whole[name] = model.absent.vector(name).expand(count, -1)
    return model.merged(whole, RANKING)[:, 0]


@dataclass(frozen=True, eq=False)
class PairScorer:
    """A trained ranker with its catalogues: keys or raw rows to the scores of pairs."""

    spec: RankerSpec
    encoder: Encoder
    model: TowerModel
    query: Catalogue
    candidate: Catalogue
    seen: csr_array
    """``[queries, candidates]`` pairs that the model was trained on, by place in the catalogues."""
    titles: Mapping[str, str | None]
    """Entity -> the column shown to people."""
    query_entity: str
    candidate_entity: str
    others: Mapping[str, Catalogue] = field(default_factory=dict)
    """Tables of what is known of a request, by entity."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """Task -> how its logits become an answer."""

    @property
    def tasks(self) -> Mapping[str, Labels]:
        """The tasks beside the ranking -> their classes."""
        return self.encoder.labels

    @property
    def reads_requests(self) -> bool:
        """Whether a tower reads what is known of a request: neither the query's nor the candidate's columns."""
        return not set(self.model.entities.values()) <= {self.query_entity, self.candidate_entity}

    @cached_property
    def predictor(self) -> TaskPredictor:
        """Answers the tasks beside the ranking, and the score of pairs with what is known of their request."""
        known = {self.query_entity: self.query, self.candidate_entity: self.candidate, **self.others}
        return TaskPredictor(self.spec, self.encoder, self.model, known, self.decisions)

    @cached_property
    def query_parts(self) -> Parts:
        """Of each known query, row 0 the unknown one."""
        return self.parts_of_rows(self.query_entity, self.query.table)

    @cached_property
    def candidate_parts(self) -> Parts:
        """Of each known candidate, row 0 the unknown one."""
        return self.parts_of_rows(self.candidate_entity, self.candidate.table)

    def parts_of_rows(self, entity: str, table: Table) -> Parts:
        """What the towers of a side say of raw rows, from 1; row 0 is the unknown row.

        Args:
            entity: The query or the candidate entity.
            table: Rows with the columns that its towers read; a key that training never saw counts as unknown.

        Raises:
            DataError: If a column is missing or holds a value of another kind.
        """
        self.model.eval()
        return parts_of(self.model, entity, self.encoder.encode(entity, table), table.data.num_rows + 1)

    @property
    def query_columns(self) -> tuple[str, ...]:
        """What is read of raw query rows."""
        return self.encoder.columns(self.query_entity)

    @property
    def candidate_columns(self) -> tuple[str, ...]:
        """What is read of raw candidate rows."""
        return self.encoder.columns(self.candidate_entity)


def pair_scorer_of(
    spec: RankerSpec,
    encoder: Encoder,
    model: TowerModel,
    catalogues: Mapping[str, Catalogue],
    seen: csr_array,
    *,
    entities: tuple[str, str],
    titles: Mapping[str, str | None],
    decisions: Mapping[str, Decision],
) -> PairScorer:
    """A pair scorer over the keys that were known before the test part.

    Args:
        spec: The model's spec.
        encoder: The fitted encoder.
        model: The trained module.
        catalogues: Entity -> all its keys.
        seen: ``[query rows, candidate rows]`` trained pairs, the unknown row 0 included.
        entities: The names of the query and the candidate entity.
        titles: Entity -> the column shown to people.
        decisions: Of the tasks beside the ranking.
    """
    known = {name: known_part(catalogue) for name, catalogue in catalogues.items()}
    query, candidate = known.pop(entities[0]), known.pop(entities[1])
    return PairScorer(
        spec,
        encoder,
        model.eval(),
        query,
        candidate,
        known_pairs(seen, query, candidate),
        dict(titles),
        *entities,
        others=known,
        decisions=dict(decisions),
    )

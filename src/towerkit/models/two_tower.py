"""The two-tower: a query side and a candidate side, compared by a match."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import model_validator
from scipy.sparse import csr_array
from torch import Tensor, nn

from towerkit.core.errors import ShapeError
from towerkit.core.spec import Spec
from towerkit.data.batch import Batch, Columns
from towerkit.data.dataset import Dataset
from towerkit.features.encoder import Demand, Encoder
from towerkit.matching.similarity import AnyMatchSpec, DotSpec, Match
from towerkit.models.histories import check_histories
from towerkit.models.side import (
    Side,
    SideSpec,
    build_side,
    check_pairing,
    reads_history,
    side_features,
    side_remarks,
    towers_of,
)
from towerkit.models.ties import check_ties_between, tied, twins_of
from towerkit.models.wiring import check_aggregates, key_of, pair_of, schema_of
from towerkit.towers import Candidates, IdTowerSpec
from towerkit.towers.id import num_ids


@dataclass(frozen=True)
class Encoding:
    """One side of a batch after its towers: each part, and the merged vectors, for each distinct row."""

    parts: Mapping[str, Tensor]
    """Tower name -> ``[rows, dim_i]``."""
    vectors: Tensor
    """``[rows, dim]``."""


def encode_side(side: Side, columns: Columns) -> Encoding:
    """The vectors of some rows of a side, all at once."""
    parts = side.parts(columns)
    return Encoding(parts, side.merge(parts))


class TwoTower(nn.Module):
    """Vectors of both sides. Losses, negatives and updates are none of its business.

    Args:
        query: The query side.
        candidate: The candidate side.
        match: How two vectors give a score.
        query_entity: Where the query side reads its columns.
        candidate_entity: Where the candidate side reads its columns.
    """

    def __init__(self, query: Side, candidate: Side, match: Match, *, query_entity: str, candidate_entity: str) -> None:
        super().__init__()
        if query.out_dim != candidate.out_dim:
            raise ShapeError(
                f"The two sides must give vectors of one width to be compared; query gives {query.out_dim}, "
                f"candidate gives {candidate.out_dim}. Set the same dim on both."
            )
        self.query, self.candidate, self.match = query, candidate, match
        self.query_entity, self.candidate_entity = query_entity, candidate_entity

    def forward(
        self, batch: Batch, run: Callable[[Side, Columns], Encoding] | None = None
    ) -> tuple[Encoding, Encoding]:
        """Encode the distinct rows of both sides of a batch.

        Args:
            batch: The rows.
            run: Encodes a side's columns in another way than all at once.
        """
        run = run or encode_side
        if self.training:
            for side in (self.query, self.candidate):
                for _, tower in side.each():
                    tower.start_step()
        return (
            run(self.query, batch.columns[self.query_entity]),
            run(self.candidate, batch.columns[self.candidate_entity]),
        )

    def begin(self, pairs: csr_array) -> None:
        """Hand the training pairs to the towers that begin from them, before the first step.

        Args:
            pairs: ``[query id rows, candidate id rows]``; see :meth:`Tower.begin_with`.
        """
        paired = ([tower for _, tower in side.each() if tower.paired] for side in (self.query, self.candidate))
        for query, candidate in zip(*paired, strict=True):
            query.begin_with(candidate, pairs)

    def begin_from(self, learned: Callable[[str], Columns]) -> None:
        """Show the rows of their entity to the towers that begin from them, before the first step.

        Args:
            learned: Gives the encoded rows of an entity that training rows point to.
        """
        for side, entity in ((self.query, self.query_entity), (self.candidate, self.candidate_entity)):
            for _, tower in side.each():
                if tower.begins_from_rows:
                    tower.begin_from(learned(entity))


class TwoTowerSpec(Spec):
    """Retrieval: rank candidates for a query by the similarity of two vectors."""

    kind: Literal["two_tower"] = "two_tower"
    query: SideSpec
    candidate: SideSpec
    match: AnyMatchSpec = DotSpec()

    @model_validator(mode="after")
    def _towers_have_their_place_and_partners(self) -> TwoTowerSpec:
        check_pairing(self.query, self.candidate)
        check_histories(self.query, self.candidate)
        check_ties_between(self.query, self.candidate)
        return self

    def demand(self, dataset: Dataset) -> Demand:
        """What both sides read.

        Raises:
            DataError: If the data does not say which columns are query and candidate.
        """
        query, candidate = self.entities(dataset)
        demand = Demand()
        demand.add(query, side_features(self.query, dataset, query))
        demand.add(candidate, side_features(self.candidate, dataset, candidate))
        if reads_history(self.query):
            demand.add(candidate, IdTowerSpec().features(schema_of(dataset, candidate), key_of(dataset, candidate)))
        check_aggregates(demand, query)
        return demand

    def remarks(self, dataset: Dataset, where: str = "model") -> list[str]:
        """What looks like a slip beside this data: columns that several towers of one side read.

        Args:
            dataset: What it would learn from.
            where: The part of the spec that this is.
        """
        sides = zip(("query", "candidate"), (self.query, self.candidate), self.entities(dataset), strict=True)
        return [told for name, side, own in sides for told in side_remarks(side, dataset, own, f"{where}.{name}")]

    def entities(self, dataset: Dataset) -> tuple[str, str]:
        """The names of the query and the candidate entity."""
        return pair_of(dataset)

    def build(self, encoder: Encoder, entities: tuple[str, str], *, sparse_rows: bool = False) -> TwoTower:
        """Make the module from fitted features."""
        query, candidate = entities
        if reads_history(self.query) or tied(towers_of(self.query)):
            candidate_side = build_side(self.candidate, encoder, candidate, sparse_rows=sparse_rows)
            ids = list(candidate_side.id_towers().values())
            known = Candidates(
                num_ids(encoder, candidate) if reads_history(self.query) else 0,
                ids[0] if len(ids) == 1 else None,
                twins_of(self.query, self.candidate, candidate_side),
            )
            query_side = build_side(self.query, encoder, query, sparse_rows=sparse_rows, candidates=known)
        else:  # the order in which the sides draw their start
            query_side = build_side(self.query, encoder, query, sparse_rows=sparse_rows)
            candidate_side = build_side(self.candidate, encoder, candidate, sparse_rows=sparse_rows)
        return TwoTower(
            query_side, candidate_side, Match(self.match.kind), query_entity=query, candidate_entity=candidate
        )

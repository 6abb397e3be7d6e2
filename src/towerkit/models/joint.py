"""Several retrievals at once: one query side, and a candidate side for each sort of thing that is looked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import nn

from towerkit.core.errors import DataError, SpecError, listed, nearest
from towerkit.core.spec import Name, Spec
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Parts
from towerkit.data.table import values_of
from towerkit.features.encoder import Demand, Encoder
from towerkit.matching.similarity import AnyMatchSpec, DotSpec, Match
from towerkit.models.side import SideSpec, build_side, reads_history, side_remarks, towers_of
from towerkit.models.two_tower import TwoTower, TwoTowerSpec
from towerkit.models.wiring import check_aggregates
from towerkit.towers.layers import Named


class JointModel(nn.Module):
    """A two-tower for each candidate entity; all have the same query side.

    Args:
        two_towers: Candidate entity -> a two-tower over the one query side.
    """

    def __init__(self, two_towers: Mapping[str, TwoTower]) -> None:
        super().__init__()
        self.query = next(iter(two_towers.values())).query
        self.candidates = Named({name: each.candidate for name, each in two_towers.items()})
        self.two_towers = dict(two_towers)  # no modules of their own, so that no weight stands twice

    def train(self, mode: bool = True) -> Self:
        """Switch modes, of the two-towers as well."""
        super().train(mode)
        for each in self.two_towers.values():
            each.train(mode)
        return self


class JointSpec(Spec):
    """Several retrievals that share what they know of a query: films and snacks, articles and ads."""

    kind: Literal["joint"] = "joint"
    query: SideSpec
    candidates: dict[Name, SideSpec] = Field(min_length=1)
    """Column of the examples with the keys of one sort of candidates -> its side; a row without a key there teaches the others."""
    match: AnyMatchSpec = DotSpec()
    weights: dict[Name, float] = Field(default_factory=dict)
    """Candidate -> its weight in the sum of losses; 1 where it is not named."""

    @model_validator(mode="after")
    def _each_is_a_two_tower_by_itself(self) -> JointSpec:
        for name in self.candidates:
            self.two_tower(name)
        sides = {"query": self.query, **self.candidates}
        for side, spec in sides.items():
            paired = [name for name, tower in towers_of(spec).items() if tower.pairing() is not None]
            shared = [name for name, tower in towers_of(spec).items() if getattr(tower, "of", "own") == "candidate"]
            if reads_history(spec) or paired or shared:
                raise ValueError(
                    f"the side '{side}' of a joint model is made of what one candidate side has (a history, a spectral start, a "
                    "graph, of: candidate), and there are several. Use other towers, or a two_tower for each."
                )
        unknown = sorted(self.weights.keys() - self.candidates.keys())
        if unknown:
            raise ValueError(
                f"weights are those of candidates; there is no '{unknown[0]}'{nearest(unknown[0], self.candidates) or '.'} There "
                f"are {listed(self.candidates)}."
            )
        if any(not weight > 0 for weight in self.weights.values()):
            raise ValueError(
                f"weights must be above 0; received {self.weights}. Leave a candidate out that does not count."
            )
        return self

    def two_tower(self, candidate: str) -> TwoTowerSpec:
        """The retrieval of one sort of candidates, as a model of its own."""
        return TwoTowerSpec(query=self.query, candidate=self.candidates[candidate], match=self.match)

    def demand(self, dataset: Dataset) -> Demand:
        """What all sides read."""
        whole = Demand()
        for name in self.candidates:
            for entity, features in self.two_tower(name).demand(for_candidate(dataset, name)).features.items():
                whole.add(entity, features)
        check_aggregates(whole)
        return whole

    def remarks(self, dataset: Dataset, where: str = "model") -> list[str]:
        """What looks like a slip beside this data: columns that several towers of a side read.

        Args:
            dataset: What it would learn from.
            where: The part of the spec that this is.
        """
        sides = [(self.query, query_of(dataset), f"{where}.query")]
        sides += [(side, name, f"{where}.candidates.{name}") for name, side in self.candidates.items()]
        return [told for side, entity, place in sides for told in side_remarks(side, dataset, entity, place)]

    def build(self, encoder: Encoder, query: str, *, sparse_rows: bool = False) -> JointModel:
        """Make the module from fitted features.

        Args:
            encoder: The fitted encoder.
            query: The query entity.
            sparse_rows: Tables give sparse gradients.
        """
        side = build_side(self.query, encoder, query, sparse_rows=sparse_rows)
        two_towers = {}
        for name, spec in self.candidates.items():
            candidate = build_side(spec, encoder, name, sparse_rows=sparse_rows)
            match = Match(self.match.kind)
            two_towers[name] = TwoTower(side, candidate, match, query_entity=query, candidate_entity=name)
        return JointModel(two_towers)


def query_of(dataset: Dataset) -> str:
    """The name of the query entity.

    Raises:
        DataError: If the data does not say which column it is.
    """
    if dataset.roles.query is None:
        raise DataError(
            "A model that ranks answers queries: set data.examples.query to the column with their keys. The columns are "
            f"{dataset.examples.data.column_names}."
        )
    return dataset.roles.query


def for_candidate(dataset: Dataset, candidate: str) -> Dataset:
    """The data set as the retrieval of one sort of candidates sees it: the rows that have one.

    Args:
        dataset: Raw tables with their split.
        candidate: Column of the examples.

    Raises:
        DataError: If there is no such column, or no training row has a value in it.
        SpecError: If another column is the candidate of the data.
    """
    if dataset.roles.candidate not in (None, candidate):
        raise SpecError(
            f"A joint model names its candidates itself, and data.examples.candidate is '{dataset.roles.candidate}'. Remove "
            "that key."
        )
    dataset.schemas["example"].require(candidate, dataset.examples.name)
    known = values_of(dataset.examples.data, candidate).is_valid().to_numpy(zero_copy_only=False)
    parts = _among(dataset.parts, known)
    if not len(parts.train):
        raise DataError(
            f"{dataset.examples.name}: the column '{candidate}' is empty in all {len(dataset.parts.train):,} training rows, so "
            "nothing could be learned of these candidates. Remove it from model.candidates, or give rows that have it."
        )
    uncut = None if dataset.uncut is None else _among(dataset.uncut, known)
    return replace(dataset, roles=replace(dataset.roles, candidate=candidate), parts=parts, uncut=uncut)


def _among(parts: Parts, known: NDArray[np.bool_]) -> Parts:
    return Parts(*(np.asarray(rows)[known[rows]] for rows in (parts.train, parts.validation, parts.test)))

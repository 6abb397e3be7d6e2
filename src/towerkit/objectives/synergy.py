"""Synergy: a tower of each side is told what the other side looks like, and the sides stay separable.

Two towers meet only in a product at the end, so neither knows what the other one sees. A *told* tower has its place among the
towers of its side, reads its own entity alone, and is pulled, for each positive, towards the vector that the other side gives.
That vector is a constant of the pull: the other side does not come to meet it. After training the told tower says from a user's own
columns what sort of items she takes, and the backbone of her side merges that with the rest.

Reference: Yu et al., A Dual Augmented Two-tower Model for Online Large-scale Recommendation, DLP-KDD 2021, whose augmented vectors
    are the told towers here; CS3 (cross-tower synchronization) has the same aim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from towerkit.core.errors import ShapeError, SpecError, listed, nearest
from towerkit.core.spec import Name, Spec
from towerkit.data.batch import Batch, spread

if TYPE_CHECKING:
    from towerkit.models.side import Side
    from towerkit.models.two_tower import Encoding, TwoTower


class SynergySpec(Spec):
    """Towers of a two_tower that are pulled towards what the other side says of their positives."""

    query: Name | None = None
    """A tower of the query side, as wide as the vectors of the sides."""
    candidate: Name | None = None
    """A tower of the candidate side, as wide as the vectors of the sides."""
    weight: float = Field(0.1, gt=0.0, le=1000.0)
    """Of the pull, beside the loss of the positives."""

    @model_validator(mode="after")
    def _someone_is_told(self) -> SynergySpec:
        if self.query is None and self.candidate is None:
            raise ValueError(
                "a synergy names the tower that is told of the other side; received neither query nor candidate. Give one of them, "
                "for example query: told, beside a tower of that name."
            )
        return self

    def build(self, model: TwoTower) -> Synergy:
        """The term.

        Args:
            model: Built; it has the towers.

        Raises:
            SpecError: If a side has no tower of that name beside others.
            ShapeError: If a told tower is not as wide as the other side's vectors.
        """
        for name, wanted, side in (("query", self.query, model.query), ("candidate", self.candidate, model.candidate)):
            if wanted is not None:
                _check(name, wanted, side)
        return Synergy(self.query, self.candidate)


def _check(name: str, wanted: str, side: Side) -> None:
    towers = dict(side.each())
    if wanted not in towers or side.backbone is None:
        raise SpecError(
            f"objective.synergy.{name} names a tower beside others of the {name} side; received '{wanted}', and the side "
            f"has {listed(towers)}{nearest(wanted, towers) or '.'} Give the side towers: {{…}}, and name one of them here."
        )
    if towers[wanted].out_dim != side.out_dim:
        raise ShapeError(
            f"The tower '{wanted}' of objective.synergy.{name} learns the direction of the other side's vectors, which have "
            f"{side.out_dim} dimensions; it has {towers[wanted].out_dim}. Give it dim: {side.out_dim}."
        )


@dataclass(frozen=True)
class Synergy:
    """Who is told of the other side."""

    query: str | None
    candidate: str | None

    def __call__(self, model: TwoTower, batch: Batch, query: Encoding, candidate: Encoding) -> Tensor:
        """``[batch]`` ``1 - cos`` between what each told tower says and the other side's vector, added up.

        Args:
            model: Says where the rows of each side lie.
            batch: The rows.
            query: The query side of the batch.
            candidate: The candidate side.
        """
        queries, candidates = batch.index[model.query_entity], batch.index[model.candidate_entity]
        pulls = []
        if self.query is not None:
            pulls.append(pull(spread(query.parts[self.query], queries), spread(candidate.vectors, candidates)))
        if self.candidate is not None:
            pulls.append(pull(spread(candidate.parts[self.candidate], candidates), spread(query.vectors, queries)))
        return sum(pulls[1:], pulls[0])


def pull(told: Tensor, other: Tensor) -> Tensor:
    """``1 - cos(told, other)`` of each row; only the told vector has a gradient.

    Args:
        told: ``[rows, dim]``.
        other: ``[rows, dim]``.

    Example:
        >>> import torch
        >>> pull(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])).tolist()
        [0.0, 1.0]
    """
    return 1.0 - functional.cosine_similarity(told, other.detach(), dim=1)

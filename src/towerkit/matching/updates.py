"""Updates: how the gradient reaches each side of a two-tower, and what else moves it.

An update never runs a tower again: it keeps what the forward pass gave and re-reads id rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.core.errors import ShapeError, SpecError
from towerkit.core.spec import Spec
from towerkit.data.batch import Batch, dense

if TYPE_CHECKING:
    from towerkit.models.two_tower import Encoding, TwoTower
    from towerkit.towers.id import IdTower


class Update(Protocol):
    """How the gradient reaches each side, and what moves after the optimizer's step."""

    def view(self, query: Encoding, candidate: Encoding) -> tuple[Tensor, Tensor]:
        """The vectors as the loss shall see them."""

    def trainable(self, model: TwoTower) -> Iterator[nn.Parameter]:
        """The parameters that the optimizer moves."""

    def after_step(self, model: TwoTower, batch: Batch) -> None:
        """Move what has no gradient."""


class TwoBackprop:
    """Both sides move by their gradients: the usual way."""

    def view(self, query: Encoding, candidate: Encoding) -> tuple[Tensor, Tensor]:
        """The vectors as the loss shall see them."""
        return query.vectors, candidate.vectors

    def trainable(self, model: TwoTower) -> Iterator[nn.Parameter]:
        """The parameters that the optimizer moves."""
        return model.parameters()

    def after_step(self, model: TwoTower, batch: Batch) -> None:
        """Nothing more moves."""


class OneBackprop:
    """Only the candidate side gets gradients; a query's id vector moves towards the candidates it met.

    After the optimizer has moved the candidates, for a query with ``k`` positives in the batch:

    - ``grouped``: ``e_u <- β^k e_u + (1 - β^k) mean(e_i)``, whatever the order of its rows;
    - ``last``: ``e_u <- β e_u + (1 - β) e_i`` of its last row only, as the reference implementation does.

    Other parts of the query side, such as features, keep their gradients.

    Args:
        beta: Share of the old vector that stays at each interaction.
        duplicates: What happens when a query occurs more than once in a batch.

    Reference: Chen and Wang, One Backpropagation in Two Tower Recommendation Models, arXiv 2403.18227.
    """

    def __init__(self, beta: float, duplicates: Literal["grouped", "last"]) -> None:
        self.beta, self.duplicates = beta, duplicates
        self._candidate: Encoding | None = None

    def view(self, query: Encoding, candidate: Encoding) -> tuple[Tensor, Tensor]:
        """Both as they are: the query's id rows carry no gradient because :meth:`trainable` froze them."""
        self._candidate = candidate
        return query.vectors, candidate.vectors

    def trainable(self, model: TwoTower) -> Iterator[nn.Parameter]:
        """Everything but the query's id table, which is frozen here.

        Raises:
            SpecError: If the query side has no id tower.
            ShapeError: If the id vectors do not have the width of the candidates.
        """
        self._id_tower(model).table.requires_grad_(False)
        return (parameter for parameter in model.parameters() if parameter.requires_grad)

    @torch.no_grad()
    def after_step(self, model: TwoTower, batch: Batch) -> None:
        """Move the queries of the batch towards the new vectors of their positives."""
        assert self._candidate is not None
        columns = batch.columns[model.candidate_entity]
        parts = {name: part.detach() for name, part in self._candidate.parts.items()}
        parts |= {name: tower(columns) for name, tower in model.candidate.id_towers().items()}
        candidates = model.match.prepare(model.candidate.merge(parts))  # [candidate rows, dim]
        targets = candidates[batch.index[model.candidate_entity]]  # [batch, dim]
        codes = dense(batch.columns[model.query_entity], "id")
        self._move(self._id_tower(model).table, codes, batch.index[model.query_entity], targets)

    def _move(self, table: Tensor, codes: Tensor, owner: Tensor, targets: Tensor) -> None:
        if self.duplicates == "last":
            rows = torch.arange(len(owner), device=owner.device)
            last = torch.full_like(codes, -1).scatter_reduce_(0, owner, rows, "amax")
            table[codes] = self.beta * table[codes] + (1.0 - self.beta) * targets[last]
            return
        counts = torch.bincount(owner, minlength=len(codes)).to(targets.dtype)  # [query rows]
        mean = targets.new_zeros(len(codes), targets.shape[1]).index_add_(0, owner, targets) / counts[:, None]
        kept = (self.beta**counts)[:, None]
        table[codes] = kept * table[codes] + (1.0 - kept) * mean

    def _id_tower(self, model: TwoTower) -> IdTower:
        towers = list(model.query.id_towers().values())
        if len(towers) != 1:
            raise SpecError(
                f"one_backprop moves the id vectors of the query side, so that side needs one id tower; it has {len(towers)}. "
                "Add {kind: id}, or use update: {kind: two_backprop}."
            )
        if towers[0].out_dim != model.candidate.out_dim:
            raise ShapeError(
                "one_backprop averages candidate vectors into the query's id vectors, so both need one width; the id tower "
                f"gives {towers[0].out_dim}, the candidate side {model.candidate.out_dim}. Set the same dim."
            )
        return towers[0]


class TwoBackpropSpec(Spec):
    """Both sides learn by gradient."""

    kind: Literal["two_backprop"] = "two_backprop"

    def build(self) -> TwoBackprop:
        """The update."""
        return TwoBackprop()


class OneBackpropSpec(Spec):
    """Queries move by aggregation: no optimizer state for them, and a new one is served from its first event."""

    kind: Literal["one_backprop"] = "one_backprop"
    beta: float = Field(0.99, gt=0.0, lt=1.0)
    duplicates: Literal["grouped", "last"] = "grouped"

    def build(self) -> OneBackprop:
        """The update."""
        return OneBackprop(self.beta, self.duplicates)


AnyUpdateSpec = Annotated[TwoBackpropSpec | OneBackpropSpec, Field(discriminator="kind")]
"""The menu of updates."""

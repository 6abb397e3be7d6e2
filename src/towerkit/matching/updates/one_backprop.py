"""One-backprop: gradients move the candidate side; a query's id vector moves towards the candidates it met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from towerkit.core.errors import ShapeError, SpecError
from towerkit.data.batch import Batch, Columns, dense, take
from towerkit.data.splits import Rows
from towerkit.features.encoded import Encoded
from towerkit.matching.updates.base import GradientUpdate, UpdateSpec, View

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

    from towerkit.models.side import Side
    from towerkit.models.two_tower import Encoding, TwoTower
    from towerkit.towers.id import IdTower

_CHUNK = 4096
"""Candidates that are encoded at a time where all rows are read."""


class OneBackprop(GradientUpdate):
    """Only the candidate side gets gradients; a query's id vector moves towards the candidates it met.

    After the optimizer has moved the candidates, for a query with ``k`` positives in the step (an example of weight
    ``w`` counts as ``w``; a step has several batches where gradients are accumulated):

    - ``grouped``: ``e_u <- β^k e_u + (1 - β^k) mean(e_i)``, whatever the order of its rows;
    - ``last``: ``e_u <- β e_u + (1 - β) e_i`` of its last row only, as the reference implementation does.

    Other parts of the query side, such as features, keep their gradients. It never runs a tower again: it keeps what
    the forward pass gave, and re-reads id rows.

    Args:
        beta: Share of the old vector that stays at each interaction.
        duplicates: What happens when a query occurs more than once in a batch.
        start: Where id vectors begin: as the tower made them, or at the mean of the query's candidates.
        debias: Leave the start out of the average: the first interaction sets the vector, as in Adam's bias correction.
        refresh: Move after each batch, or once after each epoch with all its rows.

    Reference: Chen and Wang, One Backpropagation in Two Tower Recommendation Models, arXiv 2403.18227; its fixed point
        for resting candidates is history pooling with the history detached (SimpleX, arXiv 2109.12613, with g = 0).
    """

    def __init__(
        self,
        beta: float,
        duplicates: Literal["grouped", "last"],
        *,
        start: Literal["random", "mean_of_items"] = "random",
        debias: bool = False,
        refresh: Literal["batch", "epoch"] = "batch",
    ) -> None:
        self.beta, self.duplicates, self.start, self.refresh = beta, duplicates, start, refresh
        self.met: Tensor | None = torch.zeros(0) if debias else None
        """``[id rows]`` how much each query has met so far, where the average is debiased."""
        self.home: Tensor | None = None
        """``[own rows, dim]`` where each of several processes has the id vectors of its own queries: row ``i`` is that of code
        ``rank + i * size``."""
        self._step: list[tuple[Batch, dict[str, Tensor]]] = []
        """The batches of the step under way, several where gradients are accumulated, and what their candidates' towers gave."""

    def trainable(self, model: TwoTower) -> Iterator[nn.Parameter]:
        """Everything but the query's id table, which is frozen here.

        Raises:
            SpecError: If the query side has no id tower.
            ShapeError: If the id vectors do not have the width of the candidates.
        """
        self._id_tower(model).table.requires_grad_(False)
        return super().trainable(model)

    def begin(self, model: TwoTower, encoded: Encoded, rows: Rows) -> None:
        """Set the start, and count from zero."""
        table = self._id_tower(model).table
        if self.met is not None:
            self.met = torch.zeros(len(table))
        if self.start == "mean_of_items":
            codes, owner, targets, weights = self._everything(model, encoded, rows)
            mean, counts = _grouped(owner, targets, weights, len(codes))
            table.data[codes[counts > 0]] = mean[counts > 0]

    def views(self, model: TwoTower, batch: Batch, query: Encoding, candidate: Encoding) -> list[View]:
        """Both as they are: the query's id rows carry no gradient because :meth:`trainable` froze them."""
        if self.refresh == "batch":
            self._step.append((batch, {name: part.detach() for name, part in candidate.parts.items()}))
        return [(query.vectors, candidate.vectors)]

    @torch.no_grad()
    def after_step(self, model: TwoTower, batch: Batch) -> None:
        """Move the queries of all batches of the step towards the new vectors of their positives."""
        step, self._step = self._step, []
        if not step:
            return
        targets = torch.cat([self._of_all(each, _targets(model, each, parts)) for each, parts in step])  # [rows, dim]
        codes = torch.cat([self._of_all(each, _codes(model, each)) for each, _ in step])  # [rows]
        weights = [self._of_all(each, each.weights) for each, _ in step if each.weights is not None]
        distinct, owner = torch.unique(codes, return_inverse=True)
        self._move(model, distinct, owner, targets, torch.cat(weights) if weights else None)

    def _of_all(self, batch: Batch, rows: Tensor) -> Tensor:
        """Something of each row of the batches of all processes; of this one's where all rows of its queries are here."""
        shares = batch.shares
        if shares is None:
            return rows
        own = rows[: shares.sizes[shares.rank]]  # none where the row here only keeps company
        return own if shares.by_query else shares.in_order(self.world.all(own, shares.sizes))

    @torch.no_grad()
    def after_epoch(self, model: TwoTower, encoded: Encoded, rows: Rows) -> None:
        """With ``refresh: epoch``, move every query by all its rows at once."""
        if self.refresh == "epoch":
            if self.home is not None:
                rows = rows[self.world.owner(_codes_of(model, encoded, rows)).numpy() == self.world.rank]
            self._move(model, *self._everything(model, encoded, rows))

    def state(self) -> dict[str, Tensor]:
        """How much each query has met, where that matters."""
        return {} if self.met is None else {"met": self.met}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take the counts back."""
        self.met = state.get("met")

    @torch.no_grad()
    def _everything(
        self, model: TwoTower, encoded: Encoded, rows: Rows
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Distinct query codes, and for each row its query's place, its candidate's vector and its weight."""
        own, places = np.unique(encoded.index[model.candidate_entity][rows], return_inverse=True)
        vectors = _settled_vectors(model.candidate, encoded.tables[model.candidate_entity], torch.from_numpy(own))
        candidates = model.match.prepare(vectors)  # [distinct candidates, dim]
        distinct, owner = torch.unique(_codes_of(model, encoded, rows), return_inverse=True)
        weights = None if encoded.weights is None else torch.from_numpy(encoded.weights[rows])
        return distinct, owner, candidates[torch.from_numpy(places)], weights

    def _move(self, model: TwoTower, codes: Tensor, owner: Tensor, targets: Tensor, weights: Tensor | None) -> None:
        if self.duplicates == "last":
            each = targets.new_ones(len(owner)) if weights is None else weights
            rows = torch.where(each > 0, torch.arange(len(owner), device=owner.device), -1)
            last = torch.full_like(codes, -1).scatter_reduce_(0, owner, rows, "amax")
            mean, counts = targets[last], torch.where(last >= 0, each[last], 0.0)
        else:
            mean, counts = _grouped(owner, targets, weights, len(codes))
        if self.home is None:
            table, places = self._id_tower(model).table.data, codes
        else:
            table, places = self.home, self.world.place(codes)
        kept = (self.beta**counts)[:, None]
        if self.met is not None:
            before = self.met[codes]
            self.met[codes] = after = before + counts
            kept = kept * ((1.0 - self.beta**before) / (1.0 - self.beta**after).clamp(min=1e-12))[:, None]
            kept = torch.where(counts[:, None] > 0, kept, 1.0)
        table[places] = kept * table[places] + (1.0 - kept) * mean

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


def _targets(model: TwoTower, batch: Batch, parts: Mapping[str, Tensor]) -> Tensor:
    """``[batch, dim]`` the positives' vectors, of the parts of the forward pass and the id rows as they are now."""
    columns = batch.columns[model.candidate_entity]
    now = {name: tower(columns) for name, tower in model.candidate.id_towers().items()}
    candidates = model.match.prepare(model.candidate.merge({**parts, **now}))  # [candidate rows, dim]
    return candidates[batch.index[model.candidate_entity]]


def _codes(model: TwoTower, batch: Batch) -> Tensor:
    """``[batch]`` the id code of each example's query."""
    return dense(batch.columns[model.query_entity], "id")[batch.index[model.query_entity]]


def _codes_of(model: TwoTower, encoded: Encoded, rows: Rows) -> Tensor:
    """``[rows]`` the id code of each row's query."""
    queries = torch.from_numpy(encoded.index[model.query_entity][rows])
    return dense(encoded.tables[model.query_entity], "id")[queries]


def _settled_vectors(side: Side, columns: Columns, rows: Tensor) -> Tensor:
    """``[rows, dim]`` the vectors that a side would serve with: no dropout, and some thousand rows at a time."""
    training = side.training
    side.eval()
    vectors = torch.cat([side(take(columns, chunk)) for chunk in rows.split(_CHUNK)])
    side.train(training)
    return vectors


def _grouped(owner: Tensor, targets: Tensor, weights: Tensor | None, size: int) -> tuple[Tensor, Tensor]:
    """The (weighted) mean target ``[size, dim]`` of each owner, and how much it owns ``[size]``."""
    if weights is None:
        counts = torch.bincount(owner, minlength=size).to(targets.dtype)
        return targets.new_zeros(size, targets.shape[1]).index_add_(0, owner, targets) / counts[:, None], counts
    counts = targets.new_zeros(size).index_add_(0, owner, weights)
    total = targets.new_zeros(size, targets.shape[1]).index_add_(0, owner, targets * weights[:, None])
    return total / counts.clamp(min=1e-12)[:, None], counts


class OneBackpropSpec(UpdateSpec):
    """Queries move by aggregation: no optimizer state for them, and a new one is served from its first event."""

    kind: Literal["one_backprop"] = "one_backprop"
    beta: float = Field(0.99, gt=0.0, lt=1.0)
    duplicates: Literal["grouped", "last"] = "grouped"
    start: Literal["random", "mean_of_items"] = "random"
    """Where query vectors begin; a random start keeps much of its weight for many events when ``beta`` is near 1."""
    debias: bool = False
    """Leave the start out of the average: a query's first event sets its vector."""
    refresh: Literal["batch", "epoch"] = "batch"

    @model_validator(mode="after")
    def _a_start_that_counts(self) -> OneBackpropSpec:
        if self.debias and self.start != "random":
            raise ValueError(
                f"debias leaves the start out of the average, so start: {self.start} would have no effect. Remove one of the two."
            )
        return self

    def build(self) -> OneBackprop:
        """The update."""
        return OneBackprop(self.beta, self.duplicates, start=self.start, debias=self.debias, refresh=self.refresh)

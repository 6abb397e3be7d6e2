"""Towers of what a query met: its history pooled to one vector, alone or blended with a vector of its own."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from towerkit.core.errors import SpecError
from towerkit.data.batch import Bag, Columns
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.features.history import Reach
from towerkit.towers.base import Candidates, Tower, TowerContext, TowerSpec
from towerkit.towers.id import IdTower, IdTowerSpec, num_ids
from towerkit.towers.layers import bag_sums


class HistoryTower(Tower):
    """The weighted mean of the vectors of the candidates that a query met.

    A query without a history gets the mean of all candidates plus a learned vector, which is zero where training never
    met such a query.

    Args:
        items: The candidates' vectors; on the candidate side of the same model, or nobody else's.
        reach: Which bags it reads.

    Reference: with vectors of its own FISM (Kabbur, Ning and Karypis, KDD 2013) with alpha = 1; with those of the candidate
        side the average pooling of SimpleX (Mao et al., CIKM 2021, arXiv 2109.12613).
    """

    def __init__(self, items: IdTower, reach: Reach) -> None:
        super().__init__()
        self.items, self.reach, self.out_dim = items, reach, items.out_dim
        self.absent = nn.Parameter(torch.zeros(items.out_dim))

    def forward(self, columns: Columns) -> Tensor:
        """Pool, or the absent vector."""
        assert self.reach is not None
        bag = columns[self.reach.name]
        assert isinstance(bag, Bag)
        pooled = bag_sums(bag, self.items.table, sparse=self.items.sparse_rows)  # [rows, out_dim]
        absent = self.items.table[0].detach() + self.absent  # row 0 is settled to the mean after each epoch
        return torch.where(bag.is_empty[:, None], absent, pooled)


class IdHistoryTower(IdTower):
    """``gate * id + (1 - gate) * history``.

    Args:
        num_rows: Rows of the id table, the unknown row included.
        history: Pools what the query met.
        gate: The share of the id; a learned one starts at a half.
        sparse_rows: Give sparse gradients.

    Reference: SimpleX (Mao et al., CIKM 2021, arXiv 2109.12613), there with a linear layer on the history.
    """

    def __init__(
        self, num_rows: int, history: HistoryTower, *, gate: float | Literal["learned"], sparse_rows: bool = False
    ) -> None:
        super().__init__(num_rows, history.out_dim, sparse_rows=sparse_rows)
        self.history, self.reach = history, history.reach
        self.fixed_gate = None if gate == "learned" else gate
        self.logit = nn.Parameter(torch.zeros(())) if gate == "learned" else None

    @property
    def gate(self) -> Tensor | float:
        """The share of the id."""
        if self.logit is not None:
            return torch.sigmoid(self.logit)
        assert self.fixed_gate is not None
        return self.fixed_gate

    def forward(self, columns: Columns) -> Tensor:
        """Look the id up, and blend it with the history."""
        return self.around(super().forward(columns), columns)

    def around(self, ids: Tensor, columns: Columns) -> Tensor:
        """Other id vectors ``[rows, out_dim]`` blended with the rows' histories."""
        return self.gate * ids + (1.0 - self.gate) * self.history(columns)


class ReadsHistory(TowerSpec):
    """The keys that all towers of histories share."""

    reads_history: ClassVar[bool] = True
    verb: ClassVar[str] = "pools"

    dim: int = Field(64, ge=1, le=8192)
    of: Literal["candidate", "own"] = "candidate"
    """Whose vectors are read: those of the candidate side's id tower, or a table of its own."""
    length: int = Field(50, ge=1, le=100_000)
    """Only the last so many events."""

    def items(self, context: TowerContext) -> IdTower:
        """The vectors of the candidates.

        Raises:
            SpecError: If there is no candidate side, or none with exactly one id tower to share.
        """
        candidates = context.candidates
        if candidates is None:
            raise SpecError("A tower of histories needs a candidate side; it stands on the query side of a two_tower.")
        return (
            IdTower(candidates.num_rows, self.dim, sparse_rows=context.sparse_rows)
            if self.of == "own"
            else _shared(candidates)
        )


class _Pooling(ReadsHistory):
    """The keys of the towers that average."""

    half_life_days: float | None = Field(None, gt=0.0)
    """An event counts half as much as one so many days later."""
    half_life_events: float | None = Field(None, gt=0.0)
    """An event counts half as much as one so many events later."""

    @model_validator(mode="after")
    def _one_half_life(self) -> _Pooling:
        if self.half_life_days is not None and self.half_life_events is not None:
            raise ValueError(
                f"recency is counted in days or in events, not both; received half_life_days {self.half_life_days:g} and "
                f"half_life_events {self.half_life_events:g}. Remove one."
            )
        return self

    @property
    def reach(self) -> Reach:
        """How far back it reads."""
        return Reach(self.length, self.half_life_days, self.half_life_events)

    def pool(self, context: TowerContext) -> HistoryTower:
        """The module that pools."""
        return HistoryTower(self.items(context), self.reach)


def _shared(candidates: Candidates) -> IdTower:
    if candidates.ids is None:
        raise SpecError(
            "of: candidate reads the vectors of the candidate side's id tower, and there is not exactly one."
        )
    return candidates.ids


class HistoryTowerSpec(_Pooling):
    """What a query met before, pooled: nothing is learned of the query itself, so a new one is served at once."""

    kind: Literal["history"] = "history"

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """No columns: its bags are cut from the examples."""
        return []

    def build(self, context: TowerContext) -> HistoryTower:
        """The module that pools."""
        return self.pool(context)


class IdHistoryTowerSpec(_Pooling):
    """A learned vector per key, blended with what the key met before."""

    kind: Literal["id_history"] = "id_history"
    gate: float | Literal["learned"] = 0.5
    """The share of the id, from 0 to 1."""

    @model_validator(mode="after")
    def _a_share(self) -> IdHistoryTowerSpec:
        if self.gate != "learned" and not (math.isfinite(self.gate) and 0.0 <= self.gate <= 1.0):
            raise ValueError(f"gate is a share from 0 to 1, or learned; received {self.gate}.")
        return self

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """The key itself."""
        return IdTowerSpec(dim=self.dim).features(schema, key)

    def build(self, context: TowerContext) -> IdHistoryTower:
        """A table with a row per known key, and the module that pools."""
        num_rows = num_ids(context.encoder, context.entity)
        return IdHistoryTower(num_rows, self.pool(context), gate=self.gate, sparse_rows=context.sparse_rows)

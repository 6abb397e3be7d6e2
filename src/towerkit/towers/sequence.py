"""The sequence tower: what a query met, read in its order."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from towerkit.data.batch import Bag, Columns, spread
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.features.history import Reach
from towerkit.towers.attention import check_heads
from towerkit.towers.base import Tower, TowerContext
from towerkit.towers.causal import AttentionSpec, ConvolutionSpec, GruSpec, last_of_each
from towerkit.towers.history import ReadsHistory
from towerkit.towers.id import IdTower

Norm = Literal["none", "layer"]
_TINY = 1e-10
"""Added to a variance; that of a large table as it starts is 1e-6."""
_AGES = 24
"""Buckets of ages: the logarithm of the days to the newest event, from minutes to years, in halvings."""


class SequenceTower(Tower):
    """What an encoder makes of the vectors of a query's events, oldest first, at the newest of them.

    Each event is the vector of its candidate plus a vector of its place, counted from the newest, plus one of its age where
    ages are read. A query without events gets the mean of all candidates plus a learned vector.

    Args:
        items: The candidates' vectors; on the candidate side of the same model, or nobody else's.
        reach: Which bags it reads.
        encoder: ``[rows, length, dim]`` to the same shape, a place knowing only those before it.
        dropout: Share of the numbers of an event's vector left out in training.
        norm: ``layer`` gives the vectors of events a mean of 0 and a variance of 1 before anything is added. As they start, they
            are far smaller than what an encoder adds to them, so that which event it was is nearly lost on the way through.
    """

    def __init__(self, items: IdTower, reach: Reach, encoder: nn.Module, dropout: float, norm: Norm = "none") -> None:
        super().__init__()
        self.items, self.reach, self.out_dim, self.encoder = items, reach, items.out_dim, encoder
        self.norm: Norm = norm
        self.places = nn.Parameter(torch.randn(reach.length, items.out_dim) * 0.02)
        self.ages = nn.Parameter(torch.randn(_AGES, items.out_dim) * 0.02) if reach.ages else None
        self.absent = nn.Parameter(torch.zeros(items.out_dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, columns: Columns) -> Tensor:
        """Read each row's events; ``[rows, out_dim]``."""
        assert self.reach is not None
        bag = columns[self.reach.name]
        assert isinstance(bag, Bag)
        lengths = bag.offsets.diff()
        absent = self.items.table[0].detach() + self.absent  # row 0 is settled to the mean after each epoch
        parts, order = [], []
        for rows in _of_like_length(lengths):
            is_absent = int(lengths[rows[0]]) == 0
            parts.append(absent.expand(len(rows), -1) if is_absent else self._read(bag.take(rows), lengths[rows]))
            order.append(rows)
        if not parts:
            return absent.expand(0, -1)
        return spread(torch.cat(parts), torch.cat(order).argsort())

    def _read(self, bag: Bag, lengths: Tensor) -> Tensor:
        """``[rows, out_dim]`` of rows that have events."""
        longest = int(lengths.max())
        place = torch.arange(longest, device=lengths.device)
        is_event = place < lengths[:, None]  # [rows, longest]
        entry = torch.where(is_event, bag.offsets[:-1, None] + place, 0)
        from_newest = torch.where(is_event, lengths[:, None] - 1 - place, 0)
        vectors = functional.embedding(bag.codes[entry], self.items.table, sparse=self.items.sparse_rows)
        if self.norm == "layer":
            vectors = functional.layer_norm(vectors, (self.out_dim,), eps=_TINY)
        vectors = vectors + spread(self.places, from_newest)  # [rows, longest, out_dim]
        if self.ages is not None:
            vectors = vectors + spread(self.ages, _age_bucket(bag.weights[entry]))
        vectors = self.dropout(vectors) * is_event[..., None]
        return last_of_each(self.encoder(vectors), lengths)


def _of_like_length(lengths: Tensor) -> list[Tensor]:
    """The rows in groups of whom the longest has less than twice the events of the shortest: padding costs little."""
    group = torch.where(lengths > 0, torch.log2(lengths.clamp(min=1).double()).long() + 1, 0)
    return [torch.nonzero(group == each)[:, 0] for each in group.unique().tolist()]


def _age_bucket(days: Tensor) -> Tensor:
    """0 for the same minute, then one more for each doubling of a minute and a half, up to years.

    Example:
        >>> _age_bucket(torch.tensor([0.0, 0.002, 1.0, 365.0, 1e9])).tolist()
        [0, 1, 9, 18, 23]
    """
    return torch.log2(1.0 + days.double() * 960.0).long().clamp(0, _AGES - 1)


class SequenceTowerSpec(ReadsHistory):
    """What a query met before, in its order: what comes next follows from what came last."""

    kind: Literal["sequence"] = "sequence"
    verb: ClassVar[str] = "reads"

    encoder: Annotated[AttentionSpec | ConvolutionSpec | GruSpec, Field(discriminator="kind")] = AttentionSpec()
    dropout: float = Field(0.2, ge=0.0, lt=1.0)
    """Share of the numbers of an event's vector left out in training."""
    norm: Norm = "none"
    """``layer``: normalize each event's vector before its place is added."""
    ages: bool = False
    """Read how many days each event lies before the newest; needs dates or seconds since 1970."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> SequenceTowerSpec:
        if isinstance(self.encoder, AttentionSpec):
            check_heads(self.dim, self.encoder.heads)
        return self

    @property
    def reach(self) -> Reach:
        """How far back it reads."""
        return Reach(self.length, ages=self.ages, ordered=True)

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """No columns: its bags are cut from the examples."""
        return []

    def build(self, context: TowerContext) -> SequenceTower:
        """The encoder over the candidates' vectors."""
        return SequenceTower(self.items(context), self.reach, self.encoder.build(self.dim), self.dropout, self.norm)

"""Texts as bags of hashed n-grams: light, trained from scratch, no download."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.data.batch import Bag, Columns
from towerkit.features.base import Feature
from towerkit.features.ngrams import NgramsSpec
from towerkit.towers.layers import bag_sums
from towerkit.towers.text_base import TextEncoderSpec, TextPlan, TextTower
from towerkit.towers.word_directions import word_directions


class NgramsTower(TextTower):
    """The weighted sum of the vectors of a text's hashed n-grams; a learned vector where there is no text.

    Args:
        feature: Key of the bag column.
        num_buckets: Rows of the table.
        out_dim: Width of the vectors.
        dropout: Share of a text's n-grams left out at each training step (Iyyer et al., ACL 2015, "word dropout").
        sparse_rows: Give sparse gradients.
        spectral: Begin at the strongest directions of the texts; see :func:`word_directions`. At random when not given.
        like: Another text tower, all of whose weights this one has too.
    """

    def __init__(
        self,
        feature: str,
        num_buckets: int,
        out_dim: int,
        *,
        dropout: float,
        sparse_rows: bool,
        spectral: bool = False,
        like: NgramsTower | None = None,
    ) -> None:
        super().__init__()
        self.feature, self.out_dim, self.sparse_rows, self.begins_from_rows = feature, out_dim, sparse_rows, spectral
        self.table: nn.Parameter = nn.Parameter(torch.randn(num_buckets, out_dim) * 0.1) if like is None else like.table
        self.bias: nn.Parameter = nn.Parameter(torch.zeros(out_dim)) if like is None else like.bias
        # not zeros: a cosine has no gradient there
        self.absent: nn.Parameter = nn.Parameter(torch.randn(out_dim) * 0.01) if like is None else like.absent
        self.dropout = nn.Dropout(dropout)

    @torch.no_grad()
    def begin_from(self, columns: Columns) -> None:
        """Take the directions of the words from the texts of these rows."""
        bag = columns[self.feature]
        assert isinstance(bag, Bag)
        self.table.copy_(word_directions(bag, *self.table.shape))

    def forward(self, columns: Columns) -> Tensor:
        """Sum, or the absent vector."""
        bag = columns[self.feature]
        assert isinstance(bag, Bag)
        summed = bag_sums(
            bag, self.table, weights=self.dropout(bag.weights), sparse=self.sparse_rows
        )  # [rows, out_dim]
        present = torch.tanh(summed + self.bias)
        return torch.where(bag.is_empty[:, None], self.absent, present)


class HashedNgramsSpec(TextEncoderSpec):
    """Hashed word n-grams: light, trained from scratch, no download."""

    kind: Literal["hashed_ngrams"] = "hashed_ngrams"
    buckets: int = Field(65536, ge=2, le=2**24)
    longest: int = Field(2, ge=1, le=5)
    """The longest n-gram, in words."""
    together: bool = False
    """A word counts the same in each column; else it is another word in each."""

    @property
    def is_the_same_in_every_column(self) -> bool:
        """Only where it was asked for."""
        return self.together

    def feature(self, columns: tuple[str, ...]) -> NgramsSpec:
        """The feature that this encoder reads."""
        return NgramsSpec(columns=columns, buckets=self.buckets, longest=self.longest, together=self.together)

    def build(self, feature: Feature, plan: TextPlan) -> NgramsTower:
        """A table of bucket vectors, or that of the candidate side."""
        assert plan.like is None or isinstance(plan.like, NgramsTower)
        return NgramsTower(
            feature.name,
            self.buckets,
            plan.dim,
            dropout=plan.dropout,
            sparse_rows=plan.sparse_rows,
            spectral=plan.spectral,
            like=plan.like,
        )

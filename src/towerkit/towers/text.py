"""The text tower: an encoder turns texts into features, a projection turns them into a vector."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.core.spec import Spec
from towerkit.data.batch import Bag, Columns
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.features.ngrams import NgramsSpec
from towerkit.towers.base import Tower, TowerContext, TowerSpec
from towerkit.towers.layers import bag_sums


class NgramsTower(Tower):
    """The weighted sum of the vectors of a text's hashed n-grams; a learned vector where there is no text.

    Args:
        feature: Key of the bag column.
        num_buckets: Rows of the table.
        out_dim: Width of the vectors.
        dropout: Share of a text's n-grams left out at each training step (Iyyer et al., ACL 2015, "word dropout").
        sparse_rows: Give sparse gradients.
    """

    def __init__(self, feature: str, num_buckets: int, out_dim: int, *, dropout: float, sparse_rows: bool) -> None:
        super().__init__()
        self.feature, self.out_dim, self.sparse_rows = feature, out_dim, sparse_rows
        self.table = nn.Parameter(torch.randn(num_buckets, out_dim) * 0.1)
        self.bias = nn.Parameter(torch.zeros(out_dim))
        self.absent = nn.Parameter(torch.randn(out_dim) * 0.01)  # not zeros: a cosine has no gradient there
        self.dropout = nn.Dropout(dropout)

    def forward(self, columns: Columns) -> Tensor:
        """Sum, or the absent vector."""
        bag = columns[self.feature]
        assert isinstance(bag, Bag)
        summed = bag_sums(
            bag, self.table, weights=self.dropout(bag.weights), sparse=self.sparse_rows
        )  # [rows, out_dim]
        present = torch.tanh(summed + self.bias)
        return torch.where(bag.is_empty[:, None], self.absent, present)


class HashedNgramsSpec(Spec):
    """Hashed word n-grams: light, trained from scratch, no download."""

    kind: Literal["hashed_ngrams"] = "hashed_ngrams"
    buckets: int = Field(65536, ge=2, le=2**24)
    longest: int = Field(2, ge=1, le=5)
    """The longest n-gram, in words."""

    def feature(self, columns: tuple[str, ...]) -> NgramsSpec:
        """The feature that this encoder reads."""
        return NgramsSpec(columns=columns, buckets=self.buckets, longest=self.longest)


TextEncoderSpec = Annotated[HashedNgramsSpec, Field()]
"""The menu of text encoders."""


class TextTowerSpec(TowerSpec):
    """One or more text columns, read one after the other."""

    kind: Literal["text"] = "text"
    columns: tuple[str, ...] = Field(min_length=1)
    encoder: TextEncoderSpec = HashedNgramsSpec()
    dim: int = Field(64, ge=1, le=8192)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """The bag of hashed n-grams."""
        for name in self.columns:
            schema.require(name, "the text tower's columns")
        return [self.encoder.feature(self.columns)]

    def build(self, context: TowerContext) -> NgramsTower:
        """A table of bucket vectors."""
        feature = context.feature(self.encoder.feature(self.columns))
        return NgramsTower(
            feature.name, self.encoder.buckets, self.dim, dropout=self.dropout, sparse_rows=context.sparse_rows
        )

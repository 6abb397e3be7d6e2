"""The text tower: an encoder turns texts into features, a projection turns them into a vector."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from towerkit.core.errors import SpecError
from towerkit.core.spec import Spec
from towerkit.data.batch import Bag, Columns
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.features.ngrams import NgramsSpec
from towerkit.towers.base import Tower, TowerContext, TowerSpec
from towerkit.towers.layers import bag_sums
from towerkit.towers.word_directions import word_directions


class NgramsTower(Tower):
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


class HashedNgramsSpec(Spec):
    """Hashed word n-grams: light, trained from scratch, no download."""

    kind: Literal["hashed_ngrams"] = "hashed_ngrams"
    buckets: int = Field(65536, ge=2, le=2**24)
    longest: int = Field(2, ge=1, le=5)
    """The longest n-gram, in words."""
    together: bool = False
    """A word counts the same in each column; else it is another word in each."""

    def feature(self, columns: tuple[str, ...]) -> NgramsSpec:
        """The feature that this encoder reads."""
        return NgramsSpec(columns=columns, buckets=self.buckets, longest=self.longest, together=self.together)


TextEncoderSpec = Annotated[HashedNgramsSpec, Field()]
"""The menu of text encoders."""


class TextTowerSpec(TowerSpec):
    """One or more text columns, read one after the other."""

    kind: Literal["text"] = "text"
    columns: tuple[str, ...] = Field(min_length=1)
    encoder: TextEncoderSpec = HashedNgramsSpec()
    dim: int = Field(64, ge=1, le=8192)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    of: Literal["own", "candidate"] = "own"
    """Whose weights it has: its own, or those of the candidate side's text tower, so that a word means one thing."""
    start: Literal["random", "spectral"] = "random"
    """Where the vectors of the words begin: ``spectral`` at the strongest directions of the texts that training has."""

    @model_validator(mode="after")
    def _begins_once(self) -> TextTowerSpec:
        if self.of == "candidate" and self.start != "random":
            raise ValueError("of: candidate takes the vectors of the other side, wherever they begin. Set start there.")
        return self

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """The bag of hashed n-grams."""
        for name in self.columns:
            schema.require(name, "the text tower's columns")
        return [self.encoder.feature(self.columns)]

    def build(self, context: TowerContext) -> NgramsTower:
        """A table of bucket vectors, or that of the candidate side."""
        like = None
        if self.of == "candidate":
            like = None if context.candidates is None else context.candidates.texts
            if like is None:
                raise SpecError(
                    "of: candidate has the vectors of the candidate side's text tower, and there is not one."
                )
        return NgramsTower(
            context.feature(self.encoder.feature(self.columns)).name,
            self.encoder.buckets,
            self.dim,
            dropout=self.dropout,
            sparse_rows=context.sparse_rows,
            spectral=self.start == "spectral",
            like=like,
        )

"""Texts as sequences of hashed words: a small convolution, and a small transformer, both trained from scratch."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from towerkit.data.batch import Bag, Columns
from towerkit.data.padding import by_length
from towerkit.features.base import Feature
from towerkit.features.words import WordsFeature, WordsSpec
from towerkit.towers.attention import Block, check_heads
from towerkit.towers.text_base import TextEncoderSpec, TextPlan, TextTower


class WordConvolution(nn.Module):
    """Neighboring words to channels, and of each channel the strongest place.

    Args:
        channels: Width of words and channels.
        reach: Neighboring words that a channel sees, an odd number.

    Reference: Kim, Convolutional Neural Networks for Sentence Classification, EMNLP 2014 (arXiv 1408.5882).
    """

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels, channels, reach, padding=reach // 2)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """``[rows, channels]`` of ``[rows, words, channels]`` and ``[rows, words]``."""
        inputs = words * mask[:, :, None]  # padding is what stands beyond the ends of a text
        seen = functional.relu(self.convolution(inputs.transpose(1, 2)))  # [rows, channels, words]
        return seen.masked_fill(~mask[:, None, :], 0.0).amax(dim=2)  # no channel is below zero


class WordTransformer(nn.Module):
    """Blocks of self-attention over words with learned places, and the mean over the words.

    Args:
        channels: Width of words.
        places: The most words of a text.
        layers: Blocks.
        heads: Of attention; they divide the channels.
        dropout: In the blocks.

    """

    def __init__(self, channels: int, places: int, *, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(places, channels) * 0.02)
        self.blocks = nn.ModuleList(Block(channels, heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """``[rows, channels]`` of ``[rows, words, channels]`` and ``[rows, words]``."""
        states = words + self.places[: words.shape[1]]
        for block in self.blocks:
            states = block(states, mask)
        states = self.norm(states) * mask[:, :, None]
        return states.sum(dim=1) / mask.sum(dim=1, keepdim=True)


class WordsTower(TextTower):
    """Vectors of words, a sequence encoder over them, and a projection; a learned vector where there is no text.

    Args:
        feature: Key of the bag of words, in their order.
        table: ``[buckets, channels]`` the vectors of words.
        encoder: ``[rows, words, channels]`` and a mask to ``[rows, channels]``.
        out_dim: Width of the tower's vectors.
        dropout: Share of what the encoder gives that is dropped in training.
        sparse_rows: Give the table sparse gradients.
    """

    def __init__(
        self, feature: str, table: Tensor, encoder: nn.Module, out_dim: int, *, dropout: float, sparse_rows: bool
    ) -> None:
        super().__init__()
        self.feature, self.out_dim, self.sparse_rows = feature, out_dim, sparse_rows
        self.table = nn.Parameter(table)
        self.encoder, self.dropout = encoder, nn.Dropout(dropout)
        self.projection = nn.Linear(table.shape[1], out_dim)
        self.absent = nn.Parameter(torch.randn(out_dim) * 0.01)  # not zeros: a cosine has no gradient there

    def forward(self, columns: Columns) -> Tensor:
        """Encode and project, or the absent vector."""
        bag = columns[self.feature]
        assert isinstance(bag, Bag)
        present = torch.nonzero(~bag.is_empty)[:, 0]
        vectors = self.absent.expand(len(bag), -1)
        if not len(present):
            return vectors
        texts = bag.take(present)
        encoded = self.projection(self.dropout(by_length(texts.codes, texts.offsets, self._encode)))
        return vectors.to(encoded.dtype).index_copy(0, present, encoded)

    def _encode(self, codes: Tensor, mask: Tensor) -> Tensor:
        words = functional.embedding(codes, self.table, sparse=self.sparse_rows)  # [rows, words, channels]
        encoded: Tensor = self.encoder(words, mask)
        return encoded


class _WordsSpec(TextEncoderSpec):
    buckets: int = Field(65536, ge=2, le=2**24)
    words: int = Field(128, ge=1, le=4096)
    """The first words of a text that are read."""
    channels: int = Field(64, ge=1, le=4096)
    """Width of the vectors of words."""

    def feature(self, columns: tuple[str, ...]) -> WordsSpec:
        """The words in their order."""
        return WordsSpec(columns=columns, buckets=self.buckets, words=self.words)

    def build(self, feature: Feature, plan: TextPlan) -> WordsTower:
        """Vectors of words and the encoder over them, or those of the candidate side."""
        assert isinstance(feature, WordsFeature)
        if plan.like is not None:
            assert isinstance(plan.like, WordsTower)
            return plan.like.over(feature.name)
        table = torch.randn(self.buckets, self.channels) * 0.1
        return WordsTower(
            feature.name, table, self.encoder(plan), plan.dim, dropout=plan.dropout, sparse_rows=plan.sparse_rows
        )

    def encoder(self, plan: TextPlan) -> nn.Module:
        """What looks at the order of the words."""
        raise NotImplementedError


class ConvolutionSpec(_WordsSpec):
    """A convolution over the words: light, trained from scratch, no download."""

    kind: Literal["convolution"] = "convolution"
    reach: int = Field(3, ge=1, le=15)
    """Neighboring words that are seen together, an odd number."""

    @model_validator(mode="after")
    def _has_a_middle(self) -> ConvolutionSpec:
        if self.reach % 2 == 0:
            raise ValueError(f"'reach' must be odd, so that a word stands in the middle; received {self.reach}.")
        return self

    def encoder(self, plan: TextPlan) -> WordConvolution:
        """The convolution."""
        return WordConvolution(self.channels, self.reach)


class TransformerSpec(_WordsSpec):
    """A small transformer over the words, trained from scratch: it wants more texts than a bag does."""

    kind: Literal["transformer"] = "transformer"
    layers: int = Field(2, ge=1, le=24)
    heads: int = Field(4, ge=1, le=64)

    @model_validator(mode="after")
    def _heads_divide(self) -> TransformerSpec:
        check_heads(self.channels, self.heads, "channels")
        return self

    def encoder(self, plan: TextPlan) -> WordTransformer:
        """The transformer."""
        return WordTransformer(self.channels, self.words, layers=self.layers, heads=self.heads, dropout=plan.dropout)

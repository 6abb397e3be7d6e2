"""Attention over towers: one learned question, or a transformer in which the towers' vectors are the tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from towerkit.fusion.base import Backbone, BackboneSpec
from towerkit.fusion.projection import Projection
from towerkit.towers.attention import Block, check_heads
from towerkit.towers.layers import Norm


class Attention(Backbone):
    """``sum_i a_i v_i`` with ``a = softmax(q · k_i / √d)`` over the towers, for each head; ``k_i``, ``v_i`` linear in tower ``i``.

    Args:
        widths: Tower name -> width.
        out_dim: Width of the state; the heads share it.
        heads: Number of learned questions ``q``.
        norm: Of each tower's vector, after its projection.

    Reference: Bahdanau, Cho and Bengio, 2014 (arXiv 1409.0473); a learned question as in Lee et al., Set Transformer, 2019.
    """

    def __init__(self, widths: Mapping[str, int], out_dim: int, heads: int, norm: Norm = "none") -> None:
        super().__init__()
        self.out_dim, self.heads = out_dim, heads
        self.project = Projection(widths, out_dim, norm)
        self.question = nn.Parameter(torch.randn(heads, out_dim // heads))
        self.keys, self.values = nn.Linear(out_dim, out_dim), nn.Linear(out_dim, out_dim)

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Weigh and add."""
        vectors = self._vectors(parts)
        values = self.values(vectors).unflatten(-1, (self.heads, -1))  # [batch, towers, heads, dim / heads]
        return (self._weights(vectors)[..., None] * values).sum(dim=1).flatten(1)  # [batch, out_dim]

    def weights(self, parts: Mapping[str, Tensor]) -> Tensor:
        """``[batch, towers, heads]`` how much each row takes of each tower; they sum to one over the towers.

        Args:
            parts: As for :meth:`forward`.
        """
        return self._weights(self._vectors(parts))

    def _vectors(self, parts: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(tuple(self.project(parts).values()), dim=1)  # [batch, towers, out_dim]

    def _weights(self, vectors: Tensor) -> Tensor:
        keys = self.keys(vectors).unflatten(-1, (self.heads, -1))  # [batch, towers, heads, dim / heads]
        scores = (keys * self.question).sum(dim=-1) / math.sqrt(keys.shape[-1])  # [batch, towers, heads]
        return torch.softmax(scores, dim=1)


class Tokens(Backbone):
    """A transformer whose tokens are the towers' vectors and one learned token, from which the state is read.

    Args:
        widths: Tower name -> width.
        out_dim: Width of tokens and state.
        layers: How many.
        heads: Of each layer's attention.
        dropout: In training.

    Reference: Gorishniy et al., FT-Transformer, NeurIPS 2021 (arXiv 2106.11959), with towers in place of columns.
    """

    def __init__(self, widths: Mapping[str, int], out_dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.out_dim = out_dim
        self.project = Projection(widths, out_dim)  # its biases tell the towers apart
        self.reader = nn.Parameter(torch.randn(out_dim) * 0.02)
        self.blocks = nn.ModuleList(Block(out_dim, heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Let the vectors look at each other, and read the learned token."""
        vectors = list(self.project(parts).values())
        tokens = torch.stack([self.reader.expand_as(vectors[0]), *vectors], dim=1)  # [batch, 1 + towers, out_dim]
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens[:, 0])  # [batch, out_dim]


class HeadedSpec(BackboneSpec):
    """What the kinds of attention share."""

    dim: int = Field(64, ge=1, le=8192)
    heads: int = Field(4, ge=1, le=64)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        check_heads(self.dim, self.heads)
        return self


class AttentionSpec(HeadedSpec):
    """Each row weighs its towers: which of them says something differs from row to row."""

    kind: Literal["attention"] = "attention"
    norm: Norm = "none"
    """``layer``: normalize each tower's vector after its projection."""

    def build(self, widths: Mapping[str, int], tasks: Sequence[str] = ()) -> Attention:
        """A projection for each tower, and the learned questions."""
        return Attention(widths, self.dim, self.heads, self.norm)


class TokensSpec(HeadedSpec):
    """Towers look at each other before they are merged: many towers and many rows."""

    kind: Literal["tokens"] = "tokens"
    layers: int = Field(2, ge=1, le=16)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)

    def build(self, widths: Mapping[str, int], tasks: Sequence[str] = ()) -> Tokens:
        """A projection for each tower, and the layers."""
        return Tokens(widths, self.dim, self.layers, self.heads, self.dropout)

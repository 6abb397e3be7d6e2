"""A transformer over the columns of a table tower: what one column means may depend on the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from towerkit.core.spec import Spec
from towerkit.towers.attention import Block, check_heads
from towerkit.towers.column_parts import ColumnPart


class ColumnTokens(nn.Module):
    """Each column's numbers through a linear layer of its own to a token; a transformer; the state of one learned token more.

    Args:
        parts: The columns.
        dim: Width of the tokens.
        layers: How many.
        heads: Of each layer's attention.
        dropout: In training.

    Reference: Gorishniy et al., FT-Transformer, NeurIPS 2021 (arXiv 2106.11959).
    """

    def __init__(self, parts: Sequence[ColumnPart], *, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.out_dim = dim
        self.linear = nn.ModuleList(nn.Linear(part.out_dim, dim) for part in parts)  # its biases tell the columns apart
        self.reader = nn.Parameter(torch.randn(dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self._start_silent(parts)

    @torch.no_grad()
    def _start_silent(self, parts: Sequence[ColumnPart]) -> None:
        """Let missing flags begin at nothing, as the parts let unknown values."""
        for part, layer in zip(parts, self.linear, strict=True):
            if part.has_flag:
                assert isinstance(layer, nn.Linear)
                layer.weight[:, -1] = 0.0

    def forward(self, said: Sequence[Tensor]) -> Tensor:
        """``[rows, dim_i]`` of each column to ``[rows, dim]``."""
        tokens = [layer(each) for layer, each in zip(self.linear, said, strict=True)]  # columns x [rows, dim]
        stacked = torch.stack([self.reader.expand_as(tokens[0]), *tokens], dim=1)  # [rows, 1 + columns, dim]
        for block in self.blocks:
            stacked = block(stacked)
        return self.norm(stacked[:, 0])


class ColumnTransformerSpec(Spec):
    """A transformer over the columns."""

    dim: int = Field(32, ge=1, le=1024)
    """Width of the tokens."""
    layers: int = Field(2, ge=1, le=16)
    heads: int = Field(4, ge=1, le=64)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        check_heads(self.dim, self.heads)
        return self

    def build(self, parts: Sequence[ColumnPart]) -> ColumnTokens:
        """The tokens of these columns and the layers."""
        return ColumnTokens(parts, dim=self.dim, layers=self.layers, heads=self.heads, dropout=self.dropout)

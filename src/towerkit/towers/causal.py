"""Layers that read a sequence in its order: what stands at a place depends on what came before it, never on what follows."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from towerkit.core.spec import Spec
from towerkit.towers.attention import Block


class CausalAttention(nn.Module):
    """Transformer blocks, normalized before each layer, in which a place attends to itself and to earlier ones.

    Args:
        dim: Width of the vectors.
        layers: Blocks.
        heads: Of the attention; they share the width.
        dropout: Share of attention weights and hidden units left out in training.

    Reference: SASRec (Kang and McAuley, ICDM 2018, arXiv 1808.09781).
    """

    def __init__(self, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads, dropout=dropout, causal=True) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, vectors: Tensor) -> Tensor:
        """``[rows, length, dim]`` to the same shape."""
        for block in self.blocks:
            vectors = block(vectors)
        found: Tensor = self.norm(vectors)
        return found


class CausalConvolution(nn.Module):
    """Convolutions over a place and those before it, each layer reaching back twice as far, added to their input.

    Args:
        dim: Width of the vectors.
        layers: Convolutions; the first reaches back ``width - 1`` places.
        width: Places that one convolution reads.
        dropout: Share of what each layer adds that is left out in training.

    Reference: NextItNet (Yuan et al., WSDM 2019, arXiv 1808.05163), with one convolution for each residual.
    """

    def __init__(self, dim: int, layers: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers))
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, dim, width, dilation=2**layer) for layer in range(layers))
        self.reach = [(width - 1) * 2**layer for layer in range(layers)]
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, vectors: Tensor) -> Tensor:
        """``[rows, length, dim]`` to the same shape."""
        for norm, convolution, reach in zip(self.norms, self.convolutions, self.reach, strict=True):
            before = functional.pad(norm(vectors).transpose(1, 2), (reach, 0))  # [rows, dim, reach + length]
            vectors = vectors + self.dropout(functional.relu(convolution(before)).transpose(1, 2))
        found: Tensor = self.norm(vectors)
        return found


class Gru(nn.Module):
    """A gated recurrent unit, and what it read beside it.

    Args:
        dim: Width of the vectors.
        layers: Units, one above the other.
        dropout: Between them and behind the last, in training.

    Reference: GRU4Rec (Hidasi et al., ICLR 2016, arXiv 1511.06939).
    """

    def __init__(self, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRU(dim, dim, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, vectors: Tensor) -> Tensor:
        """``[rows, length, dim]`` to the same shape."""
        found: Tensor = self.norm(vectors + self.dropout(self.gru(vectors)[0]))
        return found


class AttentionSpec(Spec):
    """Self-attention over a place and all before it: best where much is known of each query."""

    kind: Literal["attention"] = "attention"
    layers: int = Field(2, ge=1, le=64)
    heads: int = Field(1, ge=1, le=64)
    dropout: float = Field(0.2, ge=0.0, lt=1.0)

    def build(self, dim: int) -> nn.Module:
        """The blocks."""
        return CausalAttention(dim, self.layers, self.heads, self.dropout)


class ConvolutionSpec(Spec):
    """Convolutions that reach back twice as far from layer to layer."""

    kind: Literal["convolution"] = "convolution"
    layers: int = Field(3, ge=1, le=16)
    width: int = Field(3, ge=2, le=64)
    """Places that one convolution reads."""
    dropout: float = Field(0.2, ge=0.0, lt=1.0)

    def build(self, dim: int) -> nn.Module:
        """The convolutions."""
        return CausalConvolution(dim, self.layers, self.width, self.dropout)


class GruSpec(Spec):
    """A gated recurrent unit: one state, carried from event to event."""

    kind: Literal["gru"] = "gru"
    layers: int = Field(1, ge=1, le=16)
    dropout: float = Field(0.2, ge=0.0, lt=1.0)

    def build(self, dim: int) -> nn.Module:
        """The unit."""
        return Gru(dim, self.layers, self.dropout)


def last_of_each(vectors: Tensor, lengths: Tensor) -> Tensor:
    """``[rows, dim]`` what stands at the last place of each row.

    Args:
        vectors: ``[rows, length, dim]``.
        lengths: ``[rows]`` from 1; what stands behind is padding.
    """
    return vectors[torch.arange(len(vectors)), lengths - 1]

"""The cross network: products of the towers' numbers, one degree more with each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.fusion.base import Backbone, BackboneSpec


class Cross(Backbone):
    """``x_{l+1} = x_0 * (W_l x_l + b_l) + x_l`` over the concatenation ``x_0``; of low rank, ``W_l = U_l V_l``.

    Args:
        widths: Tower name -> width.
        layers: How many; the state holds products of up to ``layers + 1`` numbers.
        rank: Of each ``W_l``; None for whole matrices.
        out_dim: Through a linear layer and ReLU to this width; None keeps that of the concatenation.

    Reference: Wang et al., DCN V2, WWW 2021 (arXiv 2008.13535).
    """

    def __init__(self, widths: Mapping[str, int], layers: int, rank: int | None, out_dim: int | None) -> None:
        super().__init__()
        self.names, total = list(widths), sum(widths.values())
        self.out_dim = out_dim or total
        self.layers = nn.ModuleList(_matrix(total, rank) for _ in range(layers))
        self.project = nn.Sequential(nn.Linear(total, out_dim), nn.ReLU()) if out_dim else nn.Identity()

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Concatenate and cross."""
        first = torch.cat([parts[name] for name in self.names], dim=-1)  # [batch, total]
        crossed = first
        for layer in self.layers:
            crossed = first * layer(crossed) + crossed  # [batch, total]
        return self.project(crossed)


def _matrix(width: int, rank: int | None) -> nn.Module:
    if rank is None:
        return nn.Linear(width, width)
    return nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))


class CrossSpec(BackboneSpec):
    """Explicit products of what the towers say: for tables whose columns mean something only together."""

    kind: Literal["cross"] = "cross"
    layers: int = Field(2, ge=1, le=16)
    rank: int | None = Field(None, ge=1, le=8192)
    """Of each layer's matrix: a quarter of the sum of widths costs half as much; whole when not given."""
    dim: int | None = Field(None, ge=1, le=8192)
    """Width of the state; the sum of the towers' widths when not given."""

    def build(self, widths: Mapping[str, int], tasks: Sequence[str] = ()) -> Cross:
        """The cross layers."""
        return Cross(widths, self.layers, self.rank, self.dim)

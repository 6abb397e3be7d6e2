"""Gated fusion: each row decides how much of each tower it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.fusion.base import Backbone, BackboneSpec
from towerkit.towers.layers import Named


class Gated(Backbone):
    """``sum_i z_i * h_i`` with ``h_i = tanh(W_i x_i)`` and ``z_i = sigmoid(V_i [x_1 … x_n])``, elementwise.

    Args:
        widths: Tower name -> width.
        out_dim: Width of the state.

    Reference: Arevalo et al., Gated Multimodal Units, 2017 (arXiv 1702.01992).
    """

    def __init__(self, widths: Mapping[str, int], out_dim: int) -> None:
        super().__init__()
        self.names, self.out_dim = list(widths), out_dim
        self.values = Named({name: nn.Linear(width, out_dim) for name, width in widths.items()})
        self.gates = nn.Linear(sum(widths.values()), len(widths) * out_dim)

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Gate and add."""
        beside = torch.cat([parts[name] for name in self.names], dim=-1)  # [batch, sum of widths]
        gates = torch.sigmoid(self.gates(beside)).chunk(len(self.names), dim=-1)  # towers x [batch, out_dim]
        values = [torch.tanh(self.values[name](parts[name])) for name in self.names]  # towers x [batch, out_dim]
        return torch.stack([gate * value for gate, value in zip(gates, values, strict=True)]).sum(dim=0)


class GatedSpec(BackboneSpec):
    """A gated multimodal unit over any number of towers."""

    kind: Literal["gated"] = "gated"
    dim: int = Field(64, ge=1, le=8192)

    def build(self, widths: Mapping[str, int], tasks: Sequence[str] = ()) -> Gated:
        """One gate and one projection per tower."""
        return Gated(widths, self.dim)

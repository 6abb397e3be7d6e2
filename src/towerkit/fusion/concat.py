"""Concatenation, projected to one width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.fusion.base import Backbone, BackboneSpec


class Concat(Backbone):
    """All vectors side by side, through a linear layer and ReLU when a width is given.

    Args:
        widths: Tower name -> width.
        out_dim: Width of the state; None keeps the vectors as they are.
    """

    def __init__(self, widths: Mapping[str, int], out_dim: int | None) -> None:
        super().__init__()
        self.names = list(widths)
        total = sum(widths.values())
        self.out_dim = out_dim or total
        self.project = nn.Sequential(nn.Linear(total, out_dim), nn.ReLU()) if out_dim else nn.Identity()

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Concatenate in a fixed order."""
        return self.project(torch.cat([parts[name] for name in self.names], dim=-1))


class ConcatSpec(BackboneSpec):
    """Vectors side by side: the plain choice, and the baseline of the others."""

    kind: Literal["concat"] = "concat"
    dim: int | None = Field(None, ge=1, le=8192)

    def build(self, widths: Mapping[str, int]) -> Concat:
        """A linear layer over the sum of the widths, if a width is asked for."""
        return Concat(widths, self.dim)

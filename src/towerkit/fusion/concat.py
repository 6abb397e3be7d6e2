"""Concatenation: as it is, through a linear layer, or through one with ReLU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.fusion.base import Backbone, BackboneSpec
from towerkit.fusion.projection import Projection
from towerkit.towers.layers import Norm


class Concat(Backbone):
    """All vectors side by side, through a linear layer and ReLU when a width is given.

    Args:
        widths: Tower name -> width.
        out_dim: Width of the state; None keeps the vectors as they are.
        each: Project each tower to this width first; None leaves it as it is.
        norm: Of each tower's vector.
    """

    def __init__(
        self, widths: Mapping[str, int], out_dim: int | None, *, each: int | None = None, norm: Norm = "none"
    ) -> None:
        super().__init__()
        self.parts = Projection(widths, each, norm)
        total = sum(self.parts.widths.values())
        self.out_dim = out_dim or total
        self.project = nn.Sequential(nn.Linear(total, out_dim), nn.ReLU()) if out_dim else nn.Identity()

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Concatenate in a fixed order."""
        return self.project(torch.cat(list(self.parts(parts).values()), dim=-1))


class ConcatSpec(BackboneSpec):
    """Vectors side by side: the plain choice, and the baseline of the others."""

    kind: Literal["concat"] = "concat"
    dim: int | None = Field(None, ge=1, le=8192)
    each: int | None = Field(None, ge=1, le=8192)
    """Project each tower to this width first."""
    norm: Norm = "none"
    """``layer``: normalize each tower's vector first."""

    def build(self, widths: Mapping[str, int], tasks: Sequence[str] = ()) -> Concat:
        """A linear layer over the sum of the widths, if a width is asked for."""
        return Concat(widths, self.dim, each=self.each, norm=self.norm)


class Linear(Backbone):
    """``sum_i W_i x_i + b``: one linear layer over all vectors side by side.

    Args:
        widths: Tower name -> width.
        out_dim: Width of the state.
    """

    def __init__(self, widths: Mapping[str, int], out_dim: int) -> None:
        super().__init__()
        self.names, self.out_dim = list(widths), out_dim
        self.project = nn.Linear(sum(widths.values()), out_dim)

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Concatenate and project."""
        return self.project(torch.cat([parts[name] for name in self.names], dim=-1))  # [batch, out_dim]


class LinearSpec(BackboneSpec):
    """One linear layer and nothing else: what each tower says is added up, and none bends what another one says."""

    kind: Literal["linear"] = "linear"
    dim: int = Field(64, ge=1, le=8192)

    def build(self, widths: Mapping[str, int], tasks: Sequence[str] = ()) -> Linear:
        """A linear layer over the sum of the widths."""
        return Linear(widths, self.dim)

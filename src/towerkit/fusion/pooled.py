"""Vectors of one width, unit by unit: their sum, mean, largest or product."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from towerkit.fusion.base import Backbone, BackboneSpec
from towerkit.fusion.projection import Projection, one_width
from towerkit.towers.layers import Norm

Pool = Callable[[Tensor], Tensor]


class Pooled(Backbone):
    """All vectors, projected to one width where it is asked for, to one, unit by unit.

    Args:
        widths: Tower name -> width.
        pool: ``[towers, batch, dim]`` to ``[batch, dim]``.
        out_dim: Project each tower to this width; None where they have one.
        norm: Of each tower's vector.
        what: What messages call it.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        pool: Pool,
        out_dim: int | None = None,
        norm: Norm = "none",
        what: str = "A sum",
    ) -> None:
        super().__init__()
        self.out_dim = out_dim or one_width(widths, what)
        self.pool = pool
        self.project = Projection(widths, out_dim, norm)

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Project and pool."""
        return self.pool(torch.stack(tuple(self.project(parts).values())))  # [batch, out_dim]


class PooledSpec(BackboneSpec):
    """What the pools share."""

    dim: int | None = Field(None, ge=1, le=8192)
    """Project each tower to this width first; as they are, and of one width, when not given."""
    norm: Norm = "none"
    """``layer``: normalize each tower's vector first."""

    def build(self, widths: Mapping[str, int], tasks: Sequence[str] = ()) -> Pooled:
        """Project and pool.

        Raises:
            ShapeError: If two towers differ in width and none is given to project them to.
        """
        pool, what = _POOLS[self.kind]
        return Pooled(widths, pool, self.dim, self.norm, what)


class SumSpec(PooledSpec):
    """Add the vectors: a tower that has nothing to say can stay near zero."""

    kind: Literal["sum"] = "sum"


class MeanSpec(PooledSpec):
    """The mean of the vectors: the same size, however many towers there are."""

    kind: Literal["mean"] = "mean"


class MaxSpec(PooledSpec):
    """The largest of the vectors' numbers, unit by unit: who has found something wins."""

    kind: Literal["max"] = "max"


class ProductSpec(PooledSpec):
    """The product of the vectors, unit by unit (Hadamard): only what several towers agree on stays."""

    kind: Literal["product"] = "product"


_POOLS: dict[str, tuple[Pool, str]] = {
    "sum": (lambda stacked: stacked.sum(dim=0), "A sum"),
    "mean": (lambda stacked: stacked.mean(dim=0), "A mean"),
    "max": (lambda stacked: stacked.amax(dim=0), "A maximum"),  # equal numbers share the gradient
    "product": (lambda stacked: stacked.prod(dim=0), "A product"),
}

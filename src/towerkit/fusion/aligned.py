"""A linear map behind another backbone: it brings vectors into a space that is there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from towerkit.core.errors import ShapeError
from towerkit.fusion.base import Backbone, BackboneSpec
from towerkit.fusion.plain import PlainBackboneSpec


class Aligned(Backbone):
    """``W x + b`` of what another backbone makes, or of the vector of a single tower.

    Args:
        inner: The backbone whose vectors are mapped; None where there is one tower.
        width: Of these vectors.
        out_dim: Width of the space that they are mapped into.
    """

    def __init__(self, inner: Backbone | None, width: int, out_dim: int) -> None:
        super().__init__()
        self.inner, self.out_dim = inner, out_dim
        self.map = nn.Linear(width, out_dim)

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Merge, then map."""
        merged = next(iter(parts.values())) if self.inner is None else self.inner(parts)
        vectors: Tensor = self.map(merged)  # [batch, out_dim]
        return vectors


class AlignedSpec(BackboneSpec):
    """A linear map behind a backbone: how a side is written that was brought into the space of another Run."""

    kind: Literal["aligned"] = "aligned"
    dim: int = Field(64, ge=1, le=8192)
    """Width of the space."""
    of: PlainBackboneSpec | None = None
    """Merges the towers; none where there is one."""

    def build(self, widths: Mapping[str, int], tasks: Sequence[str] = ()) -> Aligned:
        """The map behind its backbone.

        Raises:
            ShapeError: If there are several towers and no backbone that merges them.
        """
        if self.of is None and len(widths) > 1:
            raise ShapeError(
                f"A map alone reads one tower; received {dict(widths)}. Say how they are merged: of: {{kind: sum}}."
            )
        inner = None if self.of is None else self.of.build(widths, tasks)
        return Aligned(inner, next(iter(widths.values())) if inner is None else inner.out_dim, self.dim)

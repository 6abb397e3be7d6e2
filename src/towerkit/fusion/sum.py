"""The sum of vectors of one width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from towerkit.core.errors import ShapeError
from towerkit.fusion.base import Backbone, BackboneSpec


class Sum(Backbone):
    """The vectors added up; a tower that has nothing to say can stay near zero.

    Args:
        out_dim: The width that all towers share.
    """

    def __init__(self, out_dim: int) -> None:
        super().__init__()
        self.out_dim = out_dim

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Add."""
        return torch.stack(tuple(parts.values())).sum(dim=0)  # [batch, out_dim]


class SumSpec(BackboneSpec):
    """Add the vectors: towers must have one width."""

    kind: Literal["sum"] = "sum"

    def build(self, widths: Mapping[str, int]) -> Sum:
        """Check that the widths are equal.

        Raises:
            ShapeError: If two towers differ in width.
        """
        if len(set(widths.values())) > 1:
            raise ShapeError(
                f"A sum needs towers of one width; received {dict(widths)}. Give them the same dim, or use kind: concat."
            )
        return Sum(next(iter(widths.values())))

"""Vectors of several widths brought to one, and normalized, before they are merged."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from towerkit.core.errors import ShapeError
from towerkit.towers.layers import Named, Norm


class Projection(nn.Module):
    """A linear layer for each tower, and a layer norm where it is asked for.

    Args:
        widths: Tower name -> width.
        out_dim: The width of all; None leaves each as it is.
        norm: ``layer`` brings each tower's vector to mean zero and variance one, with a learned scale: towers of another size,
            such as those of frozen encoders, then have a like say.
    """

    def __init__(self, widths: Mapping[str, int], out_dim: int | None, norm: Norm = "none") -> None:
        super().__init__()
        self.widths = {name: out_dim or width for name, width in widths.items()}
        self.linear = Named({name: nn.Linear(width, out_dim) for name, width in widths.items()} if out_dim else {})
        self.norm = Named({name: nn.LayerNorm(width) for name, width in self.widths.items()} if norm == "layer" else {})

    def forward(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``[batch, dim_i]`` each to ``[batch, out_dim]`` each, in the order of the towers."""
        found = {}
        for name in self.widths:
            vectors = self.linear[name](parts[name]) if name in self.linear else parts[name]
            found[name] = self.norm[name](vectors) if name in self.norm else vectors
        return found


def one_width(widths: Mapping[str, int], what: str) -> int:
    """The width that all towers share.

    Args:
        widths: Tower name -> width.
        what: What the backbone is called, with its article.

    Raises:
        ShapeError: If two towers differ.
    """
    if len(set(widths.values())) > 1:
        raise ShapeError(
            f"{what} needs towers of one width; received {dict(widths)}. Give them the same dim, set the backbone's dim to "
            "project them to it, or use kind: concat."
        )
    return next(iter(widths.values()))

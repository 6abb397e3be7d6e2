"""What a backbone is: the vectors of several towers in, one state per row out."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from towerkit.core.spec import Spec


class Backbone(nn.Module):
    """Vectors by tower name, each ``[batch, dim_i]``, to one state ``[batch, out_dim]``."""

    out_dim: int

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Merge the vectors of the towers.

        Args:
            parts: Tower name -> ``[batch, dim_i]``.

        Returns:
            ``[batch, out_dim]``.
        """
        raise NotImplementedError


class BackboneSpec(Spec):
    """The configuration of a backbone."""

    def build(self, widths: Mapping[str, int]) -> Backbone:
        """Make the module.

        Args:
            widths: Tower name -> width of its vectors.
        """
        raise NotImplementedError

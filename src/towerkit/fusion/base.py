"""What a backbone is: the vectors of several towers in, one state per row out, or one for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from towerkit.core.spec import Spec


class Backbone(nn.Module):
    """Vectors by tower name, each ``[batch, dim_i]``, to one state ``[batch, out_dim]``.

    Some make a state for each task. These stand side by side in what comes out, and :meth:`of_task` takes one of them.
    """

    out_dim: int

    @property
    def head_dim(self) -> int:
        """Width of what a head reads."""
        return self.out_dim

    def of_task(self, state: Tensor, task: str) -> Tensor:
        """``[batch, head_dim]`` what the head of a task reads of the state; all of it, unless there is one for each task."""
        return state

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

    per_task: ClassVar[bool] = False
    """It makes a state for each task, so it has no place in a two-tower, whose sides are one vector each."""
    kind: str

    def build(self, widths: Mapping[str, int], tasks: Sequence[str] = ()) -> Backbone:
        """Make the module.

        Args:
            widths: Tower name -> width of its vectors.
            tasks: The tasks that will read it, where it makes a state for each.
        """
        raise NotImplementedError

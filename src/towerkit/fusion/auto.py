"""``backbone: {kind: auto}``: the spec of a choice that training makes on validation rows. It never becomes a module itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from towerkit.core.durations import duration_s
from towerkit.core.errors import SpecError
from towerkit.fusion.attention import AttentionSpec, TokensSpec
from towerkit.fusion.base import Backbone, BackboneSpec
from towerkit.fusion.concat import ConcatSpec, LinearSpec
from towerkit.fusion.cross import CrossSpec
from towerkit.fusion.experts import MmoeSpec, PleSpec
from towerkit.fusion.gated import GatedSpec
from towerkit.fusion.menu import AnyBackboneSpec
from towerkit.fusion.pooled import MaxSpec, MeanSpec

_WIDTH = 64


class AutoSpec(BackboneSpec):
    """Compare backbones, each tower alone, and late and hybrid fusion; train the cheapest of those that are as good as the best."""

    kind: Literal["auto"] = "auto"
    candidates: tuple[AnyBackboneSpec, ...] | None = Field(None, min_length=1)
    """The backbones that are compared; those of :meth:`menu` when not given."""
    late: bool = True
    """Also late fusion of the towers, and a hybrid of these and the best early fusion; neither needs a training of its own."""
    trials: int | None = Field(None, ge=1)
    """At most so many trainings."""
    budget: str | float | None = None
    """No training begins after so much time, such as ``120s``; the first one always does."""

    @field_validator("budget")
    @classmethod
    def _a_time(cls, budget: str | float | None) -> str | float | None:
        if budget is not None and duration_s(str(budget)) is None:
            raise ValueError(f"budget is a time such as 120s or 2m, above 0; received '{budget}'.")
        return budget

    @field_validator("candidates")
    @classmethod
    def _each_once(cls, candidates: tuple[BackboneSpec, ...] | None) -> tuple[BackboneSpec, ...] | None:
        for place, one in enumerate(candidates or ()):
            if one in (candidates or ())[:place]:
                raise ValueError(f"{one.kind} stands twice with the same settings. Leave one of them.")
        return candidates

    @property
    def budget_s(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else duration_s(str(self.budget))

    def menu(self, num_tasks: int) -> tuple[BackboneSpec, ...]:
        """The backbones that are compared, in their order.

        ``sum`` is left out beside ``mean``, of which it is a multiple, and ``product``, which few data sets ask for.

        Args:
            num_tasks: Experts of their own are for several tasks.

        Example:
            >>> [each.kind for each in AutoSpec().menu(1)]
            ['concat', 'linear', 'gated', 'attention', 'cross', 'mean', 'max', 'tokens']
        """
        if self.candidates is not None:
            return self.candidates
        pools = MeanSpec(dim=_WIDTH), MaxSpec(dim=_WIDTH)
        plain = ConcatSpec(), LinearSpec(), GatedSpec(), AttentionSpec(), CrossSpec(), *pools, TokensSpec()
        return (*plain, MmoeSpec(), PleSpec()) if num_tasks > 1 else plain

    def build(self, widths: Mapping[str, int], tasks: Sequence[str] = ()) -> Backbone:
        """Refuse: the choice is made before anything is built.

        Raises:
            SpecError: Always.
        """
        raise SpecError(
            "backbone: {kind: auto} is a choice that towerkit train (towerkit.fit in Python) makes on validation rows; here a "
            "backbone is needed. Name one, such as {kind: concat}."
        )


AnyFusionSpec = Annotated[AnyBackboneSpec | AutoSpec, Field(discriminator="kind")]
"""The menu of backbones, or the choice among them."""

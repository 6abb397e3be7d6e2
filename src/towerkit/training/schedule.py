"""How the step size changes over a training: a factor of it for each step, a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from towerkit.core.spec import Spec

Factor = Callable[[int], float]
"""Step (from 0) -> factor of the step size."""


class ScheduleSpec(Spec):
    """A warm-up, then some way down."""

    kind: str
    warmup: float = Field(0.0, ge=0.0)
    """Below 1 a share of all steps, from 1 on a number of steps in which the step size rises to its full value."""

    @field_validator("warmup")
    @classmethod
    def _share_or_steps(cls, warmup: float) -> float:
        if warmup > 1.0 and warmup != int(warmup):
            raise ValueError(
                f"a warm-up is a share below 1 or a whole number of steps; received {warmup}. Write {round(warmup)} or a share."
            )
        return warmup

    def build(self, total_steps: int) -> Factor | None:
        """The factor of each step; None where it is always one.

        Args:
            total_steps: Steps of the whole training, by ``training.epochs``; early stopping cuts the curve off.
        """
        warm = self.warm_steps(total_steps)
        if not warm and self.kind == "constant":
            return None

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return self.after(min(1.0, (step - warm) / max(1, total_steps - warm)))

        return factor

    def warm_steps(self, total_steps: int) -> int:
        """How many steps the warm-up takes."""
        return round(self.warmup * total_steps) if self.warmup < 1.0 else int(self.warmup)

    def after(self, progress: float) -> float:
        """The factor after the warm-up; ``progress`` goes from 0 to 1."""
        raise NotImplementedError


class ConstantSpec(ScheduleSpec):
    """The full step size after the warm-up."""

    kind: Literal["constant"] = "constant"

    def after(self, progress: float) -> float:
        """One."""
        return 1.0


class LinearSpec(ScheduleSpec):
    """Down a straight line to ``final``."""

    kind: Literal["linear"] = "linear"
    final: float = Field(0.0, ge=0.0, le=1.0)
    """Share of the step size that is left at the end."""

    def after(self, progress: float) -> float:
        """``1 - (1 - final) progress``."""
        return 1.0 - (1.0 - self.final) * progress


class CosineSpec(ScheduleSpec):
    """Down half a cosine to ``final``: slowly at first and at last (Loshchilov and Hutter, arXiv 1608.03983)."""

    kind: Literal["cosine"] = "cosine"
    final: float = Field(0.0, ge=0.0, le=1.0)
    """Share of the step size that is left at the end."""

    def after(self, progress: float) -> float:
        """``final + (1 - final) (1 + cos(pi progress)) / 2``."""
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def _constant_unless_named(value: Any) -> Any:
    """``{warmup: 100}`` goes on constant, and ``cosine`` is short for ``{kind: cosine}``."""
    if isinstance(value, str):
        return {"kind": value}
    return {"kind": "constant", **value} if isinstance(value, Mapping) else value


AnyScheduleSpec = Annotated[
    Annotated[ConstantSpec | LinearSpec | CosineSpec, Field(discriminator="kind")],
    BeforeValidator(_constant_unless_named),
]
"""The menu of schedules."""

"""What is measured, and which validation figure decides."""

from __future__ import annotations

from pydantic import Field, field_validator

from towerkit.core.spec import Spec


class EvaluationSpec(Spec):
    """The depths of the ranking metrics and the figure that selects the best epoch."""

    k: tuple[int, ...] = Field((5, 10, 20), min_length=1)
    select_by: str | None = None
    """``ndcg@20`` and the like for rankings (the largest ``k`` when not given), ``loss`` or ``task/loss`` for tasks."""

    @field_validator("k")
    @classmethod
    def _positive_and_distinct(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        if min(ks) < 1 or len(set(ks)) < len(ks):
            raise ValueError(f"every k must be at least 1 and stand once; received {list(ks)}.")
        return ks

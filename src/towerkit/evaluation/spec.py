"""What is measured, and which validation figure decides."""

from __future__ import annotations

from pydantic import Field, field_validator

from towerkit.baselines import AnyBaselineSpec, BaselineSpec
from towerkit.baselines.ranking import default_baselines
from towerkit.core.errors import listed
from towerkit.core.spec import Spec
from towerkit.metrics.gains import Gain


class EvaluationSpec(Spec):
    """The depths of the ranking metrics, the figure that selects the best epoch, and what a ranking is compared with."""

    k: tuple[int, ...] = Field((5, 10, 20), min_length=1)
    select_by: str | None = None
    """``ndcg@20`` and the like for rankings (the largest ``k`` when not given), ``loss`` or ``task/loss`` for tasks."""
    baselines: tuple[AnyBaselineSpec, ...] | None = Field(None, min_length=1)
    """Of rankings, by name or with settings; popularity, recent popularity where there is a time, and item-kNN when not given."""

    exclude_seen: bool = True
    """Whether pairs seen in training are kept out of a ranking; held-out pairs that repeat one are then left out."""
    gain: Gain = "linear"
    """What a grade of relevance is worth to NDCG: the grade, or ``2 ** grade - 1``."""
    segments: tuple[str, ...] = ()
    """Measured apart, value by value: ``cold_query``, ``cold_candidate``, ``activity``, ``popularity``, ``ENTITY.column``; of
    predictions a column of the example rows, or ``ENTITY.column``."""
    single_task: bool = False
    """Train a model of the same towers for each task alone, and list what these say beside the model of all tasks."""

    @field_validator("segments")
    @classmethod
    def _distinct(cls, segments: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(segments)) < len(segments):
            raise ValueError(f"every segment may stand once; received {list(segments)}.")
        return segments

    @field_validator("k")
    @classmethod
    def _positive_and_distinct(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        if min(ks) < 1 or len(set(ks)) < len(ks):
            raise ValueError(f"every k must be at least 1 and stand once; received {list(ks)}.")
        if max(ks) >= 2**31:
            raise ValueError(f"every k must be below 2**31; received {list(ks)}.")
        return ks

    @field_validator("baselines")
    @classmethod
    def _each_kind_once(cls, baselines: tuple[BaselineSpec, ...] | None) -> tuple[BaselineSpec, ...] | None:
        kinds = [str(getattr(baseline, "kind")) for baseline in baselines or ()]  # noqa: B009 - each one has a kind
        twice = {kind for kind in kinds if kinds.count(kind) > 1}
        if twice:
            raise ValueError(
                f"every baseline may stand once, under its kind; {listed(twice)} stands more often. Remove one."
            )
        return baselines

    def ranking_baselines(self, *, has_time: bool) -> dict[str, BaselineSpec]:
        """The baselines that a ranking is compared with, by kind.

        Args:
            has_time: Whether the data has a time column.
        """
        if self.baselines is None:
            return default_baselines(has_time=has_time)
        return {baseline.kind: baseline for baseline in self.baselines}

"""Which rows a model learns from, and what each of them weighs: a function of those rows alone.

Held-out rows never take part. When the validation rows join the training rows for the final model, rows are chosen and
weighed anew, from the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from towerkit.core.errors import DataError
from towerkit.core.spec import Spec
from towerkit.data.filters import Codes, frequent, k_core, one_of_each, pair_groups
from towerkit.data.splits import Rows
from towerkit.data.times import are_epoch_seconds

Floats = NDArray[np.float64]
Duplicates = Literal["keep", "first", "last", "count"]
_DAY_S = 86_400.0


class DecaySpec(Spec):
    """Older rows weigh less: half as much for each half-life."""

    half_life_days: float | None = Field(default=None, gt=0.0)
    """In days; for dates, texts of dates, and seconds since 1970."""
    half_life: float | None = Field(default=None, gt=0.0)
    """In the unit of the time column, where it holds plain numbers; in seconds elsewhere."""

    @model_validator(mode="after")
    def _one_of_two(self) -> DecaySpec:
        if (self.half_life_days is None) == (self.half_life is None):
            raise ValueError(
                "decay needs exactly one of half_life_days and half_life (in the unit of the time column); received "
                f"{self.half_life_days} and {self.half_life}."
            )
        return self

    def in_units(self, times: Floats, *, plain: bool, name: str) -> float:
        """The half-life in the unit of ``times``.

        Args:
            times: ``[rows]`` seconds, or the column's own numbers; NaN where missing.
            plain: The column holds plain numbers.
            name: What to call file and column in messages.

        Raises:
            DataError: If days are asked for and the numbers are no seconds since 1970.
        """
        if self.half_life_days is None:
            assert self.half_life is not None
            return self.half_life
        if plain and not are_epoch_seconds(times):
            raise DataError(
                f"{name}: holds plain numbers from {np.nanmin(times):g} to {np.nanmax(times):g}, which are no seconds since 1970, "
                f"so {self.half_life_days:g} days mean nothing. Give decay.half_life in the column's own unit."
            )
        return self.half_life_days * _DAY_S


class MinCountSpec(Spec):
    """Least number of training rows of a key; rows of rarer ones are left out, in one pass."""

    query: int = Field(default=1, ge=1)
    candidate: int = Field(default=1, ge=1)


@dataclass(frozen=True, eq=False)
class Chosen:
    """The rows to learn from, what all rows weigh, and how many rows each step took away."""

    rows: Rows
    weights: Floats | None
    removed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Learning:
    """How rows are chosen and weighed; each array has an entry per example row.

    Attributes:
        weights: Weight of the row by its weight and event columns; None when all weigh one.
        times: When; NaN where missing.
        queries: A number per query.
        candidates: A number per candidate.
        half_life: Of the decay, in the unit of ``times``.
        duplicates: What happens to a pair that stands in several rows.
        min_count: Least rows per key.
        k_core: Least rows per key, kept by leaving out until all have them.
    """

    weights: Floats | None = None
    times: Floats | None = None
    queries: Codes | None = None
    candidates: Codes | None = None
    half_life: float | None = None
    duplicates: Duplicates = "keep"
    min_count: MinCountSpec | None = None
    k_core: int | None = None

    @property
    def takes_all(self) -> bool:
        """Every row stays and has its own weight, whichever rows it stands among."""
        settings = (self.half_life, self.min_count, self.k_core)
        return self.duplicates == "keep" and all(setting is None for setting in settings)

    def choose(self, rows: Rows) -> Chosen:
        """Choose and weigh.

        Args:
            rows: Row numbers that may be learned from, ascending.

        Returns:
            The rows that stay, ascending, and ``[examples]`` weights, of meaning for these rows; a row that was held out
            has its own weight, not decayed when it is later than all of ``rows``.
        """
        weights = self._decayed(rows)
        removed: dict[str, int] = {}
        if self.duplicates != "keep":
            rows, weights = self._single(rows, weights, removed)
        if self.min_count is not None:
            rows = self._counted(rows, self.min_count, removed)
        if self.k_core is not None:
            assert self.queries is not None and self.candidates is not None
            kept = rows[k_core(self.queries[rows], self.candidates[rows], self.k_core)]
            rows, removed["k_core"] = kept, len(rows) - len(kept)
        return Chosen(rows, weights, removed)

    def _decayed(self, rows: Rows) -> Floats | None:
        if self.half_life is None:
            return self.weights
        assert self.times is not None
        known = self.times[rows]
        known = known[~np.isnan(known)]
        if not len(known):
            return self.weights
        # The latest *training* row: a later one would tell the model how long the data goes on.
        age = np.clip(known.max() - self.times, 0.0, None)
        age = np.where(np.isnan(age), known.max() - known.min(), age)
        decay: Floats = np.exp2(-age / self.half_life)
        return decay if self.weights is None else self.weights * decay

    def _single(self, rows: Rows, weights: Floats | None, removed: dict[str, int]) -> tuple[Rows, Floats | None]:
        assert self.queries is not None and self.candidates is not None
        groups = pair_groups(self.queries[rows], self.candidates[rows])
        order = None if self.times is None else self.times[rows]
        stays = one_of_each(groups, order, last=self.duplicates != "first")
        kept = rows[stays]
        removed["duplicates"] = len(rows) - len(kept)
        if self.duplicates == "count":
            each = np.ones(len(self.queries)) if weights is None else weights.copy()
            each[kept] = np.bincount(groups, each[rows])[groups[stays]]
            weights = each
        return kept, weights

    def _counted(self, rows: Rows, least: MinCountSpec, removed: dict[str, int]) -> Rows:
        stays = np.ones(len(rows), bool)
        for codes, count in ((self.queries, least.query), (self.candidates, least.candidate)):
            if count > 1:
                assert codes is not None
                stays &= frequent(codes[rows], count)
        removed["min_count"] = int((~stays).sum())
        return rows[stays]

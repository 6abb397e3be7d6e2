"""Features of single columns: ids, numbers and categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field

from towerkit.core.errors import DataError
from towerkit.data.batch import Column
from towerkit.features.base import Feature, FeatureSpec, State, as_text, column
from towerkit.features.vocabulary import Vocabulary


@dataclass(frozen=True)
class CategoryFeature(Feature):
    """``[rows]`` int64 codes; 0 is unknown or missing."""

    name: str
    column: str
    vocabulary: Vocabulary
    as_text: bool

    def encode(self, table: pa.Table) -> Column:
        """Codes of the column's values."""
        values = column(table, self.column)
        return torch.from_numpy(self.vocabulary.encode(as_text(values) if self.as_text else values))

    def state(self) -> State:
        """The vocabulary."""
        return State({}, self.vocabulary)

    def sample(self) -> Mapping[str, Any]:
        """The first known category; an id is left out, since it would be somebody's."""
        known = self.vocabulary.values
        return {self.column: known[0].as_py() if self.as_text and len(known) else None}


class IdSpec(FeatureSpec):
    """The key of an entity; only keys that occur in training rows are known."""

    kind: Literal["id"] = "id"
    column: str

    def column_names(self) -> tuple[str, ...]:
        """The key column."""
        return (self.column,)

    def fit(self, table: pa.Table) -> CategoryFeature:
        """Know every key in the rows, in order of first appearance; keys keep their type."""
        return self.restore(State({}, Vocabulary.fit(column(table, self.column))))

    def restore(self, state: State) -> CategoryFeature:
        """Rebuild from the stored vocabulary."""
        return CategoryFeature("id", self.column, state.known(), as_text=False)


class CategorySpec(FeatureSpec):
    """A column with few distinct values; values rarer than ``min_count`` share the unknown code."""

    kind: Literal["category"] = "category"
    column: str
    min_count: int = Field(2, ge=1)

    def column_names(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    def fit(self, table: pa.Table) -> CategoryFeature:
        """Know the values that are frequent enough."""
        values = as_text(column(table, self.column))
        return self.restore(State({}, Vocabulary.fit(values, min_count=self.min_count)))

    def restore(self, state: State) -> CategoryFeature:
        """Rebuild from the stored vocabulary."""
        return CategoryFeature(f"category:{self.column}", self.column, state.known(), as_text=True)


@dataclass(frozen=True)
class NumberFeature(Feature):
    """``[rows, 2]`` float32: the standardised value (0 where missing) and 1 where missing."""

    name: str
    column: str
    mean: float
    deviation: float

    def encode(self, table: pa.Table) -> Column:
        """Standardised values beside their missing flags."""
        values = numbers(column(table, self.column), self.column)
        missing = np.isnan(values)
        standardised = np.where(missing, 0.0, (values - self.mean) / self.deviation)
        clipped = np.clip(standardised, -10.0, 10.0)  # one absurd value must not blow up a batch
        return torch.from_numpy(np.stack([clipped, missing], axis=1).astype(np.float32))

    def state(self) -> State:
        """Mean and deviation."""
        return State({"mean": self.mean, "deviation": self.deviation})

    def sample(self) -> Mapping[str, Any]:
        """The mean."""
        return {self.column: self.mean}


class NumberSpec(FeatureSpec):
    """A numeric column, standardised by the mean and deviation of the training rows."""

    kind: Literal["number"] = "number"
    column: str

    def column_names(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    def fit(self, table: pa.Table) -> NumberFeature:
        """Take mean and deviation over the known values; a constant column gets deviation 1."""
        values = numbers(column(table, self.column), self.column)
        known = values[~np.isnan(values)]
        mean, deviation = (float(known.mean()), float(known.std())) if len(known) else (0.0, 1.0)
        return self.restore(State({"mean": mean, "deviation": deviation if deviation > 0 else 1.0}))

    def restore(self, state: State) -> NumberFeature:
        """Rebuild from mean and deviation."""
        return NumberFeature(f"number:{self.column}", self.column, state.values["mean"], state.values["deviation"])


def numbers(values: pa.Array, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Values as float64 with NaN where missing.

    Raises:
        DataError: If a value is no number or is infinite; names column, row and value.
    """
    try:
        found = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        row, value = _first_without_number(values)
        raise DataError(
            f"The column '{name}' must hold numbers; row {row + 1} has {value!r}. "
            "Correct the value, or leave it empty for missing."
        ) from None
    infinite = np.flatnonzero(np.isinf(found))
    if len(infinite):
        raise DataError(
            f"The column '{name}' must hold finite numbers; row {infinite[0] + 1} has {found[infinite[0]]}. "
            "Correct the value, or leave it empty for missing."
        )
    return np.asarray(found, dtype=np.float64)


def _first_without_number(values: pa.Array) -> tuple[int, object]:
    for row, value in enumerate(values.to_pylist()):
        try:
            float(value if value is not None else 0.0)
        except (TypeError, ValueError):
            return row, value
    return 0, values[0].as_py()

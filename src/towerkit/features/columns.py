"""Features of single columns: ids, numbers and categories."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from pydantic import Field

from towerkit.core.errors import DataError
from towerkit.core.spec import short
from towerkit.data.batch import Column
from towerkit.data.table import values_of
from towerkit.features.base import CodedFeature, Feature, FeatureSpec, State, as_text
from towerkit.features.vocabulary import Vocabulary

Floats: TypeAlias = NDArray[np.float64]
Scale: TypeAlias = Literal["standard", "log"]
_HUGE = 1e300


@dataclass(frozen=True)
class CategoryFeature(CodedFeature):
    """``[rows]`` int64 codes; 0 is unknown or missing."""

    name: str
    column: str
    vocabulary: Vocabulary
    as_text: bool

    def encode(self, table: pa.Table) -> Column:
        """Codes of the column's values."""
        values = values_of(table, self.column)
        return torch.from_numpy(self.vocabulary.encode(as_text(values) if self.as_text else values))

    @property
    def num_codes(self) -> int:
        """The known values and the unknown one."""
        return len(self.vocabulary)

    @property
    def first_num_codes(self) -> int:
        """Those of the first fit."""
        return self.vocabulary.first_size + 1

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
        return self.restore(State({}, Vocabulary.fit(values_of(table, self.column))))

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
        values = as_text(values_of(table, self.column))
        return self.restore(State({}, Vocabulary.fit(values, min_count=self.min_count)))

    def restore(self, state: State) -> CategoryFeature:
        """Rebuild from the stored vocabulary."""
        kind = "category" if self.min_count == 2 else f"category-{self.min_count}"
        return CategoryFeature(f"{kind}:{self.column}", self.column, state.known(), as_text=True)


@dataclass(frozen=True)
class NumberFeature(Feature):
    """``[rows, 2]`` float32: the standardised value (0 where missing) and 1 where missing."""

    name: str
    column: str
    mean: float
    deviation: float
    scale: Scale

    def encode(self, table: pa.Table) -> Column:
        """Standardised values beside their missing flags."""
        values = _scaled(numbers(values_of(table, self.column), self.column), self.scale)
        missing = np.isnan(values)
        with np.errstate(over="ignore"):  # far beyond the clip anyway
            standardised = np.where(missing, 0.0, (values - self.mean) / self.deviation)
        clipped = np.clip(standardised, -10.0, 10.0)  # one absurd value must not blow up a batch
        return torch.from_numpy(np.stack([clipped, missing], axis=1).astype(np.float32))

    def state(self) -> State:
        """Mean and deviation."""
        return State({"mean": self.mean, "deviation": self.deviation})

    def sample(self) -> Mapping[str, Any]:
        """The mean."""
        usual = self.mean if self.scale == "standard" else np.sign(self.mean) * np.expm1(abs(self.mean))
        return {self.column: float(np.clip(usual, -_HUGE, _HUGE))}


class NumberSpec(FeatureSpec):
    """A numeric column, standardised by the mean and deviation of the training rows."""

    kind: Literal["number"] = "number"
    column: str
    scale: Scale = "standard"
    """``log``: take ``sign(x) · log(1 + |x|)`` first, for counts and prices that span orders of magnitude."""

    def column_names(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    def fit(self, table: pa.Table) -> NumberFeature:
        """Take mean and deviation over the known values; a constant column gets deviation 1."""
        values = _scaled(numbers(values_of(table, self.column), self.column), self.scale)
        mean, deviation = _mean_and_deviation(values[~np.isnan(values)])
        return self.restore(State({"mean": mean, "deviation": deviation}))

    def restore(self, state: State) -> NumberFeature:
        """Rebuild from mean and deviation."""
        name = f"{'number' if self.scale == 'standard' else self.scale}:{self.column}"
        check_spread(state.values["mean"], state.values["deviation"])
        return NumberFeature(name, self.column, state.values["mean"], state.values["deviation"], self.scale)


def check_spread(mean: Any, deviation: Any) -> None:
    """Refuse a stored mean and deviation that no fit gives.

    Args:
        mean: As it was read.
        deviation: As it was read.

    Raises:
        ValueError: If one is no finite number, or the deviation not above 0.
    """
    numbers_only = all(isinstance(each, float | int) and math.isfinite(each) for each in (mean, deviation))
    if not numbers_only or deviation <= 0:
        raise ValueError(f"the stored mean {short(mean)} and deviation {short(deviation)} are none")


def _scaled(values: Floats, scale: Scale) -> Floats:
    return values if scale == "standard" else np.sign(values) * np.log1p(np.abs(values))


def _mean_and_deviation(known: Floats) -> tuple[float, float]:
    if not len(known):
        return 0.0, 1.0
    if known.min() == known.max():  # the deviation of equal numbers need not come out as exactly zero
        return float(known[0]), 1.0
    size = np.ldexp(1.0, np.frexp(np.abs(known).max())[1] - 1)  # sums and squares of huge numbers would overflow
    scaled = known / size
    return float(scaled.mean() * size), float(scaled.std() * size) or 1.0


def numbers(values: pa.Array, name: str) -> Floats:
    """Values as float64 with NaN where missing.

    Raises:
        DataError: If a value is no number or is infinite; names column, row and value.
    """
    try:
        found = _as_floats(values)
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


def _as_floats(values: pa.Array) -> Floats:
    """Durations and times of day count in seconds; an integer beyond 2**53 is rounded."""
    if pa.types.is_duration(values.type):
        values = pc.divide(pc.cast(pc.cast(values, pa.duration("us")), pa.int64()).cast(pa.float64()), 1e6)
    elif pa.types.is_time(values.type):
        values = pc.divide(pc.cast(pc.cast(values, pa.time64("us")), pa.int64()).cast(pa.float64()), 1e6)
    return pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _first_without_number(values: pa.Array) -> tuple[int, object]:
    for row in range(len(values)):
        try:
            _as_floats(values.slice(row, 1))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return row, values[row].as_py()
    raise AssertionError("every value is a number by itself")

"""How a table tower reads a column: each kind says which feature it needs and makes the part that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from towerkit.core.errors import SpecError, listed
from towerkit.core.spec import Spec
from towerkit.data.column_types import ColumnType
from towerkit.data.schema import Schema
from towerkit.features.aggregates import EXAMPLES, AggregateSpec, What
from towerkit.features.base import CodedFeature, Feature, FeatureSpec
from towerkit.features.columns import CategorySpec, NumberSpec
from towerkit.features.cyclic import CyclicSpec, Period
from towerkit.features.hashed import HashedSpec
from towerkit.features.multi_hot import MultiHotSpec
from towerkit.features.quantiles import PiecewiseFeature, PiecewiseSpec, QuantileSpec
from towerkit.towers.column_parts import (
    BagPart,
    ColumnPart,
    EmbeddedPart,
    FlaggedPart,
    PeriodicPart,
    PiecewisePart,
    category_dim,
)

Width = Annotated[int | None, Field(ge=1, le=1024)]
"""Of a code's vector; four times the fourth root of the number of codes when not given."""
_NUMBERS: tuple[ColumnType, ...] = ("number", "bool", "category", "text", "key")
"""Text is allowed where its values can be read as numbers, which is seen when the feature is fitted."""
_VALUES: tuple[ColumnType, ...] = ("category", "number", "bool", "text", "key")


class ColumnSpec(Spec):
    """One entry of a table tower's columns."""

    reads: ClassVar[tuple[ColumnType, ...]]
    """The types of columns that it can read."""

    def feature(self) -> FeatureSpec:
        """The feature it needs."""
        raise NotImplementedError

    def build(self, feature: Feature, *, sparse_rows: bool) -> ColumnPart:
        """Make the part from its fitted feature."""
        raise NotImplementedError

    def check(self, schema: Schema) -> None:
        """See that its columns exist and hold what it can read.

        Raises:
            DataError: If there is no such column.
            SpecError: If a column is of another type.
        """
        for name in self.feature().column_names():
            found = schema.require(name, "the table tower's columns").type
            if found not in self.reads:
                how = getattr(self, "how", "cross")
                raise SpecError(
                    f"A table tower's {how} reads columns of the types {listed(self.reads)}; the column '{name}' holds "
                    f"{found} values. Read it in another way, or remove it."
                )


class StandardColumn(ColumnSpec):
    """A number, standardised, beside a missing flag."""

    reads = _NUMBERS
    column: str
    how: Literal["standard"] = Field("standard", alias="as")

    def feature(self) -> NumberSpec:
        """The standardised number."""
        return NumberSpec(column=self.column)

    def build(self, feature: Feature, *, sparse_rows: bool) -> FlaggedPart:
        """Value and flag."""
        return FlaggedPart(feature.name, 2)


class LogColumn(ColumnSpec):
    """A number that spans orders of magnitude: ``sign(x) · log(1 + |x|)``, standardised, beside a missing flag."""

    reads = _NUMBERS
    column: str
    how: Literal["log"] = Field("log", alias="as")

    def feature(self) -> NumberSpec:
        """The standardised logarithm."""
        return NumberSpec(column=self.column, scale="log")

    def build(self, feature: Feature, *, sparse_rows: bool) -> FlaggedPart:
        """Value and flag."""
        return FlaggedPart(feature.name, 2)


class QuantileColumn(ColumnSpec):
    """A number cut into buckets at the quantiles of the training rows, with a learned vector per bucket."""

    reads = _NUMBERS
    column: str
    how: Literal["quantile"] = Field("quantile", alias="as")
    buckets: int = Field(16, ge=2, le=1024)
    dim: Width = None

    def feature(self) -> QuantileSpec:
        """The bucket."""
        return QuantileSpec(column=self.column, buckets=self.buckets)

    def build(self, feature: Feature, *, sparse_rows: bool) -> EmbeddedPart:
        """A vector per bucket."""
        return _embedded(feature, self.dim)


class PiecewiseColumn(ColumnSpec):
    """A number as its piecewise-linear encoding over quantile bins, through a linear layer and ReLU.

    Reference: Gorishniy, Rubachev and Babenko, NeurIPS 2022 (arXiv 2203.05556), "Q-LR".
    """

    reads = _NUMBERS
    column: str
    how: Literal["piecewise"] = Field("piecewise", alias="as")
    bins: int = Field(16, ge=1, le=1024)
    dim: int = Field(8, ge=1, le=1024)

    def feature(self) -> PiecewiseSpec:
        """The position along the bins."""
        return PiecewiseSpec(column=self.column, bins=self.bins)

    def build(self, feature: Feature, *, sparse_rows: bool) -> PiecewisePart:
        """The encoding and its layer."""
        assert isinstance(feature, PiecewiseFeature)
        return PiecewisePart(feature.name, feature.num_bins, self.dim)


class PeriodicColumn(ColumnSpec):
    """A standardised number as sines and cosines at learned frequencies, through a linear layer and ReLU.

    Reference: Gorishniy, Rubachev and Babenko, NeurIPS 2022 (arXiv 2203.05556), "PLR".
    """

    reads = _NUMBERS
    column: str
    how: Literal["periodic"] = Field("periodic", alias="as")
    frequencies: int = Field(16, ge=1, le=1024)
    sigma: float = Field(0.1, gt=0.0, le=100.0)
    """Deviation of the frequencies at the start; the larger, the finer are the differences it can tell."""
    dim: int = Field(8, ge=1, le=1024)

    def feature(self) -> NumberSpec:
        """The standardised number."""
        return NumberSpec(column=self.column)

    def build(self, feature: Feature, *, sparse_rows: bool) -> PeriodicPart:
        """The waves and their layer."""
        return PeriodicPart(feature.name, self.frequencies, self.sigma, self.dim)


class CategoryColumn(ColumnSpec):
    """A learned vector per known value; values rarer than ``min_count``, unknown and missing ones share one."""

    reads = _VALUES
    column: str
    how: Literal["category"] = Field("category", alias="as")
    min_count: int = Field(2, ge=1)
    dim: Width = None

    def feature(self) -> CategorySpec:
        """The code of the value."""
        return CategorySpec(column=self.column, min_count=self.min_count)

    def build(self, feature: Feature, *, sparse_rows: bool) -> EmbeddedPart:
        """A vector per value."""
        return _embedded(feature, self.dim)


class HashedColumn(ColumnSpec):
    """A learned vector per bucket of a hash: for columns with more values than a vocabulary should hold."""

    reads = _VALUES
    column: str
    how: Literal["hashed"] = Field("hashed", alias="as")
    buckets: int = Field(4096, ge=2, le=2**24)
    dim: Width = None

    def feature(self) -> HashedSpec:
        """The bucket of the value."""
        return HashedSpec(columns=(self.column,), buckets=self.buckets)

    def build(self, feature: Feature, *, sparse_rows: bool) -> EmbeddedPart:
        """A vector per bucket."""
        return _hashed(feature, self.dim, sparse_rows=sparse_rows)


class MultiHotColumn(ColumnSpec):
    """The mean or sum of learned vectors of several values per row: a list column, or text with a separator."""

    reads = ("list", "vector", *_VALUES)
    column: str
    how: Literal["multi_hot"] = Field("multi_hot", alias="as")
    separator: str = Field("|", min_length=1)
    min_count: int = Field(2, ge=1)
    pool: Literal["mean", "sum"] = "mean"
    dim: Width = None

    def feature(self) -> MultiHotSpec:
        """The bag of the row's values."""
        return MultiHotSpec(column=self.column, separator=self.separator, min_count=self.min_count)

    def build(self, feature: Feature, *, sparse_rows: bool) -> BagPart:
        """A vector per value, pooled."""
        assert isinstance(feature, CodedFeature)
        dim = self.dim or category_dim(feature.first_num_codes)
        return BagPart(feature.name, feature.num_codes, dim, mean=self.pool == "mean", sparse_rows=sparse_rows)


class CyclicColumn(ColumnSpec):
    """A time as sine and cosine of its place in each period, beside a missing flag."""

    reads = ("time", *_NUMBERS)
    column: str
    how: Literal["cyclic"] = Field("cyclic", alias="as")
    periods: tuple[Period, ...] = Field(("day", "week", "year"), min_length=1)

    def feature(self) -> CyclicSpec:
        """The circles."""
        return CyclicSpec(column=self.column, periods=self.periods)

    def build(self, feature: Feature, *, sparse_rows: bool) -> FlaggedPart:
        """Circles and flag."""
        return FlaggedPart(feature.name, 2 * len(self.periods) + 1)


class CrossColumn(ColumnSpec):
    """A learned vector per bucket of the hash of several columns' values together; none if one of them is missing."""

    reads = _VALUES
    cross: tuple[str, ...] = Field(min_length=2)
    buckets: int = Field(4096, ge=2, le=2**24)
    dim: Width = None

    def feature(self) -> HashedSpec:
        """The bucket of the values together."""
        return HashedSpec(columns=self.cross, buckets=self.buckets)

    def build(self, feature: Feature, *, sparse_rows: bool) -> EmbeddedPart:
        """A vector per bucket."""
        return _hashed(feature, self.dim, sparse_rows=sparse_rows)


class AggregateColumn(ColumnSpec):
    """What a log says of a key before the moment of a row: a number beside a missing flag, or a learned vector per category."""

    reads = _VALUES
    aggregate: What
    by: str
    """Column of the row with the key; on the query side of a two-tower the key of the query."""
    at: str | None = None
    """Column of the row with its moment; none on the query side of a two-tower, where the time of each example is taken."""
    log: str = EXAMPLES
    """A name under ``data.logs``; the rows learned from when not given."""
    of: str | None = None
    """Column of the log: whose mean, or whose most frequent value."""
    days: float | None = Field(None, gt=0.0)
    """Only the last so many days before the row; all when not given."""
    dim: Width = None
    """Of the vector of a category."""

    @model_validator(mode="after")
    def _is_one(self) -> AggregateColumn:
        self.feature()
        return self

    def feature(self) -> AggregateSpec:
        """The feature of the past."""
        return AggregateSpec(what=self.aggregate, by=self.by, at=self.at, log=self.log, of=self.of, days=self.days)

    def check(self, schema: Schema) -> None:
        """See that key and moment are there; what is read of the log is seen when it is fitted.

        Raises:
            DataError: If there is no such column.
        """
        for name in self.feature().column_names() if schema.columns else ():
            schema.require(name, "the table tower's columns")

    def build(self, feature: Feature, *, sparse_rows: bool) -> ColumnPart:
        """A vector per category, or number and flag."""
        return _embedded(feature, self.dim) if self.aggregate == "top" else FlaggedPart(feature.name, 2)


def _embedded(feature: Feature, dim: int | None) -> EmbeddedPart:
    assert isinstance(feature, CodedFeature)
    return EmbeddedPart(feature.name, feature.num_codes, dim or category_dim(feature.first_num_codes))


def _hashed(feature: Feature, dim: int | None, *, sparse_rows: bool) -> EmbeddedPart:
    assert isinstance(feature, CodedFeature)
    dim = dim or category_dim(feature.first_num_codes)
    return EmbeddedPart(feature.name, feature.num_codes, dim, from_nothing=True, sparse_rows=sparse_rows)


def _form(entry: Any) -> str | None:
    """Which of the four forms an entry has; the tags are no keys, so that messages do not take them for one."""
    if isinstance(entry, str):
        return "(name)"
    if isinstance(entry, Mapping):
        return "(cross)" if "cross" in entry else "(aggregate)" if "aggregate" in entry else "(column)"
    if isinstance(entry, ColumnSpec):
        return {CrossColumn: "(cross)", AggregateColumn: "(aggregate)"}.get(type(entry), "(column)")
    return None


AnyColumnSpec = Annotated[
    StandardColumn
    | LogColumn
    | QuantileColumn
    | PiecewiseColumn
    | PeriodicColumn
    | CategoryColumn
    | HashedColumn
    | MultiHotColumn
    | CyclicColumn,
    Field(discriminator="how"),
]
"""The menu of ways to read one column."""

ColumnEntry: TypeAlias = Annotated[
    Annotated[str, Tag("(name)")]
    | Annotated[AnyColumnSpec, Tag("(column)")]
    | Annotated[CrossColumn, Tag("(cross)")]
    | Annotated[AggregateColumn, Tag("(aggregate)")],
    Discriminator(
        _form,
        custom_error_type="column_entry",
        custom_error_message="must be a column's name, or keys as in {column: price, as: log}, {cross: [city, device]} or "
        "{aggregate: count, by: user, at: time}",
    ),
]
"""A column's name, read as its type suggests; or how to read one; a cross of several; or what a log says before the row."""


def usual(name: str, column_type: str) -> ColumnSpec | None:
    """How a column is read when only its name is given; None if no table tower reads such a type unasked."""
    if column_type == "number":
        return StandardColumn(column=name)
    if column_type == "time":
        return CyclicColumn(column=name)
    if column_type == "list":
        return MultiHotColumn(column=name)
    return CategoryColumn(column=name) if column_type in _VALUES else None

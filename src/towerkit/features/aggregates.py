"""Aggregates of an entity's past at each row's time: how often, how long ago, how much on average, what most of all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from towerkit.core.errors import SpecError
from towerkit.data.batch import Column
from towerkit.data.table import values_of
from towerkit.features.base import CodedFeature, Feature, FeatureSpec, State, as_text
from towerkit.features.columns import NumberSpec, numbers
from towerkit.features.cyclic import seconds_of
from towerkit.features.past import Past, Stretches
from towerkit.features.vocabulary import Vocabulary

What: TypeAlias = Literal["count", "days_since", "mean", "top"]
EXAMPLES = "examples"
"""The log that the examples themselves are: those rows that are learned from."""
_SCALES: Mapping[What, Literal["standard", "log"]] = {"count": "log", "days_since": "log", "mean": "standard"}
_VALUE = "value"


@dataclass(frozen=True)
class Aggregate:
    """Looks a row's past up in a log."""

    spec: AggregateSpec
    past: Past

    def stretches(self, table: pa.Table) -> Stretches:
        """The events before each row of a table; all there are where rows have no moment."""
        spec = self.spec
        times = None if spec.at is None else seconds_of(values_of(table, spec.at), spec.at)
        return self.past.before(values_of(table, spec.by), times, spec.days)

    def number(self, rows: Stretches) -> NDArray[np.float64]:
        """``[rows]``; NaN where there is nothing to say. A known key without an event has a count of 0."""
        if self.spec.what == "count":
            return np.where(np.isneginf(rows.times), np.nan, rows.counts)  # without a moment nothing is before it
        return self.past.days_since(rows) if self.spec.what == "days_since" else self.past.mean(rows)


@dataclass(frozen=True)
class AggregateNumber(Feature):
    """``[rows, 2]`` float32: the standardised number (0 where there is none) and 1 where there is none."""

    name: str
    aggregate: Aggregate
    inner: Feature
    """Fitted on what the training rows looked back on."""

    def encode(self, table: pa.Table) -> Column:
        """What each row looks back on."""
        missing = values_of(table, self.aggregate.spec.by).is_null().to_numpy(zero_copy_only=False)
        return self._encoded(self.aggregate.stretches(table), missing)

    def as_of(self, keys: pa.Array, times: NDArray[np.float64]) -> Column:
        """The same for keys at given moments.

        Args:
            keys: ``[rows]``.
            times: ``[rows]`` seconds.
        """
        found = self.aggregate.past.before(keys, times, self.aggregate.spec.days)
        return self._encoded(found, keys.is_null().to_numpy(zero_copy_only=False))

    def _encoded(self, rows: Stretches, missing: NDArray[np.bool_]) -> Column:
        found = np.where(missing, np.nan, self.aggregate.number(rows))
        return self.inner.encode(pa.table({_VALUE: pa.array(found, from_pandas=True)}))

    def state(self) -> State:
        """The log, and mean and deviation."""
        return State(self.inner.state().values, Vocabulary(_kept(self.aggregate.past)))

    def sample(self) -> Mapping[str, Any]:
        """Nobody's past."""
        return _sample(self.aggregate.spec)


@dataclass(frozen=True)
class AggregateTop(CodedFeature):
    """``[rows]`` int64 codes of the category that stands most often before a row; 0 where there is none."""

    name: str
    aggregate: Aggregate
    classes: tuple[str, ...]
    """The categories, in the order of their codes."""
    first: int
    """How many of them the first fit had."""

    def encode(self, table: pa.Table) -> Column:
        """What each row met most often."""
        return torch.from_numpy(self.aggregate.past.top(self.aggregate.stretches(table)))

    def as_of(self, keys: pa.Array, times: NDArray[np.float64]) -> Column:
        """The same for keys at given moments; see :meth:`AggregateNumber.as_of`."""
        past, days = self.aggregate.past, self.aggregate.spec.days
        return torch.from_numpy(past.top(past.before(keys, times, days)))

    @property
    def num_codes(self) -> int:
        """The categories and the missing one."""
        return len(self.classes) + 1

    @property
    def first_num_codes(self) -> int:
        """Those of the first fit."""
        return self.first + 1

    def state(self) -> State:
        """The log and the categories."""
        return State({"classes": list(self.classes), "first": self.first}, Vocabulary(_kept(self.aggregate.past)))

    def sample(self) -> Mapping[str, Any]:
        """Nobody's past."""
        return _sample(self.aggregate.spec)


AggregateFeature = AggregateNumber | AggregateTop


class AggregateSpec(FeatureSpec):
    """What a log says of a key before the moment of a row."""

    kind: Literal["aggregate"] = "aggregate"
    what: What
    by: str
    """Column of the row with the key."""
    at: str | None = None
    """Column of the row with its moment; none for the query side of a two-tower, whose rows are as of each example's time."""
    log: str = EXAMPLES
    of: str | None = None
    """Column of the log whose mean or most frequent value is asked for."""
    days: float | None = Field(None, gt=0.0)
    """Only the last so many days; all when not given."""

    @model_validator(mode="after")
    def _of_what(self) -> AggregateSpec:
        if (self.of is not None) != (self.what in ("mean", "top")):
            told = "a column of the log in 'of'" if self.of is None else "no column"
            raise ValueError(f"'{self.what}' wants {told}; received of: {self.of!r}.")
        return self

    def column_names(self) -> tuple[str, ...]:
        """The key, and the moment."""
        return (self.by,) if self.at is None else (self.by, self.at)

    def past_columns(self) -> tuple[str, ...]:
        """The column of the log that it reads, beside key and time."""
        return () if self.of is None else (self.of,)

    @property
    def name(self) -> str:
        """The key of its column in a batch."""
        when = "" if self.at is None else f"@{self.at}"
        window = "" if self.days is None else f":{self.days!r}d"
        return f"aggregate:{self.log}:{self.by}{when}:{self.what}:{self.of or ''}{window}"

    def fit(self, table: pa.Table) -> Feature:
        """A past is fitted with its log; see :meth:`fit_on`."""
        raise SpecError(
            f"The aggregate '{self.what}' of {self.log} looks back on a log, and there is none here. Train it in a table tower."
        )

    def fit_on(self, log: Mapping[str, Any], keys: pa.Array, times: NDArray[np.float64]) -> AggregateFeature:
        """Fit on what training rows looked back on.

        Args:
            log: ``keys`` and ``times`` of the events, and ``values`` of the column ``of``.
            keys: ``[rows]`` of the training rows.
            times: ``[rows]`` their moments, in seconds.

        Raises:
            DataError: If a value of the log's column is no number, where the mean is asked for.
        """
        if self.what == "top":
            return self._fit_top(log, keys, times)
        values = numbers(log["values"], str(self.of)) if self.what == "mean" else None
        aggregate = Aggregate(self, Past.of(log["keys"], log["times"], values))
        found = aggregate.number(aggregate.past.before(keys, times, self.days))
        inner = self._inner().fit(pa.table({_VALUE: pa.array(found, from_pandas=True)}))
        return AggregateNumber(self.name, aggregate, inner)

    def _fit_top(self, log: Mapping[str, Any], keys: pa.Array, times: NDArray[np.float64]) -> AggregateTop:
        """Only categories that some training row met most often are known."""
        texts = as_text(log["values"])
        all_of_them = Vocabulary(pa.array(sorted(set(texts.drop_null().to_pylist())), pa.string()))
        past = Past.of(log["keys"], log["times"], all_of_them.encode(texts))
        met = np.unique(past.top(past.before(keys, times, self.days)))
        return self._top(past, all_of_them.values.to_pylist(), met[met > 0])

    def _top(self, past: Past, classes: list[str], known: NDArray[np.int64]) -> AggregateTop:
        codes = np.zeros(len(classes) + 1, np.int64)
        codes[known] = np.arange(1, len(known) + 1)
        assert past.values is not None
        told = tuple(classes[code - 1] for code in known)
        return AggregateTop(self.name, Aggregate(self, replace(past, values=codes[past.values])), told, len(told))

    def restore(self, state: State) -> AggregateFeature:
        """Rebuild from the stored log."""
        past = _past(state.known().values)
        if self.what == "top":
            classes, first = state.values["classes"], state.values["first"]
            if not all(isinstance(each, str) for each in classes) or not 0 <= first <= len(classes):
                raise ValueError(f"the stored categories {classes!r} and their number {first!r} are none")
            if past.values is None or past.values.min(initial=0) < 0 or past.values.max(initial=0) > len(classes):
                raise ValueError("the stored log has categories that are not among those stored")
            return AggregateTop(self.name, Aggregate(self, past), tuple(classes), int(first))
        if (past.values is None) != (self.what != "mean"):
            raise ValueError(f"the stored log does not fit the aggregate '{self.what}'")
        return AggregateNumber(self.name, Aggregate(self, past), self._inner().restore(State(state.values)))

    def _inner(self) -> NumberSpec:
        return NumberSpec(column=_VALUE, scale=_SCALES[self.what])


def continued(old: AggregateFeature, new: AggregateFeature) -> AggregateFeature:
    """The old feature, with the events of the new one beside its own; one that both have counts once.

    Args:
        old: Of a Run; its statistics and categories stay.
        new: Of the same spec, fitted on new rows.
    """
    past, more = old.aggregate.past, new.aggregate.past
    if isinstance(old, AggregateTop) and isinstance(new, AggregateTop):
        codes = np.array([0, *((old.classes.index(each) + 1) if each in old.classes else 0 for each in new.classes)])
        assert more.values is not None
        more = replace(more, values=codes[more.values.astype(np.int64)])
    whole = pa.concat_tables([_as_table(past), _as_table(more)], promote_options="permissive")
    distinct = whole.group_by(whole.column_names, use_threads=False).aggregate([])
    known: NDArray[np.float64] | NDArray[np.int64] | None = None
    if past.values is not None:
        values = distinct.column(_VALUE).to_numpy()
        whole_numbers = isinstance(old, AggregateTop)
        known = np.asarray(values, np.int64) if whole_numbers else np.asarray(values, np.float64)
    keys = distinct.column("key").combine_chunks()
    merged = Past.of(keys, np.asarray(distinct.column("time").to_numpy()), known)
    return replace(old, aggregate=replace(old.aggregate, past=merged))


def _as_table(past: Past) -> pa.Table:
    found = {"key": past.keys.take(pa.array(past.codes - 1)), "time": pa.array(past.times)}
    if past.values is not None:
        found[_VALUE] = pa.array(past.values)
    return pa.table(found)


def _kept(past: Past) -> pa.Array:
    """The events as one Arrow array of records, for a file."""
    table = _as_table(past)
    columns = [table.column(name).combine_chunks() for name in table.column_names]
    return pa.StructArray.from_arrays(columns, names=table.column_names)


def _past(stored: pa.Array) -> Past:
    """The inverse of :func:`_kept`; the order is made anew, so that a stored one need not be trusted.

    Raises:
        ValueError: If it is no stored log.
    """
    if not pa.types.is_struct(stored.type):
        raise ValueError(f"a stored log has records; received {stored.type}")
    fields = {stored.type.field(place).name: stored.field(place) for place in range(stored.type.num_fields)}
    times = np.asarray(fields["time"].to_numpy(zero_copy_only=False), np.float64)
    if not all(math.isfinite(each) for each in (times.min(initial=0.0), times.max(initial=0.0))):
        raise ValueError("a stored log has moments that are none")
    values = fields.get(_VALUE)
    known: NDArray[np.float64] | NDArray[np.int64] | None = None
    if values is not None:
        plain = values.to_numpy(zero_copy_only=False)
        known = np.asarray(plain, np.int64) if pa.types.is_integer(values.type) else np.asarray(plain, np.float64)
    return Past.of(fields["key"], times, known)


def _sample(spec: AggregateSpec) -> dict[str, Any]:
    return {spec.by: None} if spec.at is None else {spec.by: None, spec.at: "2024-01-01T00:00:00"}

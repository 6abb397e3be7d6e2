"""Numbers by their place among the training values: the quantile bucket, or the position along piecewise-linear bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor

from towerkit.data.batch import Column
from towerkit.data.table import values_of
from towerkit.features.base import CodedFeature, Feature, FeatureSpec, State
from towerkit.features.columns import Floats, numbers

_FURTHEST = 10.0
"""Bins by which a number may lie outside the training values: one absurd value must not blow up a batch."""


@dataclass(frozen=True)
class QuantileFeature(CodedFeature):
    """``[rows]`` int64 codes of buckets that held about equally many training values each; 0 is missing."""

    name: str
    column: str
    edges: tuple[float, ...]
    """Where one bucket ends and the next begins; a value on an edge belongs to the upper bucket."""

    @property
    def num_codes(self) -> int:
        """The buckets and the missing value."""
        return len(self.edges) + 2

    def encode(self, table: pa.Table) -> Column:
        """Codes of the column's values."""
        values = numbers(values_of(table, self.column), self.column)
        codes = np.searchsorted(np.asarray(self.edges, np.float64), values, side="right") + 1
        return torch.from_numpy(np.where(np.isnan(values), 0, codes).astype(np.int64))

    def state(self) -> State:
        """The edges."""
        return State({"edges": list(self.edges)})

    def sample(self) -> Mapping[str, Any]:
        """The middle edge."""
        return {self.column: self.edges[len(self.edges) // 2] if self.edges else 0.0}


class QuantileSpec(FeatureSpec):
    """A numeric column cut into buckets at the quantiles of the training rows."""

    kind: Literal["quantile"] = "quantile"
    column: str
    buckets: int = Field(16, ge=2, le=1024)
    """At most: where many values are equal, buckets merge, so that each holds some training value."""

    def column_names(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    def fit(self, table: pa.Table) -> QuantileFeature:
        """Take the quantiles over the known values."""
        edges = bucket_edges(numbers(values_of(table, self.column), self.column), self.buckets)
        return self.restore(State({"edges": edges}))

    def restore(self, state: State) -> QuantileFeature:
        """Rebuild from the edges."""
        return QuantileFeature(f"quantile-{self.buckets}:{self.column}", self.column, tuple(state.values["edges"]))


@dataclass(frozen=True)
class PiecewiseFeature(Feature):
    """``[rows, 2]`` float32: the position along the bins (0 where missing) and 1 where missing.

    A position of 3.25 is a quarter of the way through the fourth bin. :func:`piecewise_linear` makes the encoding
    of it, one number per bin, only for the rows of a batch: the whole column would take as many times the memory.
    """

    name: str
    column: str
    edges: tuple[float, ...]
    """Ends of the bins, one more than there are bins; a single one stands for a constant column."""

    @property
    def num_bins(self) -> int:
        """How many bins there are."""
        return max(len(self.edges) - 1, 1)

    def encode(self, table: pa.Table) -> Column:
        """Positions beside the missing flags."""
        values = numbers(values_of(table, self.column), self.column)
        missing = np.isnan(values)
        position = np.where(missing, 0.0, self._positions(np.where(missing, self.edges[0], values)))
        return torch.from_numpy(np.stack([position, missing], axis=1).astype(np.float32))

    def _positions(self, values: Floats) -> Floats:
        edges = np.asarray(self.edges)
        place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, self.num_bins - 1)
        halves = edges * 0.5  # the distance between two huge numbers would overflow
        width = np.diff(halves) if len(edges) > 1 else np.array([0.5])
        width = np.where(width > 0.0, width, 0.5)  # too narrow to write down
        with np.errstate(over="ignore"):  # far beyond the clip anyway
            share = (values * 0.5 - halves[place]) / width[place]
        low = np.where(place == 0, -_FURTHEST, 0.0)
        high = np.where(place == self.num_bins - 1, 1.0 + _FURTHEST, 1.0)
        return np.asarray(place + np.clip(share, low, high), np.float64)

    def state(self) -> State:
        """The edges."""
        return State({"edges": list(self.edges)})

    def sample(self) -> Mapping[str, Any]:
        """The middle edge."""
        return {self.column: self.edges[len(self.edges) // 2]}


class PiecewiseSpec(FeatureSpec):
    """A numeric column as a position along bins between the quantiles of the training rows."""

    kind: Literal["piecewise"] = "piecewise"
    column: str
    bins: int = Field(16, ge=1, le=1024)
    """At most: where many values are equal, bins merge."""

    def column_names(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    def fit(self, table: pa.Table) -> PiecewiseFeature:
        """Take the quantiles over the known values, smallest and largest included."""
        values = numbers(values_of(table, self.column), self.column)
        ends = np.unique(_ends(values[~np.isnan(values)], self.bins))
        return self.restore(State({"edges": ends.tolist() or [0.0]}))

    def restore(self, state: State) -> PiecewiseFeature:
        """Rebuild from the edges."""
        return PiecewiseFeature(f"piecewise-{self.bins}:{self.column}", self.column, tuple(state.values["edges"]))


def bucket_edges(values: Floats, buckets: int) -> list[float]:
    """The edges between ``buckets`` buckets that hold about equally many values, or between fewer that hold some.

    Each edge is itself a value, so no bucket is empty. A value that fills several buckets gets one of its own.

    Args:
        values: ``[rows]``, NaN where missing.
        buckets: At most this many.

    Example:
        >>> bucket_edges(np.array([5.0, 1.0, 2.0, np.nan, 4.0, 3.0]), 2)
        [3.0]
        >>> bucket_edges(np.array([0.0] * 90 + [1.0, 2.0, 3.0]), 4)  # none against some
        [1.0]
    """
    known = np.sort(values[~np.isnan(values)])
    ends, counts = np.unique(_ends(known, buckets), return_counts=True)
    inner = ends[1:] if len(ends) and counts[-1] > 1 else ends[1:-1]  # the largest value is an edge only if it repeats
    above = np.searchsorted(known, ends[counts > 1], side="right")  # where the values above a repeated one begin
    return [float(edge) for edge in np.unique(np.append(inner, known[above[above < len(known)]]))]


def _ends(known: Floats, parts: int) -> Floats:
    """The ``parts + 1`` ends of parts that hold about equally many values, repeated ones too; each is a value."""
    if not len(known):
        return known
    return np.asarray(np.quantile(known, np.linspace(0.0, 1.0, parts + 1), method="inverted_cdf"), np.float64)


def piecewise_linear(position: Tensor, num_bins: int) -> Tensor:
    """The piecewise-linear encoding of positions: bin ``t`` is 0 before it, 1 behind it, and the share within it.

    The first and the last bin go on beyond the training values.

    Args:
        position: ``[rows]``, as :class:`PiecewiseFeature` gives them.
        num_bins: How many bins.

    Returns:
        ``[rows, num_bins]``.

    Example:
        >>> piecewise_linear(torch.tensor([-1.0, 1.25, 4.0]), 3)
        tensor([[-1.0000,  0.0000,  0.0000],
                [ 1.0000,  0.2500,  0.0000],
                [ 1.0000,  1.0000,  2.0000]])

    Reference: Gorishniy, Rubachev and Babenko, NeurIPS 2022 (arXiv 2203.05556), equation 1.
    """
    starts = torch.arange(num_bins, device=position.device)
    low, high = torch.zeros(num_bins, device=position.device), torch.ones(num_bins, device=position.device)
    low[0], high[-1] = -torch.inf, torch.inf
    return torch.clamp(position[:, None] - starts, min=low, max=high)  # [rows, num_bins]

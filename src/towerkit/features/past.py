"""What had happened to a key before a moment: counted, dated, averaged and compared, for many rows at once.

Only events strictly before a row's moment are looked at. Every answer is computed from these events alone, in one order, so that
not a bit of it depends on what came later, or happened to others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.features.vocabulary import Vocabulary

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
DAY_S = 86_400.0
_ENTRIES = 1 << 21
"""Events that are compared at a time."""


@dataclass(frozen=True)
class Stretches:
    """For each row the events that lie before it: ``start`` to ``end`` in the order of the past."""

    start: Ints
    end: Ints
    times: Floats
    """``[rows]`` the moments that were asked for."""

    @property
    def counts(self) -> Ints:
        """``[rows]`` how many events."""
        return self.end - self.start


@dataclass(frozen=True, eq=False)
class Past:
    """Events sorted by key and time.

    Args:
        keys: The distinct keys.
        codes: ``[events]`` code of each event's key, ascending, from 1.
        times: ``[events]`` seconds, ascending within a key.
        values: ``[events]`` numbers (NaN where missing) or codes of categories (0 where missing); None where events are counted.
    """

    keys: pa.Array
    codes: Ints
    times: Floats
    values: NDArray[np.float64] | NDArray[np.int64] | None = None

    @classmethod
    def of(cls, keys: pa.Array, times: Floats, values: NDArray[np.float64] | NDArray[np.int64] | None = None) -> Past:
        """Sort events; one without a key or a time is nobody's past.

        Args:
            keys: ``[events]``.
            times: ``[events]`` seconds, NaN where missing.
            values: ``[events]`` as above.
        """
        known = Vocabulary.fit(keys)
        codes = known.encode(keys)
        kept = np.flatnonzero((codes > 0) & ~np.isnan(times))
        ties = (
            () if values is None else (values[kept],)
        )  # events of one moment in an order of their own, not the file's
        order = kept[np.lexsort((*ties, times[kept], codes[kept]))]
        return cls(known.values, codes[order], times[order], None if values is None else values[order])

    @cached_property
    def _moments(self) -> Floats:
        return np.unique(self.times)

    @cached_property
    def _places(self) -> Ints:
        """``[events]`` key and moment as one ascending number."""
        return self._place(self.codes, self.times)

    def _place(self, codes: Ints, times: Floats) -> Ints:
        return codes * (len(self._moments) + 1) + np.searchsorted(self._moments, times)

    def before(self, keys: pa.Array, times: Floats | None = None, days: float | None = None) -> Stretches:
        """The events of some keys strictly before some moments.

        Args:
            keys: ``[rows]``.
            times: ``[rows]`` seconds; one that is missing has nothing before it. None asks for all events.
            days: Only the last so many days.

        Returns:
            For each row where its events stand; an unknown key has none.
        """
        codes = Vocabulary(self.keys).encode(keys)
        moments = np.full(len(codes), np.inf) if times is None else times
        asked = np.where(np.isnan(moments), -np.inf, moments)
        end = np.searchsorted(self._places, self._place(codes, asked))
        until = asked if times is not None else np.full(len(codes), self.latest)
        first = np.full(len(codes), -np.inf) if days is None else until - days * DAY_S
        start = np.searchsorted(self._places, self._place(codes, first))
        return Stretches(np.minimum(start, end), end, until)

    @property
    def latest(self) -> float:
        """The last moment of all events: when the past ends, where nobody says how late it is."""
        return float(self.times.max(initial=-np.inf))

    def days_since(self, rows: Stretches) -> Floats:
        """``[rows]`` days from the last event before a row to it; NaN where there is none."""
        found = np.full(len(rows.end), np.nan)
        has = rows.counts > 0
        found[has] = (rows.times[has] - self.times[rows.end[has] - 1]) / DAY_S
        return found

    def mean(self, rows: Stretches) -> Floats:
        """``[rows]`` the mean of the numbers before a row, missing ones left out; NaN where there is none."""
        assert self.values is not None
        known = ~np.isnan(self.values)
        sums = _sums(np.where(known, self.values, 0.0), rows)
        counts = np.concatenate([[0], np.cumsum(known)])
        number = counts[rows.end] - counts[rows.start]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(number > 0, sums / number, np.nan)

    def top(self, rows: Stretches) -> Ints:
        """``[rows]`` the most frequent category before a row, of equals the one that was met last; 0 where there is none."""
        found = np.zeros(len(rows.end), np.int64)
        ends = np.cumsum(rows.counts)
        begin = 0
        while begin < len(found):
            stop = max(begin + 1, int(np.searchsorted(ends, (ends[begin - 1] if begin else 0) + _ENTRIES)))
            found[begin:stop] = self._top(rows.start[begin:stop], rows.end[begin:stop])
            begin = stop
        return found

    def _top(self, start: Ints, end: Ints) -> Ints:
        assert self.values is not None
        counts = end - start
        owner = np.repeat(np.arange(len(counts)), counts)
        entry = np.arange(len(owner)) + np.repeat(start - (np.cumsum(counts) - counts), counts)
        category = self.values[entry].astype(np.int64)
        known = category > 0
        owner, entry, category = owner[known], entry[known], category[known]
        pair, place = np.unique(owner * (category.max(initial=0) + 1) + category, return_inverse=True)
        often = np.bincount(place, minlength=len(pair))
        last = np.zeros(len(pair), np.int64)
        np.maximum.at(last, place, entry)
        order = np.lexsort((last, often))  # the best of each owner comes last
        width = category.max(initial=0) + 1
        found = np.zeros(len(counts), np.int64)
        found[pair[order] // width] = pair[order] % width
        return found


def _sums(values: Floats, rows: Stretches) -> Floats:
    """``[rows]`` the sum of each stretch, added up by itself."""
    found = np.zeros(len(rows.end))
    has = np.flatnonzero(rows.counts > 0)
    has = has[
        np.argsort(rows.start[has], kind="stable")
    ]  # what lies between two stretches is then added up once at most
    borders = np.stack([rows.start[has], rows.end[has]], axis=1).ravel()
    if len(borders):
        found[has] = np.add.reduceat(np.append(values, 0.0), borders)[::2]  # a border may lie behind the last value
    return found

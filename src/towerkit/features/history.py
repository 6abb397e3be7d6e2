"""Histories: what a query met before an example, as bags of candidates, cut per batch from one sorted list of events.

The history of an example never holds what it could not have known, nor what it shall predict:

- only events of the same query strictly before its time; an event of the same moment is not history;
- never an event of its own candidate, also not an earlier one: a candidate that a query had is no answer for it later;
- without times, all other events of the query.

Events are training rows. A row that is not learned from (validation, test) has all of them before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from towerkit.core.random import random_bits
from towerkit.data.batch import Bag

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Reach:
    """How far back a history goes, and how much older events count in it."""

    length: int
    """Only the last so many events, before those of the example's own candidate are left out."""
    half_life_days: float | None = None
    """An event counts half as much as one so many days later."""
    half_life_events: float | None = None
    """An event counts half as much as one so many events later; events of one moment count alike."""
    ages: bool = False
    """In place of weights, the days from each event to the newest of its history; zeros where times are no moments."""
    ordered: bool = False
    """What comes first matters, so that it cannot do without times."""

    @property
    def name(self) -> str:
        """The key of its column in a batch."""
        if self.ages:
            return f"history:{self.length}:ages"
        by_days = "" if self.half_life_days is None else f":{self.half_life_days!r}d"
        by_events = "" if self.half_life_events is None else f":{self.half_life_events!r}e"
        return f"history:{self.length}{by_days}{by_events}"


@dataclass(frozen=True, eq=False)
class Events:
    """What each query met, oldest first.

    Attributes:
        starts: ``[queries + 2]``; query row ``r`` owns the events from ``starts[r]`` to ``starts[r + 1]``. Row 0, the unknown
            query, has none.
        codes: ``[events]`` codes of candidates, from 1.
        times: ``[events]`` seconds, or the time column's own numbers; None where the order means nothing.
        is_dated: The times are moments; otherwise they only order.
    """

    starts: Ints
    codes: NDArray[np.int32]
    times: Floats | None
    is_dated: bool = True

    def bag(self, reach: Reach, queries: Ints, end: Ints | None = None, without: Ints | None = None) -> Bag:
        """The histories of some queries, oldest first: weights of each sum to 1, and a query without events has an empty one.

        Args:
            reach: How far back, and how much older events count.
            queries: ``[rows]`` query rows.
            end: ``[rows]`` the place behind the last event that counts; all events of the query when not given.
            without: ``[rows]`` the code of a candidate whose events do not count.
        """
        end = self.starts[queries + 1] if end is None else end
        first = np.maximum(self.starts[queries], end - reach.length)
        counts = end - first
        owner = np.repeat(np.arange(len(queries)), counts)
        entry = np.arange(len(owner)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        if without is not None:
            kept = self.codes[entry] != without[owner]
            owner, entry = owner[kept], entry[kept]
            counts = np.bincount(owner, minlength=len(queries))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        weights = self._weights(reach, owner, entry, offsets, counts).astype(np.float32)
        codes = self.codes[entry].astype(np.int64)
        return Bag(torch.from_numpy(codes), torch.from_numpy(offsets), torch.from_numpy(weights))

    def _weights(self, reach: Reach, owner: Ints, entry: Ints, offsets: Ints, counts: Ints) -> Floats:
        """``[entries]``; only differences of time matter, so a history weighs the same however long ago it ended."""
        newest_entry = entry[offsets[1:][owner] - 1]  # [entries] of the same history
        if reach.ages:
            if self.times is None or not self.is_dated:
                return np.zeros(len(entry))
            return (self.times[newest_entry] - self.times[entry]) / _DAY_S
        clock, half_life = self._clock(reach)
        if clock is None:
            return 1.0 / counts[owner]
        newest = clock[newest_entry]
        weights = np.exp2((clock[entry] - newest) / half_life)
        found: Floats = weights / np.bincount(owner, weights, minlength=len(counts))[owner]
        return found

    def _clock(self, reach: Reach) -> tuple[Floats | None, float]:
        if reach.half_life_events is not None and self.times is not None:
            return self._places, reach.half_life_events
        if reach.half_life_days is not None and self.is_dated:
            return self.times, reach.half_life_days * _DAY_S
        return None, 1.0

    @cached_property
    def _places(self) -> Floats:
        """``[events]`` how many events came up to and with the moment of each."""
        return moments(self.starts, self.times, len(self.codes))[1].astype(np.float64)

    def last(self, count: int, num_queries: int) -> Events:
        """The last events of each of the first queries: all that answering them needs."""
        first = np.maximum(self.starts[: num_queries + 1], self.starts[1 : num_queries + 2] - count)
        counts = self.starts[1 : num_queries + 2] - first
        starts = np.concatenate([[0], np.cumsum(counts)])
        entry = np.arange(starts[-1]) + np.repeat(first - starts[:-1], counts)
        return replace(
            self, starts=starts, codes=self.codes[entry], times=None if self.times is None else self.times[entry]
        )


def given_events(histories: Sequence[NDArray[np.int64]]) -> Events:
    """Histories that are given oldest first and without times, one for each query row from 1; unknown codes are left out.

    Example:
        >>> bag = given_events([np.array([4, 0, 2])]).bag(Reach(length=9, half_life_events=1.0), np.array([1, 0]))
        >>> bag.codes.tolist(), [round(weight, 3) for weight in bag.weights.tolist()], bag.offsets.tolist()
        ([4, 2], [0.333, 0.667], [0, 2, 2])
    """
    known = [codes[codes > 0] for codes in histories]
    starts = np.cumsum([0, 0, *(len(codes) for codes in known)])
    codes = np.concatenate([np.empty(0, np.int64), *known])
    places = np.arange(len(codes), dtype=np.float64)
    return Events(starts, codes.astype(np.int32), places, is_dated=False)


def moments(starts: Ints, times: Floats | None, num_events: int) -> tuple[Ints, Ints]:
    """For each sorted event, the place of the first event of its moment, and the place behind the last one.

    Args:
        starts: ``[queries + 2]`` as in :class:`Events`.
        times: ``[events]`` ascending within a query; None makes all events of a query one moment.
        num_events: How many events there are.
    """
    begins = np.zeros(num_events + 1, bool)
    begins[starts] = True
    if times is not None:
        begins[1:-1] |= times[1:] != times[:-1]
    borders = np.flatnonzero(begins)  # the last one is num_events
    counts = np.diff(borders)
    return np.repeat(borders[:-1], counts), np.repeat(borders[1:], counts)


@dataclass(frozen=True, eq=False)
class Histories:
    """The history of every example, and of every query as it was known at the cut-off.

    Attributes:
        events: Of all queries.
        reaches: One for each column that towers read.
        queries: ``[examples]`` query rows.
        end: ``[examples]`` the place behind the last event before the example.
        targets: ``[examples]`` codes of their own candidates.
    """

    events: Events
    reaches: tuple[Reach, ...]
    queries: Ints
    end: Ints
    targets: Ints

    def of_examples(self, rows: Ints) -> Mapping[str, Bag]:
        """A column for each reach: what came before each example, its own candidate left out."""
        queries, end, targets = self.queries[rows], self.end[rows], self.targets[rows]
        return {reach.name: self.events.bag(reach, queries, end, targets) for reach in self.reaches}

    def of_queries(self, queries: Ints) -> Mapping[str, Bag]:
        """A column for each reach: all that query rows met."""
        return {reach.name: self.events.bag(reach, queries) for reach in self.reaches}


@dataclass(frozen=True)
class Pairs:
    """All example rows as histories see them."""

    queries: Ints
    """``[examples]`` query rows."""
    targets: Ints
    """``[examples]`` candidate codes, 0 where unknown."""
    times: Floats | None
    """``[examples]``, NaN where missing; None without a time column."""
    ties: NDArray[np.uint64]
    """``[examples]`` a fixed order among events of one moment, whatever the order of the rows in the file."""


def histories_of(pairs: Pairs, learned: Ints, reaches: tuple[Reach, ...], num_queries: int) -> Histories:
    """Sort the events once, so that each history is a stretch of them.

    Args:
        pairs: All example rows.
        learned: The rows that are learned from: the events. One without a time is in nobody's history.
        reaches: What the towers ask for.
        num_queries: Rows of the query catalogue, without the unknown one.
    """
    used = learned[(pairs.targets[learned] > 0) & (pairs.queries[learned] > 0)]
    if pairs.times is not None:
        used = used[~np.isnan(pairs.times[used])]
    times = None if pairs.times is None else pairs.times[used]
    keys = (pairs.ties[used], pairs.queries[used]) if times is None else (pairs.ties[used], times, pairs.queries[used])
    order = np.lexsort(keys)
    used, times = used[order], None if times is None else times[order]
    starts = np.searchsorted(pairs.queries[used], np.arange(num_queries + 2))
    events = Events(starts, pairs.targets[used].astype(np.int32), times)
    end = starts[pairs.queries + 1]
    if pairs.times is not None:
        end[np.isnan(pairs.times)] = starts[pairs.queries[np.isnan(pairs.times)]]  # nothing is known to be earlier
        end[used] = moments(starts, times, len(used))[0]
    return Histories(events, reaches, pairs.queries, end, pairs.targets)


def tie_order(queries: Ints, query_keys: pa.Array, candidates: Ints, candidate_keys: pa.Array) -> NDArray[np.uint64]:
    """``[examples]`` a number for each pair of keys, the same in every process and for every order of the rows.

    Args:
        queries: ``[examples]`` query rows, from 1.
        query_keys: The key of row ``r`` stands at ``r - 1``.
        candidates: ``[examples]`` candidate rows, from 1.
        candidate_keys: As ``query_keys``.
    """
    one, other = (
        np.array([_key_hash(key) for key in keys.to_pylist()], np.uint64) for keys in (query_keys, candidate_keys)
    )
    return random_bits(0, one[queries - 1] ^ (other[candidates - 1] >> np.uint64(1)))


def _key_hash(key: object) -> int:
    text = key if isinstance(key, bytes) else str(key).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")

"""Train, validation and test rows. The validation part is always cut from what is not test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.core.random import generator
from towerkit.data.split_specs import GroupedSplit, LeaveLastSplit, PerQuerySplit, RandomSplit, TimeSplit

Rows = NDArray[np.int64]

_NEVER = np.int64(-1)


@dataclass(frozen=True)
class Parts:
    """Row numbers of the example table, ascending, in three disjoint parts."""

    train: Rows
    validation: Rows
    test: Rows

    def get(self, name: str) -> Rows:
        """The rows of the part called ``train``, ``validation`` or ``test``."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def sizes(self) -> dict[str, int]:
        """Number of rows of each part."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}

    def of(self, rows: Rows) -> Parts:
        """The same parts where these are places among ``rows``, which are ascending."""
        return Parts(rows[self.train], rows[self.validation], rows[self.test])


def split_time(times: NDArray[np.float64], split: TimeSplit) -> Parts:
    """Cut at two moments; rows of one moment never fall on both sides of a cut.

    Args:
        times: ``[rows]`` any increasing measure of time; NaN where unknown. Such a row is refused, is in no part, or
            belongs to training, as ``split.time_missing`` says.
        split: The shares of validation and test, of the rows that have a time.

    Raises:
        DataError: If a time is missing and that is refused.
    """
    check_times(times, split)
    missing = np.isnan(times)
    ordered = np.sort(times[~missing])

    def cut(share_after: float) -> float:
        position = round(len(ordered) * (1.0 - share_after))
        return float(ordered[position]) if position < len(ordered) else np.inf

    test_from, validation_from = cut(split.test), cut(split.test + split.validation)
    is_test = times >= test_from  # never true for a missing time
    is_validation = (times >= validation_from) & ~is_test
    return _parts(is_validation, is_test, leave_out=missing if split.time_missing == "drop" else None)


def split_leave_last(queries: NDArray[np.int64], order: NDArray[np.float64], split: LeaveLastSplit) -> Parts:
    """Hold out each query's last row for test and the one before it for validation; ties go by row order.

    A query keeps at least one row in training: one with two rows has no validation row, one with one row is not
    held out at all.

    Args:
        queries: ``[rows]`` a number per query.
        order: ``[rows]`` time or position; NaN where unknown. Such a row is never held out.
        split: What is held out.

    Raises:
        DataError: If a time is missing and that is refused.
    """
    check_times(order, split)
    missing = np.isnan(order)
    counted = ~missing if split.time_missing == "drop" else np.ones(len(order), bool)
    counts = np.bincount(queries[counted], minlength=int(queries.max(initial=-1)) + 1)
    timed = np.flatnonzero(~missing)
    by_query = timed[np.lexsort((timed, order[timed], queries[timed]))]
    ends = np.cumsum(np.bincount(queries[timed], minlength=len(counts)))
    after = np.full(len(order), _NEVER)  # rows of the same query behind this one
    after[by_query] = ends[queries[by_query]] - 1 - np.arange(len(by_query))
    place = np.where(after + 1 < counts[queries], after, _NEVER)  # the first row of a query stays in training
    is_test = (place == 0) if split.test else np.zeros(len(order), bool)
    is_validation = (place == int(split.test)) if split.validation else np.zeros(len(order), bool)
    return _parts(is_validation, is_test, leave_out=missing if split.time_missing == "drop" else None)


def check_times(times: NDArray[np.float64], split: TimeSplit | LeaveLastSplit, rows: Rows | None = None) -> None:
    """Refuse a missing time, unless the split says what to do with it.

    Args:
        times: ``[rows]``; NaN where missing.
        split: The split.
        rows: What the rows are called in the message, from 0; their places when not given.

    Raises:
        DataError: With the number of missing times and the first row.
    """
    missing = np.flatnonzero(np.isnan(times))
    if len(missing) == len(times) and len(times):
        raise DataError(f"A {split.kind} split needs times; all {len(times):,} are missing. Choose another split.")
    if not len(missing) or split.time_missing != "refuse":
        return
    first = missing[0] if rows is None else rows[missing[0]]
    raise DataError(
        f"A {split.kind} split needs a time in every row; {len(missing):,} of {len(times):,} are missing, "
        f"the first in row {first + 1}. Fill them, drop those rows, or use split: {{kind: random}}; "
        "split.time_missing: drop leaves these rows out, train keeps them in training."
    )


def split_random(num_rows: int, split: RandomSplit, seed: int) -> Parts:
    """A random share of the rows, a pure function of the seed."""
    order = generator(seed, "split").permutation(num_rows)
    num_test, num_validation = round(num_rows * split.test), round(num_rows * split.validation)
    place = np.empty(num_rows, np.int64)
    place[order] = np.arange(num_rows)
    return _parts((place >= num_test) & (place < num_test + num_validation), place < num_test)


def split_per_query(
    queries: NDArray[np.int64], split: PerQuerySplit, seed: int, times: NDArray[np.float64] | None = None
) -> Parts:
    """A share of each query's rows, random or the last ones; one row of each query always stays in training.

    Args:
        queries: ``[rows]`` a number per distinct query.
        split: The shares of validation and test, and which rows.
        seed: Draws random rows.
        times: ``[rows]`` what the last ones are the last by, NaN before all others; the order of the rows when not given.
    """
    shuffled = generator(seed, "split").permutation(len(queries))
    if split.take == "last":  # from the last to the first; of one time, from the last row
        order = np.zeros(len(queries)) if times is None else np.nan_to_num(times, nan=-np.inf, neginf=-np.inf)
        shuffled = np.lexsort((np.arange(len(queries)), order))[::-1]
    by_query = shuffled[np.argsort(queries[shuffled], kind="stable")]
    counts = np.bincount(queries)
    starts = np.cumsum(counts) - counts
    place = np.empty(len(queries), np.int64)  # position among the query's own rows
    place[by_query] = np.arange(len(queries)) - starts[queries[by_query]]
    num_test = np.minimum(np.round(counts * split.test), counts - 1)[queries]
    num_held = np.minimum(np.round(counts * (split.test + split.validation)), counts - 1)[queries]
    return _parts((place >= num_test) & (place < num_held), place < num_test)


def split_grouped(groups: NDArray[np.int64], split: GroupedSplit, seed: int) -> Parts:
    """A random share of the groups; one group always stays in training.

    Args:
        groups: ``[rows]`` a number per group.
        split: The shares of validation and test, of the groups.
        seed: Draws which groups.
    """
    names, own = np.unique(groups, return_inverse=True)
    place = generator(seed, "split").permutation(len(names))[own]
    num_test = min(round(len(names) * split.test), len(names) - 1)
    num_held = min(round(len(names) * (split.test + split.validation)), len(names) - 1)
    return _parts((place >= num_test) & (place < num_held), place < num_test)


def _parts(
    is_validation: NDArray[np.bool_], is_test: NDArray[np.bool_], *, leave_out: NDArray[np.bool_] | None = None
) -> Parts:
    is_train = ~is_validation & ~is_test
    if leave_out is not None:
        is_train &= ~leave_out
    return Parts(np.flatnonzero(is_train), np.flatnonzero(is_validation), np.flatnonzero(is_test))

"""Train, validation and test rows. The validation part is always cut from what is not test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.core.random import generator
from towerkit.data.spec import PerQuerySplit, RandomSplit, TimeSplit

Rows = NDArray[np.int64]


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


def split_time(times: NDArray[np.float64], split: TimeSplit) -> Parts:
    """Cut at two moments; rows of one moment never fall on both sides of a cut.

    Args:
        times: ``[rows]`` any increasing measure of time; NaN where unknown.
        split: The shares of validation and test.

    Raises:
        DataError: If a time is missing.
    """
    missing = np.flatnonzero(np.isnan(times))
    if len(missing):
        raise DataError(
            f"A time split needs a time in every row; {len(missing):,} of {len(times):,} are missing, "
            f"the first in row {missing[0] + 1}. Fill them, drop those rows, or use split: {{kind: random}}."
        )
    ordered = np.sort(times)

    def cut(share_after: float) -> float:
        position = round(len(times) * (1.0 - share_after))
        return float(ordered[position]) if position < len(times) else np.inf

    test_from, validation_from = cut(split.test), cut(split.test + split.validation)
    is_test = times >= test_from
    is_validation = (times >= validation_from) & ~is_test
    return _parts(is_validation, is_test)


def split_random(num_rows: int, split: RandomSplit, seed: int) -> Parts:
    """A random share of the rows, a pure function of the seed."""
    order = generator(seed, "split").permutation(num_rows)
    num_test, num_validation = round(num_rows * split.test), round(num_rows * split.validation)
    place = np.empty(num_rows, np.int64)
    place[order] = np.arange(num_rows)
    return _parts((place >= num_test) & (place < num_test + num_validation), place < num_test)


def split_per_query(queries: NDArray[np.int64], split: PerQuerySplit, seed: int) -> Parts:
    """A random share of each query's rows; one row of each query always stays in training.

    Args:
        queries: ``[rows]`` a number per distinct query.
        split: The shares of validation and test.
        seed: Draws which rows.
    """
    shuffled = generator(seed, "split").permutation(len(queries))
    by_query = shuffled[np.argsort(queries[shuffled], kind="stable")]
    counts = np.bincount(queries)
    starts = np.cumsum(counts) - counts
    place = np.empty(len(queries), np.int64)  # position among the query's own rows
    place[by_query] = np.arange(len(queries)) - starts[queries[by_query]]
    num_test = np.minimum(np.round(counts * split.test), counts - 1)[queries]
    num_held = np.minimum(np.round(counts * (split.test + split.validation)), counts - 1)[queries]
    return _parts((place >= num_test) & (place < num_held), place < num_test)


def _parts(is_validation: NDArray[np.bool_], is_test: NDArray[np.bool_]) -> Parts:
    train = np.flatnonzero(~is_validation & ~is_test)
    return Parts(train, np.flatnonzero(is_validation), np.flatnonzero(is_test))

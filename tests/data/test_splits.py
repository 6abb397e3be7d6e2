"""Splits of the example rows.

Invariants:
- the three parts are disjoint, ascending and cover every row, whatever the shares;
- shares are met: to the row for a random split, per query for a per-query split, up to ties for a time split;
- a per-query split leaves every query at least one training row;
- rows of one moment never stand on both sides of a cut, and every training row is older than every test row;
- a split is a pure function of its input and the seed, and draws from no global generator;
- a missing time is refused with counts and the first row.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from towerkit.core.errors import DataError
from towerkit.data.split_specs import PerQuerySplit, RandomSplit, TimeSplit
from towerkit.data.splits import Parts, split_per_query, split_random, split_time

SHARES = st.floats(0.0, 0.49)
SEEDS = st.integers(0, 2**63 - 1)
QUERIES = hnp.arrays(np.int64, st.integers(1, 80), elements=st.integers(0, 6))
# Few distinct moments, so that ties are the rule.
TIMES = hnp.arrays(np.float64, st.integers(1, 60), elements=st.sampled_from([-1e12, -3.5, 0.0, 1.0, 2.0, 1.7e9, 1.8e9]))


def check_parts(parts: Parts, num_rows: int) -> None:
    """Disjoint, ascending, complete."""
    for rows in (parts.train, parts.validation, parts.test):
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all()
    together = np.concatenate([parts.train, parts.validation, parts.test])
    np.testing.assert_array_equal(np.sort(together), np.arange(num_rows))


def same(first: Parts, second: Parts) -> bool:
    return all(np.array_equal(first.get(name), second.get(name)) for name in ("train", "validation", "test"))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), SHARES, SHARES, SEEDS)
def test_random_covers_and_meets_its_shares(num_rows: int, validation: float, test: float, seed: int) -> None:
    split = RandomSplit(validation=validation, test=test)
    parts = split_random(num_rows, split, seed)
    check_parts(parts, num_rows)
    assert len(parts.test) == round(num_rows * test)
    assert len(parts.validation) == min(round(num_rows * validation), num_rows - len(parts.test))
    assert same(parts, split_random(num_rows, split, seed))


def test_random_takes_every_row_equally_often() -> None:
    counts = np.zeros(20)
    for seed in range(400):
        counts[split_random(20, RandomSplit(validation=0.0, test=0.25), seed).test] += 1
    assert counts.sum() == 2_000
    # 100 expected for each row with a deviation of 8.7: five deviations
    assert (np.abs(counts - 100) < 44).all()


@settings(max_examples=60, deadline=None)
@given(QUERIES, st.floats(0.0, 0.99), st.floats(0.0, 0.99), SEEDS)
def test_per_query_covers_and_keeps_a_training_row(
    queries: np.ndarray[tuple[int], np.dtype[np.int64]], validation: float, test: float, seed: int
) -> None:
    split = PerQuerySplit(validation=validation, test=test)
    parts = split_per_query(queries, split, seed)
    check_parts(parts, len(queries))
    assert set(queries[parts.train]) == set(queries)
    for query in set(queries.tolist()):
        count = int((queries == query).sum())
        num_test = min(np.round(count * test), count - 1)
        num_held = min(np.round(count * (test + validation)), count - 1)
        assert (queries[parts.test] == query).sum() == num_test
        assert (queries[parts.validation] == query).sum() == max(num_held - num_test, 0)
    assert same(parts, split_per_query(queries, split, seed))


def test_per_query_takes_each_row_of_a_query_equally_often() -> None:
    queries = np.array([0, 1, 0, 0, 1, 0, 1, 1])
    counts = np.zeros(8)
    for seed in range(400):
        counts[split_per_query(queries, PerQuerySplit(validation=0.25), seed).validation] += 1
    assert counts[queries == 0].sum() == counts[queries == 1].sum() == 400
    assert (np.abs(counts - 100) < 44).all()


@settings(max_examples=60, deadline=None)
@given(TIMES, SHARES, SHARES)
def test_time_covers_and_no_tie_straddles_a_cut(
    times: np.ndarray[tuple[int], np.dtype[np.float64]], validation: float, test: float
) -> None:
    parts = split_time(times, TimeSplit(validation=validation, test=test))
    check_parts(parts, len(times))
    stretches = [times[rows] for rows in (parts.train, parts.validation, parts.test) if len(rows)]
    for earlier, later in pairwise(stretches):
        assert earlier.max() < later.min()
    # ties can only make the later part larger
    assert len(parts.test) >= round(len(times) * test) - 1


def test_time_meets_its_shares_without_ties() -> None:
    times = np.random.default_rng(0).permutation(200).astype(np.float64)
    parts = split_time(times, TimeSplit(validation=0.1, test=0.2))
    assert parts.sizes() == {"train": 140, "validation": 20, "test": 40}
    np.testing.assert_array_equal(np.sort(times[parts.test]), np.arange(160, 200))
    np.testing.assert_array_equal(np.sort(times[parts.validation]), np.arange(140, 160))


def test_a_tie_at_the_cut_goes_to_the_later_part() -> None:
    parts = split_time(np.array([1.0, 2.0, 2.0, 2.0]), TimeSplit(validation=0.0, test=0.25))
    assert parts.test.tolist() == [1, 2, 3]


def test_without_a_share_the_latest_row_stays_in_training() -> None:
    parts = split_time(np.array([3.0, 1.0, 2.0]), TimeSplit(validation=0.0, test=0.0))
    assert parts.sizes() == {"train": 3, "validation": 0, "test": 0}


def test_another_seed_gives_another_split() -> None:
    queries = np.repeat(np.arange(30), 10)
    random, per_query = RandomSplit(), PerQuerySplit(test=0.2)
    assert not same(split_random(300, random, 0), split_random(300, random, 1))
    assert not same(split_per_query(queries, per_query, 0), split_per_query(queries, per_query, 1))


def test_a_missing_time_is_refused_with_its_row() -> None:
    times = np.array([1.0, np.nan, 3.0, np.nan])
    with pytest.raises(DataError, match=r"2 of 4 are missing, the first in row 2"):
        split_time(times, TimeSplit())


def test_parts_by_name() -> None:
    parts = Parts(np.array([0, 1]), np.array([2]), np.array([3, 4, 5]))
    assert parts.sizes() == {"train": 2, "validation": 1, "test": 3}
    assert parts.get("validation").tolist() == [2]
    with pytest.raises(KeyError, match="training"):
        parts.get("training")

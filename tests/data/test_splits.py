"""Splits of the example rows.

Invariants:
- the three parts are disjoint, ascending and cover every row, whatever the shares;
- shares are met: to the row for a random split, per query for a per-query split, up to ties for a time split;
- a per-query split leaves every query at least one training row; with ``take: last`` the held-out rows are its last ones;
- rows of one moment never stand on both sides of a cut, and every training row is older than every test row;
- a split is a pure function of its input and the seed, and draws from no global generator;
- a missing time is refused with counts and the first row, or its row is in no part, or it is in training;
- leave_last: a query has at most one test row, its last one, and one validation row, the one before; it keeps a training
  row; a permutation of the rows (without ties) gives the same parts up to the permutation;
- grouped: no group stands in two parts, its share is met in groups, and the order of the rows does not matter.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import towerkit as tk
from towerkit.core.errors import DataError
from towerkit.data.split_specs import GroupedSplit, LeaveLastSplit, PerQuerySplit, RandomSplit, TimeSplit
from towerkit.data.splits import Parts, split_grouped, split_leave_last, split_per_query, split_random, split_time

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


# --- missing times ------------------------------------------------------------------------------------------------

MAYBE = hnp.arrays(np.float64, st.integers(1, 60), elements=st.sampled_from([np.nan, 0.0, 1.0, 2.0, 3.0, 4.0]))


@settings(max_examples=60, deadline=None)
@given(MAYBE, SHARES, SHARES, st.sampled_from(["drop", "train"]))
def test_rows_without_a_time_are_dropped_or_trained(
    times: np.ndarray[tuple[int], np.dtype[np.float64]], validation: float, test: float, missing: str
) -> None:
    timed = np.flatnonzero(~np.isnan(times))
    split = TimeSplit.model_validate({"validation": validation, "test": test, "time_missing": missing})
    if not len(timed):
        with pytest.raises(DataError, match=rf"A time split needs times; all {len(times)} are missing"):
            split_time(times, split)
        return
    parts = split_time(times, split)
    alone = split_time(times[timed], TimeSplit(validation=validation, test=test)).of(timed)
    np.testing.assert_array_equal(parts.test, alone.test)
    np.testing.assert_array_equal(parts.validation, alone.validation)
    if missing == "drop":
        np.testing.assert_array_equal(parts.train, alone.train)
    else:
        check_parts(parts, len(times))


# --- leave_last ---------------------------------------------------------------------------------------------------


def events() -> st.SearchStrategy[tuple[list[int], list[float]]]:
    pairs = st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([np.nan, 0.0, 1.0, 2.0, 3.0])), min_size=1, max_size=50
    )
    return pairs.map(lambda rows: ([query for query, _ in rows], [when for _, when in rows]))


@settings(max_examples=60, deadline=None)
@given(events(), st.sampled_from([(True, True), (True, False), (False, True)]), st.sampled_from(["drop", "train"]))
def test_leave_last_holds_out_the_last_rows(
    rows: tuple[list[int], list[float]], held: tuple[bool, bool], missing: str
) -> None:
    queries, order = np.array(rows[0]), np.array(rows[1])
    if np.isnan(order).all():
        return
    split = LeaveLastSplit.model_validate({"validation": held[0], "test": held[1], "time_missing": missing})
    parts = split_leave_last(queries, order, split)
    counted = np.flatnonzero(~np.isnan(order)) if missing == "drop" else np.arange(len(queries))
    together = np.sort(np.concatenate([parts.train, parts.validation, parts.test]))
    np.testing.assert_array_equal(together, counted)
    for query in set(queries[counted].tolist()):
        own = [row for row in counted if queries[row] == query]
        timed = sorted((row for row in own if not np.isnan(order[row])), key=lambda row: (order[row], row))
        room = len(own) - 1  # one row stays in training
        last = [timed.pop()] if held[1] and timed and room else []
        before = [timed.pop()] if held[0] and timed and room > len(last) else []
        assert [row for row in parts.test if queries[row] == query] == last
        assert [row for row in parts.validation if queries[row] == query] == before


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 2**31))
def test_leave_last_and_grouped_do_not_depend_on_the_order_of_the_rows(names: list[int], seed: int) -> None:
    queries, draw = np.array(names), np.random.default_rng(seed)
    order, times = draw.permutation(len(names)), draw.permutation(len(names)).astype(np.float64)
    split = LeaveLastSplit()
    first, second = split_leave_last(queries, times, split), split_leave_last(queries[order], times[order], split)
    grouped = GroupedSplit(validation=0.3, test=0.3)
    one, other = split_grouped(queries, grouped, seed), split_grouped(queries[order], grouped, seed)
    for name in ("train", "validation", "test"):
        assert sorted(order[second.get(name)]) == first.get(name).tolist()
        assert sorted(order[other.get(name)]) == one.get(name).tolist()


def test_ties_go_by_row_order() -> None:
    parts = split_leave_last(np.array([0, 0, 0, 1]), np.array([5.0, 5.0, 5.0, 1.0]), LeaveLastSplit())
    assert (parts.train.tolist(), parts.validation.tolist(), parts.test.tolist()) == ([0, 3], [1], [2])


# --- grouped ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(QUERIES, SHARES, SHARES, SEEDS)
def test_grouped_keeps_groups_whole(
    groups: np.ndarray[tuple[int], np.dtype[np.int64]], validation: float, test: float, seed: int
) -> None:
    parts = split_grouped(groups, GroupedSplit(validation=validation, test=test), seed)
    check_parts(parts, len(groups))
    found = [set(groups[rows].tolist()) for rows in (parts.train, parts.validation, parts.test)]
    num_groups = len(set(groups.tolist()))
    assert sum(len(each) for each in found) == num_groups
    assert len(found[0]) >= 1
    assert len(found[2]) == min(round(num_groups * test), num_groups - 1)


def test_another_seed_groups_otherwise() -> None:
    groups = np.repeat(np.arange(40), 3)
    assert not same(split_grouped(groups, GroupedSplit(), 0), split_grouped(groups, GroupedSplit(), 1))


@settings(max_examples=60, deadline=None)
@given(QUERIES, SHARES, SHARES, st.booleans())
def test_per_query_takes_the_last_rows(
    queries: np.ndarray[tuple[int], np.dtype[np.int64]], validation: float, test: float, timed: bool
) -> None:
    times = np.random.default_rng(len(queries)).permutation(len(queries)).astype(float) if timed else None
    split = PerQuerySplit(validation=validation, test=test, take="last")
    parts = split_per_query(queries, split, 0, times)
    usual = split_per_query(queries, PerQuerySplit(validation=validation, test=test), 0)
    check_parts(parts, len(queries))
    order = np.arange(len(queries)) if times is None else times
    for query in set(queries.tolist()):
        own = [rows[queries[rows] == query] for rows in (parts.train, parts.validation, parts.test)]
        assert [len(rows) for rows in own] == [
            (queries[rows] == query).sum() for rows in (usual.train, usual.validation, usual.test)
        ]
        for earlier, later in pairwise([rows for rows in own if len(rows)]):
            assert order[earlier].max() < order[later].min()
    assert same(parts, split_per_query(queries, split, 1, times))


def test_last_rows_without_a_time_come_first() -> None:
    times = np.array([np.nan, 3.0, 1.0, np.nan, 3.0])
    parts = split_per_query(np.zeros(5, np.int64), PerQuerySplit(validation=0.4, take="last"), 0, times)
    assert parts.validation.tolist() == [1, 4] and parts.train.tolist() == [0, 2, 3]


def test_last_rows_go_by_the_time_column_where_there_is_one() -> None:
    rows: dict[str, Any] = {
        "user": ["a"] * 6 + ["b"] * 6,
        "item": [f"i{n}" for n in range(12)],
        "when": [6, 5, 4, 3, 2, 1] * 2,
    }
    split = {"kind": "per_query", "validation": 0.17, "test": 0.17, "take": "last"}
    by_row = tk.read(rows, query="user", candidate="item", split=split)
    by_time = tk.read(rows, query="user", candidate="item", time="when", split=split)
    assert by_row.parts.test.tolist() == [5, 11] and by_time.parts.test.tolist() == [0, 6]
    assert by_time.parts.validation.tolist() == [1, 7] and by_time.split["take"] == "last"
    assert "take" not in tk.read(rows, query="user", candidate="item", split={"kind": "per_query"}).split

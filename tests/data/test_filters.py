"""Duplicates, minimum counts and the k-core.

Invariants:
- of each pair exactly one row stays, the first or last by time, ties by row;
- the k-core satisfies its own condition, is the largest such set (adding any rows left out breaks it), and does not
  depend on the order of the rows;
- a key stays by ``frequent`` if and only if it stands in enough rows.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.data.filters import Codes, frequent, k_core, one_of_each, pair_groups

PAIRS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.sampled_from([0.0, 1.0, 2.0, np.nan])), max_size=60)


def columns(pairs: list[tuple[int, int, float]]) -> tuple[Codes, Codes, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    queries, candidates, times = (np.array([pair[place] for pair in pairs]) for place in range(3))
    return queries.astype(np.int64), candidates.astype(np.int64), times.astype(np.float64)


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.booleans())
def test_one_row_of_each_pair_stays(pairs: list[tuple[int, int, float]], last: bool) -> None:
    queries, candidates, times = columns(pairs)
    kept = one_of_each(pair_groups(queries, candidates), times, last=last)
    expected: dict[tuple[int, int], tuple[float, int]] = {}
    for row, (query, candidate, moment) in enumerate(pairs):
        place = (-np.inf if np.isnan(moment) else moment, row)
        found = expected.setdefault((query, candidate), place)
        expected[query, candidate] = max(found, place) if last else min(found, place)
    assert sorted(np.flatnonzero(kept)) == sorted(row for _, row in expected.values())


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.integers(1, 4))
def test_the_k_core_satisfies_its_condition_and_is_the_largest(pairs: list[tuple[int, int, float]], k: int) -> None:
    queries, candidates, _ = columns(pairs)
    kept = k_core(queries, candidates, k)
    assert frequent(queries[kept], k).all()
    assert frequent(candidates[kept], k).all()
    naive = np.ones(len(pairs), bool)  # one row at a time, in the worst order
    while True:
        bad = [
            row
            for row in np.flatnonzero(naive)[::-1]
            if (queries[naive] == queries[row]).sum() < k or (candidates[naive] == candidates[row]).sum() < k
        ]
        if not bad:
            break
        naive[bad[0]] = False
    np.testing.assert_array_equal(kept, naive)
    order = np.argsort(np.arange(len(pairs)) * 7919 % max(len(pairs), 1), kind="stable")
    np.testing.assert_array_equal(k_core(queries[order], candidates[order], k), kept[order])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=40), st.integers(1, 5))
def test_frequent_counts_rows(codes: list[int], least: int) -> None:
    assert frequent(np.array(codes, np.int64), least).tolist() == [codes.count(code) >= least for code in codes]


def test_a_core_may_be_empty() -> None:
    assert k_core(np.array([0, 1]), np.array([0, 1]), 2).tolist() == [False, False]


def test_pairs_are_told_apart() -> None:
    queries, candidates = np.array([0, 1, 0, 1]), np.array([1, 0, 1, 1])
    groups = pair_groups(queries, candidates)
    assert groups[0] == groups[2]
    assert len(set(groups.tolist())) == 3

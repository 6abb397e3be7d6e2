"""Coverage, Gini, novelty and serendipity.

Pinned: each equals a few plain lines over lists; coverage grows with k and with queries, and neither it nor Gini looks at the
order of queries or of ranks within k; Gini is 0 for even lists and 1 for one candidate for all; a popular candidate is less
novel than a rare one, and a candidate that nobody had is finite; the ranking by popularity itself has no serendipity, and
nothing has more serendipity than precision; the expected rank is the rank in the real popularity ranking, seen pairs out.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.baselines.popularity import Popularity
from towerkit.index.ranker import candidate_tie_order
from towerkit.metrics.beyond import (
    coverage,
    expected_ranks,
    gini,
    list_metrics,
    novelty,
    self_information,
    serendipity,
)

Lists = NDArray[np.int64]


@st.composite
def lists(draw: st.DrawFn, num_candidates: int = 7) -> Lists:
    """Up to 6 queries with up to 5 different candidates each; short lists end in -1."""
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=6))
    rows = np.full((len(sizes), 5), -1)
    for row, size in zip(rows, sizes, strict=True):
        row[:size] = draw(st.permutations(range(num_candidates)))[:size]
    return rows


@given(rows=lists(), k=st.integers(1, 6))
def test_coverage_and_gini_are_a_few_plain_lines(rows: Lists, k: int) -> None:
    shown = [candidate for row in rows.tolist() for candidate in row[:k] if candidate >= 0]
    assert coverage(rows, k, 7) == len(set(shown)) / 7
    counts = [shown.count(candidate) for candidate in range(7)]
    found = gini(rows, k, 7)
    if not shown:
        assert math.isnan(found)
        return
    # Half the mean absolute difference over the mean, with n (n - 1) pairs in place of n^2.
    differences = sum(abs(a - b) for a in counts for b in counts) / (7 * 6)
    assert found == pytest.approx(differences / (2 * np.mean(counts)), abs=1e-12)
    assert list_metrics(rows, [k], 7) == {f"coverage@{k}": coverage(rows, k, 7), f"gini@{k}": found}


@given(rows=lists(), k=st.integers(1, 5), data=st.data())
def test_the_order_of_queries_and_of_ranks_within_k_means_nothing_to_coverage_and_gini(
    rows: Lists, k: int, data: st.DataObject
) -> None:
    queries = data.draw(st.permutations(range(len(rows))))
    ranks = [*data.draw(st.permutations(range(k))), *range(k, 5)]
    other = rows[queries][:, ranks]
    assert coverage(other, k, 7) == coverage(rows, k, 7)
    np.testing.assert_equal(gini(other, k, 7), gini(rows, k, 7))
    assert coverage(rows, k, 7) <= coverage(rows, k + 1, 7)
    assert coverage(rows[:-1], k, 7) <= coverage(rows, k, 7)


def test_even_and_uneven_lists() -> None:
    even = np.array([[0, 1], [2, 3]])
    assert (coverage(even, 2, 4), gini(even, 2, 4)) == (1.0, 0.0)
    one = np.zeros((9, 1), np.int64)
    assert (coverage(one, 1, 50), gini(one, 1, 50)) == (0.02, pytest.approx(1.0))
    assert gini(one, 1, 1) == 0.0
    assert gini(one, 1, 2) == 1.0


@given(rows=lists(), k=st.integers(1, 6), counts=st.lists(st.integers(0, 9), min_size=7, max_size=7))
def test_novelty_is_a_few_plain_lines(rows: Lists, k: int, counts: list[int]) -> None:
    found = novelty(rows, k, self_information(np.array(counts), 9))
    for row, value in zip(rows.tolist(), found.tolist(), strict=True):
        bits = [-math.log2((counts[candidate] + 1) / 10) for candidate in row[:k] if candidate >= 0]
        assert value == pytest.approx(np.mean(bits) if bits else 0.0, abs=1e-12)


def test_the_rarer_the_more_novel() -> None:
    information = self_information(np.array([100, 10, 1, 0]), 100)
    assert (np.diff(information) > 0).all() and np.isfinite(information).all()
    assert information[0] == 0.0, "what everyone had tells nothing"


@st.composite
def trained(draw: st.DrawFn) -> csr_array:
    """Pairs of 6 queries and 7 candidates."""
    cells = draw(st.lists(st.booleans(), min_size=42, max_size=42))
    return csr_array(np.array(cells).reshape(6, 7).astype(np.float32))


@given(seen=trained(), other=st.integers(0, 2**32 - 1), k=st.integers(1, 7))
def test_expected_ranks_are_those_of_the_popularity_ranking(seen: csr_array, other: int, k: int) -> None:
    ranker = Popularity(seen)
    queries = np.arange(6)
    by_popularity = ranker.rank(queries, 7, exclude=seen).rows
    rows = np.random.default_rng(other).permuted(by_popularity, axis=1)  # some other ranking of the same candidates
    found = expected_ranks(rows, seen, ranker.counts, candidate_tie_order(7))
    for query, row in enumerate(rows.tolist()):
        for rank, candidate in enumerate(row):
            wanted = by_popularity[query].tolist().index(candidate) if candidate >= 0 else 0
            assert found[query, rank] == wanted
    hits = np.random.default_rng(other).random(rows.shape) < 0.5
    values = serendipity(hits, found, k)
    for query in range(6):
        usual = set(by_popularity[query, :k].tolist())
        plain = sum(bool(hits[query, rank]) and int(rows[query, rank]) not in usual for rank in range(min(k, 7)))
        plain -= sum(bool(hits[query, rank]) and rows[query, rank] < 0 and -1 not in usual for rank in range(min(k, 7)))
        assert values[query] == pytest.approx(plain / k)
        assert values[query] <= hits[query, :k].sum() / k
    own = expected_ranks(by_popularity, seen, ranker.counts, candidate_tie_order(7))
    assert not serendipity(np.ones_like(hits), own, k).any(), "popularity does not surprise itself"


def test_without_the_seen_pairs_popularity_would_surprise_itself() -> None:
    """The control of the test above: the places in the whole catalogue are not the ranks of a query."""
    seen = csr_array(np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]], np.float32))
    ranker = Popularity(seen)
    rows = ranker.rank(np.arange(3), 2, exclude=seen).rows
    nothing = csr_array(seen.shape, dtype=np.float32)
    wrong = expected_ranks(rows, nothing, ranker.counts, candidate_tie_order(4))
    assert serendipity(rows >= 0, wrong, 2).any()

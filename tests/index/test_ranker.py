"""The exact ranker.

Invariants:
- it equals the sort-everything twin, bit for bit, with heavy ties, exclusions, a mask, and any chunk size;
- vector scores do not depend on the chunk, the order or the number of the queries; equal vectors tie exactly;
- a collapsed model is at chance where the catalogue is sorted by popularity; by catalogue position it would not be;
- excluded, masked and minus-infinity candidates never appear, and the missing places are -1 and minus infinity;
- dot, cosine and euclidean equal their definitions in float64, and are never NaN;
- scores handed out as read-only views are not written to;
- NaN, rows that do not exist and parts that do not fit are refused with the values in the message.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from towerkit.core.errors import DataError, RunError, ShapeError, SpecError
from towerkit.index.ranker import Hits, candidate_tie_order, rank_reference
from towerkit.index.vectors import Similarity, VectorRanker
from towerkit.testing.rankers import TableRanker

NUM_QUERIES = 6


def assert_same(found: Hits, expected: Hits) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.counts, expected.counts)


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@st.composite
def tables(draw: st.DrawFn) -> tuple[NDArray[np.float32], csr_array, NDArray[np.bool_]]:
    """Scores of few values, so that most places are tied; some minus infinity; random exclusions and mask."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    num_candidates = draw(st.sampled_from([1, 2, 7, 40, 1500]))
    levels = draw(st.sampled_from([1, 2, 5, 10**6]))
    scores = rng.integers(0, levels, (NUM_QUERIES, num_candidates)).astype(np.float32) - levels / 2
    scores[rng.random(scores.shape) < draw(st.sampled_from([0.0, 0.3]))] = -np.inf
    exclude = csr_array(rng.random(scores.shape) < draw(st.sampled_from([0.0, 0.4, 1.0])))
    allowed = rng.random(num_candidates) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    return scores, exclude, allowed


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from([1, 3, 20, 2000]), st.integers(1, 7), st.booleans(), st.booleans())
def test_equals_the_twin(
    table: tuple[NDArray[np.float32], csr_array, NDArray[np.bool_]],
    k: int,
    chunk_rows: int,
    with_exclude: bool,
    with_allowed: bool,
) -> None:
    scores, exclude, allowed = table
    queries = np.array([4, 0, 2, 2, 5])
    masks = (exclude[queries] if with_exclude else None, allowed if with_allowed else None)
    found = TableRanker(scores).rank(queries, k, exclude=masks[0], allowed=masks[1], chunk_rows=chunk_rows)
    ties = candidate_tie_order(scores.shape[1])
    assert_same(found, rank_reference(scores[queries], k, masks[0], masks[1], ties))


def test_the_twin_by_hand() -> None:
    # Query 0: candidates 1 and 3 are tied at 2, and 3 comes first among equals. Query 1: only candidate 2 is left.
    scores = np.array([[1, 2, 0, 2], [9, -np.inf, 5, 9]], dtype=np.float32)
    exclude = csr_array(np.array([[0, 0, 0, 0], [1, 0, 0, 1]]))
    hits = rank_reference(scores, 3, exclude, None, np.array([3, 2, 1, 0]))
    assert hits.rows.tolist() == [[3, 1, 0], [2, -1, -1]]
    assert hits.scores.tolist() == [[2, 2, 1], [5, -np.inf, -np.inf]]
    assert hits.counts.tolist() == [3, 1]


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("num_candidates", [5, 50, 1003])
def test_chunks_and_query_order_do_not_matter(similarity: Similarity, num_candidates: int) -> None:
    ranker = VectorRanker(normal(0, 101, 64), normal(1, num_candidates, 64), similarity)
    queries = np.arange(101)
    whole = ranker.rank(queries, 10)
    for chunk_rows in (1, 2, 3, 7, 16, 33):
        assert_same(ranker.rank(queries, 10, chunk_rows=chunk_rows), whole)
    order = np.random.default_rng(2).permutation(101)
    shuffled = ranker.rank(order, 10)
    assert_same(shuffled, Hits(whole.rows[order], whole.scores[order], whole.counts[order]))


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("num_candidates", [2, 7, 50, 1003])
def test_equal_vectors_tie_exactly(similarity: Similarity, num_candidates: int) -> None:
    ranker = VectorRanker(normal(0, 20, 100), np.repeat(normal(1, 1, 100), num_candidates, axis=0), similarity)
    hits = ranker.rank(np.arange(20), num_candidates)
    assert (hits.scores == hits.scores[:, :1]).all()
    assert (hits.rows == np.argsort(candidate_tie_order(num_candidates))).all()


def test_collapsed_scores_are_at_chance_in_a_catalogue_sorted_by_popularity() -> None:
    num_candidates, k = 2000, 100  # chance: 100 / 2000 = 0.05
    popularity = np.arange(num_candidates, 0, -1) / np.arange(num_candidates + 1).sum()
    targets = np.random.default_rng(0).choice(num_candidates, size=5000, p=popularity)
    collapsed = VectorRanker(normal(0, 1, 8), np.repeat(normal(1, 1, 8), num_candidates, axis=0), "dot")
    shown = collapsed.rank(np.zeros(1, dtype=np.int64), k).rows[0]
    assert np.isin(targets, shown).mean() == pytest.approx(0.05, rel=0.2)
    assert np.isin(targets, np.arange(k)).mean() > 0.09  # by catalogue position: almost twice chance


def test_tie_order_is_a_fixed_permutation_that_growth_keeps() -> None:
    small, large = candidate_tie_order(50), candidate_tie_order(80)
    assert sorted(large.tolist()) == list(range(80))
    np.testing.assert_array_equal(np.argsort(small), [row for row in np.argsort(large) if row < 50])
    assert abs(np.corrcoef(candidate_tie_order(5000), np.arange(5000))[0, 1]) < 0.05
    assert small[:5].tolist() == [17, 34, 6, 9, 30]  # published rankings depend on it: never change it


def test_excluded_and_masked_candidates_never_appear() -> None:
    rng = np.random.default_rng(3)
    exclude = csr_array(rng.random((40, 30)) < 0.5)
    exclude = csr_array(
        (np.zeros(exclude.nnz), exclude.indices, exclude.indptr), shape=(40, 30)
    )  # stored entries exclude, whatever their value
    allowed = rng.random(30) < 0.7
    hits = VectorRanker(normal(0, 40, 4), normal(1, 30, 4), "dot").rank(
        np.arange(40), 30, exclude=exclude, allowed=allowed, chunk_rows=7
    )
    stored = np.zeros((40, 30), dtype=bool)
    stored[exclude.tocoo().row, exclude.tocoo().col] = True
    assert exclude.nnz > 500 and (~allowed).any()
    for query, (rows, count) in enumerate(zip(hits.rows, hits.counts, strict=True)):
        assert sorted(rows[:count]) == np.flatnonzero(allowed & ~stored[query]).tolist()
        assert (rows[count:] == -1).all()


def test_exclude_is_aligned_by_position_and_its_layout_does_not_matter() -> None:
    ranker = TableRanker(np.array([[3, 2, 1], [3, 2, 1]], dtype=np.float32))
    exclude = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0]])
    for layout in (csr_array, csc_array):
        hits = ranker.rank(np.array([1, 1, 0]), 1, exclude=layout(exclude))  # type: ignore[arg-type]
        assert hits.rows.tolist() == [[1], [0], [2]]


def test_no_queries_and_no_candidates() -> None:
    ranker = VectorRanker(normal(0, 3, 4), normal(1, 5, 4), "dot")
    assert ranker.rank(np.array([], dtype=np.int64), 2).rows.shape == (0, 2)
    empty = VectorRanker(normal(0, 3, 4), normal(1, 0, 4), "euclidean").rank(np.arange(3), 2)
    assert (empty.rows == -1).all() and (empty.scores == -np.inf).all() and empty.counts.tolist() == [0, 0, 0]


def test_similarities_equal_their_definitions() -> None:
    query, candidate = normal(0, 9, 12) + 3, normal(1, 21, 12) + 3
    candidate[4] = 0
    rows = np.array([8, 0, 3])
    q, c = query[rows].astype(np.float64), candidate.astype(np.float64)
    lengths = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(c, axis=1)
    expected = {
        "dot": q @ c.T,
        "cosine": np.divide(q @ c.T, lengths, out=np.zeros_like(lengths), where=lengths > 0),
        "euclidean": -((q[:, None] - c) ** 2).sum(axis=2),
    }
    for similarity, scores in expected.items():
        found = VectorRanker(query, candidate, similarity).scores(rows)  # type: ignore[arg-type]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, scores, rtol=1e-5, atol=1e-4)


def test_euclidean_far_from_the_origin_still_finds_the_nearest() -> None:
    candidate = normal(0, 200, 8) + 1000
    found = VectorRanker(candidate + 0.01 * normal(1, 200, 8), candidate, "euclidean").rank(np.arange(200), 1)
    assert found.rows[:, 0].tolist() == list(range(200))
    assert (found.scores <= 0).all()


def test_euclidean_scores_of_equal_vectors_are_never_positive() -> None:
    vectors = normal(0, 300, 48)
    scores = VectorRanker(vectors, vectors, "euclidean").scores(np.arange(300))
    assert scores.max() <= 0
    np.testing.assert_allclose(np.diag(scores), 0, atol=1e-4)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("size", [1e-42, 1e-30, 1.0, 1e18])
def test_tiny_huge_and_zero_vectors_never_give_nan(similarity: Similarity, size: float) -> None:
    vectors = np.array([[size, 0.0], [-size, size], [0.0, 0.0]])
    scores = VectorRanker(vectors, vectors, similarity).scores(np.arange(3))
    assert np.isfinite(scores).all()


def test_nan_scores_are_refused_wherever_they_are() -> None:
    for k in (1, 3, 40):
        table = normal(0, 8, 40)
        table[6, 17] = np.nan
        with pytest.raises(RunError, match=r"query row 6 and candidate row 17 score NaN"):
            TableRanker(table).rank(np.array([2, 6]), k)


def test_vectors_that_are_not_finite_are_refused() -> None:
    vectors = normal(0, 5, 3).astype(np.float64)
    for value, shown in ((np.nan, "nan"), (-np.inf, "-inf"), (1e200, "inf"), (4e18, r"[34]\.\d*e\+18|4e\+18")):
        wrong = vectors.copy()
        wrong[3, 1] = value
        with pytest.raises(RunError, match=rf"candidate vectors must be finite.*row 3 holds ({shown}) in column 1"):
            VectorRanker(vectors, wrong, "dot")


@pytest.mark.parametrize("row", [-1, 5])
def test_query_rows_that_do_not_exist_are_refused(row: int) -> None:
    ranker = VectorRanker(normal(0, 5, 3), normal(1, 4, 3), "dot")
    with pytest.raises(DataError, match=rf"\[0, 5\); received {row} at position 2"):
        ranker.rank(np.array([0, 1, row]), 2)


def test_a_kept_read_only_table_is_not_written_to() -> None:
    class Kept(TableRanker):
        def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
            return np.broadcast_to(self.table[0], (len(queries), self.num_candidates))

    ranker = Kept(np.array([[1.0, 2.0, 3.0]], dtype=np.float32))
    first = ranker.rank(np.arange(2), 1, exclude=csr_array(np.array([[0, 0, 1], [0, 0, 0]])))
    assert first.rows.tolist() == [[1], [2]]
    assert ranker.table.tolist() == [[1.0, 2.0, 3.0]]


def test_parts_that_do_not_fit_are_refused() -> None:
    ranker = VectorRanker(normal(0, 5, 3), normal(1, 4, 3), "dot")
    queries = np.arange(2)
    with pytest.raises(ShapeError, match=r"\(2, 4\); received \(5, 4\)"):
        ranker.rank(queries, 1, exclude=csr_array(np.ones((5, 4))))
    with pytest.raises(ShapeError, match=r"\(4,\); received \(2,\) of int64"):
        ranker.rank(queries, 1, allowed=np.array([0, 3]))
    with pytest.raises(ShapeError, match=r"shape \(2,\) of float64"):
        ranker.rank(np.array([0.0, 1.0]), 1)
    with pytest.raises(SpecError, match="k must be at least 1; received 0"):
        ranker.rank(queries, 0)
    with pytest.raises(SpecError, match="chunk_rows must be at least 1; received -3"):
        ranker.rank(queries, 1, chunk_rows=-3)
    with pytest.raises(ShapeError, match=r"\(5, 3\) and \(4, 2\)"):
        VectorRanker(normal(0, 5, 3), normal(1, 4, 2), "dot")
    with pytest.raises(ShapeError, match=r"query vectors must be \[rows, dim\]; received shape \(3,\)"):
        VectorRanker(normal(0, 3), normal(1, 4, 3), "dot")
    with pytest.raises(SpecError, match=r"received 'cosin'; did you mean 'cosine'"):
        VectorRanker(normal(0, 5, 3), normal(1, 4, 3), "cosin")  # type: ignore[arg-type]


def test_scores_of_the_wrong_shape_are_refused() -> None:
    class Short(TableRanker):
        def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
            return self.table[queries, :3]

    with pytest.raises(ShapeError, match=r"Short\.scores.*\(2, 4\); received \(2, 3\)"):
        Short(normal(0, 5, 4)).rank(np.arange(2), 1)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
def test_other_queries_of_the_same_candidates_score_as_in_a_ranker_of_their_own(similarity: Similarity) -> None:
    draw = np.random.default_rng(0)
    first, second, candidates = draw.normal(size=(5, 7)), draw.normal(size=(3, 7)), draw.normal(size=(40, 7))
    one, rows = VectorRanker(first, candidates, similarity), np.arange(3)
    before = one.scores(rows)
    other = one.with_queries(second)
    np.testing.assert_array_equal(other.scores(rows), VectorRanker(second, candidates, similarity).scores(rows))
    np.testing.assert_array_equal(one.scores(rows), before)
    assert (one.num_queries, other.num_queries) == (5, 3)
    with pytest.raises(ShapeError, match=r"\(2, 6\) and \(40, 7\)"):
        one.with_queries(np.ones((2, 6)))

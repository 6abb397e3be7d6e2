"""How many candidates a right answer beats, told by the same pass that ranks.

Pinned: the mean over a query's positives is scikit-learn's ROC AUC over all candidates that may be ranked; each one's share
equals counting; equal scores give exactly one half; the result depends on neither the chunk nor the order of the queries, and
asking for it changes no rank; what may not be ranked is no negative, and a positive among it beats nobody; no more than a
chunk of scores is asked for at a time.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.metrics import roc_auc_score

from towerkit.core.errors import ShapeError
from towerkit.testing.rankers import TableRanker

Case = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Scores with many ties, positives, excluded pairs (never a positive) and allowed candidates."""
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    cells = shape[0] * shape[1]
    scores = np.array(draw(st.lists(st.integers(-2, 2), min_size=cells, max_size=cells))).reshape(shape)
    kind = np.array(draw(st.lists(st.sampled_from("pxnn"), min_size=cells, max_size=cells))).reshape(shape)
    allowed = np.array(draw(st.lists(st.sampled_from([True, True, False]), min_size=shape[1], max_size=shape[1])))
    return scores, kind == "p", kind == "x", allowed


@given(case=cases())
def test_counting_and_scikit_learn_agree(case: Case) -> None:
    scores, positive, excluded, allowed = case
    queries = np.arange(len(scores))
    pairs = csr_array(positive.astype(np.int8))
    found = TableRanker(scores).rank(queries, 1, exclude=csr_array(excluded), allowed=allowed, positives=pairs).beaten
    assert found is not None
    place = 0
    for query in queries:
        negative = ~positive[query] & ~excluded[query] & allowed
        shares = []
        for candidate in np.flatnonzero(positive[query]):
            own, others = scores[query, candidate], scores[query, negative]
            wanted = ((own > others) + (own == others) / 2).mean() if negative.any() else 0.5
            shares.append(wanted if allowed[candidate] else 0.0)
            assert found[place] == pytest.approx(shares[-1], abs=1e-12)
            place += 1
        ranked = allowed & ~excluded[query]
        if (positive[query] & ranked).any() and negative.any() and not (positive[query] & ~allowed).any():
            theirs = roc_auc_score(positive[query, ranked], scores[query, ranked])
            assert np.mean(shares) == pytest.approx(theirs, abs=1e-9)
    assert place == len(found)


@given(case=cases(), chunk_rows=st.integers(1, 6), data=st.data())
def test_neither_chunks_nor_order_matter_and_no_rank_changes(case: Case, chunk_rows: int, data: st.DataObject) -> None:
    scores, positive, excluded, _ = case
    queries = np.arange(len(scores))
    whole = TableRanker(scores).rank(queries, 3, exclude=csr_array(excluded), positives=csr_array(positive))
    assert whole.beaten is not None
    plain = TableRanker(scores).rank(queries, 3, exclude=csr_array(excluded))
    assert np.array_equal(plain.rows, whole.rows) and np.array_equal(plain.scores, whole.scores)
    assert plain.beaten is None
    order = np.array(data.draw(st.permutations(queries.tolist())))
    other = TableRanker(scores).rank(
        order, 3, exclude=csr_array(excluded[order]), positives=csr_array(positive[order]), chunk_rows=chunk_rows
    )
    assert np.array_equal(other.rows, whole.rows[order])
    starts = np.concatenate([[0], np.cumsum(positive.sum(axis=1))])
    wanted = [whole.beaten[starts[query] : starts[query + 1]] for query in order]
    assert other.beaten is not None
    assert np.array_equal(other.beaten, np.concatenate(wanted))


def test_equal_scores_beat_half() -> None:
    pairs = csr_array(np.array([[1, 0, 1, 0, 0]]))
    found = TableRanker(np.full((1, 5), 0.1)).rank(np.array([0]), 2, positives=pairs).beaten
    assert found is not None and found.tolist() == [0.5, 0.5]


def test_no_more_than_a_chunk_is_asked_for() -> None:
    ranker = TableRanker(np.random.default_rng(0).random((50, 30)))
    pairs = csr_array(np.eye(50, 30))
    ranker.rank(np.arange(50), 5, positives=pairs, chunk_rows=8)
    assert max(ranker.asked) == 8 and sum(ranker.asked) == 50


def test_positives_must_belong_to_the_queries() -> None:
    with pytest.raises(
        ShapeError, match=r"positives must be \[queries, candidates\], here \(2, 3\); received \(3, 3\)"
    ):
        TableRanker(np.ones((3, 3))).rank(np.array([0, 1]), 1, positives=csr_array(np.eye(3)))

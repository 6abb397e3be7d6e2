"""Exact ranking by way of a bfloat16 shortlist.

Pinned: lists, scores and counts are those of float32 bit for bit, for vectors of any size and spread, with exclusions, a mask and
any ``k``; every approximate score is within its bound of the float32 score; well separated candidates need no float32 pass over
all, and candidates closer together than bfloat16 can tell do get one; right answers whose ranks are asked for, few queries and
euclidean distances are ranked without it; what a row gets does not depend on the others.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.index import fused
from towerkit.index import shortlist as module
from towerkit.index.ranker import Hits
from towerkit.index.shortlist import Shortlists
from towerkit.index.vectors import VectorRanker

PLAIN = bool(numba.config.DISABLE_JIT)
QUERIES, CANDIDATES, DIM = (66, 90, 64) if PLAIN else (70, 1003, 300)
Floats = NDArray[np.float32]


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are called for small problems too, compiled or not."""
    monkeypatch.setattr(fused, "_FEWEST_SCORES", 0)
    monkeypatch.setattr("numba.config.DISABLE_JIT", False)


@pytest.fixture
def in_full(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many queries were ranked in float32, each time."""
    seen: list[int] = []
    real = VectorRanker.scores

    def counted(self: VectorRanker, queries: NDArray[np.int64]) -> Floats:
        seen.append(len(queries))
        return real(self, queries)

    monkeypatch.setattr(VectorRanker, "scores", counted)
    return seen


def vectors(kind: str) -> tuple[Floats, Floats]:
    """Queries and candidates."""
    draw = np.random.default_rng(0)
    query, candidate = draw.normal(size=(QUERIES, DIM)), draw.normal(size=(CANDIDATES, DIM))
    match kind:
        case "long-tailed":
            candidate *= draw.pareto(1.5, (CANDIDATES, 1))
        case "one direction":
            candidate = np.abs(candidate)
            query = np.abs(query)
        case "alike":
            candidate = candidate[:1] * (1 + 1e-5 * draw.normal(size=(CANDIDATES, 1)))
        case "equal":
            candidate[:] = candidate[0]
        case "tiny":
            query, candidate = query * 1e-20, candidate * 1e-20
        case "huge":
            query, candidate = query * 1e16, candidate * 1e16
        case "zeros":
            query[::3], candidate[::2] = 0, 0
    return query.astype(np.float32), candidate.astype(np.float32)


KINDS = ["normal", "long-tailed", "one direction", "alike", "equal", "tiny", "huge", "zeros"]


def both(query: Floats, candidate: Floats, similarity: Any, k: int, **masks: Any) -> tuple[Hits, Hits]:
    """With and without shortlists."""
    rankers = [VectorRanker(query, candidate, similarity, shortlist=each) for each in (True, False)]
    first, second = (ranker.rank(np.arange(len(query)), k, **masks) for ranker in rankers)
    return first, second


def assert_same(found: Hits, wanted: Hits) -> None:
    np.testing.assert_array_equal(found.rows, wanted.rows)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    np.testing.assert_array_equal(found.counts, wanted.counts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
def test_lists_and_scores_are_those_of_float32(kind: str, similarity: str) -> None:
    query, candidate = vectors(kind)
    draw = np.random.default_rng(1)
    seen, allowed = csr_array(draw.random((QUERIES, CANDIDATES)) < 0.2), draw.random(CANDIDATES) < 0.7
    for k in (1, 20, CANDIDATES + 5):
        assert_same(*both(query, candidate, similarity, k))
        assert_same(*both(query, candidate, similarity, k, exclude=seen, allowed=allowed, chunk_rows=32))


def test_a_query_that_may_have_nothing_and_a_mask_that_leaves_nothing() -> None:
    query, candidate = vectors("normal")
    seen = np.zeros((QUERIES, CANDIDATES))
    seen[3], seen[5, 2:] = 1, 1
    found, wanted = both(query, candidate, "dot", 5, exclude=csr_array(seen))
    assert_same(found, wanted)
    assert found.counts[[3, 5]].tolist() == [0, 2]
    assert_same(*both(query, candidate, "dot", 5, allowed=np.zeros(CANDIDATES, np.bool_)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_score_is_within_its_bound(kind: str) -> None:
    query, candidate = (torch.from_numpy(array) for array in vectors(kind))
    lists = Shortlists(candidate, CANDIDATES)
    a, b, x, y, u, v = lists.slack(query, query.bfloat16())
    rounded = (query.bfloat16() @ candidate.bfloat16().T).double().numpy()
    bound = np.outer(a, x).astype(np.float64) + np.outer(b, y) + u * np.abs(rounded) + v
    assert (np.abs(rounded - (query @ candidate.T).double().numpy()) <= bound).all()
    if kind == "normal":  # and the bound is of use
        assert bound.max() < 0.02 * np.outer(query.norm(dim=1), candidate.norm(dim=1)).max()


def test_only_what_bfloat16_cannot_tell_apart_is_ranked_in_full(
    in_full: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    query, candidate = vectors("normal")
    VectorRanker(query, candidate, "dot", shortlist=True).rank(np.arange(QUERIES), 5)
    assert in_full == []
    monkeypatch.setattr(module, "_MOST", 40)
    _, alike = vectors("alike")
    VectorRanker(query, alike, "dot", shortlist=True).rank(np.arange(QUERIES), 5)
    assert sum(in_full) == QUERIES and max(in_full) < QUERIES


def test_right_answers_and_few_queries_need_all_scores(in_full: list[int]) -> None:
    query, candidate = vectors("normal")
    ranker, right = VectorRanker(query, candidate, "dot", shortlist=True), csr_array(np.eye(QUERIES, CANDIDATES))
    assert ranker.rank(np.arange(QUERIES), 5, positives=right).beaten is not None
    ranker.rank(np.arange(3), 5)
    assert in_full == [QUERIES, 3]


def test_a_row_does_not_depend_on_the_others() -> None:
    query, candidate = vectors("long-tailed")
    ranker = VectorRanker(query, candidate, "dot", shortlist=True)
    whole = ranker.rank(np.arange(QUERIES), 10)
    one = ranker.rank(np.array([7]), 10)
    order = np.random.default_rng(2).permutation(QUERIES)
    assert_same(ranker.rank(order, 10), Hits(whole.rows[order], whole.scores[order], whole.counts[order]))
    assert_same(one, Hits(whole.rows[[7]], whole.scores[[7]], whole.counts[[7]]))


def test_wide_vectors_take_it_by_themselves_where_it_is_fast(
    in_full: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(3)
    query, candidate = draw.normal(size=(QUERIES, 512)), draw.normal(size=(CANDIDATES, 512))
    for fast, wanted in ((True, []), (False, [QUERIES])):
        monkeypatch.setattr("towerkit.index.vectors.has_fast_bfloat16", lambda fast=fast: fast)
        VectorRanker(query, candidate, "cosine").rank(np.arange(QUERIES), 5)
        assert in_full == wanted

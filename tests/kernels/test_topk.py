"""The kernel that ranks a block of scores.

Pinned: it equals the sort-everything twin and the plain way bit for bit, in lists, scores and what each right answer beats, with
heavy ties, minus infinity, infinity, both zeros, exclusions, a mask, more places than candidates, and enough candidates for several
groups; rows of a padded block at any distance are read where they are; one thread and more give the same; a score that is not a
number is found wherever it stands, of either sign, unless it may not be ranked. Small problems never call it.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.errors import RunError
from towerkit.index import fused
from towerkit.index.chunk import Chunk, Pairs
from towerkit.index.fused import is_worth_compiling, rank_fused
from towerkit.index.plain import rank_plainly
from towerkit.index.ranker import candidate_tie_order, rank_reference
from towerkit.index.vectors import VectorRanker

ROWS = 5
PLAIN = bool(numba.config.DISABLE_JIT)
WIDE = 800 if not PLAIN else 540
"""More candidates than there are groups; plain Python takes its time for each."""


class Case(NamedTuple):
    """A block and what is asked of it."""

    scores: NDArray[np.float32]
    exclude: csr_array
    allowed: NDArray[np.bool_]
    positives: csr_array
    k: int

    def chunk(self) -> Chunk:
        """As the ranker asks; the pairs begin behind those of another chunk."""
        pairs = []
        for matrix in (self.exclude, self.positives):
            before = np.ones((1, matrix.shape[1]))
            pairs.append(Pairs.of(csr_array(np.vstack([before, matrix.toarray()]))).part(1, ROWS + 1))
        width = self.scores.shape[1]
        ties = candidate_tie_order(width).astype(np.int32)
        return Chunk(np.arange(10, 10 + ROWS), min(self.k, width), ties, pairs[0], ~self.allowed, pairs[1])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few or many different scores; no, some or all pairs left out."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    width = draw(st.sampled_from([1, 2, 7, 40] if PLAIN else [1, 2, 7, 40, 600, 1500]))
    levels = draw(st.sampled_from([1, 2, 5, 10**6]))
    scores = (rng.integers(0, levels, (ROWS, width)) - levels // 2).astype(np.float32)
    for odd in draw(st.sets(st.sampled_from([-np.inf, np.inf, -0.0]))):
        scores[rng.random(scores.shape) < draw(st.sampled_from([0.01, 0.3, 1.0]))] = odd
    if draw(st.booleans()):
        scores.sort(axis=1)
    exclude, positives = (csr_array(rng.random(scores.shape) < draw(st.sampled_from([0, 0.1, 1]))) for _ in range(2))
    allowed = rng.random(width) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    return Case(scores, exclude, allowed, positives, draw(st.sampled_from([1, 3, 20, 200, 2000])))


@settings(max_examples=20 if PLAIN else 60, deadline=None)
@given(case=cases(), padding=st.integers(0, 3))
def test_equals_both_twins(case: Case, padding: int) -> None:
    chunk = case.chunk()
    padded = np.pad(case.scores, [(0, 0), (0, padding)], constant_values=np.float32(np.nan))
    found = rank_fused(padded[:, : case.scores.shape[1]], chunk)
    plain = rank_plainly(case.scores.copy(), chunk)
    whole = rank_reference(case.scores, chunk.k, case.exclude, case.allowed, chunk.ties.astype(np.int64))
    for other in (plain, whole):
        rows = np.where(other.scores > -np.inf, other.rows, -1)
        np.testing.assert_array_equal(found.rows, rows)
        np.testing.assert_array_equal(found.scores, other.scores)
    np.testing.assert_array_equal(found.beaten, plain.beaten)
    assert found.beaten is not None and len(found.beaten) == case.positives.nnz


def test_blocks_that_are_not_rows_in_memory_are_ranked_too() -> None:
    scores = np.random.default_rng(0).random((40, ROWS)).astype(np.float32).T
    every = csr_array(np.ones((ROWS, 40)))
    case = Case(scores, csr_array(np.zeros((ROWS, 40))), np.ones(40, np.bool_), every, 7)
    repeated = Case(np.repeat(scores[:1], ROWS, axis=0), *case[1:])
    for each in (case, repeated):
        found, plain = rank_fused(each.scores, each.chunk()), rank_plainly(each.scores.copy(), each.chunk())
        np.testing.assert_array_equal(found.rows, plain.rows)


@pytest.mark.parametrize("value", [np.nan, -np.nan])
@pytest.mark.parametrize("column", [0, 39, 530])
@pytest.mark.parametrize("k", [1, 30, WIDE])
def test_a_score_that_is_not_a_number_is_found_wherever_it_stands(value: float, column: int, k: int) -> None:
    scores = np.random.default_rng(0).standard_normal((ROWS, WIDE)).astype(np.float32)
    scores[3, column] = value
    nothing, every = csr_array(scores.shape), np.ones(WIDE, np.bool_)
    case = Case(scores, nothing, every, nothing, k)
    for rank in (rank_fused, rank_plainly):
        with pytest.raises(RunError, match=rf"query row 13 and candidate row {column} score NaN"):
            rank(scores.copy(), case.chunk())
    left_out = csr_array((np.ones(1), ([3], [column])), shape=scores.shape)
    assert (rank_fused(scores, case._replace(exclude=left_out).chunk()).rows[3] != column).all()


def test_a_ranking_is_the_same_at_any_number_of_threads_and_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, num_candidates = np.random.default_rng(1), 100 if PLAIN else 1003
    ranker = VectorRanker(draw.normal(size=(70, 16)), draw.normal(size=(num_candidates, 16)), "dot")
    seen, right = (csr_array(draw.random((70, num_candidates)) < share) for share in (0.3, 0.02))
    wanted = ranker.rank(np.arange(70), 20, exclude=seen, positives=right)
    monkeypatch.setattr(fused, "_FEWEST_SCORES", 0)
    monkeypatch.setattr("numba.config.DISABLE_JIT", False)  # the kernel is called, compiled or not
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found = ranker.rank(np.arange(70), 20, exclude=seen, positives=right, chunk_rows=32)
            np.testing.assert_array_equal(found.rows, wanted.rows)
            np.testing.assert_array_equal(found.scores, wanted.scores)
            np.testing.assert_array_equal(found.counts, wanted.counts)
            np.testing.assert_array_equal(found.beaten, wanted.beaten)
    finally:
        torch.set_num_threads(before)


def test_few_queries_or_few_scores_need_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_worth_compiling(3, 10**9)
    assert not is_worth_compiling(500, 1000)
    monkeypatch.setattr("numba.config.DISABLE_JIT", False)
    assert is_worth_compiling(5000, 1000)
    monkeypatch.setattr("numba.config.DISABLE_JIT", True)
    assert not is_worth_compiling(5000, 1000)

"""Uniform negatives.

Invariants:
- never the pair's own positive, never a known positive of its query when excluded, no repeat within a pair, within
  the catalogue; also for a query that knows all but a few candidates;
- uniform over what is left, by a chi-square test, for the common path and for heavy queries;
- a pure function of seed, step and the batch: a drawn candidate does not depend on the rows behind it in the batch;
- a table, a binary search and signatures of the known pairs draw the same, and so does the compiled sampler, for one step or
  several, uniform or by popularity, also where nearly everything is known;
- more negatives than candidates that are left are refused with the numbers.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import chisquare

from towerkit.core.errors import DataError
from towerkit.kernels.sampling import sign
from towerkit.matching.negatives import KnownPairs, Material, PopularitySpec, UniformSpec, known
from towerkit.matching.negatives.uniform import UniformNegatives

# A fixed seed decides; below this a correct sampler would fall once in ten thousand seeds.
ALPHA = 1e-4


def matrix(pairs: list[tuple[int, int]], num_queries: int, num_candidates: int) -> csr_array:
    rows, columns = zip(*pairs, strict=True)
    shape = (num_queries + 1, num_candidates + 1)
    return csr_array((np.ones(len(pairs), np.float32), (rows, columns)), shape=shape)


def material(pairs: csr_array, seed: int = 0, batch_size: int = 8) -> Material:
    counts = np.bincount(pairs.indices, minlength=pairs.shape[1]).astype(np.float64)
    return Material(pairs.shape[1] - 1, KnownPairs(pairs), counts, batch_size, seed)


def uniform(pairs: csr_array, count: int, seed: int = 0, *, exclude: bool = True) -> UniformNegatives:
    return UniformNegatives(material(pairs, seed), count, exclude=exclude)


@st.composite
def cases(draw: st.DrawFn) -> tuple[csr_array, NDArray[np.int64], NDArray[np.int64], int]:
    """Known pairs, a batch drawn from them, and how many negatives there is just room for."""
    num_candidates = draw(st.integers(3, 25))
    share = draw(st.sampled_from([0.1, 0.5, 0.9]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    known = rng.random((5, num_candidates + 1)) < share
    known[:, 0] = known[0] = False
    known[1:, 1] = True  # everyone knows one
    known[:, -1] = False  # no one knows all
    most = known.sum(axis=1).max()
    count = draw(st.integers(1, num_candidates - most))
    rows, columns = np.nonzero(known)
    chosen = rng.integers(0, len(rows), draw(st.integers(1, 12)))
    return csr_array(known.astype(np.float32)), rows[chosen], columns[chosen], int(count)


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(0, 2**40), st.integers(0, 2**31))
def test_what_may_not_be_drawn_is_not(
    case: tuple[csr_array, NDArray[np.int64], NDArray[np.int64], int], seed: int, step: int
) -> None:
    pairs, queries, positives, count = case
    num_candidates = pairs.shape[1] - 1
    sampler = uniform(pairs, count, seed)
    drawn = sampler.draw(queries, positives, step)
    assert drawn.shape == (len(queries), count)
    assert drawn.min() >= 1 and drawn.max() <= num_candidates
    table = pairs.toarray()
    assert not table[queries[:, None], drawn].any()
    assert all(len(set(row)) == count for row in drawn.tolist())
    np.testing.assert_array_equal(uniform(pairs, count, seed).draw(queries, positives, step), drawn)


@settings(max_examples=30, deadline=None)
@given(cases(), st.integers(0, 2**31))
def test_rows_behind_do_not_change_a_draw(
    case: tuple[csr_array, NDArray[np.int64], NDArray[np.int64], int], step: int
) -> None:
    pairs, queries, positives, count = case
    sampler = uniform(pairs, count, 3)
    whole = sampler.draw(queries, positives, step)
    half = len(queries) // 2 + 1
    np.testing.assert_array_equal(sampler.draw(queries[:half], positives[:half], step), whole[:half])


@settings(max_examples=30, deadline=None)
@given(cases(), st.integers(0, 2**31))
def test_a_table_a_search_and_a_look_at_signatures_of_known_pairs_draw_the_same(
    case: tuple[csr_array, NDArray[np.int64], NDArray[np.int64], int], step: int
) -> None:
    pairs, queries, positives, count = case
    table = uniform(pairs, count, 3)
    assert table.draws.known is not None and table.draws.known.table is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known, "_TABLE_CELLS", 0)
        search = uniform(pairs, count, 3)
        signed = uniform(pairs, count, 3)
        patch.setattr(known, "_LINE", 0)
        assert signed.draws.known is not None and signed.draws.known.signatures.shape == (len(pairs.indptr) - 1, 8)
    assert search.draws.known is not None and search.draws.known.table is None
    assert len(search.draws.known.signatures) == (len(pairs.indptr) - 1 if pairs.nnz >= 16 * pairs.shape[0] else 0)
    plain = table.draws.draw_plainly(queries, positives, step)
    np.testing.assert_array_equal(plain, search.draws.draw_plainly(queries, positives, step))
    for sampler in (table, search, signed):
        np.testing.assert_array_equal(plain, sampler.draw(queries, positives, step))


@settings(max_examples=40, deadline=None)
@given(cases(), st.integers(0, 2**31), st.booleans(), st.sampled_from([0.0, 0.75]))
def test_the_compiled_sampler_draws_what_its_plain_twin_draws_step_by_step(
    case: tuple[csr_array, NDArray[np.int64], NDArray[np.int64], int], step: int, exclude: bool, alpha: float
) -> None:
    pairs, queries, positives, count = case
    if step % 2:
        draws = uniform(pairs, count, seed=step, exclude=exclude).draws
    else:
        spec = PopularitySpec(alpha=alpha, count=count, exclude_positives=exclude)
        draws = spec.build(material(pairs, seed=step)).draws
        assert draws is not None
    for batch in (1, 2, len(queries)):
        together = draws.draw_steps(queries, positives, step, batch)
        for place, start in enumerate(range(0, len(queries), batch)):
            part = slice(start, start + batch)
            plain = draws.draw_plainly(queries[part], positives[part], step + place)
            np.testing.assert_array_equal(together[part], plain)


def test_known_positives_may_be_drawn_when_not_excluded() -> None:
    pairs = matrix([(1, item) for item in range(1, 5)], 1, 6)
    sampler = UniformSpec(count=2, exclude_positives=False).build(material(pairs))
    ones = np.ones(200, np.int64)
    drawn = sampler.draw(ones, ones, step=0)
    assert set(drawn.ravel().tolist()) == {2, 3, 4, 5, 6}  # the own positive never
    assert all(len(set(row)) == 2 for row in drawn.tolist())
    strict = UniformSpec(count=2).build(material(pairs))
    assert set(strict.draw(ones, ones, step=0).ravel().tolist()) == {5, 6}


def test_draws_are_uniform() -> None:
    sampler = uniform(matrix([(1, 7), (1, 9), (2, 1)], 2, 40), 3, seed=5)
    queries, positives = np.repeat([1, 2], 500), np.repeat([7, 1], 500)
    drawn = np.concatenate([sampler.draw(queries, positives, step) for step in range(20)])
    owner = np.tile(queries, 20)
    for query, excluded in ((1, [7, 9]), (2, [1])):
        for place in range(3):
            counts = np.bincount(drawn[owner == query, place], minlength=41)
            assert counts[[0, *excluded]].sum() == 0
            free = np.setdiff1d(np.arange(1, 41), excluded)
            assert chisquare(counts[free]).pvalue > ALPHA, (query, place)


def test_draws_of_a_query_that_knows_nearly_everything_are_uniform() -> None:
    free = [17, 303, 800]
    pairs = matrix([(1, item) for item in range(1, 801) if item not in free], 1, 800)
    sampler = uniform(pairs, 2, seed=1)
    one = np.ones(1, np.int64)
    drawn = np.concatenate([sampler.draw(one, one, step) for step in range(300)])
    assert set(drawn.ravel().tolist()) == set(free)
    assert (drawn[:, 0] != drawn[:, 1]).all()
    for place in range(2):
        counts = [int((drawn[:, place] == item).sum()) for item in free]
        assert chisquare(counts).pvalue > ALPHA


def test_places_and_steps_do_not_repeat_each_other() -> None:
    sampler = uniform(matrix([(1, 1)], 1, 1000), 4, exclude=False)
    ones = np.ones(256, np.int64)
    batches = np.stack([sampler.draw(ones, ones, step) for step in range(6)])  # [steps, batch, places]
    assert len(np.unique(batches.reshape(6, -1), axis=0)) == 6
    rows = batches.reshape(-1, 4)
    assert len(np.unique(rows, axis=0)) > 0.999 * len(rows)
    correlations = np.corrcoef(np.concatenate([rows.T, batches[:, :, 0].reshape(6, -1).repeat(6, axis=1)]))
    off_diagonal = correlations[:4, :4][~np.eye(4, dtype=bool)]
    assert np.abs(off_diagonal).max() < 0.12  # four deviations of 1,536 pairs, and a little more


def test_another_seed_and_another_step_draw_others() -> None:
    ones = np.ones(50, np.int64)
    first = uniform(matrix([(1, 1)], 1, 500), 2)
    assert not np.array_equal(first.draw(ones, ones, 0), first.draw(ones, ones, 1))
    assert not np.array_equal(
        first.draw(ones, ones, 0), uniform(matrix([(1, 1)], 1, 500), 2, seed=1).draw(ones, ones, 0)
    )


def test_too_few_candidates_are_refused_with_the_numbers() -> None:
    pairs = matrix([(1, item) for item in range(1, 9)] + [(2, 1)], 2, 10)
    with pytest.raises(DataError, match=r"Cannot draw 3 different negatives: there are 10 candidates and .* 8 of them"):
        uniform(pairs, 3)
    ones = np.ones(1, np.int64)
    assert sorted(uniform(pairs, 2).draw(ones, ones, 0)[0].tolist()) == [9, 10]
    with pytest.raises(DataError, match=r"Cannot draw 5 different negatives: there are 5 candidates and .* 1 of them"):
        uniform(matrix([(1, 1)], 1, 5), 5, exclude=False)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 2**31 - 1), max_size=40, unique=True), st.integers(1, 2**31 - 1))
def test_a_signature_has_a_bit_of_each_known_candidate_and_of_few_others(candidates: list[int], other: int) -> None:
    found = np.zeros((3, 8), np.uint64)
    sign(np.array([0, 0, len(candidates), len(candidates)]), np.array(sorted(candidates), np.int32), found, 0, 3)
    bits = [int(word) for word in np.bitwise_count(found).sum(axis=1)]
    assert bits[0] == bits[2] == 0 and min(1, len(candidates)) <= bits[1] <= len(candidates)
    again = found.copy()
    sign(np.array([0, 0, 1, 1]), np.array([other], np.int32), again, 0, 3)
    assert np.bitwise_count(again).sum() == bits[1] + (1 if (again != found).any() else 0)
    if other in candidates:
        np.testing.assert_array_equal(again, found)

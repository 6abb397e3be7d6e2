"""Sorts of negatives, alone and mixed.

Invariants:
- known pairs answer as a dense table does;
- popularity draws follow ``count^alpha``, never a candidate without a training row, never a known positive when excluded;
- shared draws are pure functions of seed and step; in-batch negatives are the positives; a queue holds the last ones with
  the vectors they had, and survives ``state`` and ``restore``; no two sorts of a mixture draw the same;
- ``exp(log q)`` is how often a candidate comes per positive, for every sort and for mixtures, also in short batches and
  while a queue fills: counted, not derived;
- the own positive never counts, and no other known positive of the query while the mask is on;
- logQ is left out where it is constant, where some source's is unknown, and where it is not wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.sparse import csr_array
from scipy.stats import chisquare

from towerkit.core.errors import DataError
from towerkit.matching.negatives import AllCandidates, AnyNegativesSpec, KnownPairs, Material, Negatives
from towerkit.matching.negatives.batch import QueueNegatives
from towerkit.objectives.retrieval import RetrievalObjectiveSpec

SPECS: TypeAdapter[Any] = TypeAdapter(AnyNegativesSpec)
NUM_CANDIDATES = 12
ALPHA = 1e-4  # a fixed seed decides; below this a correct sampler would fall once in ten thousand seeds


def rows_of_training() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sixty pairs of four queries with uneven candidates; candidate 12 has no row."""
    draw = np.random.default_rng(7)
    chance = np.arange(NUM_CANDIDATES - 1, 0, -1) ** 1.5
    queries = np.repeat(np.arange(1, 5), 15)
    return queries, 1 + draw.choice(NUM_CANDIDATES - 1, 60, p=chance / chance.sum())


QUERIES, CANDIDATES = rows_of_training()
PAIRS = csr_array((np.ones(60, np.float32), (QUERIES, CANDIDATES)), shape=(5, NUM_CANDIDATES + 1))
PAIRS.sum_duplicates()
BATCH = 30


def material(seed: int = 0) -> Material:
    counts = np.bincount(CANDIDATES, minlength=NUM_CANDIDATES + 1).astype(np.float64)
    return Material(NUM_CANDIDATES, KnownPairs(PAIRS), counts, BATCH, seed)


def mixture(*specs: dict[str, Any], mask_known: bool = True, correct: bool = True) -> Negatives:
    sources = [SPECS.validate_python(spec).build(material()) for spec in specs]
    return Negatives(sources, material().known, mask_known=mask_known, correct=correct)


# --- known pairs --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_known_pairs_answer_as_a_table(data: st.DataObject) -> None:
    known = np.random.default_rng(data.draw(st.integers(0, 2**32))).random((4, 9)) < data.draw(st.floats(0, 1))
    pairs = KnownPairs(csr_array(known.astype(np.float32)))
    queries = np.array(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=6)))
    candidates = np.array(data.draw(st.lists(st.integers(0, 8), min_size=1, max_size=9)))
    np.testing.assert_array_equal(pairs.among(queries, candidates), known[np.ix_(queries, candidates)])
    np.testing.assert_array_equal(
        pairs.contains(queries[:, None], candidates[None, :]), known[np.ix_(queries, candidates)]
    )
    positives = np.array(data.draw(st.lists(st.integers(0, 8), min_size=len(queries), max_size=len(queries))))
    with_own = known[np.ix_(queries, candidates)] | (candidates == positives[:, None])
    np.testing.assert_array_equal(pairs.among(queries, candidates, positives), with_own)
    pairs.table = None
    np.testing.assert_array_equal(pairs.among(queries, candidates), known[np.ix_(queries, candidates)])
    np.testing.assert_array_equal(pairs.among(queries, candidates, positives), with_own)
    np.testing.assert_array_equal(
        pairs.contains(queries[:, None], candidates[None, :]), known[np.ix_(queries, candidates)]
    )
    assert pairs.candidates_of(int(queries[0])).tolist() == np.flatnonzero(known[queries[0]]).tolist()


# --- single sorts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shared", [False, True])
def test_popularity_draws_follow_the_power_of_the_counts(alpha: float, shared: bool) -> None:
    spec = {"kind": "popularity", "alpha": alpha, "count": 4, "shared": shared, "exclude_positives": False}
    source = SPECS.validate_python(spec).build(material())
    unknown = np.zeros(BATCH, np.int64)
    drawn = np.concatenate([source.draw(unknown, unknown, step).ravel() for step in range(400)])
    weights = np.where(material().counts > 0, material().counts, 0.0)
    weights[weights > 0] **= alpha
    found = np.bincount(drawn, minlength=NUM_CANDIDATES + 1)
    assert found[weights == 0].sum() == 0
    expected = weights[weights > 0] / weights.sum() * len(drawn)
    assert chisquare(found[weights > 0], expected).pvalue > ALPHA


def test_popularity_never_draws_a_known_positive_when_excluded() -> None:
    source = SPECS.validate_python({"kind": "popularity", "count": 6}).build(material())
    queries = np.repeat(np.arange(1, 5), 25)
    positives = np.array([material().known.candidates_of(query)[0] for query in queries])
    drawn = source.draw(queries, positives, 3)
    assert drawn.shape == (100, 6) and not PAIRS.toarray()[queries[:, None], drawn].any()


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_shared_draws_are_pure_functions_of_seed_and_step(kind: str) -> None:
    def draw(seed: int, step: int, batch: int = 3) -> list[int]:
        source = SPECS.validate_python({"kind": kind, "count": 50, "shared": True}).build(material(seed))
        ones = np.ones(batch, np.int64)
        found: NDArray[np.int64] = source.draw(ones, ones, step)
        assert found.shape == (50,)
        return found.tolist()

    assert draw(0, 4) == draw(0, 4) == draw(0, 4, batch=7)
    assert draw(0, 4) != draw(0, 5) and draw(0, 4) != draw(1, 4)


def test_a_queue_holds_the_last_positives_with_their_vectors() -> None:
    queue = QueueNegatives(material(), 5)
    ones = np.ones(2, np.int64)
    rows, vectors = queue.draw(ones, ones, 0)
    assert len(rows) == len(vectors) == 0
    for step in range(4):
        queue.remember(np.array([step + 1, step + 5]), torch.full((2, 3), float(step)))
    rows, vectors = queue.draw(ones, ones, 4)
    assert rows.tolist() == [6, 3, 7, 4, 8] and vectors[:, 0].tolist() == [1, 2, 2, 3, 3]
    resumed = QueueNegatives(material(), 5)
    resumed.restore({name: tensor.clone() for name, tensor in queue.state().items()})
    again, same = resumed.draw(ones, ones, 4)
    assert again.tolist() == rows.tolist() and torch.equal(same, vectors)
    resumed.restore({})
    assert len(resumed.draw(ones, ones, 0)[0]) == 0


def test_a_step_before_anything_is_remembered_has_no_block() -> None:
    found = mixture({"kind": "queue", "size": 4})
    one = np.ones(1, np.int64)
    assert found.draw(one, one, 0) == []
    found.remember(torch.ones(1, 2))
    (drawn,) = found.draw(np.array([2]), np.array([5]), 1)
    assert drawn.rows is None and drawn.vectors is not None and drawn.vectors.tolist() == [[1.0, 1.0]]
    state = found.state()
    assert set(state) == {"0.rows", "0.vectors"}
    other = mixture({"kind": "queue", "size": 4})
    other.restore(state)
    assert other.draw(np.array([2]), np.array([5]), 1)[0].vectors is not None


# --- how often ----------------------------------------------------------------------------------------------------

MIXTURES: list[Sequence[dict[str, Any]]] = [
    [{"kind": "popularity", "count": 3}],
    [{"kind": "popularity", "count": 3, "exclude_positives": False}],
    [{"kind": "popularity", "count": 9, "alpha": 0.5, "shared": True}],
    [{"kind": "in_batch"}],
    [{"kind": "in_batch"}, {"kind": "uniform", "count": 4, "shared": True}],
    [{"kind": "uniform", "count": 2}, {"kind": "popularity", "count": 2, "alpha": 1.0}],
    [{"kind": "uniform", "count": 2, "exclude_positives": False}, {"kind": "queue", "size": 20}],
    [{"kind": "popularity", "count": 4}, {"kind": "in_batch"}, {"kind": "uniform", "count": 3}],
]


def steps_of(specs: Sequence[dict[str, Any]]) -> int:
    """Shared draws are quick, and vary more: all rows of a step see the same ones."""
    return 400 if any(spec.get("count", 99) < 9 and not spec.get("shared") for spec in specs) else 2500


@pytest.mark.parametrize("specs", MIXTURES, ids=lambda specs: "+".join(spec["kind"] for spec in specs))
def test_log_q_is_how_often_a_candidate_comes_per_positive(specs: Sequence[dict[str, Any]]) -> None:
    """``Σ over drawn of 1 / exp(log q)`` counts each candidate that may come once, on average, for every query."""
    found = mixture(*specs)
    assert found.corrects
    assert_counts_once(found, steps_of(specs), BATCH)


@pytest.mark.parametrize("specs", MIXTURES[3:5], ids=lambda specs: "+".join(spec["kind"] for spec in specs))
def test_log_q_of_a_short_batch(specs: Sequence[dict[str, Any]]) -> None:
    assert_counts_once(mixture(*specs), steps_of(specs) * 3, BATCH // 3)


def test_log_q_of_a_queue_that_is_not_full_yet() -> None:
    found = mixture({"kind": "popularity", "count": 2, "alpha": 0.5}, {"kind": "queue", "size": 4 * BATCH})
    assert_counts_once(found, 600, BATCH, forget=3)


def assert_counts_once(found: Negatives, steps: int, batch: int, forget: int | None = None) -> None:
    """Sum the weights over many steps; all that is remembered is forgotten after every ``forget`` of them."""
    draw = np.random.default_rng(1)
    sums, asked = np.zeros((5, NUM_CANDIDATES + 1)), np.zeros((5, NUM_CANDIDATES + 1))
    for step in range(steps):
        if forget and step % forget == 0:
            found.restore({})
        chosen = draw.permutation(60)[:batch]
        queries, positives = QUERIES[chosen], CANDIDATES[chosen]
        for block, source in zip(found.draw(queries, positives, step), found.sources, strict=False):
            rows = source.draw(queries, positives, step)
            rows = np.atleast_2d(rows[0] if isinstance(rows, tuple) else rows)
            rows = np.broadcast_to(rows, (batch, rows.shape[-1]))
            assert block.log_q is not None
            weight = np.exp(-np.broadcast_to(block.log_q, rows.shape).astype(np.float64))
            counts = np.ones(rows.shape, bool) if block.collision is None else ~block.collision
            np.add.at(sums, (np.repeat(queries, rows.shape[1]), rows.ravel()), (weight * counts).ravel())
        found.remember(torch.zeros(batch, 1))
        np.add.at(asked, (queries[:, None], np.arange(NUM_CANDIDATES + 1)), 1.0)
    known = PAIRS.toarray() > 0
    never = sum(found.rates)[1:] == 0 if isinstance(sum(found.rates), np.ndarray) else None
    for query in range(1, 5):
        free = ~known[query, 1:]
        if never is not None:
            free = free & ~never
        average = sums[query, 1:][free] / asked[query, 1:][free]
        np.testing.assert_allclose(average, 1.0, atol=0.13, err_msg=f"query {query}")


@pytest.mark.parametrize(
    "second", [{"kind": "uniform", "count": 3}, {"kind": "hard", "count": 1, "pool": 4}], ids=["the same", "hard"]
)
def test_each_sort_of_a_mixture_draws_by_itself(second: dict[str, Any]) -> None:
    spec = RetrievalObjectiveSpec.model_validate({"negatives": [{"kind": "uniform", "count": 3}, second]})
    sampler = spec.sampler(material())
    assert isinstance(sampler, Negatives)
    first, other = (drawn.rows for drawn in sampler.draw(QUERIES, CANDIDATES, 0))
    assert first is not None and other is not None
    share = (first[:, :, None] == other[:, None, :3]).any(axis=2).mean()
    assert share < 0.7  # three of about eight that are free: 0.4 by chance, 1 where both draw the same


@pytest.mark.parametrize("mask_known", [True, False])
def test_collisions_of_shared_candidates(mask_known: bool) -> None:
    found = mixture({"kind": "in_batch"}, {"kind": "uniform", "count": 30, "shared": True}, mask_known=mask_known)
    queries, positives = QUERIES[:BATCH], CANDIDATES[:BATCH]
    known = PAIRS.toarray() > 0
    for drawn in found.draw(queries, positives, 2):
        assert drawn.rows is not None and drawn.collision is not None
        own = drawn.rows[None, :] == positives[:, None]
        expected = own | known[queries][:, drawn.rows] if mask_known else own
        np.testing.assert_array_equal(drawn.collision, expected)


@pytest.mark.parametrize("mask_known", [True, False])
def test_all_candidates_beside_a_positive(mask_known: bool) -> None:
    sampler = AllCandidates(NUM_CANDIDATES, material().known, mask_known=mask_known)
    (drawn,) = sampler.draw(np.array([1, 2]), np.array([3, 1]), 0)
    assert drawn.rows is not None and drawn.rows.tolist() == list(range(1, NUM_CANDIDATES + 1))
    assert drawn.collision is not None and drawn.collision[0, 2] and drawn.collision[1, 0]
    hidden = PAIRS.toarray()[[1, 2]][:, 1:] > 0 if mask_known else np.zeros((2, NUM_CANDIDATES), bool)
    hidden[0, 2] = hidden[1, 0] = True
    np.testing.assert_array_equal(drawn.collision, hidden)


def test_no_log_q_where_it_is_constant_unknown_or_not_wanted() -> None:
    assert not mixture({"kind": "uniform", "count": 3}).corrects
    assert not mixture({"kind": "uniform", "count": 3}, {"kind": "uniform", "shared": True, "count": 9}).corrects
    assert not mixture({"kind": "popularity", "alpha": 1.0}, {"kind": "hard", "count": 1, "pool": 2}).corrects
    assert not mixture({"kind": "in_batch"}, correct=False).corrects
    (block,) = mixture({"kind": "uniform", "count": 2}).draw(QUERIES[:3], CANDIDATES[:3], 0)
    assert block.log_q is None


def test_hard_negatives_come_from_a_pool() -> None:
    (block,) = mixture({"kind": "hard", "count": 1, "pool": 3}).draw(QUERIES[:4], CANDIDATES[:4], 0)
    assert block.rows is not None and block.rows.shape == (4, 3) and block.keep == 1


def test_too_small_a_catalogue_is_refused_with_the_numbers() -> None:
    with pytest.raises(DataError, match=r"Cannot draw 40 different negatives: there are 12 candidates"):
        mixture({"kind": "hard", "count": 2, "pool": 40})

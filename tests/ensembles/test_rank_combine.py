"""Making the scores of several rankers one.

Invariants:
- standardized scores ignore scale and shift of a query's scores, alone or among others to the bit, and are 0 where all are alike;
- reciprocal ranks equal a reference of one line, tied candidates share their rank, and only the order of scores matters;
- a mean leaves out what weighs 0; NaN is never hidden;
- chosen weights are never worse than the best member alone, find the best share of two on the grid, and sum to one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.ensembles.rank_combine import (
    SHARES,
    AverageSpec,
    RRFSpec,
    WeightedSpec,
    chosen_weights,
    combination,
    reciprocal_ranks,
    standardized,
)

seeds = st.integers(0, 2**32)


def scores_of(seed: int, queries: int = 7, candidates: int = 23) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(queries, candidates)).round(1).astype(np.float32)  # with ties


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0.01, 100), st.floats(-50, 50))
def test_standardized_scores_ignore_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    scores = scores_of(seed)
    found = standardized(scores, scores)
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(found.std(axis=1), 1)
    moved = scores.astype(np.float64) * scale + shift
    np.testing.assert_allclose(standardized(moved, moved), found, atol=1e-6)  # type: ignore[arg-type]
    alone = np.concatenate([standardized(scores[row : row + 1], scores[row : row + 1]) for row in range(len(scores))])
    np.testing.assert_array_equal(alone, found)


def test_alike_scores_say_nothing() -> None:
    alike = np.full((2, 1000), 0.1, np.float32)  # whose float mean is not quite one of them
    assert not standardized(alike, alike).any()
    assert not standardized(np.full((2, 3), 9.0, np.float32), alike).any()


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 100))
def test_reciprocal_ranks_equal_the_reference(seed: int, offset: int) -> None:
    scores = scores_of(seed)
    wanted = [[1 / (offset + sum(other >= own for other in row)) for own in row] for row in scores]
    np.testing.assert_allclose(reciprocal_ranks(scores, scores, offset), wanted)
    np.testing.assert_array_equal(
        reciprocal_ranks(np.exp(scores), np.exp(scores), offset), reciprocal_ranks(scores, scores, offset)
    )


def test_another_candidate_takes_the_place_that_it_would_have() -> None:
    known = np.array([[3.0, 2.0, 1.0]], np.float32)
    others = np.array([[9.0, 2.5, 2.0, 0.0]], np.float32)
    np.testing.assert_allclose(1 / reciprocal_ranks(others, known, 10), [[11, 11, 12, 13]])


@pytest.mark.parametrize("spec", [AverageSpec(), WeightedSpec(), RRFSpec()])
def test_not_a_number_stays_one(spec: AverageSpec | WeightedSpec | RRFSpec) -> None:
    broken, whole = scores_of(0), scores_of(1)
    broken[2, 3] = np.nan
    found = combination(spec, [0.5, 0.5])([whole, broken], [whole, broken])
    assert np.isnan(found[2, 3]) and np.isfinite(found[:2]).all()


def test_what_is_combined() -> None:
    one, other = scores_of(0), scores_of(1)
    pair = [one, other]
    mean = combination(AverageSpec(), [0.5, 0.5])(pair, pair)
    np.testing.assert_allclose(mean, (standardized(one, one) + standardized(other, other)) / 2)
    np.testing.assert_array_equal(combination(WeightedSpec(), [0.0, 1.0])(pair, pair), standardized(other, other))
    fused = combination(RRFSpec(offset=5), [0.0, 0.0])(pair, pair)
    np.testing.assert_allclose(fused, reciprocal_ranks(one, one, 5) + reciprocal_ranks(other, other, 5))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3), seeds)
def test_chosen_weights_are_at_least_as_good_as_each_member(pull: list[float], seed: int) -> None:
    names, noise = ["a", "b", "c"], np.random.default_rng(seed).normal(size=3)

    def figure(weights: Mapping[str, float]) -> float:
        values = np.array([weights[name] for name in names])
        return float(values @ pull - np.square(values - noise).sum())

    found = chosen_weights(names, figure)
    assert figure(found) >= max(figure({name: float(name == own) for name in names}) for own in names)
    assert sum(found.values()) == pytest.approx(1) and min(found.values()) >= 0


@pytest.mark.parametrize("share", [0.0, *SHARES.round(2).tolist(), 1.0])
def test_the_best_share_of_two_is_found(share: float) -> None:
    found = chosen_weights(["a", "b"], lambda weights: -((weights["a"] - share) ** 2))
    assert found == pytest.approx({"a": share, "b": 1 - share})


def test_a_member_that_does_not_help_gets_nothing_and_equals_are_taken_in_order() -> None:
    assert chosen_weights(["a", "b", "c"], lambda weights: -abs(weights["b"] - 0.3)) == pytest.approx(
        {"a": 0.7, "b": 0.3, "c": 0.0}
    )
    assert chosen_weights(["a", "b"], lambda weights: 0.0) == {"a": 1.0, "b": 0.0}

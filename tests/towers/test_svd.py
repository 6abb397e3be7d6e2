"""Spectral vectors.

Invariants:
- scores equal those of a dense decomposition, exact where the width reaches the rank and close where it does not;
- queries have length 1 and candidates one scale; ids without pairs and the unknown row get the mean of the others;
- the result repeats; widths beyond the rank add zeros.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.towers.decomposition import truncated_svd
from towerkit.towers.svd import SpectralSettings, id_tables, spectral_vectors


def random_pairs(seed: int, rows: int, columns: int, density: float) -> csr_array:
    return csr_array((np.random.default_rng(seed).random((rows, columns)) < density).astype(np.float64))


def dense_scores(pairs: NDArray[np.float64], dim: int, chosen: SpectralSettings) -> NDArray[np.float64]:
    n, m = np.maximum(pairs.sum(axis=1), 1), np.maximum(pairs.sum(axis=0), 1)
    left, values, right = np.linalg.svd(pairs / n[:, None] ** chosen.query_exponent / m**chosen.candidate_exponent)
    strengths = values[:dim] ** chosen.power * (values[:dim] > 1e-9)
    scores = (left[:, : len(strengths)] * strengths) @ right[: len(strengths)] * m**chosen.weight
    return np.asarray(scores * np.outer(pairs.any(axis=1), pairs.any(axis=0)))


def unit_rows(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return scores / np.maximum(np.linalg.norm(scores, axis=1, keepdims=True), 1e-12)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    power=st.sampled_from([0.0, 0.8, 2.0]),
    exponents=st.tuples(*[st.sampled_from([0.0, 0.35, 1.0])] * 2),
    weight=st.sampled_from([0.0, 0.45]),
    density=st.sampled_from([0.1, 0.5]),
)
def test_scores_equal_a_dense_decomposition(
    seed: int, power: float, exponents: tuple[float, float], weight: float, density: float
) -> None:
    pairs = random_pairs(seed, 14, 9, density)
    chosen = SpectralSettings(query_exponent=exponents[0], candidate_exponent=exponents[1], power=power, weight=weight)
    query, candidate = spectral_vectors(pairs, 9, chosen)
    expected = unit_rows(dense_scores(pairs.toarray(), 9, chosen))
    np.testing.assert_allclose(unit_rows(query @ candidate.T), expected, atol=1e-6)


def test_fewer_directions_are_the_strongest_ones() -> None:
    draw = np.random.default_rng(1)
    tastes = draw.standard_normal((300, 6)) @ draw.standard_normal((6, 200))
    pairs = csr_array((tastes > 2.5).astype(np.float64))
    query, candidate = spectral_vectors(pairs, 6, SpectralSettings())
    assert query.shape == (300, 6) and candidate.shape == (200, 6)
    expected = unit_rows(dense_scores(pairs.toarray(), 6, SpectralSettings()))
    assert np.abs(expected).max() > 0.2
    np.testing.assert_allclose(unit_rows(query @ candidate.T), expected, atol=1e-3)
    values = np.linalg.svd(pairs.toarray(), compute_uv=False)
    np.testing.assert_allclose(truncated_svd(pairs, 6)[1], values[:6], rtol=1e-4)
    np.testing.assert_array_equal(query, spectral_vectors(pairs, 6, SpectralSettings())[0])


def test_scales_of_both_sides() -> None:
    pairs = random_pairs(2, 40, 30, 0.2)
    query, candidate = spectral_vectors(pairs, 5, SpectralSettings())
    np.testing.assert_allclose(np.linalg.norm(query, axis=1), 1)
    assert np.square(candidate).sum(axis=1).mean() == pytest.approx(1)
    assert np.linalg.norm(candidate, axis=1).std() > 0.1  # popular ones are longer


def test_widths_beyond_the_rank_are_zeros() -> None:
    query, candidate = spectral_vectors(csr_array(np.ones((4, 3))), 6, SpectralSettings())
    assert query.shape == (4, 6) and (query[:, 1:] == 0).all() and (candidate[:, 1:] == 0).all()
    np.testing.assert_allclose(query @ candidate.T, np.ones((4, 3)))


def test_ids_without_pairs_get_the_mean_of_the_others() -> None:
    pairs = np.zeros((6, 5))  # row 0 and column 0 are the unknown ids
    pairs[1:4, 1:4] = [[1, 1, 0], [0, 1, 1], [1, 0, 0]]
    pairs[0, 1] = pairs[2, 0] = 1
    query, candidate = id_tables(csr_array(pairs), 2, SpectralSettings())
    for table, used in ((query, slice(1, 4)), (candidate, slice(1, 4))):
        mean = table[used].mean(axis=0)
        assert np.abs(mean).max() > 0.1
        np.testing.assert_allclose(table[[0, 4]], [mean, mean])
    inner, _ = spectral_vectors(csr_array(pairs[1:, 1:]), 2, SpectralSettings())
    np.testing.assert_array_equal(query[1:4], inner[:3])
    empty = id_tables(csr_array((3, 4)), 2, SpectralSettings())
    assert empty[0].shape == (3, 2) and not empty[0].any() and not empty[1].any()

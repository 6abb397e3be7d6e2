"""What stands between the matrix products of a shared softmax, beside NumPy and the torch losses.

Invariants:
- the exponential is exact to 2e-7 for what a softmax asks of it, 0 far below, never a denormal;
- candidates are found wherever they stand among the shared, as often as they stand there;
- a tile's losses and coefficients are those of NumPy in float64, whatever is masked, and a score that is no number makes its
  row's loss none: nothing is trained on it.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from towerkit.kernels.compiled import torch_threads
from towerkit.kernels.softmax import exponentials, gather, positions, softmax_tile


def test_the_exponential_is_exact_and_never_a_denormal() -> None:
    values = np.concatenate([np.linspace(-80, 0, 50_001), [-80.1, -1e3, -np.inf, 0.0, -1e-30]]).astype(np.float32)
    with torch_threads():
        found = exponentials(values)
    wanted = np.where(values > -80, np.exp(values.astype(np.float64)), 0.0)
    np.testing.assert_allclose(found, wanted, rtol=2e-7, atol=0)
    assert not ((found > 0) & (found < np.finfo(np.float32).tiny)).any()
    assert found[-2] == 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=20))
def test_positions_are_all_places_of_a_candidate(shared: list[int]) -> None:
    first = np.full(8, -1, np.int32)
    before = positions(np.array(shared), first)
    for candidate in range(8):
        found, place = [], int(first[candidate])
        while place >= 0:
            found.append(place)
            place = int(before[place])
        assert found[::-1] == [place for place, each in enumerate(shared) if each == candidate]


def test_gathered_rows_are_as_the_match_sees_them() -> None:
    table = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]], np.float32)
    rows = np.array([1, 0, 1], np.int32)
    for cosine, wanted in ((False, table[rows]), (True, [[0.6, 0.8], [0.0, 0.0], [0.6, 0.8]])):
        vectors, lengths = np.empty((3, 2), np.float32), np.ones(3, np.float32)
        with torch_threads():
            gather(table, rows, cosine, vectors, lengths)
        np.testing.assert_allclose(vectors, wanted, rtol=1e-6)
        assert lengths[2] == 1.0 and lengths[1] == (5.0 if cosine else 1.0)


def tile(
    scores: NDArray[np.float32], own: NDArray[np.float32], shared: list[int], *, bilateral: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    """Losses, coefficients of the shared and of the positives; the positive of row ``r`` is candidate ``r + 1``."""
    rows = len(scores)
    first = np.full(50, -1, np.int32)
    before = positions(np.array(shared), first)
    starts, known = np.array([0, 0, 2, 2, 2, 2]), np.array([4, 9], np.int32)  # query 1 knows candidates 4 and 9
    losses, slopes, scales, seen = (
        np.empty(rows),
        np.empty(rows, np.float32),
        np.empty(rows, np.float32),
        np.ones((rows, 2)),
    )
    log_q, weights = np.linspace(-1, 1, len(shared)).astype(np.float32), np.linspace(0.5, 2, rows).astype(np.float32)
    logits = scores.copy()
    with torch_threads(), np.errstate(invalid="ignore", divide="ignore"):  # where a score is no number
        softmax_tile(
            logits, own, np.arange(1, rows + 1), np.arange(rows), first, before, starts, known, log_q, weights,
            np.float32(0.2), np.float32(1.3), bilateral, losses, slopes, scales, seen,
        )  # fmt: skip
        return losses, logits.astype(np.float64) * scales[:, None], slopes


@pytest.mark.parametrize("bilateral", [False, True])
@pytest.mark.parametrize("width", [3, 37, 300])
def test_a_tile_is_as_in_float64(width: int, bilateral: bool) -> None:
    draw = np.random.default_rng(width)
    scores, own = draw.normal(size=(4, width)).astype(np.float32), draw.normal(size=4).astype(np.float32)
    shared = [30, *draw.integers(1, 12, width - 1).tolist()]
    losses, slopes, own_slopes = tile(scores, own, shared, bilateral=bilateral)
    log_q, weights = np.linspace(-1, 1, width), np.linspace(0.5, 2, 4)
    for row in range(4):
        masked = np.isin(shared, [row + 1, *([4, 9] if row == 1 else [])])
        powers = np.where(masked, 0.0, np.exp(scores[row].astype(np.float64) / 0.2 - log_q))
        mine = np.exp(own[row].astype(np.float64) / 0.2)
        if bilateral:
            loss, share, factor = 1.3 * np.log(powers.sum() / (~masked).sum()) - np.log(mine), 0.0, 1.3 / powers.sum()
        else:
            loss, factor = np.log(mine + powers.sum()) - np.log(mine), 1.0 / (mine + powers.sum())
            share = mine * factor
        np.testing.assert_allclose(losses[row], loss, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(slopes[row], weights[row] / 0.2 * factor * powers, rtol=3e-5, atol=1e-12)
        np.testing.assert_allclose(own_slopes[row], weights[row] / 0.2 * (share - 1), rtol=3e-5, atol=1e-5)


@pytest.mark.parametrize("place", [0, 5, 18, 36])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_score_that_is_no_number_is_not_overlooked(place: int, sign: int) -> None:
    scores, own = np.zeros((4, 37), np.float32), np.ones(4, np.float32)
    scores[2, place] = np.copysign(np.float32(np.nan), np.float32(sign))
    losses, _, _ = tile(scores, own, [20] * 37)
    assert np.isnan(losses).tolist() == [False, False, True, False]

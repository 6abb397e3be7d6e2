"""Calibration and average precision.

Pinned here: the curve is scikit-learn's; its bins hold all rows once, an edge belongs to the bin above and 1 to the last
one; the expected calibration error is the mean gap of the curve, is 0 for probabilities that are frequencies and large
for over-confident ones; average precision is scikit-learn's, the share of the positives for a collapsed score, and nan
without a positive; impossible input is refused with row and value.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve as sklearn_curve

from towerkit.core.errors import DataError, ShapeError, SpecError
from towerkit.core.random import generator
from towerkit.metrics.areas import average_precision
from towerkit.metrics.calibration import bins_of, calibration_curve, expected_calibration_error


@pytest.mark.parametrize("bins", [1, 5, 10])
def test_the_curve_is_scikit_learns(bins: int) -> None:
    random = generator(0, "test", "curve")
    probabilities = random.random(500)
    truth = (random.random(500) < probabilities**2).astype(int)
    curve = calibration_curve(truth, probabilities, bins=bins)
    observed, predicted = sklearn_curve(truth, probabilities, n_bins=bins)
    assert [each.observed for each in curve] == pytest.approx(observed.tolist(), abs=1e-9)
    assert [each.predicted for each in curve] == pytest.approx(predicted.tolist(), abs=1e-9)
    assert sum(each.n for each in curve) == 500
    gaps = sum(each.n * abs(each.observed - each.predicted) for each in curve) / 500
    assert expected_calibration_error(truth, probabilities, bins=bins) == pytest.approx(gaps, abs=1e-12)


def test_an_edge_belongs_to_the_bin_above_and_1_to_the_last() -> None:
    assert bins_of(np.array([0.0, 0.1, 0.3, 0.7, 0.8999, 0.9, 1.0])).tolist() == [0, 1, 3, 7, 8, 9, 9]
    first, last = calibration_curve([0, 1], [0.0, 1.0])
    assert (first.low, first.high, first.n, last.low, last.high, last.n) == (0.0, 0.1, 1.0, 0.9, 1.0, 1.0)


def test_frequencies_are_calibrated_and_over_confidence_is_not() -> None:
    truth = np.array([1, 0, 0, 0, 1, 1, 1, 0])
    stated = np.array([0.25] * 4 + [0.75] * 4)
    assert expected_calibration_error(truth, stated) == pytest.approx(0.0)
    assert expected_calibration_error(truth, np.array([0.05] * 4 + [0.95] * 4)) == pytest.approx(0.2)
    weight = np.array([0, 2, 1, 1, 2, 1, 1, 0])  # a quarter becomes 0, three quarters become 1
    assert expected_calibration_error(truth, stated, weight) == pytest.approx(0.25)
    (low, high) = calibration_curve(truth, stated, weight)
    assert (low.n, low.observed, high.n, high.observed) == (4.0, 0.0, 4.0, 1.0)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 3), st.sampled_from([0.5, 1.0, 2.5])), min_size=1, max_size=12
    ),
    weighted=st.booleans(),
)
def test_average_precision_is_scikit_learns(rows: list[tuple[int, int, float]], weighted: bool) -> None:
    truth, scores, weight = (np.array(column) for column in zip(*rows, strict=True))
    ours = average_precision(truth, scores, weight if weighted else None)
    if not truth.any():
        assert math.isnan(ours)
        return
    theirs = sk.average_precision_score(truth, scores, sample_weight=weight if weighted else None)
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_a_collapsed_score_has_the_share_of_the_positives() -> None:
    assert average_precision([1, 0, 0, 0], np.zeros(4)) == pytest.approx(0.25)
    assert average_precision([1, 0, 0, 0], np.zeros(4), [3, 1, 1, 1]) == pytest.approx(0.5)


def test_impossible_input_is_refused() -> None:
    with pytest.raises(DataError, match=r"probabilities must be in 0 to 1; got 1\.5 in row 1 \(1 such values\)"):
        calibration_curve([0, 1], [0.5, 1.5])
    with pytest.raises(ShapeError, match=r"probabilities must be \[rows\] with 2 rows, got \(2, 2\)"):
        expected_calibration_error([0, 1], np.full((2, 2), 0.5))
    bad: Any = 2.5
    for bins in (0, -3, bad, True):
        with pytest.raises(SpecError, match=f"bins must be a positive integer, got {bins!r}"):
            calibration_curve([0, 1], [0.5, 0.5], bins=bins)

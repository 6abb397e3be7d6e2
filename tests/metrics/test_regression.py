"""Metrics of predicted numbers.

Pinned here: hand-worked values; scikit-learn's and SciPy's values to 1e-9, with and without weights; a weight is a
repetition; R² does not change under shift and scale of both sides, Spearman under monotone maps; figures that are
undefined are nan and never 0; impossible input is refused with row and value. Of counts: the Poisson deviance is scikit-learn's,
weighted or not, and an expectation that is not above 0 is refused with its row.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from towerkit.core.errors import DataError, ShapeError
from towerkit.metrics.regression import COUNT_METRICS, REGRESSION_METRICS, RegressionRows
from towerkit.metrics.tasks import higher_is_better, task_metrics

Floats = NDArray[np.float64]
Case = tuple[Floats, Floats, Floats]


@st.composite
def predictions(draw: st.DrawFn, least: int = 1) -> Case:
    """Truth, predictions (both with ties) and whole weights, zero included."""
    rows = draw(st.integers(least, 12))
    numbers = arrays(np.float64, rows, elements=st.integers(-4, 4).map(float))
    return draw(numbers), draw(numbers), draw(arrays(np.float64, rows, elements=st.integers(0, 3).map(float)))


def figures(truth: Floats, prediction: Floats, weight: Floats | None = None) -> dict[str, float]:
    return task_metrics(truth, prediction[:, None], kind="regression", weight=weight)


def test_by_hand() -> None:
    values = figures(np.array([1.0, 2.0, 4.0, 5.0]), np.array([2.0, 2.0, 2.0, 8.0]))
    assert tuple(values) == REGRESSION_METRICS
    assert values["mae"] == pytest.approx((1 + 0 + 2 + 3) / 4)
    assert values["rmse"] == pytest.approx(math.sqrt((1 + 0 + 4 + 9) / 4))
    assert values["medae"] == pytest.approx((1 + 2) / 2)  # of 0 1 2 3
    assert values["r2"] == pytest.approx(1 - 14 / 10)  # the mean is 3, the squares 4 + 1 + 1 + 4
    # Ranks 1 2 3 4 against 2 2 2 4: deviations -1.5 -0.5 0.5 1.5 against -0.5 -0.5 -0.5 1.5.
    assert values["spearman"] == pytest.approx(3.0 / math.sqrt(5.0 * 3.0))


@given(case=predictions(least=2))
def test_sklearn_and_scipy_agree(case: Case) -> None:
    truth, prediction, _ = case
    assume(np.ptp(truth) > 0 and np.ptp(prediction) > 0)
    theirs = {
        "mae": sk.mean_absolute_error(truth, prediction),
        "rmse": sk.root_mean_squared_error(truth, prediction),
        "medae": sk.median_absolute_error(truth, prediction),
        "r2": sk.r2_score(truth, prediction),
        "spearman": scipy.stats.spearmanr(truth, prediction).statistic,
    }
    assert figures(truth, prediction) == pytest.approx(theirs, abs=1e-9)


@given(case=predictions(least=2))
def test_sklearn_agrees_with_weights(case: Case) -> None:
    truth, prediction, weight = case
    weight = weight / 4 + 0.25
    assume(np.ptp(truth) > 0)
    ours = figures(truth, prediction, weight)
    told = {"sample_weight": weight}
    assert ours["mae"] == pytest.approx(sk.mean_absolute_error(truth, prediction, **told), abs=1e-9)
    assert ours["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, prediction, **told), abs=1e-9)
    assert ours["medae"] == pytest.approx(sk.median_absolute_error(truth, prediction, **told), abs=1e-9)
    assert ours["r2"] == pytest.approx(sk.r2_score(truth, prediction, **told), abs=1e-9)


@given(case=predictions())
def test_a_weight_is_a_repetition(case: Case) -> None:
    truth, prediction, weight = case
    assume(weight.any())
    times = weight.astype(int)
    repeated = figures(np.repeat(truth, times), np.repeat(prediction, times))
    assert figures(truth, prediction, weight) == pytest.approx(repeated, abs=1e-12, nan_ok=True)


@given(case=predictions())
def test_many_weightings_equal_each_alone(case: Case) -> None:
    truth, prediction, weight = case
    weights = np.stack([weight + 1, np.ones(len(weight)), weight[::-1] + 0.5])
    together = RegressionRows(truth, prediction).metrics(weights)
    for place, each in enumerate(weights):
        alone = figures(truth, prediction, each)
        assert {name: v[place] for name, v in together.items()} == pytest.approx(alone, abs=1e-12, nan_ok=True)


@given(case=predictions(least=2))
def test_units_and_monotone_maps(case: Case) -> None:
    truth, prediction, _ = case
    before, moved = figures(truth, prediction), figures(4 * truth - 64, 4 * prediction - 64)
    assert (moved["mae"], moved["rmse"]) == pytest.approx((4 * before["mae"], 4 * before["rmse"]), abs=1e-9)
    assert moved["r2"] == pytest.approx(before["r2"], abs=1e-9, nan_ok=True)
    cubed = figures(truth**3, np.exp(prediction))
    assert cubed["spearman"] == pytest.approx(before["spearman"], abs=1e-12, nan_ok=True)


def test_a_large_offset_does_not_eat_the_digits() -> None:
    truth, prediction = np.arange(8.0), np.array([0.0, 2, 1, 3, 5, 4, 6, 7])
    assert figures(truth + 1e9, prediction + 1e9)["r2"] == pytest.approx(figures(truth, prediction)["r2"], abs=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_constant_labels_leave_r2_and_spearman_undefined(value: float) -> None:
    values = figures(np.full(7, value), np.arange(7.0))
    assert math.isnan(values["r2"]) and math.isnan(values["spearman"]) and not math.isnan(values["rmse"])
    constant = figures(np.arange(7.0), np.full(7, value))
    assert math.isnan(constant["spearman"]) and constant["r2"] <= 0
    alone = figures(np.array([1.0]), np.array([2.0]))
    assert math.isnan(alone["r2"]) and alone["mae"] == alone["medae"] == 1.0


@given(st.lists(st.sampled_from([0.1, 0.3, 0.7, 1.1, 2.3]), min_size=3, max_size=9))
def test_constant_sides_leave_spearman_undefined_under_weights_that_round(weights: list[float]) -> None:
    weight, rising, constant = np.array(weights), np.arange(len(weights)) * 1.0, np.full(len(weights), 0.1)
    for truth, prediction in ((rising, constant), (constant, rising), (constant, constant)):
        values = figures(truth, prediction, weight)
        assert math.isnan(values["spearman"]) and math.isnan(values["r2"]) == (truth is constant)


def test_impossible_input_is_refused() -> None:
    with pytest.raises(DataError, match=r"truth must be finite; got nan in row 1 \(1 such values\)"):
        RegressionRows([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(DataError, match=r"prediction must be finite; got inf in row 0"):
        RegressionRows([1.0, 2.0], [[np.inf], [1.0]])
    with pytest.raises(ShapeError, match=r"prediction must be \[rows\] with 2 rows, got \(3, 1\)"):
        RegressionRows([1.0, 2.0], np.zeros((3, 1)))
    with pytest.raises(ShapeError, match=r"prediction must be \[rows\] with 2 rows, got \(2, 2\)"):
        RegressionRows([1.0, 2.0], np.zeros((2, 2)))
    with pytest.raises(DataError, match="at least one row"):
        RegressionRows(np.zeros(0), np.zeros(0))


@given(case=predictions())
def test_the_deviance_is_that_of_scikit_learn(case: Case) -> None:
    truth, said, weight = np.abs(case[0]), np.abs(case[1]) + 0.5, case[2]
    for own in (None, weight):
        if own is not None and not own.sum():
            continue
        found = task_metrics(truth, said[:, None], kind="count", weight=own)
        assert tuple(found) == COUNT_METRICS
        assert found["deviance"] == pytest.approx(sk.mean_poisson_deviance(truth, said, sample_weight=own), abs=1e-9)
        assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, said, sample_weight=own))
    assert not higher_is_better("visits/deviance")


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match=r"prediction must be above 0.*got 0\.0 in row 1"):
        task_metrics([0.0, 1.0, 4.0, 2.0], [[0.5], [0.0], [1.0], [1.0]], kind="count")
    with pytest.raises(DataError, match=r"truth must be 0 or more.*got -1\.0 in row 0"):
        task_metrics([-1.0, 2.0], [[1.0], [1.0]], kind="count")

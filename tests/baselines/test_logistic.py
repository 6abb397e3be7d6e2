"""Logistic regression.

Invariants:
- coefficients and probabilities equal scikit-learn's, for two and four classes, dense and sparse, with weights;
- gradients equal finite differences; a weight of 2 equals a repeated row, a weight of 0 a dropped one;
- the fit is invariant to the order of rows; a class without a row gets probability 0;
- one class only, NaN, other widths and bad settings are refused with row, column and value in the message.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression as Oracle  # type: ignore[import-untyped]

from towerkit.baselines.logistic import Objective, fit_logistic, sigmoid_objective, softmax_objective
from towerkit.core.errors import DataError, ShapeError, SpecError


def make_rows(num_classes: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((300, 6)) * (rng.random((300, 6)) < 0.7) * [1, 2, 0.3, 1, 5, 1]
    logits = features @ rng.standard_normal((6, num_classes)) + rng.gumbel(size=(300, num_classes))
    return features, logits.argmax(axis=1), rng.choice([0.0, 0.5, 1.0, 3.0], size=300)


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("l2", [0.1, 1.0, 20.0])
def test_equals_scikit_learn(num_classes: int, weighted: bool, sparse: bool, l2: float) -> None:
    features, labels, weight = make_rows(num_classes)
    given = weight if weighted else None
    model = fit_logistic(csr_array(features) if sparse else features, labels, num_classes, l2=l2, weight=given)
    oracle = Oracle(C=1 / l2, tol=1e-10, max_iter=5000).fit(features, labels, sample_weight=given)
    assert model.converged
    if num_classes == 2:
        np.testing.assert_array_equal(model.coefficients[:, 0], 0)
        np.testing.assert_allclose(model.coefficients[:, 1], oracle.coef_[0], atol=1e-3)
        np.testing.assert_allclose(model.intercept, [0, oracle.intercept_[0]], atol=1e-3)
    else:
        np.testing.assert_allclose(model.coefficients, oracle.coef_.T, atol=1e-3)
        np.testing.assert_allclose(model.intercept, oracle.intercept_, atol=1e-3)
    np.testing.assert_allclose(model.predict(features), oracle.predict_proba(features), atol=1e-4)


@pytest.mark.parametrize("objective", [sigmoid_objective, softmax_objective])
def test_gradients_equal_finite_differences(objective: Callable[..., Objective]) -> None:
    sigmoid = objective is sigmoid_objective
    features, labels, weight = make_rows(2 if sigmoid else 4)
    function = objective(features, labels, weight, 3.0)
    point = np.random.default_rng(1).standard_normal(7 * (1 if sigmoid else 4))
    gradient = function(point)[1]
    assert np.linalg.norm(gradient) > 0.1
    step = 1e-6
    slopes = [
        (function(point + step * unit)[0] - function(point - step * unit)[0]) / (2 * step)
        for unit in np.eye(len(point))
    ]
    np.testing.assert_allclose(gradient, slopes, atol=1e-6 * float(np.linalg.norm(gradient)))


@pytest.mark.parametrize("num_classes", [2, 4])
def test_weights_are_repetitions_and_row_order_does_not_matter(num_classes: int) -> None:
    features, labels, _ = make_rows(num_classes)
    repeats = np.random.default_rng(2).integers(0, 3, size=300)
    order = np.random.default_rng(3).permutation(repeats.sum())
    weighted = fit_logistic(features, labels, num_classes, weight=repeats.astype(float))
    repeated = fit_logistic(np.repeat(features, repeats, axis=0)[order], np.repeat(labels, repeats)[order], num_classes)
    np.testing.assert_allclose(weighted.coefficients, repeated.coefficients, atol=1e-4)
    np.testing.assert_allclose(weighted.intercept, repeated.intercept, atol=1e-4)


@pytest.mark.parametrize("classes", [[0, 3], [1, 2, 4]])
def test_classes_without_rows_get_probability_zero(classes: list[int]) -> None:
    features, labels, _ = make_rows(len(classes))
    model = fit_logistic(features, np.array(classes)[labels], 5)
    probabilities = model.predict(features)
    assert (np.delete(probabilities, classes, axis=1) == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(
        probabilities[:, classes], fit_logistic(features, labels, len(classes)).predict(features)
    )


def test_a_row_of_weight_zero_does_not_make_its_class_present() -> None:
    features, labels, _ = make_rows(3)
    weight = (labels != 2).astype(float)
    model = fit_logistic(features, labels, 3, weight=weight)
    kept = labels != 2
    expected = fit_logistic(features[kept], labels[kept], 3)
    np.testing.assert_allclose(model.coefficients, expected.coefficients, atol=1e-5)
    assert (model.predict(features)[:, 2] == 0).all()
    with pytest.raises(DataError, match=r"all 300 rows are of class 1"):
        fit_logistic(features, labels, 3, weight=(labels == 1).astype(float))


@pytest.mark.parametrize("sparse", [False, True])
def test_empty_columns_get_zero_and_units_do_not_slow_the_fit(sparse: bool) -> None:
    features, labels, weight = make_rows(4)
    plain = fit_logistic(features, labels, 4, l2=0, weight=weight)
    wide = np.column_stack([1e4 * features[:, :3], np.zeros(300), 1e-4 * features[:, 3:], weight == 0])
    model = fit_logistic(csr_array(wide) if sparse else wide, labels, 4, l2=0, weight=weight)
    assert plain.converged and model.converged
    assert (model.coefficients[[3, 7]] == 0).all()
    rescaled = np.vstack([1e4 * model.coefficients[:3], 1e-4 * model.coefficients[4:7]])
    np.testing.assert_allclose(rescaled, plain.coefficients, atol=1e-3)


def test_one_class_only_is_refused() -> None:
    with pytest.raises(DataError, match=r"at least two classes; all 3 rows are of class 1"):
        fit_logistic(np.eye(3), np.array([1, 1, 1]), 2)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(sparse: bool, value: float) -> None:
    features = np.eye(3)
    model = fit_logistic(features, np.array([0, 1, 0]), 2)
    features[2, 1] = value
    given = csr_array(features) if sparse else features
    with pytest.raises(DataError, match=rf"row 2, column 1 has {value}"):
        fit_logistic(given, np.array([0, 1, 0]), 2)
    with pytest.raises(DataError, match=rf"row 2, column 1 has {value}"):
        model.predict(given)


def test_separable_rows_of_large_values_stay_finite_and_the_limit_is_told() -> None:
    model = fit_logistic(np.array([[-1e6], [1e6]]), np.array([0, 1]), 2, l2=1e-9)
    assert np.isfinite(model.coefficients).all()
    np.testing.assert_allclose(model.predict(np.array([[1e9], [-1e9]])), [[0, 1], [1, 0]], atol=1e-12)
    features, labels, _ = make_rows(4)
    stopped = fit_logistic(features, labels, 4, max_iterations=2)
    assert not stopped.converged and stopped.iterations == 2


def test_parts_that_do_not_fit_are_refused() -> None:
    labels = np.array([0, 1, 0])
    with pytest.raises(ShapeError, match="features have 3 rows and labels 2"):
        fit_logistic(np.eye(3), labels[:2], 2)
    with pytest.raises(ShapeError, match="fitted on 3 features; received 4"):
        fit_logistic(np.eye(3), labels, 2).predict(np.eye(4))
    with pytest.raises(ShapeError, match=r"shape \(3,\)"):
        fit_logistic(np.ones(3), labels, 2)
    with pytest.raises(DataError, match=r"\[0, 2\); row 1 has 7"):
        fit_logistic(np.eye(3), np.array([0, 7, 1]), 2)
    with pytest.raises(SpecError, match=r"l2 .* received -1"):
        fit_logistic(np.eye(3), labels, 2, l2=-1)
    with pytest.raises(SpecError, match="max_iterations must be at least 1; received 0"):
        fit_logistic(np.eye(3), labels, 2, max_iterations=0)

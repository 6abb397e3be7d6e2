"""Ridge regression.

Pinned: it is that of scikit-learn, dense or sparse, weighted or not, with the intercept free; more features than rows and
empty features are fine; a weight of two is two rows; what cannot be used is refused with its row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.linear_model import Ridge as Oracle  # type: ignore[import-untyped]

from towerkit.baselines.ridge import fit_ridge
from towerkit.core.errors import DataError, ShapeError, SpecError


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 40), st.sampled_from([0.01, 1.0, 100.0]), st.booleans()
)
def test_it_is_that_of_scikit_learn(seed: int, rows: int, columns: int, l2: float, sparse: bool) -> None:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows, columns)) * (draw.random((rows, columns)) < 0.6) * draw.choice([0.1, 1, 10], columns)
    y, weight = 50 + 10 * draw.normal(size=rows), draw.random(rows) + 0.1
    features: Any = csr_array(x) if sparse else x
    found = fit_ridge(features, y, l2=l2, weight=weight)
    oracle = Oracle(alpha=l2, solver="svd").fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(found.coefficients[:, 0], oracle.coef_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.predict(features)[:, 0], oracle.predict(x), rtol=0, atol=1e-6)


def test_a_weight_of_two_is_two_rows() -> None:
    draw = np.random.default_rng(1)
    x, y, weight = draw.normal(size=(30, 3)), draw.normal(size=30), draw.integers(0, 3, 30)
    repeated = np.repeat(np.arange(30), weight)
    weighted, plain = fit_ridge(x, y, weight=weight.astype(float)), fit_ridge(x[repeated], y[repeated])
    np.testing.assert_allclose(weighted.predict(x), plain.predict(x), rtol=0, atol=1e-8)
    assert not np.allclose(weighted.predict(x), fit_ridge(x, y).predict(x), atol=1e-3)


def test_the_unit_of_the_target_does_not_matter() -> None:
    draw = np.random.default_rng(2)
    x, y = draw.normal(size=(30, 3)), draw.normal(size=30)
    np.testing.assert_allclose(
        fit_ridge(x, 1e6 * y + 3e9).predict(x), 1e6 * fit_ridge(x, y).predict(x) + 3e9, rtol=1e-9
    )


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"target": np.array([1.0, np.nan, 2.0])}, DataError, "target must be finite; row 1 has nan"),
        ({"weight": np.array([1.0, 1.0, -2.0])}, DataError, "weight must be finite and not negative; row 2 has -2.0"),
        ({"weight": np.zeros(3)}, DataError, "at least one row of positive weight; received 3 rows"),
        ({"target": np.ones(2)}, ShapeError, r"received \(3, 2\), \(2,\) and \(2,\)"),
        ({"l2": -1.0}, SpecError, "l2 must be finite and not negative; received -1.0"),
    ],
)
def test_what_cannot_be_used_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"features": np.ones((3, 2)), "target": np.arange(3.0), **changed}
    with pytest.raises(error, match=message):
        fit_ridge(arguments.pop("features"), arguments.pop("target"), **arguments)
    with pytest.raises(ShapeError, match="fitted on 2 features; received 3"):
        fit_ridge(np.ones((3, 2)), np.arange(3.0)).predict(np.ones((1, 3)))

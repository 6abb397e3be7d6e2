"""A logistic regression per label.

Pinned: it is that of scikit-learn, dense or sparse, weighted or not; a label that every or no row has is as certain as it
looks, and rows of weight zero show nothing; features of another width are refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression as Oracle  # type: ignore[import-untyped]
from sklearn.multiclass import OneVsRestClassifier  # type: ignore[import-untyped]

from towerkit.baselines.one_vs_rest import fit_one_vs_rest
from towerkit.core.errors import ShapeError

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(120, 4)) * (DRAW.random((120, 4)) < 0.7)
Y = ((X @ DRAW.normal(size=(4, 3)) + DRAW.normal(size=(120, 3))) > 0.3).astype(np.int8)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("l2", [0.1, 1.0, 10.0])
def test_it_is_that_of_scikit_learn(sparse: bool, l2: float) -> None:
    features: Any = csr_array(X) if sparse else X
    found = fit_one_vs_rest(features, Y, l2=l2).predict(features)
    oracle = OneVsRestClassifier(Oracle(C=1 / l2, tol=1e-10, max_iter=2000)).fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(found, oracle, rtol=0, atol=1e-5)


def test_a_weight_of_two_is_two_rows_and_of_zero_none() -> None:
    weight = DRAW.integers(0, 3, len(X)).astype(float)
    repeated = np.repeat(np.arange(len(X)), weight.astype(int))
    weighted, plain = fit_one_vs_rest(X, Y, weight=weight), fit_one_vs_rest(X[repeated], Y[repeated])
    np.testing.assert_allclose(weighted.predict(X), plain.predict(X), rtol=0, atol=1e-5)


def test_a_label_of_every_or_no_row_is_certain() -> None:
    truth = np.stack([np.ones(4), np.zeros(4), [0, 1, 1, 0]], axis=1).astype(np.int8)
    found = fit_one_vs_rest(X[:4], truth).predict(X[:9])
    assert found[:, 0].tolist() == [1.0] * 9 and found[:, 1].tolist() == [0.0] * 9
    assert len(np.unique(found[:, 2])) > 1
    shown = fit_one_vs_rest(X[:4], truth, weight=np.array([1.0, 0.0, 0.0, 1.0])).predict(X[:9])
    assert shown[:, 2].tolist() == [0.0] * 9


def test_another_width_is_refused_with_both() -> None:
    with pytest.raises(ShapeError, match=r"fitted on 4 features; received 3"):
        fit_one_vs_rest(X, Y).predict(X[:, :3])

"""The majority baseline.

Invariants:
- predictions are the (weighted) class frequencies, classes without a row included, the same for every row;
- bad labels and weights are named with their row and value; no data at all is refused.
"""

from __future__ import annotations

import numpy as np
import pytest

from towerkit.baselines.majority import Majority
from towerkit.core.errors import DataError, ShapeError


def test_frequencies_by_hand() -> None:
    labels = np.array([0, 2, 2, 0, 2])
    assert Majority.fit(labels, 4).predict(2).tolist() == [[0.4, 0.0, 0.6, 0.0]] * 2
    # Weights 1 + 2 = 3 of class 0 and 0 + 1 + 0 = 1 of class 2: 3/4 and 1/4.
    weighted = Majority.fit(labels, 3, weight=np.array([1.0, 0.0, 1.0, 2.0, 0.0]))
    assert weighted.predict(1).tolist() == [[0.75, 0.0, 0.25]]
    assert weighted.predict(0).shape == (0, 3)


def test_bad_labels_and_weights_are_refused() -> None:
    with pytest.raises(DataError, match=r"\[0, 2\); row 2 has 2"):
        Majority.fit(np.array([0, 1, 2]), 2)
    with pytest.raises(DataError, match=r"row 1 has -1"):
        Majority.fit(np.array([0, -1]), 2)
    with pytest.raises(DataError, match=r"weights must be finite and not negative; row 1 has nan"):
        Majority.fit(np.array([0, 1]), 2, weight=np.array([1.0, np.nan]))
    with pytest.raises(DataError, match="received 0 rows"):
        Majority.fit(np.array([], dtype=np.int64), 2)
    with pytest.raises(DataError, match="received 2 rows"):
        Majority.fit(np.array([0, 1]), 2, weight=np.zeros(2))
    with pytest.raises(ShapeError, match=r"labels \(2,\) of int64 and weights \(3,\)"):
        Majority.fit(np.array([0, 1]), 2, weight=np.ones(3))
    with pytest.raises(ShapeError, match="of float64"):
        Majority.fit(np.array([0.0, 1.0]), 2)

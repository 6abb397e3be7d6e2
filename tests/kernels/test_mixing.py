"""Standardized scores added up (`towerkit.kernels.mixing`).

Pinned here:
- the kernel gives what :func:`towerkit.ensembles.rank_combine.standardized` gives, rows of equal scores among them;
- a fusion that is large enough for the kernel has the scores of one that is not; the bits do not depend on the threads.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from towerkit.ensembles.rank_combine import WeightedSpec, combination, standardized
from towerkit.ensembles.rank_fusion import FusedRanker
from towerkit.index.fused import is_worth_compiling
from towerkit.index.ranker import Ranker
from towerkit.kernels.compiled import torch_threads
from towerkit.kernels.mixing import add_standardized


class Fixed(Ranker):
    """Scores that are given, column 0 the unknown candidate."""

    exact = True

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values, self.num_candidates = values, values.shape[1]

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Some rows."""
        return self.values[queries]


def drawn(seed: int, rows: int, columns: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32) * 30 + 1000
    values[1] = 7.5  # all alike
    values[2, 1:] = -3.0  # but for the unknown one
    return values


def test_equals_the_plain_twin() -> None:
    scores = drawn(0, 9, 41)
    total = np.full(scores.shape, 2.0)
    with torch_threads():
        add_standardized(scores, 0.25, total)
    np.testing.assert_allclose(total, 2.0 + 0.25 * standardized(scores, scores[:, 1:]), rtol=1e-9, atol=1e-9)
    assert (total[1:3] == 2.0).all() and (total[0] != 2.0).any()


@pytest.mark.skipif(not hasattr(add_standardized, "py_func"), reason="kernels are plain Python here")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_fusion_is_a_small_one(threads: int) -> None:
    members = [Fixed(drawn(seed, 70, 60_001)) for seed in (1, 2)]
    assert is_worth_compiling(70, 60_000)
    weights = [0.3, 0.7]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        fast = FusedRanker(members, combination(WeightedSpec(), weights), weights).scores(np.arange(70))
    finally:
        torch.set_num_threads(before)
    plain = FusedRanker(members, combination(WeightedSpec(), weights)).scores(np.arange(70))
    np.testing.assert_allclose(fast, plain, rtol=1e-6, atol=1e-6)

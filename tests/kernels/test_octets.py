"""Products of bytes: the sums of NumPy's whole numbers, times both scales, for any number of queries, groups and dimensions."""

from __future__ import annotations

import numpy as np
import pytest

from towerkit.kernels.octets import CHUNK, byte_shortlist, has_byte_products


@pytest.mark.skipif(not has_byte_products(), reason="this processor has no products of bytes")
@pytest.mark.parametrize(("rows", "groups", "dim"), [(4, 2, 4), (8, 6, 64), (12, 260, 36)])
def test_products_are_those_of_whole_numbers(rows: int, groups: int, dim: int) -> None:
    draw = np.random.default_rng(dim)
    candidates = draw.integers(-127, 128, (groups * 16, dim))
    queries = draw.integers(-127, 128, (rows, dim))
    candidates[0], queries[0] = 127, -127  # the largest sums there are
    scales, query_scales = (draw.random(size).astype(np.float32) for size in (groups * 16, rows))
    lying = (candidates + 128).astype(np.uint8).reshape(groups, 16, dim // 4, 4).transpose(0, 2, 1, 3).copy()
    starts = (-128 * queries.sum(axis=1)).astype(np.int32)
    scores = np.full((rows, CHUNK * 16), np.nan, np.float32)
    nothing = np.zeros(rows, np.float32), np.zeros(rows, np.float32), np.zeros(len(scales), np.float32)
    listed, counts = np.zeros((rows, 64), np.int32), np.zeros(rows, np.int64)
    none = np.zeros(rows + 1, np.int64), np.zeros(0, np.int32)
    byte_shortlist(
        (lying, scales),
        (queries.astype(np.int8), query_scales, starts),
        (*nothing, np.zeros(len(scales), np.float32), np.float32(0)),
        none,
        np.zeros(0, np.bool_),
        scores,
        (listed, counts),
        5,
    )
    whole = (queries @ candidates.T).astype(np.float32) * scales * query_scales[:, None]
    last = (groups - 1) // CHUNK * CHUNK * 16  # the scores of the last chunk are still there
    np.testing.assert_array_equal(scores[:, : groups * 16 - last], whole[:, last:])
    for row in range(rows):  # with nothing lost, the list holds the best, and what is not below the best of groups
        assert set(np.argsort(-whole[row], kind="stable")[:5]) <= set(listed[row, : counts[row]].tolist())

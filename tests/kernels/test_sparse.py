"""Sparse times dense (`towerkit.kernels.sparse`).

Pinned here:
- the compiled loop gives what SciPy gives in float64, for empty rows, one row, one popular row, and odd widths;
- the bits do not depend on the number of threads, and a product repeats;
- small products go through SciPy and give the same;
- a product of two sparse matrices has the same bits by the kernel, by plain Python, and for any choice of rows.
"""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.kernels import sparse
from towerkit.kernels.compiled import torch_threads
from towerkit.kernels.sparse import SparseRows, rows_of_product, rows_times_dense


def random_sparse(seed: int, rows: int, columns: int, entries: int) -> csr_array:
    draw = np.random.default_rng(seed)
    places = draw.integers(0, rows, entries), draw.integers(0, columns, entries)
    matrix = csr_array((draw.standard_normal(entries), places), shape=(rows, columns))
    matrix.sum_duplicates()
    return matrix


def compiled_product(matrix: csr_array, dense: NDArray[np.float32], parts: int) -> NDArray[np.float32]:
    starts = np.linspace(0, matrix.shape[0], parts + 1).astype(np.int64)
    out = np.full((matrix.shape[0], dense.shape[1]), np.nan, np.float32)
    with torch_threads():
        rows_times_dense(
            starts,
            matrix.indptr.astype(np.int64),
            matrix.indices.astype(np.int32),
            matrix.data.astype(np.float32),
            dense,
            out,
        )
    return out


@pytest.mark.parametrize(("rows", "columns", "entries", "dim"), [(20, 30, 60, 7), (1, 9, 5, 1), (12, 5, 0, 3)])
def test_equals_scipy(rows: int, columns: int, entries: int, dim: int) -> None:
    matrix = random_sparse(rows, rows, columns, entries)
    dense = np.random.default_rng(1).standard_normal((columns, dim)).astype(np.float32)
    expected = matrix @ dense.astype(np.float64)
    assert (entries == 0) == (not expected.any())
    for parts in (1, 3, 40):
        np.testing.assert_allclose(compiled_product(matrix, dense, parts), expected, atol=1e-5)
    np.testing.assert_allclose(SparseRows(matrix).times(dense), expected, atol=1e-5)


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="a product that is worth a kernel takes too long in Python")
def test_a_popular_row_and_a_wide_product() -> None:
    matrix = random_sparse(3, 400, 300, 20_000)
    wide = np.zeros((400, 300))
    wide[7] = 1.0
    matrix = csr_array(matrix + csr_array(wide))
    dense = np.random.default_rng(2).standard_normal((300, 130)).astype(np.float32)
    found = SparseRows(matrix).times(dense)
    np.testing.assert_allclose(found, matrix @ dense.astype(np.float64), atol=1e-3)
    np.testing.assert_array_equal(found, SparseRows(matrix).times(dense))
    one = compiled_product(matrix, dense, 1)
    np.testing.assert_array_equal(found, one)  # the parts, and with them the threads, change no bit


def test_two_sparse_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = (csr_array(random_sparse(seed, 40, 40, 300).astype(np.float32)) for seed in (5, 6))
    plain = rows_of_product(left, right)
    np.testing.assert_allclose(plain, (left @ right).toarray(), atol=1e-5)
    monkeypatch.setattr(sparse, "_WORTH_IT", 0)
    np.testing.assert_array_equal(rows_of_product(left, right), plain)
    np.testing.assert_array_equal(rows_of_product(csr_array(left[[7, 3]]), right), plain[[7, 3]])
    empty = csr_array((2, 40), dtype=np.float32)
    assert not rows_of_product(empty, right).any()

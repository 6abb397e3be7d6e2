"""The strongest singular directions of a sparse matrix: subspace iteration from a random start, in float32."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from towerkit.core.random import generator
from towerkit.kernels.sparse import SparseRows

ROUNDS = 3
SPARE = 16
"""Vectors beside those asked for."""
_SMALL, _MOST = 256, 2048
"""A shorter side up to here is decomposed exactly: always, and where at least half of its directions are wanted."""
_EXACT_FLOOR, _FLOOR = 1e-7, 1e-3
"""Values below this share of the largest are rounding: of an exact decomposition, and of one in float32."""
_WORST = 1e-3
"""Smallest over largest diagonal of a triangular factor that Cholesky's method may be trusted with."""
_COLUMNS = 320
"""Of the blocks in which a product is made of which only one triangle is wanted."""

Decomposed = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def truncated_svd(matrix: csr_array, dim: int, rounds: int = ROUNDS, spare: int = SPARE) -> Decomposed:
    """The strongest singular directions; the random start is always the same.

    With ``r`` rounds the basis is an orthonormal one of ``A (A'A)^r W`` for a random ``W`` of ``dim`` columns and a few more, and
    within it the directions are exact. Few rounds find the strong directions well and give the weak ones too little strength:
    a mild low-pass. A matrix with a short side is decomposed exactly, whatever the rounds.

    Args:
        matrix: ``[rows, columns]``.
        dim: At most this many directions; those of value zero are left out.
        rounds: Times that the start is sharpened.
        spare: Directions looked for beside those.

    Returns:
        ``[rows, k]``, ``[k]`` values from the largest on, ``[columns, k]``.

    Reference: Halko, Martinsson and Tropp, Finding structure with randomness, SIAM Review 2011 (arXiv 0909.4061).
    """
    rows, columns = matrix.shape
    if rows > columns:  # the basis is of the shorter side
        right, values, left = truncated_svd(csr_array(matrix.T), dim, rounds, spare)
        return left, values, right
    width = min(dim + spare, rows)
    if rows <= _SMALL or rows <= min(2 * width, _MOST):
        return _exact(matrix, dim)
    forth, back = SparseRows(matrix), SparseRows(csr_array(matrix.T))
    basis = forth.times(generator(0, "spectral").standard_normal((columns, width), dtype=np.float32))
    for _ in range(rounds):
        basis = orthonormal(forth.times(back.times(basis)))
    if not rounds:
        basis = orthonormal(basis)
    across = torch.from_numpy(back.times(basis))  # [columns, width]
    squares, inner = np.linalg.eigh(_gram(across))
    kept = _kept(np.sqrt(np.maximum(squares[::-1], 0)), dim, _FLOOR)
    turn = torch.from_numpy(np.ascontiguousarray(inner[:, ::-1][:, kept], np.float32))  # [width, k]
    turned = across @ turn
    values = torch.linalg.vector_norm(turned, dim=0)  # more exact than the roots of the squares
    return (torch.from_numpy(basis) @ turn).numpy(), values.numpy(), turned.div_(values).numpy()


def _exact(matrix: csr_array, dim: int) -> Decomposed:
    """All directions of a matrix with few rows, from its square, in float64.

    The square is turned at random and back: directions of equal values are then any ones of their space. As they stand they
    would lie along single rows, and the rows beyond ``dim`` would get no vector at all.
    """
    matrix = csr_array(matrix.astype(np.float64))
    turn = np.linalg.qr(generator(0, "spectral").standard_normal((matrix.shape[0],) * 2))[0]
    squares, inner = np.linalg.eigh(turn.T @ (matrix @ matrix.T).toarray() @ turn)
    values, left = np.sqrt(np.maximum(squares[::-1], 0)), (turn @ inner)[:, ::-1]
    kept = _kept(values, dim, _EXACT_FLOOR)
    left, values = left[:, kept], values[kept]
    right = matrix.T @ left / values
    return left.astype(np.float32), values.astype(np.float32), right.astype(np.float32)


def _kept(values: NDArray[np.float64], dim: int, floor: float) -> slice:
    return slice(0, min(dim, int((values > floor * max(values.max(initial=0.0), 1e-300)).sum())))


def orthonormal(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """An orthonormal basis of the columns: by Cholesky's method, half as much work as Householder's, where they allow it.

    Args:
        vectors: ``[rows, width]``, no fewer rows than columns.

    Returns:
        ``[rows, width]``; columns that depend on others are filled up with some of the others' complement.
    """
    tensor = torch.from_numpy(vectors)
    try:
        factor = scipy.linalg.cholesky(_gram(tensor), check_finite=False)  # R with R'R = V'V
    except scipy.linalg.LinAlgError:
        return np.asarray(torch.linalg.qr(tensor).Q.numpy())
    diagonal = np.diag(factor)
    if diagonal.min(initial=np.inf) < _WORST * diagonal.max(initial=0.0):
        return np.asarray(torch.linalg.qr(tensor).Q.numpy())
    inverse = scipy.linalg.solve_triangular(factor, np.eye(len(factor)), check_finite=False)
    turn, found = torch.from_numpy(inverse.astype(np.float32)), torch.empty_like(tensor)
    for start in range(0, tensor.shape[1], _COLUMNS):  # nothing stands below the diagonal
        end = start + _COLUMNS
        torch.mm(tensor[:, :end], turn[:end, start:end], out=found[:, start:end])
    return np.asarray(found.numpy())


def _gram(vectors: Tensor) -> NDArray[np.float64]:
    """``V'V`` from float32 products; only the blocks of one triangle are made."""
    width = vectors.shape[1]
    total = torch.zeros(width, width)
    for start in range(0, width, _COLUMNS):
        end = start + _COLUMNS
        torch.mm(vectors[:, :end].T, vectors[:, start:end], out=total[:end, start:end])
    upper = total.triu().double()
    return np.asarray((upper + upper.triu(1).T).numpy())

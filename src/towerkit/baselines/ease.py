"""EASE: a linear model from candidates to candidates, in closed form."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import lapack
from scipy.sparse import csr_array

from towerkit.baselines.base import BaselineSpec, Interactions, clean_interactions
from towerkit.core.errors import SpecError
from towerkit.index.ranker import Ranker, check_query_rows

_BLOCK = 1024
"""Columns that are made or mirrored at a time; beside the one large matrix, little else is held."""


class EASE(Ranker):
    """Scores a candidate by ``x B``, where ``B`` best restores every query ``x`` from its other candidates.

    ``B = argmin |X - X B|^2 + l2 |B|^2`` with a diagonal of zeros: with ``P = (X'X + l2 I)^-1``, ``B_ij = -P_ij / P_jj``.
    The inverse is made in place by Cholesky's method, in float64 while that fits the memory limit, else in float32.
    It takes about ``candidates ** 3`` multiplications.

    Args:
        interactions: ``[queries, candidates]`` training counts or weights.
        l2: Penalty; larger values trust rare pairs less. Sparse data wants less, the paper has 200 to 1,000.
        memory_gb: What it may hold at once.

    Attributes:
        similarity: ``[candidates, candidates]`` the matrix ``B``.

    Raises:
        DataError: If a weight is negative or not finite.
        SpecError: If ``l2`` is not positive, or the matrix does not fit ``memory_gb``.

    Reference: Steck, Embarrassingly shallow autoencoders for sparse data, WWW 2019, arXiv 1905.03375.
    """

    exact = True

    def __init__(self, interactions: csr_array, l2: float = 500.0, memory_gb: float = 4.0) -> None:
        if not 0 < l2 < np.inf:
            raise SpecError(f"l2 must be positive and finite; received {l2}. The usual range is 1 to 1,000.")
        matrix = clean_interactions(interactions)
        self.num_queries, self.num_candidates = matrix.shape
        dtype = _working_type(self.num_candidates, memory_gb)
        if dtype is None:
            raise SpecError(f"EASE {too_large(self.num_candidates, memory_gb)}. Raise memory_gb, or leave EASE out.")
        self._interactions = matrix.astype(np.float32)
        self.similarity: NDArray[np.float32] = _weights(_inverse(_gram(matrix.astype(dtype), l2)))

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every candidate for some query rows; one without interactions scores 0 everywhere.

        Raises:
            DataError: If a query row does not exist.
        """
        check_query_rows(queries, self.num_queries)
        scores: NDArray[np.float32] = self._interactions[queries] @ self.similarity
        return scores


def too_large(num_candidates: int, memory_gb: float) -> str | None:
    """Why a catalogue is too large for EASE within a memory limit; None when it fits.

    Example:
        >>> too_large(1_000, 4.0) is None
        True
        >>> too_large(40_981, 4.0)
        'needs 6.9 GB for the 40,981 x 40,981 matrix of its candidates in float32, and may use 4 GB (memory_gb)'
    """
    if _working_type(num_candidates, memory_gb) is not None:
        return None
    size = f"{num_candidates:,} x {num_candidates:,}"
    needed = f"needs {_bytes(num_candidates, 4) / 1e9:.1f} GB for the {size} matrix of its candidates in float32"
    return f"{needed}, and may use {memory_gb:g} GB (memory_gb)"


def _bytes(num_candidates: int, item: int) -> int:
    """The matrix, and one block beside it while it is filled."""
    return item * num_candidates * (num_candidates + min(num_candidates, _BLOCK))


def _working_type(num_candidates: int, memory_gb: float) -> type[np.floating] | None:
    """The widest type that fits: a float64 matrix is held beside its float32 copy at the end."""
    if _bytes(num_candidates, 12) <= memory_gb * 1e9:
        return np.float64
    return np.float32 if _bytes(num_candidates, 4) <= memory_gb * 1e9 else None


def _gram(matrix: csr_array, l2: float) -> NDArray[np.floating]:
    """``X'X + l2 I``, in the column order that LAPACK works on in place."""
    columns = csr_array(matrix.T)
    gram = np.empty((matrix.shape[1], matrix.shape[1]), dtype=matrix.dtype, order="F")
    for start in range(0, len(gram), _BLOCK):
        gram[:, start : start + _BLOCK] = (columns[start : start + _BLOCK] @ matrix).toarray().T
    gram[np.diag_indices_from(gram)] += l2
    return gram


def _inverse(gram: NDArray[np.floating]) -> NDArray[np.floating]:
    """The inverse of a symmetric positive definite matrix, written over it, both triangles filled."""
    if not len(gram):
        return gram
    factor, inverse = (lapack.dpotrf, lapack.dpotri) if gram.dtype == np.float64 else (lapack.spotrf, lapack.spotri)
    lower, failed = factor(gram, lower=1, clean=0, overwrite_a=1)
    if not failed:
        lower, failed = inverse(lower, lower=1, overwrite_c=1)
    if failed:
        raise SpecError(
            f"EASE cannot invert its matrix in {gram.dtype} (LAPACK stopped at column {failed}): l2 is too small for the "
            "size of the weights. Raise l2, or raise memory_gb so that float64 is used."
        )
    for start in range(0, len(lower), _BLOCK):
        stop = min(start + _BLOCK, len(lower))
        lower[start:stop, stop:] = lower[stop:, start:stop].T
        corner = lower[start:stop, start:stop]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
    found: NDArray[np.floating] = lower
    return found


def _weights(inverse: NDArray[np.floating]) -> NDArray[np.float32]:
    """``B`` from ``P``, in row order: a symmetric matrix in column order is its own transpose in row order."""
    similarity = inverse.T
    similarity /= -similarity.diagonal().copy()
    similarity[np.diag_indices_from(similarity)] = 0.0
    return similarity.astype(np.float32, copy=False)


class EASESpec(BaselineSpec):
    """A linear item-item model in closed form: strong, and large where there are many candidates."""

    kind: Literal["ease"] = "ease"
    l2: float = Field(500.0, gt=0.0)
    """Penalty on the item-item weights."""
    memory_gb: float = Field(4.0, gt=0.0)
    """What it may hold at once; a larger catalogue leaves it out, and the protocol says so."""

    def obstacle(self, interactions: Interactions) -> str | None:
        """A catalogue that is too large."""
        return too_large(interactions.matrix.shape[1], self.memory_gb)

    def build(self, interactions: Interactions) -> EASE:
        """Solve."""
        return EASE(interactions.matrix, self.l2, self.memory_gb)

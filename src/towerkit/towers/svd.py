"""Vectors of both sides in closed form: a truncated singular value decomposition of the normalised training pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array

from towerkit.core.random import generator
from towerkit.core.spec import Spec

_SPARE, _ROUNDS = 10, 5
"""Vectors beside those asked for, and rounds that sharpen them: the error of a value is then far below that of any use."""


class SpectralSettings(Spec):
    """How pairs are weighed before, and vectors after the decomposition."""

    query_exponent: float = Field(0.35, ge=0.0, le=1.0)
    """A pair is divided by this power of its query's pairs."""
    candidate_exponent: float = Field(0.5, ge=0.0, le=1.0)
    """A pair is divided by this power of its candidate's pairs."""
    power: float = Field(0.8, ge=0.0, le=4.0)
    """Of the singular values in a score: below 1 the weaker directions count more."""
    weight: float = Field(0.45, ge=0.0, le=1.0)
    """A candidate's vector is multiplied by this power of its pairs, which gives back what its exponent took."""


def spectral_vectors(
    pairs: csr_array, dim: int, settings: SpectralSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vectors whose dot products rank candidates for queries, without any training.

    With ``N_qc = 1 / (n_q^a m_c^b)`` for each pair, ``n`` and ``m`` the pairs of its query and of its candidate, and
    ``N ~ U S V'``, a score is ``U_q S^power V_c' m_c^weight``. A row of ``U`` is the sum of the query's candidates, up to the
    scale of each direction. Then a query's vector is given the length 1, and all candidates' vectors one scale, which
    makes their mean square length 1: neither changes the order of the candidates of a query.

    Args:
        pairs: ``[queries, candidates]``; every stored entry is a pair.
        dim: Width; directions beyond the rank of the pairs are zeros.
        settings: The exponents ``a`` and ``b``, ``power`` and ``weight``.

    Returns:
        ``[queries, dim]`` and ``[candidates, dim]``; a row without pairs is zeros.

    Reference: Shen et al., How powerful is graph convolution for recommendation?, CIKM 2021 (arXiv 2108.07567), for the
        low-pass part; the method of the decomposition: Halko, Martinsson and Tropp, SIAM Review 2011 (arXiv 0909.4061).
    """
    by_query = np.diff(pairs.indptr).astype(np.float64)
    by_candidate = np.bincount(pairs.indices, minlength=pairs.shape[1]).astype(np.float64)
    owner = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))
    values = by_query[owner] ** -settings.query_exponent * by_candidate[pairs.indices] ** -settings.candidate_exponent
    left, strengths, right = truncated_svd(csr_array((values, pairs.indices, pairs.indptr), shape=pairs.shape), dim)
    strengths = strengths ** (settings.power / 2)
    query = left * strengths
    query /= np.maximum(np.linalg.norm(query, axis=1, keepdims=True), 1e-12)
    candidate = right * strengths * by_candidate[:, None] ** settings.weight
    candidate /= max(np.sqrt(np.square(candidate).sum() / max((by_candidate > 0).sum(), 1)), 1e-12)
    query[by_query == 0], candidate[by_candidate == 0] = 0.0, 0.0  # not the rounding of the decomposition
    return _widened(query, dim), _widened(candidate, dim)


def truncated_svd(matrix: csr_array, dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The strongest singular directions; the random start is always the same.

    Args:
        matrix: ``[rows, columns]``.
        dim: At most this many directions; those of value zero are left out.

    Returns:
        ``[rows, k]``, ``[k]`` values from the largest on, ``[columns, k]``.
    """
    width = min(dim + _SPARE, *matrix.shape)
    turned = csr_array(matrix.T)
    start = generator(0, "spectral").standard_normal((matrix.shape[1], width))
    basis = np.linalg.qr(matrix @ start)[0]  # [rows, width]
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(matrix @ np.linalg.qr(turned @ basis)[0])[0]
    right, values, inner = np.linalg.svd(turned @ basis, full_matrices=False)
    kept = slice(0, min(dim, int((values > 1e-10 * max(values.max(initial=0.0), 1e-300)).sum())))
    return basis @ inner.T[:, kept], values[kept], right[:, kept]


def _widened(vectors: NDArray[np.float64], dim: int) -> NDArray[np.float64]:
    return np.pad(vectors, ((0, 0), (0, dim - vectors.shape[1])))


def id_tables(
    pairs: csr_array, dim: int, settings: SpectralSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """:func:`spectral_vectors` as id tables: an id without pairs, and the unknown row 0, gets the mean of the others.

    Args:
        pairs: ``[query id rows, candidate id rows]``; row 0 and column 0 belong to the unknown ids.
        dim: Width.
        settings: As in :func:`spectral_vectors`.
    """
    known = csr_array(pairs[1:, 1:])
    query, candidate = spectral_vectors(known, dim, settings)
    seen = np.diff(known.indptr) > 0, np.bincount(known.indices, minlength=known.shape[1]) > 0
    tables = []
    for vectors, has_pairs in zip((query, candidate), seen, strict=True):
        mean = vectors[has_pairs].mean(axis=0) if has_pairs.any() else np.zeros(dim)
        tables.append(np.vstack([mean, np.where(has_pairs[:, None], vectors, mean)]))
    return tables[0], tables[1]

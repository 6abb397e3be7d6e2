"""Vectors of both sides in closed form: a truncated singular value decomposition of the normalised training pairs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array

from towerkit.core.keeping import kept
from towerkit.core.spec import Spec
from towerkit.towers.decomposition import ROUNDS, SPARE, truncated_svd


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
    rounds: int = Field(ROUNDS, ge=0, le=100)
    """Times that the decomposition is sharpened; few give the weak directions less strength."""
    spare: int = Field(SPARE, ge=1, le=8192)
    """Directions looked for beside those that are kept: with more, these are more exact."""


@dataclass(frozen=True)
class Directions:
    """The strongest directions of normalised pairs, from which vectors of any width, power and weight are made."""

    left: NDArray[np.float32]
    """``[queries, k]``."""
    strengths: NDArray[np.float32]
    """``[k]`` singular values, from the largest on."""
    right: NDArray[np.float32]
    """``[candidates, k]``."""
    by_query: NDArray[np.int64]
    """``[queries]`` pairs of each."""
    by_candidate: NDArray[np.int64]
    """``[candidates]`` pairs of each."""

    def vectors(self, dim: int, *, power: float, weight: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vectors of both sides; see :func:`spectral_vectors`.

        Args:
            dim: Width; directions that there are not are zeros.
            power: Of the singular values in a score.
            weight: Of a candidate's pairs in its vector.
        """
        factors = self.strengths[:dim] ** np.float32(power / 2)
        query = self.left[:, :dim] * factors
        query /= np.maximum(np.linalg.norm(query, axis=1, keepdims=True), 1e-12)
        candidate = self.right[:, :dim] * factors
        candidate *= self.by_candidate[:, None].astype(np.float32) ** np.float32(weight)
        length = float(torch.linalg.vector_norm(torch.from_numpy(candidate)))
        candidate /= np.float32(max(length / np.sqrt(max((self.by_candidate > 0).sum(), 1)), 1e-12))
        query[self.by_query == 0], candidate[self.by_candidate == 0] = 0.0, 0.0  # not the rounding
        return _widened(query, dim), _widened(candidate, dim)

    def at(self, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> Directions:
        """The same directions of some rows.

        Args:
            queries: ``[n]`` rows; -1 for a query that is not there, whose vectors are zeros.
            candidates: ``[m]`` rows.
        """
        return Directions(
            self.left[queries],
            self.strengths,
            self.right[candidates],
            np.where(queries >= 0, self.by_query[queries], 0),
            self.by_candidate[candidates],
        )


def directions_of(pairs: csr_array, dim: int, settings: SpectralSettings) -> Directions:
    """Decompose pairs, each divided by powers of the pairs of its query and of its candidate.

    Args:
        pairs: ``[queries, candidates]``; every stored entry is a pair.
        dim: Directions that are wanted; there are no more than the rank.
        settings: The exponents, ``rounds`` and ``spare``; power and weight come later.
    """
    weighing = settings.query_exponent, settings.candidate_exponent, settings.rounds, settings.spare
    content = hashlib.sha256(pairs.indptr.tobytes() + pairs.indices.tobytes()).digest()
    return kept(("directions", content, pairs.shape, dim, *weighing), lambda: _decomposed(pairs, dim, settings))


def _decomposed(pairs: csr_array, dim: int, settings: SpectralSettings) -> Directions:
    by_query = np.diff(pairs.indptr).astype(np.int64)
    by_candidate = np.bincount(pairs.indices, minlength=pairs.shape[1])
    of_query = np.maximum(by_query, 1) ** -settings.query_exponent
    values = np.repeat(of_query, by_query)
    values *= (np.maximum(by_candidate, 1) ** -settings.candidate_exponent)[pairs.indices]
    weighed = csr_array((values.astype(np.float32), pairs.indices, pairs.indptr), shape=pairs.shape)
    return Directions(*truncated_svd(weighed, dim, settings.rounds, settings.spare), by_query, by_candidate)


def spectral_vectors(
    pairs: csr_array, dim: int, settings: SpectralSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors whose dot products rank candidates for queries, without any training.

    With ``N_qc = 1 / (n_q^a m_c^b)`` for each pair, ``n`` and ``m`` the pairs of its query and of its candidate, and
    ``N ~ U S V'``, a score is ``U_q S^power V_c' m_c^weight``. A row of ``U`` is the sum of the query's candidates, up to the
    scale of each direction. Then a query's vector is given the length 1, and all candidates' vectors one scale, which
    makes their mean square length 1: neither changes the order of the candidates of a query.

    Args:
        pairs: ``[queries, candidates]``; every stored entry is a pair.
        dim: Width; directions beyond the rank of the pairs are zeros.
        settings: The exponents ``a`` and ``b``, ``power`` and ``weight``, and how carefully to decompose.

    Returns:
        ``[queries, dim]`` and ``[candidates, dim]``; a row without pairs is zeros.

    Reference: Shen et al., How powerful is graph convolution for recommendation?, CIKM 2021 (arXiv 2108.07567), for the
        low-pass part.
    """
    return directions_of(pairs, dim, settings).vectors(dim, power=settings.power, weight=settings.weight)


def _widened(vectors: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    missing = dim - vectors.shape[1]
    return np.pad(vectors, ((0, 0), (0, missing))) if missing else vectors


def id_tables(
    pairs: csr_array, dim: int, settings: SpectralSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
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
        mean = vectors[has_pairs].mean(axis=0) if has_pairs.any() else np.zeros(dim, np.float32)
        tables.append(np.vstack([mean, np.where(has_pairs[:, None], vectors, mean)]))
    return tables[0], tables[1]

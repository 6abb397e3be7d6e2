"""How an index compares vectors: made ready once, scored fast and roughly, scored slowly and always the same.

A matrix product rounds a score in ways that depend on how many others are computed beside it. So what an index answers is never a
product's score: products say who may be among the best, and these few are scored pair by pair, in one order of sums. A hit's score
is then a function of its two vectors alone: the same for one query and for a thousand, exact and approximate, NumPy alone or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import RunError, ShapeError, SpecError, listed, nearest
from towerkit.index.contract import Floats, Similarity

MAX_LENGTH = 3e18
"""The square of twice this length still fits in float32."""


@dataclass(frozen=True, eq=False)
class Measure:
    """A similarity, and what vectors are made before they are compared."""

    similarity: Similarity
    center: Floats
    """``[dim]`` what is taken away from both sides under a distance: smaller numbers cancel less. Zero under the others."""

    @classmethod
    def of(cls, similarity: Similarity, vectors: Floats) -> Measure:
        """For vectors like these, ``[candidates, dim]``.

        Raises:
            SpecError: If the similarity is unknown.
        """
        known = get_args(Similarity)
        if similarity not in known:
            raise SpecError(
                f"similarity must be one of {listed(known)}; received '{similarity}'{nearest(similarity, known)}"
            )
        moves = similarity == "euclidean" and len(vectors) > 0
        center = vectors.mean(axis=0, dtype=np.float64) if moves else np.zeros(vectors.shape[1])
        return cls(similarity, center.astype(np.float32))

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return len(self.center)

    def ready(self, side: str, vectors: NDArray[np.floating]) -> Floats:
        """``[rows, dim]`` vectors as they are compared: of length one for a cosine, centered for a distance.

        Args:
            side: ``query`` or ``candidate``, for messages.
            vectors: ``[rows, dim]`` raw ones.

        Raises:
            ShapeError: If they are no rows of the width of this index.
            RunError: If one is not finite, or too long.
        """
        array = finite_vectors(side, vectors)
        if array.shape[1] != self.dim:
            raise ShapeError(
                f"This index holds vectors of width {self.dim}; received {side} vectors of shape {array.shape}. They come from "
                "another model: ask with the one that the index was built from."
            )
        if self.similarity == "cosine":
            lengths = _lengths(array).astype(np.float32)
            return np.asarray(array / np.where(lengths > 0, lengths, np.float32(1))[:, None])
        return array - self.center if self.similarity == "euclidean" else array

    def raw(self, ready: Floats) -> Floats:
        """What :meth:`ready` was given, up to rounding and the length of a cosine's."""
        return ready + self.center if self.similarity == "euclidean" else ready

    def pairs(self, queries: Floats, candidates: Floats) -> Floats:
        """``[n, m]`` the score of each query and each of its own candidates.

        Args:
            queries: ``[n, dim]``, ready.
            candidates: ``[n, m, dim]``, ready.
        """
        if self.similarity == "euclidean":
            apart = candidates - queries[:, None]
            return np.asarray(-np.vecdot(apart, apart))
        return np.asarray(np.vecdot(candidates, queries[:, None]))

    def roughly(self, queries: Floats, candidates: Floats, squares: Floats) -> Floats:
        """``[n, rows]`` the score of each query and every candidate by one product; at most :meth:`slack` from the true ones.

        Args:
            queries: ``[n, dim]``, ready.
            candidates: ``[rows, dim]``, ready.
            squares: ``[rows]`` their squared lengths.
        """
        if self.similarity != "euclidean":
            return np.asarray(queries @ candidates.T)
        block = np.asarray((2 * queries) @ candidates.T)
        block -= squares
        block -= np.square(queries).sum(axis=1)[:, None]
        return block

    def slack(self, queries: Floats, longest: float) -> NDArray[np.float64]:
        """``[n]`` how far a rough score may be from that of the pair: rounding of both sums of ``dim`` terms.

        Args:
            queries: ``[n, dim]``, ready.
            longest: Length of the longest candidate.
        """
        lengths = _lengths(queries)
        size = np.square(lengths + longest) if self.similarity == "euclidean" else lengths * longest
        return (self.dim + 16) * 2.0**-23 * size + self.dim * 2.0**-124


def finite_vectors(side: str, vectors: NDArray[np.floating]) -> Floats:
    """Float32 vectors of one's own, finite and short enough that no score can overflow or become NaN.

    Args:
        side: What to call them.
        vectors: ``[rows, dim]``.

    Raises:
        ShapeError: If they are no rows.
        RunError: If one is not finite, or 3e18 long or longer.
    """
    try:
        with np.errstate(over="ignore"):
            array = np.array(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{side} vectors must be rows of numbers of one width ({error}).") from None
    if array.ndim != 2:
        raise ShapeError(f"{side} vectors must be [rows, dim]; received shape {array.shape}. Give one vector per row.")
    wrong = np.flatnonzero(~(_lengths(array) < MAX_LENGTH))
    if len(wrong):
        row = int(wrong[0])
        column = int(np.argmax(np.nan_to_num(np.abs(array[row]), nan=np.inf)))
        raise RunError(
            f"{side} vectors must be finite and shorter than {MAX_LENGTH:g}; row {row} holds {array[row, column]} in "
            f"column {column}. The training probably diverged: lower its learning rate."
        )
    return array


def squared_lengths(ready: Floats) -> Floats:
    """``[rows]`` the squared lengths of vectors that are ready."""
    return np.square(_lengths(ready)).astype(np.float32)


def _lengths(vectors: Floats) -> NDArray[np.float64]:
    """``[rows]`` in float64, so that a long vector does not overflow."""
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))

"""Exact ranking by the similarity of vectors: scores that do not depend on the chunk they are computed in."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from towerkit.core.errors import RunError, ShapeError, SpecError, listed, nearest
from towerkit.index.chunk import Chunk, Ranked
from towerkit.index.contract import Similarity
from towerkit.index.ranker import TILE_ROWS, Ranker, check_query_rows
from towerkit.index.shortlist import Shortlists, has_fast_bfloat16
from towerkit.kernels.product import product

__all__ = ["Similarity", "VectorRanker"]

# The square of twice this length still fits in float32.
_MAX_LENGTH = 3e18
_WIDE = 512
"""Dimensions from which on a product costs so much more than the rest of a ranking that a shortlist pays."""


class VectorRanker(Ranker):
    """Ranks candidates by the similarity of their vectors to a query's vector.

    Args:
        query_vectors: ``[queries, dim]``.
        candidate_vectors: ``[candidates, dim]``.
        similarity: ``dot``; ``cosine``, where a zero vector scores 0 with everything; or ``euclidean``, the
            negative squared distance.
        shortlist: Whether many queries are first compared in bfloat16, which changes no answer (see
            :mod:`towerkit.index.shortlist`); ``auto`` where the processor has matrix units for such numbers and there are 512
            dimensions or more. Euclidean distances never are.

    Raises:
        ShapeError: If the two sides do not share their last axis.
        SpecError: If the similarity is unknown.
        RunError: If a vector is not finite, or 3e18 long or longer (its square would overflow).

    Example:
        >>> ranker = VectorRanker(np.eye(2), np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]), "dot")
        >>> ranker.rank(np.array([0, 1]), k=1).rows.tolist()
        [[1], [2]]
    """

    exact = True

    def __init__(
        self,
        query_vectors: NDArray[np.floating],
        candidate_vectors: NDArray[np.floating],
        similarity: Similarity,
        *,
        shortlist: bool | Literal["auto"] = "auto",
    ) -> None:
        if similarity not in get_args(Similarity):
            known = get_args(Similarity)
            raise SpecError(
                f"similarity must be one of {listed(known)}; received '{similarity}'{nearest(similarity, known)}"
            )
        query, candidate = _vectors("query", query_vectors), _vectors("candidate", candidate_vectors)
        self.num_candidates, self.similarity = len(candidate), similarity
        self._shape = tuple(candidate.shape)
        self._center = _center(candidate)
        if similarity == "cosine":
            candidate = _unit(candidate)
        elif similarity == "euclidean":
            candidate = _candidate_of_product(candidate - self._center)
        if shortlist == "auto":
            shortlist = candidate.shape[1] >= _WIDE and has_fast_bfloat16()
        self._shortens = shortlist and similarity != "euclidean" and candidate.numel() > 0
        self._candidate = _padded(candidate)
        if not self._shortens:  # products need not turn columns round; a shortlist takes rows
            self._candidate = self._candidate.T.contiguous().T
        self._shortlists: Shortlists | None = None
        self._ask(query)

    def with_queries(self, query_vectors: NDArray[np.floating]) -> VectorRanker:
        """A ranker of the same candidates, which are not prepared again, for other queries.

        Args:
            query_vectors: ``[queries, dim]``.

        Raises:
            ShapeError: If the vectors do not have the width of the candidates.
            RunError: If a vector is not finite, or too long.
        """
        other = copy(self)
        other._ask(_vectors("query", query_vectors))
        return other

    def _ask(self, query: Tensor) -> None:
        if query.shape[1] != self._shape[1]:
            raise ShapeError(
                f"query and candidate vectors must share the last axis; received {tuple(query.shape)} and "
                f"{self._shape}. Give both towers the same out_dim."
            )
        self.num_queries = len(query)
        if self.similarity == "cosine":
            query = _unit(query)
        elif self.similarity == "euclidean":
            query = _query_of_product(query - self._center)
        self._query = query

    def vectors_of(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """``[n, dim]`` the vectors of some query rows, to ask an index with; of a cosine they have length one.

        Args:
            queries: ``[n]`` query rows.

        Raises:
            DataError: If a query row does not exist.
        """
        check_query_rows(queries, self.num_queries)
        found = self._query[torch.from_numpy(np.asarray(queries, dtype=np.int64))]
        if self.similarity == "euclidean":
            found = found[:, :-2] / 2 + self._center
        return cast("NDArray[np.float32]", found.numpy())

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every candidate for some query rows.

        Raises:
            DataError: If a query row does not exist.
        """
        check_query_rows(queries, self.num_queries)
        index = torch.from_numpy(np.asarray(queries, dtype=np.int64))
        block = product(_padded(self._query[index]), self._candidate)  # [n + padding, candidates + padding]
        if self.similarity == "euclidean":
            block.clamp_(max=0)  # rounding may leave a tiny negative distance between equal vectors
        return cast("NDArray[np.float32]", block[: len(index), : self.num_candidates].numpy())

    def _rank_chunk(self, chunk: Chunk, *, compiled: bool) -> Ranked:
        if not (compiled and self._shortens) or chunk.positives is not None:
            return super()._rank_chunk(chunk, compiled=compiled)
        check_query_rows(chunk.queries, self.num_queries)
        if self._shortlists is None:
            self._shortlists = Shortlists(self._candidate, self.num_candidates)
        queries = _padded(self._query[torch.from_numpy(chunk.queries)])
        return self._shortlists.rank(queries, chunk, partial(super()._rank_chunk, compiled=True))


def _padded(vectors: Tensor) -> Tensor:
    """The vectors with zero rows appended, up to whole tiles.

    So a score does not depend on the chunk it is computed in, and equal vectors stay exactly tied.
    """
    missing = -len(vectors) % TILE_ROWS
    return torch.cat([vectors, vectors.new_zeros(missing, vectors.shape[1])]) if missing else vectors


def _lengths(vectors: Tensor) -> Tensor:
    """``[rows, 1]`` in float64, so that a long vector does not overflow."""
    return cast("Tensor", torch.linalg.vector_norm(vectors, dim=1, keepdim=True, dtype=torch.float64))


def _unit(vectors: Tensor) -> Tensor:
    """The vectors at length 1; zero vectors stay zero."""
    lengths = _lengths(vectors).float()
    return vectors / lengths.where(lengths > 0, 1.0)


def _center(candidate: Tensor) -> Tensor:
    """``[dim]`` the mean: distances from it are the same, of smaller numbers that cancel less."""
    return (
        candidate.mean(dim=0, dtype=torch.float64).float()
        if len(candidate)
        else candidate.new_zeros(candidate.shape[1])
    )


def _query_of_product(query: Tensor) -> Tensor:
    """Longer vectors whose dot product with :func:`_candidate_of_product` is ``2 q.c - |c|^2 - |q|^2``."""
    square = query.square().sum(dim=1, keepdim=True)
    return torch.cat([2 * query, -torch.ones_like(square), -square], dim=1)


def _candidate_of_product(candidate: Tensor) -> Tensor:
    square = candidate.square().sum(dim=1, keepdim=True)
    return torch.cat([candidate, square, torch.ones_like(square)], dim=1)


def _vectors(side: str, vectors: NDArray[np.floating]) -> Tensor:
    """Float32 vectors, finite and short enough that no score can overflow or become NaN."""
    with np.errstate(over="ignore"):
        array = np.array(vectors, dtype=np.float32)
    if array.ndim != 2:
        raise ShapeError(f"{side} vectors must be [rows, dim]; received shape {array.shape}. Give one vector per row.")
    tensor = torch.from_numpy(array)
    wrong = (~(_lengths(tensor) < _MAX_LENGTH)).nonzero()
    if len(wrong):
        row = int(wrong[0, 0])
        column = int(np.argmax(np.nan_to_num(np.abs(array[row]), nan=np.inf)))
        raise RunError(
            f"{side} vectors must be finite and shorter than {_MAX_LENGTH:g}; row {row} holds {array[row, column]} in "
            f"column {column}. The training probably diverged: lower its learning rate."
        )
    return tensor

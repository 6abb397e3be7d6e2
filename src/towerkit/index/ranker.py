"""Exact ranking of all candidates for each query, in chunks, with ties broken fairly.

Equal scores are ordered by a fixed pseudo-random order of the candidates and not by catalogue position:
catalogues often come sorted by popularity, where a collapsed model, whose scores are all the same, would
look better than chance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.errors import DataError, ShapeError, SpecError
from towerkit.index.chunk import Chunk, Pairs, Ranked
from towerkit.index.fused import is_worth_compiling, rank_fused
from towerkit.index.hits import TILE_ROWS, Hits, candidate_tie_order
from towerkit.index.plain import rank_plainly

__all__ = ["TILE_ROWS", "Hits", "Ranker", "candidate_tie_order", "check_query_rows", "rank_reference"]

_BLOCK_BYTES = 24 * 2**20
"""Of scores at a time: they stay in the last cache between the product and the selection."""


def rank_reference(
    scores: NDArray[np.float32],
    k: int,
    exclude: csr_array | None,
    allowed: NDArray[np.bool_] | None,
    tie_order: NDArray[np.int64],
) -> Hits:
    """The plain twin of :meth:`Ranker.rank`: sort everything; used as the oracle in tests.

    Args:
        scores: ``[queries, candidates]``.
        k: Places to fill.
        exclude: ``[queries, candidates]``; every stored entry is excluded.
        allowed: ``[candidates]``.
        tie_order: ``[candidates]`` place of each candidate among equals.

    Returns:
        The hits.
    """
    masked = scores.copy()
    if exclude is not None:
        entries = exclude.tocoo()
        masked[entries.row, entries.col] = -np.inf
    if allowed is not None:
        masked[:, ~allowed] = -np.inf
    order = np.lexsort((np.broadcast_to(tie_order, masked.shape), -masked), axis=-1)[:, :k]
    return _hits(order, np.take_along_axis(masked, order, axis=1), k)


class Ranker(ABC):
    """Ranks all candidates for queries; a subclass says only how to score them.

    Attributes:
        exact: Whether every candidate is scored; an approximate ranker says False.
        num_candidates: Candidates in the catalogue.
    """

    exact: bool
    num_candidates: int

    @abstractmethod
    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every candidate for some query rows.

        Args:
            queries: ``[n]`` query rows.

        Returns:
            ``[n, num_candidates]``, higher is better, minus infinity for "not a candidate". A writable array
            is overwritten by :meth:`rank`, so return a fresh one, or a read-only view of a kept one.
        """

    def scores_at(self, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        """The scores of some candidates of each query; a subclass may leave the others unscored.

        Args:
            queries: ``[n]`` query rows.
            candidates: ``[n, m]`` candidate rows.

        Returns:
            ``[n, m]``.
        """
        return np.take_along_axis(self.scores(queries), candidates, axis=1)

    @final
    def rank(
        self,
        queries: NDArray[np.int64],
        k: int,
        *,
        exclude: csr_array | None = None,
        allowed: NDArray[np.bool_] | None = None,
        positives: csr_array | None = None,
        chunk_rows: int | None = None,
    ) -> Hits:
        """Find the ``k`` best candidates of each query, exactly, whatever the chunks and the order of the queries.

        Args:
            queries: ``[queries]`` query rows.
            k: Places to fill; may be more than there are candidates.
            exclude: ``[queries, candidates]``; row ``i`` belongs to ``queries[i]``. Every stored entry is
                excluded, whatever its value.
            allowed: ``[candidates]``; False takes a candidate away from all queries.
            positives: ``[queries, candidates]`` right answers; where given, the same pass over the scores tells how many of all
                other candidates that may be ranked each of them beats (see :func:`towerkit.index.beaten.beaten`).
            chunk_rows: Queries scored at a time; by default as many as fill about 24 MB of scores.

        Returns:
            The hits, ordered by score, then by :func:`candidate_tie_order`.

        Raises:
            ShapeError: If ``exclude``, ``allowed``, ``positives`` or the scores do not fit the queries and the candidates.
            SpecError: If ``k`` or ``chunk_rows`` is below 1.
            RunError: If a score that could be ranked is not a number.
        """
        queries = _checked_queries(queries)
        _check_at_least_one(k=k, chunk_rows=chunk_rows)
        _check_masks(len(queries), self.num_candidates, allowed, exclude=exclude, positives=positives)
        left_out, right = (None if pairs is None else Pairs.of(csr_array(pairs)) for pairs in (exclude, positives))
        blocked = None if allowed is None or allowed.all() else ~allowed
        ties = candidate_tie_order(self.num_candidates).astype(np.int32)
        step = chunk_rows or _default_chunk_rows(self.num_candidates)
        compiled = is_worth_compiling(len(queries), self.num_candidates)
        whole = Chunk(queries, min(k, self.num_candidates), ties, left_out, blocked, right)
        starts = range(0, len(queries), step)
        parts = [self._rank_chunk(whole.part(start, start + step), compiled=compiled) for start in starts]
        return _joined(parts, k, counted=positives is not None)

    def _rank_chunk(self, chunk: Chunk, *, compiled: bool) -> Ranked:
        """Rank some queries; a subclass may take a shorter way to the same answer."""
        block = self._block(chunk.queries)
        return rank_fused(block, chunk) if compiled else rank_plainly(block, chunk)

    def _block(self, chunk: NDArray[np.int64]) -> NDArray[np.float32]:
        """The scores of one chunk, checked, as an array that may be written to."""
        block = np.asarray(self.scores(chunk))
        if block.shape != (len(chunk), self.num_candidates):
            raise ShapeError(
                f"{type(self).__name__}.scores must return [queries, candidates], here "
                f"{(len(chunk), self.num_candidates)}; received {block.shape}. Score every candidate for each query."
            )
        return np.require(block, dtype=np.float32, requirements="W")


def check_query_rows(queries: NDArray[np.int64], num_queries: int) -> None:
    """Refuse query rows that do not exist.

    Raises:
        DataError: Naming the first such row and its position.
    """
    wrong = np.flatnonzero((queries < 0) | (queries >= num_queries))
    if len(wrong):
        raise DataError(
            f"Query rows must be in [0, {num_queries:,}); received {queries[wrong[0]]} at position {wrong[0]} of the "
            f"scored chunk ({len(wrong):,} such rows there). Leave out queries that the ranker was not built with."
        )


def _joined(parts: Sequence[Ranked], k: int, *, counted: bool) -> Hits:
    """The hits of all chunks."""
    if not parts:
        parts = [Ranked(np.empty((0, 0), np.int64), np.empty((0, 0), np.float32), np.empty(0) if counted else None)]
    hits = _hits(np.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts]), k)
    beaten = [part.beaten for part in parts if part.beaten is not None]
    return replace(hits, beaten=np.concatenate(beaten)) if counted else hits


def _hits(rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Hits:
    """Sorted rows and scores as hits of width ``k``; minus infinity is no candidate."""
    shape = (len(rows), k)
    padded_rows = np.full(shape, -1, dtype=np.int64)
    padded_scores = np.full(shape, -np.inf, dtype=np.float32)
    padded_rows[:, : rows.shape[1]] = np.where(scores > -np.inf, rows, -1)
    padded_scores[:, : rows.shape[1]] = scores
    return Hits(padded_rows, padded_scores, (padded_rows >= 0).sum(axis=1))


def _default_chunk_rows(num_candidates: int) -> int:
    rows = _BLOCK_BYTES // (4 * max(num_candidates, 1))
    return max(rows - rows % TILE_ROWS, TILE_ROWS)


def _checked_queries(queries: NDArray[np.int64]) -> NDArray[np.int64]:
    array = np.asarray(queries)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and len(array)):
        raise ShapeError(
            f"queries must be a vector of integer query rows; received shape {array.shape} of {array.dtype}. "
            "Give row numbers, not keys or vectors."
        )
    return array.astype(np.int64)


def _check_at_least_one(**settings: int | None) -> None:
    for name, value in settings.items():
        if value is not None and value < 1:
            raise SpecError(f"{name} must be at least 1; received {value}. Ask for one or more.")


def _check_masks(
    num_queries: int, num_candidates: int, allowed: NDArray[np.bool_] | None, **pairs: csr_array | None
) -> None:
    for name, matrix in pairs.items():
        if matrix is not None and matrix.shape != (num_queries, num_candidates):
            raise ShapeError(
                f"{name} must be [queries, candidates], here {(num_queries, num_candidates)}; received {matrix.shape}. "
                "Its row i belongs to queries[i]: select the rows of the queries first."
            )
    if allowed is not None and (allowed.shape != (num_candidates,) or allowed.dtype != np.bool_):
        raise ShapeError(
            f"allowed must be one bool per candidate, here ({num_candidates},); received {allowed.shape} of "
            f"{allowed.dtype}. Make it a mask, not a list of rows."
        )

"""Exact ranking by way of a shortlist: bfloat16 products say which candidates can be among the best, float32 ranks these.

A bfloat16 product is several times as fast as a float32 one and has three digits. How far it can be from the float32 score is
known: with ``q = q' + dq`` and ``c = c' + dc``, where ``q'`` and ``c'`` are the rounded vectors,

``|q c - q' c'| <= |q'| |dc| + |dq| |c|``,

to which come the rounding of the result (``2**-8`` of it), of both sums (``dim * 2**-23`` of ``|q| |c|``), and what is lost below
the smallest float. Whatever reaches, at the upper end of its bound, the ``k``-th highest lower end is on the shortlist, so that no
other candidate can have a place. Where a list gets too long, its queries are ranked in float32 altogether.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from towerkit.index.chunk import Chunk, Pairs, Ranked
from towerkit.index.fused import rank_fused
from towerkit.kernels.product import product

_MOST = 1024
"""Candidates on a shortlist; a longer one saves nothing."""
_TILE = 48
"""Queries whose shortlists are scored together, a multiple of 16, so that a product's rounding is that of all rows together."""
_RESULT = 1.01 * 2.0**-8
"""Rounding of a score to bfloat16, and of the few operations that the bound itself takes."""
_SAFE = 1.001
"""By what lengths are enlarged for the same reason."""


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in units of their own (AMX).

    Where it only has vector instructions for them, a product takes half the time of float32's, and the steps around it, each with
    threads to wake and to wait for, eat that up on a busy machine.
    """
    asked = getattr(torch.cpu, "get_capabilities", None)
    return bool(asked is not None and asked().get("amx_bf16"))


class Shortlists:
    """Candidates rounded to bfloat16, and how far each is from what it was.

    Args:
        candidates: ``[candidates + padding, dim]`` as scores are made from them.
        num_candidates: Without the padding.
    """

    def __init__(self, candidates: Tensor, num_candidates: int) -> None:
        self._candidates, self._num_candidates = candidates, num_candidates
        self._rounded = candidates.bfloat16()
        known = candidates[:num_candidates]
        self._lost = _lengths(known - self._rounded[:num_candidates].float())
        self._lengths = _lengths(known)

    def rank(self, queries: Tensor, chunk: Chunk, in_full: Callable[[Chunk], Ranked]) -> Ranked:
        """The best candidates of some queries: the same lists and scores as in float32.

        Args:
            queries: ``[rows + padding, dim]``.
            chunk: What is asked; it has no positives, whose ranks need all scores.
            in_full: Ranks in float32.
        """
        columns, counts = self._reaching(queries, chunk)
        parts = []
        for start in range(0, len(counts), _TILE):
            tile = slice(start, start + _TILE)
            part = chunk.part(start, start + _TILE)
            if (counts[tile] < 0).any():
                parts.append(in_full(part))
            else:
                parts.append(self._rank_tile(queries[tile], part, columns[tile], counts[tile]))
        rows, scores = (np.concatenate(arrays) for arrays in zip(*(part[:2] for part in parts), strict=True))
        return Ranked(rows, scores, None)

    def slack(self, queries: Tensor, rounded: Tensor) -> tuple[Any, ...]:
        """How far approximate scores may be off: the numbers that :func:`towerkit.kernels.topk.shortlist_block` takes.

        Args:
            queries: ``[rows, dim]``.
            rounded: The same in bfloat16.
        """
        dim = queries.shape[1]
        sums = _lengths(queries) * np.float32((dim + 16) * 2.0**-23)
        lost = _lengths(queries - rounded.float()) + sums
        return (
            _lengths(rounded.float()),
            lost,
            self._lost,
            self._lengths,
            np.float32(_RESULT),
            np.float32(dim * 2.0**-124),
        )

    def _reaching(self, queries: Tensor, chunk: Chunk) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The shortlists: ``[rows, most]`` columns, of which the first ``[rows]`` count; -1 where there is no list."""
        from towerkit.kernels.compiled import torch_threads
        from towerkit.kernels.topk import shortlist_block

        num_rows = len(chunk.queries)
        rounded = queries.bfloat16()
        scores = rounded @ self._rounded.T  # [rows + padding, candidates + padding]
        block = scores[:num_rows, : self._num_candidates].float().contiguous().numpy()
        slack = self.slack(queries[:num_rows], rounded[:num_rows])
        exclude = chunk.exclude or Pairs.empty(num_rows)
        blocked = np.zeros(0, np.bool_) if chunk.blocked is None else chunk.blocked
        columns, counts = np.empty((num_rows, _MOST), np.int32), np.empty(num_rows, np.int64)
        with torch_threads():
            shortlist_block(block, (exclude.starts, exclude.columns), blocked, slack, (columns, counts), chunk.k)
        return columns, counts

    def _rank_tile(
        self, queries: Tensor, chunk: Chunk, columns: NDArray[np.int32], counts: NDArray[np.int64]
    ) -> Ranked:
        """Score the shortlists of a few queries together, and rank each query's own."""
        inside = np.arange(columns.shape[1]) < counts[:, None]
        together, place = np.unique(columns[inside], return_inverse=True)
        padding = np.zeros(-len(together) % _TILE, together.dtype)
        wanted = torch.from_numpy(np.concatenate([together, padding]).astype(np.int64))
        scores = product(queries, self._candidates.index_select(0, wanted)).numpy()  # [tile, union + padding]
        row = np.repeat(np.arange(len(counts)), counts)
        own = np.full((len(counts), len(together)), -np.inf, np.float32)
        own[row, place] = scores[row, place]
        part = Chunk(chunk.queries, chunk.k, chunk.ties[together], None, None, None)
        found = rank_fused(own, part)
        return Ranked(together[found.rows].astype(np.int64), found.scores, None)


def _lengths(vectors: Tensor) -> NDArray[np.float32]:
    """``[rows]`` Euclidean lengths, never too short."""
    lengths = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64)
    return (lengths * _SAFE).float().numpy()

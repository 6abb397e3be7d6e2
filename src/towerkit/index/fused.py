"""Ranking a block of scores with a compiled kernel: mask, threshold, select and count in one look at each row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from towerkit.index.chunk import Chunk, Pairs, Ranked, no_number

_NONE = np.zeros(0, np.bool_)
_FEWEST_QUERIES = 64
_FEWEST_SCORES = 2**22
"""Ranking so many the plain way takes about as long as loading a compiled kernel."""


def rank_fused(block: NDArray[np.float32], chunk: Chunk) -> Ranked:
    """The same as :func:`towerkit.index.plain.rank_plainly`, bit for bit.

    Args:
        block: ``[rows, candidates]``; overwritten.
        chunk: What is asked.

    Raises:
        RunError: If a score that could be ranked is not a number.
    """
    from towerkit.kernels.compiled import torch_threads  # Numba is slow to import, and small problems never need it
    from towerkit.kernels.topk import rank_block

    (num_rows, width), k = block.shape, chunk.k
    flat, stride = _flat(block)
    exclude, positives = (pairs or Pairs.empty(num_rows) for pairs in (chunk.exclude, chunk.positives))
    blocked = _NONE if chunk.blocked is None else chunk.blocked
    rows, scores = np.empty((num_rows, k), np.int64), np.empty((num_rows, k), np.float32)
    wrong, negatives = np.empty(num_rows, np.int64), np.zeros(num_rows, np.int64)
    below = np.zeros(len(positives.own), np.int64)
    with torch_threads():
        rank_block(
            flat,
            stride,
            width,
            (exclude.starts, exclude.columns),
            blocked,
            chunk.ties,
            (rows, scores, wrong),
            (positives.starts, positives.columns),
            (below, negatives),
        )
    bad = np.flatnonzero(wrong >= 0)
    if len(bad):
        raise no_number(int(chunk.queries[bad[0]]), int(wrong[bad[0]]))
    return Ranked(rows, scores, None if chunk.positives is None else _shares(below, negatives[positives.owner]))


def is_worth_compiling(num_queries: int, num_candidates: int) -> bool:
    """Whether a ranking is large enough for a kernel.

    A few queries never are, whatever the catalogue: loading a Run ranks some, and must neither wait for a compiler nor read the
    machine code that it keeps. Nor is anything where Numba may not compile.
    """
    if num_queries < _FEWEST_QUERIES or num_queries * num_candidates < _FEWEST_SCORES:
        return False
    import numba

    return not numba.config.DISABLE_JIT  # type: ignore[attr-defined]


def _flat(block: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """The memory of a block as a vector, and how far its rows are apart: a padded product is not copied."""
    num_rows, width = block.shape
    if block.strides[1] != 4 or block.strides[0] < 4 * width:
        block = np.ascontiguousarray(block)
    stride = block.strides[0] // 4
    return np.lib.stride_tricks.as_strided(block, ((num_rows - 1) * stride + width,), (4,)), stride


def _shares(below: NDArray[np.int64], negatives: NDArray[np.int64]) -> NDArray[np.float64]:
    """From twice the number of negatives below each positive (-1: it may not be ranked) to shares."""
    shares = np.where(negatives > 0, below / 2 / np.maximum(negatives, 1), 0.5)
    return np.where(below >= 0, shares, 0.0)

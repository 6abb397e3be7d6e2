"""The columns with the highest scores of each row of a block, in no order: compiled where there is enough to do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from towerkit.index.chunk import Chunk
from towerkit.index.contract import Floats
from towerkit.index.fused import rank_fused

_WORTH_COMPILING = 2**17
"""Scores; looking through fewer with NumPy takes less time than loading a compiled kernel is worth."""


def highest(block: Floats, count: int) -> NDArray[np.int64]:
    """``[rows, count]`` the columns with the highest scores of each row; equals are chosen among in any way.

    Args:
        block: ``[rows, width]``, minus infinity for "not a candidate".
        count: At most the width.

    Example:
        >>> sorted(highest(np.array([[1.0, 3.0, 2.0]], np.float32), 2)[0].tolist())
        [1, 2]
    """
    width = block.shape[1]
    if count >= width:
        return np.broadcast_to(np.arange(width), block.shape)
    if block.size < _WORTH_COMPILING or not _may_compile():
        return np.argpartition(block, width - count, axis=1)[:, width - count :]
    chunk = Chunk(np.arange(len(block)), count, np.zeros(width, np.int32), None, None, None)
    return np.maximum(
        rank_fused(block, chunk).rows, 0
    )  # -1 stands for a score of minus infinity, and so does any such column


def _may_compile() -> bool:
    import numba  # slow to import, and small indexes never need it

    return not numba.config.DISABLE_JIT  # type: ignore[attr-defined]

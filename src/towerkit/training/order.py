"""The order in which an epoch visits its rows: blocks in a random order, shuffled together a window at a time."""

from __future__ import annotations

import numpy as np

from towerkit.core.random import generator
from towerkit.data.splits import Rows

_BLOCK_ROWS = 4096
"""Rows that stay neighbours until their window is shuffled: one read of the disk brings some of them."""
_LEAST_BLOCKS = 16
"""A small window still holds so many blocks."""


class Order:
    """The rows of an epoch, in their order; any stretch of it can be asked for, and no more than two windows are held.

    Rows are cut into blocks of neighbours. The blocks come in a random order, and as many as fill a window are shuffled row by
    row. Everything is a pure function of seed, epoch and number of rows, so the number of a step says all about what it reads,
    in memory and from a disk alike. Rows that fit one window are simply permuted.

    Args:
        rows: Row numbers in the order of the data, or ``range(n)``.
        seed: Of the training.
        epoch: From 0.
        window_rows: Rows that are shuffled together.

    Example:
        >>> order = Order(range(6), seed=0, epoch=0, window_rows=100)
        >>> sorted(order[:4].tolist() + order[4:].tolist())
        [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, rows: Rows | range, *, seed: int, epoch: int, window_rows: int) -> None:
        self._rows, self._key = rows, (seed, "order", epoch)
        self._block = max(1, min(_BLOCK_ROWS, window_rows // _LEAST_BLOCKS))
        self._blocks_each = max(1, window_rows // self._block)
        self._whole = len(rows) <= window_rows
        num_blocks = 0 if self._whole else -(-len(rows) // self._block)
        self._blocks = generator(*self._key).permutation(num_blocks)
        sizes = np.minimum(self._block, len(rows) - self._blocks * self._block)
        ends = np.concatenate([[0], np.cumsum(sizes)])
        self._starts = np.append(ends[: -1 : self._blocks_each], len(rows)) if num_blocks else np.array([0, len(rows)])
        """Where each window begins, and the end of the last."""
        self._held: tuple[int, Rows] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, part: slice) -> Rows:
        """The rows at some places of the order.

        Args:
            part: A slice with a step of one.
        """
        low, high, step = part.indices(len(self))
        assert step == 1, "an order is read forwards"
        pieces = [np.empty(0, np.int64)]
        while low < high:
            window = int(np.searchsorted(self._starts, low, side="right")) - 1
            start, end = int(self._starts[window]), int(self._starts[window + 1])
            pieces.append(self._window(window)[low - start : min(high, end) - start])
            low = end
        places = np.concatenate(pieces)
        return places if isinstance(self._rows, range) else self._rows[places]

    def _window(self, window: int) -> Rows:
        """``[rows of the window]`` their places in the data."""
        if self._held is None or self._held[0] != window:
            self._held = window, self._shuffled(window)
        return self._held[1]

    def _shuffled(self, window: int) -> Rows:
        if self._whole:
            return generator(*self._key).permutation(len(self))
        first = window * self._blocks_each
        blocks = np.sort(self._blocks[first : first + self._blocks_each])
        places = (blocks[:, None] * self._block + np.arange(self._block)).ravel()  # the last block may be short
        places = places[places < len(self)]
        return generator(*self._key, window).permutation(places)

"""Exact search by way of a shortlist: products of bytes say what can be among the best, and that is scored pair by pair.

A vector in bytes has a 127th of its largest number as its step. How far a score may be off is known: with ``q = q' + dq`` and
``c = c' + dc``, where ``q'`` and ``c'`` are the rounded vectors, ``|q c - q' c'| <= |q'| |dc| + |dq| |c|``, to which comes the
rounding of the score of the pair itself (``dim * 2**-23`` of ``|q| |c|``). What reaches, at the upper end of its bound, the
``k``-th highest lower end is on the shortlist, so that no other candidate can have a place: the answers are those of
:mod:`towerkit.index.scan`, bit for bit. Where a list gets too long, its queries are searched as they are there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from towerkit.index.contract import Floats, Rows
from towerkit.index.keyed import KeyedVectors
from towerkit.index.question import Question
from towerkit.index.scan import search_exactly

_MOST = 512
"""Candidates on a shortlist; a longer one saves nothing."""
_TILE = 64
"""Queries that are compared with a chunk of candidates while it is in the cache."""
_SIDE_BY_SIDE, _STEP, _AT_ONCE = 16, 4, 32
"""How bytes lie: 16 candidates side by side, 4 dimensions of each together; and candidates are compared 32 at a time."""
_FEWEST = 4096
"""Candidates from which on a shortlist is shorter work than all scores."""
_LONG, _FEW = 4, 8
"""A list has so many times as many places as there are answers at least; and one candidate in so many must be usable."""


class Octets:
    """Candidates in bytes, beside the vectors that they are made of.

    Args:
        stored: The candidates, compared by inner products.
    """

    def __init__(self, stored: KeyedVectors) -> None:
        self.stored = stored
        self._room = 0
        from towerkit.kernels.octets import CHUNK, LANES

        self._scores = np.empty((_TILE, CHUNK * LANES), np.float32)
        self._make_room()

    def written(self, rows: Rows) -> None:
        """Take over the vectors of some rows."""
        if self.stored.num_rows > self._room:
            self._make_room()
            return
        vectors = self.stored.vectors[rows]
        octets, scales, lost = rounded(vectors)
        padded = np.zeros((len(rows), self._bytes.shape[1] * _STEP), np.uint8)
        padded[:, : vectors.shape[1]] = (octets.astype(np.int16) + 128).astype(np.uint8)
        group, place = rows // _SIDE_BY_SIDE, rows % _SIDE_BY_SIDE
        self._bytes[group, :, place] = padded.reshape(len(rows), -1, _STEP)
        self._scales[rows], self._lost[rows] = scales, lost
        self._lengths[rows] = lengths_of(vectors)

    def _make_room(self) -> None:
        """Room for a quarter more, and all vectors anew."""
        rows, dim = self.stored.num_rows, self.stored.measure.dim
        room = rows if not self._room else rows + rows // 4
        self._room = room + -room % _AT_ONCE
        steps = -(-dim // _STEP)
        self._bytes = np.full((self._room // _SIDE_BY_SIDE, steps, _SIDE_BY_SIDE, _STEP), 128, np.uint8)
        self._scales = np.zeros(self._room, np.float32)
        self._lost, self._lengths = np.zeros(self._room, np.float32), np.zeros(self._room, np.float32)
        for start in range(0, rows, _FEWEST):
            self.written(np.arange(start, min(start + _FEWEST, rows)))

    def is_shorter(self, asked: Question) -> bool:
        """Whether this is the shorter way: not for long answers, nor where only a few candidates may be answers."""
        return asked.k * _LONG <= _MOST and asked.num_usable * _FEW >= self.stored.num_rows

    def search(self, asked: Question) -> tuple[Rows, Floats]:
        """The best rows of each query and their scores; see :func:`towerkit.index.scan.search_exactly`.

        Args:
            asked: The queries.
        """
        if asked.k and 0 < len(asked.queries) <= _TILE:
            return self._search_tile(asked)
        rows = np.full((len(asked.queries), asked.k), -1, np.int64)
        scores = np.full((len(asked.queries), asked.k), -np.inf, np.float32)
        for start in range(0, len(rows) if asked.k else 0, _TILE):
            places = np.arange(start, min(start + _TILE, len(rows)))
            rows[places], scores[places] = self._search_tile(asked.of(places))
        return rows, scores

    def _search_tile(self, asked: Question) -> tuple[Rows, Floats]:
        columns, counts = self._reaching(asked)
        if counts.min() >= 0:
            return self._ranked(asked, columns, counts)
        rows, scores = np.empty((len(counts), asked.k), np.int64), np.empty((len(counts), asked.k), np.float32)
        long, listed = np.flatnonzero(counts < 0), np.flatnonzero(counts >= 0)
        rows[long], scores[long] = search_exactly(self.stored, asked.of(long))
        if len(listed):
            rows[listed], scores[listed] = self._ranked(asked.of(listed), columns[listed], counts[listed])
        return rows, scores

    def _ranked(self, asked: Question, columns: NDArray[np.int32], counts: NDArray[np.int64]) -> tuple[Rows, Floats]:
        """The same answers as :func:`towerkit.index.scan.ranked` gives."""
        from towerkit.kernels.octets import best_listed

        rows = np.where(np.arange(counts.max()) < counts[:, None], columns[:, : counts.max()], -1).astype(np.int64)
        scores = self.stored.measure.pairs(asked.queries, self.stored.vectors.take(rows, axis=0, mode="wrap"))
        found = np.empty((len(rows), asked.k), np.int64), np.empty((len(rows), asked.k), np.float32)
        best_listed(scores, rows, self.stored.ties, found)
        return found

    def _reaching(self, asked: Question) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The shortlists: ``[queries, most]`` rows, of which the first ``[queries]`` count; -1 where there is no list."""
        from towerkit.kernels.octets import byte_queries, byte_shortlist

        number, width = len(asked.queries), self.stored.num_rows
        queries, weights = byte_queries(asked.queries, self._bytes.shape[1] * _STEP)
        columns, counts = np.empty((number, _MOST), np.int32), np.empty(number, np.int64)
        byte_shortlist(
            (self._bytes, self._scales),
            queries,
            (*weights, self._lost[:width], self._lengths[:width], np.float32(self._smallest)),
            self._taken(asked),
            np.zeros(0, np.bool_) if asked.usable is None else ~asked.usable,
            self._scores[: len(queries[0])],
            (columns, counts),
            asked.k,
        )
        return columns, counts

    @property
    def _smallest(self) -> float:
        """What is lost below the smallest numbers."""
        return self.stored.measure.dim * 2.0**-120

    @staticmethod
    def _taken(asked: Question) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Where the rows that each query may not have begin, and these rows."""
        if asked.exclude is None or not asked.excluded.any():
            return np.zeros(len(asked.queries) + 1, np.int64), np.zeros(0, np.int32)
        starts = np.concatenate([[0], np.cumsum(asked.excluded)])
        return starts, np.concatenate(asked.exclude).astype(np.int32)


def suits(stored: KeyedVectors) -> bool:
    """Whether vectors can be searched so, on this processor; the first call loads Numba.

    Args:
        stored: The candidates.
    """
    if stored.measure.similarity == "euclidean" or stored.num_rows < _FEWEST or stored.longest > 1e15:
        return False
    from towerkit.kernels.octets import has_byte_products

    return has_byte_products()


def rounded(vectors: Floats) -> tuple[NDArray[np.int8], Floats, Floats]:
    """``[rows, dim]`` bytes of vectors, ``[rows]`` what they are multiplied by, and ``[rows]`` the length of what is lost.

    Args:
        vectors: ``[rows, dim]``.

    Example:
        >>> octets, scales, lost = rounded(np.array([[127.0, -63.6]], np.float32))
        >>> octets.tolist(), scales.tolist(), bool(0.4 <= lost[0] < 0.41)
        ([[127, -64]], [1.0], True)
    """
    scales = (np.abs(vectors).max(axis=1, initial=0.0) / 127).astype(np.float32)
    octets = np.rint(vectors / np.where(scales > 0, scales, np.float32(1))[:, None])
    octets = np.clip(octets, -127, 127)
    lost = lengths_of(vectors - octets.astype(np.float64) * scales[:, None])
    return octets.astype(np.int8), scales, lost


def lengths_of(vectors: NDArray[np.floating]) -> Floats:
    """``[rows]`` Euclidean lengths, never too short."""
    from towerkit.kernels.octets import SAFE

    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return np.asarray(np.sqrt(squares) * SAFE, np.float32)

"""An exact index in shards: each holds some of the candidates, and what they find is merged to what one whole index finds.

A score is a function of its two vectors alone, and equals are ordered by the row that a candidate has in the whole, so the hits are
those of the whole index, bit for bit, however the candidates are cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import DataError, ShapeError, SpecError
from towerkit.index.contract import Floats, Index, Key, Rows, Similarity
from towerkit.index.exact import ExactIndex
from towerkit.index.hits import Hits, candidate_tie_order
from towerkit.index.keyed import KeyedVectors, check_keys, check_rows
from towerkit.index.measure import Measure, finite_vectors
from towerkit.index.question import Question, excluded_rows


class ShardVectors(KeyedVectors):
    """The vectors of a shard, whose first row is a later one of the whole.

    Args:
        measure: Of the whole.
        keys: ``[rows]``.
        ready: ``[rows, dim]``, made ready by the measure.
        first: Rows of the whole before it.
    """

    def __init__(self, measure: Measure, keys: Sequence[Key | None], ready: Floats, first: int) -> None:
        super().__init__(measure, keys, ready)
        self.first = first

    @property
    def ties(self) -> NDArray[np.int64]:
        """The place of each row among equals of the whole."""
        return candidate_tie_order(self.first + len(self._vectors))[self.first :]


class ShardedIndex(Index):
    """Shards beside each other; new keys take the row of a deleted one, or go into the last shard.

    Args:
        shards: In the order of their rows, with one measure.
        space: The embedding-space id.

    Example:
        >>> parts = [(["a", "b"], np.array([[1.0, 0.0], [3.0, 0.0]])), (["c"], np.array([[0.0, 1.0]]))]
        >>> index = ShardedIndex.of(parts, "dot")
        >>> index.keys_of(index.search(np.array([[1.0, 5.0]]), k=2).rows[0])
        ['c', 'b']
    """

    kind = "sharded"
    exact = True

    def __init__(self, shards: Sequence[ExactIndex], space: str | None = None) -> None:
        self.shards, self.space = list(shards), space
        self._firsts = [0, *accumulate(each.num_rows for each in self.shards[:-1])]

    @classmethod
    def of(
        cls,
        parts: Sequence[tuple[Sequence[Key], NDArray[np.floating]]],
        similarity: Similarity,
        *,
        space: str | None = None,
    ) -> ShardedIndex:
        """An index with a shard for each part.

        Args:
            parts: Keys and ``[keys, dim]`` vectors of each; no key stands twice.
            similarity: How they are compared.
            space: The embedding-space id.

        Raises:
            DataError: If a key stands twice.
            ShapeError: If there is no part, or one does not have a vector of one width for each key.
        """
        measure = measure_of(similarity, [vectors for _, vectors in parts])
        times = Counter(key for keys, _ in parts for key in keys)
        if times and max(times.values()) > 1:
            key = times.most_common(1)[0][0]
            raise DataError(f"Each key of an index has one vector; {key!r} stands twice. Keep one of them.")
        shards, first = [], 0
        for keys, vectors in parts:
            shards.append(shard_of(measure, keys, vectors, first))
            first += len(keys)
        return cls(shards, space)

    @property
    def similarity(self) -> Similarity:
        """How a query and a candidate are compared."""
        return self.shards[0].similarity

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.shards[0].dim

    @property
    def num_rows(self) -> int:
        """Rows ever given to keys."""
        return sum(each.num_rows for each in self.shards)

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def search(
        self,
        queries: NDArray[np.floating],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        exclude: Sequence[Rows] | None = None,
    ) -> Hits:
        """The best candidates of each query; see :meth:`towerkit.index.contract.Index.search`."""
        if allowed is not None and np.shape(allowed) != (self.num_rows,):
            raise ShapeError(
                f"allowed must be one bool per row of the index, here ({self.num_rows},); received {np.shape(allowed)}. Make it a "
                "mask of num_rows, not a list of rows."
            )
        usable = self._used if allowed is None else self._used & allowed
        lists = None if exclude is None else excluded_rows(exclude, len(queries), self.num_rows, usable)
        found = []
        for first, shard in zip(self._firsts, self.shards, strict=True):
            own = slice(first, first + shard.num_rows)
            taken = None if lists is None else [each[(each >= own.start) & (each < own.stop)] - first for each in lists]
            found.append(shard.search(queries, k, allowed=None if allowed is None else allowed[own], exclude=taken))
        rows, scores = merged(found, self._firsts, k)
        asked = Question(np.asarray(queries), k, usable, int(np.count_nonzero(usable)), lists)
        counts = np.count_nonzero(rows >= 0, axis=1)
        return Hits(rows, scores, counts, reason=asked.reason(k, len(self), chosen=allowed is not None))

    def upsert(self, keys: Sequence[Key], vectors: NDArray[np.floating]) -> Rows:
        """Put vectors under keys; see :meth:`towerkit.index.contract.Index.upsert`."""
        array = finite_vectors("candidate", vectors)
        if len(keys) != len(array) or array.shape[1] != self.dim:
            raise ShapeError(
                f"Each key needs one vector of width {self.dim}; received {len(keys):,} keys and vectors of shape {array.shape}."
            )
        check_keys(keys, next((key for each in self.shards for key in each.stored.keys if key is not None), None))
        places = self._shards_of(keys)
        for number in np.unique(places):
            own = np.flatnonzero(places == number)
            self.shards[number].upsert([keys[place] for place in own.tolist()], array[own])
        return self.rows_of(keys)

    def delete(self, keys: Sequence[Key]) -> int:
        """Take keys out; see :meth:`towerkit.index.contract.Index.delete`."""
        return sum(each.delete(keys) for each in self.shards)

    def rows_of(self, keys: Sequence[Key]) -> Rows:
        """``[keys]`` the row of each key; -1 where it is not there."""
        found = np.full(len(keys), -1, np.int64)
        for first, shard in zip(self._firsts, self.shards, strict=True):
            own = shard.rows_of(keys)
            found = np.where(own >= 0, own + first, found)
        return found

    def keys_of(self, rows: Rows) -> list[Key]:
        """The key of each row; see :meth:`towerkit.index.contract.Index.keys_of`."""
        return [self.shards[shard].keys_of(np.array([row]))[0] for shard, row in self._places_of(rows)]

    def vectors_of(self, rows: Rows) -> Floats:
        """``[rows, dim]`` the vectors as they are compared."""
        found = [self.shards[shard].vectors_of(np.array([row])) for shard, row in self._places_of(rows)]
        return np.concatenate([np.empty((0, self.dim), np.float32), *found])

    def _places_of(self, rows: Rows) -> list[tuple[int, int]]:
        """The shard of each row, and its row there.

        Raises:
            DataError: If a row holds no key.
        """
        rows = check_rows(rows, self._used)
        shards = np.searchsorted(self._firsts, rows, side="right") - 1
        return [(int(shard), int(row) - self._firsts[shard]) for shard, row in zip(shards, rows, strict=True)]

    @property
    def _used(self) -> NDArray[np.bool_]:
        return np.concatenate([each.stored.used for each in self.shards])

    def _shards_of(self, keys: Sequence[Key]) -> Rows:
        """``[keys]`` where each is, or will be."""
        free = [each.num_rows - len(each) for each in self.shards]
        found = np.full(len(keys), -1, np.int64)
        for number, shard in enumerate(self.shards):
            found[shard.rows_of(keys) >= 0] = number
        new: dict[Key, int] = {}
        for place in np.flatnonzero(found < 0).tolist():
            key = keys[place]
            if key not in new:
                new[key] = next((number for number, rows in enumerate(free) if rows), len(self.shards) - 1)
                free[new[key]] = max(free[new[key]] - 1, 0)
            found[place] = new[key]
        return found


def measure_of(similarity: Similarity, parts: Sequence[NDArray[np.floating]]) -> Measure:
    """How all parts are compared; a distance from their common center.

    Args:
        similarity: How.
        parts: ``[rows, dim]`` each.

    Raises:
        ShapeError: If there is none, or they differ in width.
        SpecError: If the similarity is unknown.
    """
    widths = {part.shape[1] for part in parts}
    if len(widths) != 1:
        raise ShapeError(
            f"The shards of an index have one width; received {sorted(widths)}. Give vectors of one model, one part or more."
        )
    found = Measure.of(similarity, np.zeros((1, widths.pop()), np.float32))
    rows = sum(map(len, parts))
    if similarity != "euclidean" or not rows:
        return found
    center = sum(part.sum(axis=0, dtype=np.float64) for part in parts) / rows
    return Measure(similarity, np.asarray(center, np.float32))


def shard_of(measure: Measure, keys: Sequence[Key], vectors: NDArray[np.floating], first: int) -> ExactIndex:
    """A shard, to be searched here or elsewhere.

    Args:
        measure: Of the whole.
        keys: Of its rows.
        vectors: ``[keys, dim]`` raw.
        first: Rows of the whole before it.
    """
    return ExactIndex(ShardVectors(measure, keys, measure.ready("candidate", vectors), first))


def merged(found: Sequence[Hits], firsts: Sequence[int], k: int) -> tuple[Rows, Floats]:
    """The best of what shards found.

    Args:
        found: Of each shard, the same queries.
        firsts: Rows of the whole before each.
        k: How many, at most as many as each shard was asked for.

    Returns:
        ``[queries, k]`` rows of the whole, best first, equals by tie order, -1 where there is none; and their scores.

    Raises:
        SpecError: If ``k`` is below 1.
    """
    if k < 1:
        raise SpecError(f"k must be a whole number of at least 1; received {k!r}. Ask for one or more.")
    rows = np.concatenate(
        [np.where(each.rows >= 0, each.rows + first, -1) for each, first in zip(found, firsts, strict=True)], axis=1
    )
    scores = np.concatenate([each.scores for each in found], axis=1)
    ties = candidate_tie_order(int(rows.max(initial=0)) + 1)
    order = np.lexsort((ties[rows], -scores), axis=-1)[:, :k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)

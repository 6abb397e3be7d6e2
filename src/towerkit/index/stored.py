"""What all indexes here share: float32 vectors under keys, checked questions, and answers in one order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.index.contract import Floats, Index, Key, Rows, Similarity
from towerkit.index.hits import Hits
from towerkit.index.keyed import KeyedVectors
from towerkit.index.measure import Measure, finite_vectors
from towerkit.index.question import Question, question_of


class StoredIndex(Index):
    """An index that keeps the vectors themselves; a subclass says how it finds the best of them.

    Args:
        stored: Keys and vectors.
        space: The embedding-space id.
    """

    def __init__(self, stored: KeyedVectors, space: str | None = None) -> None:
        self.stored, self.space = stored, space

    @abstractmethod
    def _found(self, asked: Question) -> tuple[Rows, Floats]:
        """``[queries, k]`` rows, best first, -1 where there is none; and their scores, then minus infinity."""

    def _written(self, rows: Rows) -> None:
        """Called when rows have new vectors."""

    def _removed(self, rows: Rows) -> None:
        """Called when rows have become empty."""

    @property
    def similarity(self) -> Similarity:
        """How a query and a candidate are compared."""
        return self.stored.measure.similarity

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.stored.measure.dim

    @property
    def num_rows(self) -> int:
        """Rows ever given to keys."""
        return self.stored.num_rows

    def __len__(self) -> int:
        return len(self.stored)

    def search(
        self,
        queries: NDArray[np.floating],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        exclude: Sequence[Rows] | None = None,
    ) -> Hits:
        """The best candidates of each query; see :meth:`towerkit.index.contract.Index.search`."""
        asked = question_of(self.stored, queries, k, allowed, exclude)
        rows, scores = self._found(asked)
        if asked.k < k:
            spare = ((0, 0), (0, k - asked.k))
            rows, scores = np.pad(rows, spare, constant_values=-1), np.pad(scores, spare, constant_values=-np.inf)
        counts = np.count_nonzero(rows >= 0, axis=1)
        return Hits(rows, scores, counts, reason=asked.reason(k, len(self), chosen=allowed is not None))

    def upsert(self, keys: Sequence[Key], vectors: NDArray[np.floating]) -> Rows:
        """Put vectors under keys; see :meth:`towerkit.index.contract.Index.upsert`."""
        rows = self.stored.put(keys, self.stored.measure.ready("candidate", vectors))
        self._written(np.unique(rows))
        return rows

    def delete(self, keys: Sequence[Key]) -> int:
        """Take keys out; see :meth:`towerkit.index.contract.Index.delete`."""
        rows = self.stored.remove(keys)
        self._removed(rows)
        return len(rows)

    def rows_of(self, keys: Sequence[Key]) -> Rows:
        """``[keys]`` the row of each key; -1 where it is not there."""
        return self.stored.rows_of(keys)

    def keys_of(self, rows: Rows) -> list[Key]:
        """The key of each row; see :meth:`towerkit.index.contract.Index.keys_of`."""
        return self.stored.keys_of(rows)

    def vectors_of(self, rows: Rows) -> Floats:
        """``[rows, dim]`` the vectors as they are compared."""
        return self.stored.measure.raw(self.stored.vectors[self.stored.check_rows(rows)])


def keyed_vectors(keys: Sequence[Key], vectors: NDArray[np.floating], similarity: Similarity) -> KeyedVectors:
    """Raw vectors under distinct keys, ready to be compared.

    Args:
        keys: Distinct texts, whole numbers or bytes.
        vectors: ``[keys, dim]``.
        similarity: How they are compared.

    Raises:
        DataError: If a key stands twice, or keys are of several types.
        ShapeError: If there is not one vector for each key.
        SpecError: If the similarity is unknown.
        RunError: If a vector is not finite.
    """
    if len(set(keys)) < len(keys):
        seen: set[Key] = set()
        for key in keys:
            if key in seen:
                raise DataError(f"Each key of an index has one vector; {key!r} stands twice. Keep one of them.")
            seen.add(key)
    array = finite_vectors("candidate", vectors)
    measure = Measure.of(similarity, array)
    return KeyedVectors(measure, keys, measure.ready("candidate", array))

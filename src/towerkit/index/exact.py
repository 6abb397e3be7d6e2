"""The exact index: what every other one is measured against, and what it falls back on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from towerkit.index.contract import Floats, Key, Rows, Similarity
from towerkit.index.octets import Octets, suits
from towerkit.index.question import Question
from towerkit.index.scan import search_exactly
from towerkit.index.stored import StoredIndex, keyed_vectors


class ExactIndex(StoredIndex):
    """Compares every candidate; writing a vector costs O(dim).

    Args:
        stored: Keys and vectors.
        space: The embedding-space id.

    Example:
        >>> index = ExactIndex.of(["a", "b", "c"], np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), "dot")
        >>> hits = index.search(np.array([[1.0, 0.5]]), k=2)
        >>> index.keys_of(hits.rows[0]), hits.scores[0].tolist()
        (['b', 'a'], [3.0, 1.0])
        >>> index.search(np.array([[1.0, 0.5]]), k=4).reason
        'Fewer than the 4 hits asked for, the fewest 3: the index holds 3.'
    """

    kind = "exact"
    exact = True
    _octets: Octets | None = None

    @classmethod
    def of(
        cls, keys: Sequence[Key], vectors: NDArray[np.floating], similarity: Similarity, *, space: str | None = None
    ) -> ExactIndex:
        """An index of raw vectors; see :func:`towerkit.index.stored.keyed_vectors`.

        Args:
            keys: Distinct texts, whole numbers or bytes.
            vectors: ``[keys, dim]``.
            similarity: How they are compared.
            space: The embedding-space id.
        """
        return cls(keyed_vectors(keys, vectors, similarity), space)

    def hasten(self) -> None:
        """Get ready for many searches: the same answers in less time, where the processor can; for a quarter more memory."""
        if self._octets is None and suits(self.stored):
            self._octets = Octets(self.stored)

    def _found(self, asked: Question) -> tuple[Rows, Floats]:
        if self._octets is None or not self._octets.is_shorter(asked):
            return search_exactly(self.stored, asked)
        return self._octets.search(asked)

    def _written(self, rows: Rows) -> None:
        if self._octets is not None:
            self._octets.written(rows)

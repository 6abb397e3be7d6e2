"""What every index keeps: candidate vectors under keys, searched by a query vector.

An index of one sort is exchanged for another without a change to whoever asks. The sorts are in :mod:`towerkit.index.exact`,
:mod:`towerkit.index.faiss_index` and :mod:`towerkit.index.milvus_index`; one of your own inherits :class:`Index`, and
:class:`towerkit.testing.indexes.IndexContract` says whether it keeps what stands here.

**Rows.** Each key has a row, a small whole number that stays the same while the key is there, whatever is written beside it. A new
index numbers its keys from 0 in the order given; a key that comes later takes the row of a deleted one, or the next. Masks and
hits are in rows.

**Threads.** One thread at a time: kernels of Numba must not be entered twice at once, and a search must not meet half an
:meth:`Index.upsert`. A server gives each process one worker thread that searches and writes. Nothing is searched in a process
forked after the first search (OpenMP does not survive a fork): start processes by ``spawn`` or ``forkserver``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from towerkit.index.hits import Hits

Similarity = Literal["dot", "cosine", "euclidean"]
Key: TypeAlias = str | int | bytes
Floats: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = NDArray[np.int64]


class Index(ABC):
    """Candidate vectors, searchable; see the rules of the module.

    Attributes:
        kind: The sort of index, as in a spec.
        exact: Whether every candidate is scored. An approximate index may miss some; it says so, and its recall is measured.
        space: The embedding-space id of the Run that made the vectors; None where nobody knows who made them.
    """

    kind: str
    exact: bool
    space: str | None

    @property
    @abstractmethod
    def similarity(self) -> Similarity:
        """``dot``; ``cosine``, where a zero vector scores 0; or ``euclidean``, the negative squared distance."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width of the vectors."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Rows ever given to keys, those of deleted ones included: the length of a mask."""

    @abstractmethod
    def __len__(self) -> int:
        """How many candidates can be found."""

    @abstractmethod
    def search(
        self,
        queries: NDArray[np.floating],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        exclude: Sequence[Rows] | None = None,
    ) -> Hits:
        """The best candidates of each query that may be answers, each once.

        Args:
            queries: ``[queries, dim]``; for a cosine of any length.
            k: How many; more than there are candidates is all of them.
            allowed: ``[num_rows]``; False takes a candidate away from all queries.
            exclude: ``[queries]`` arrays of rows that the query may not have; -1 is nobody's row and is skipped.

        Returns:
            The hits, ordered by score, equals by :func:`towerkit.index.hits.candidate_tie_order` of their rows. A query has ``k``
            of them unless fewer candidates may be its answers, also of an approximate index: where its own search finds too few,
            the rest is searched exactly. ``reason`` says why there are fewer.

        Raises:
            SpecError: If ``k`` is below 1.
            ShapeError: If the queries do not have the width of the index, or a mask or list does not fit.
            RunError: If a query vector is not finite.
        """

    @abstractmethod
    def upsert(self, keys: Sequence[Key], vectors: NDArray[np.floating]) -> Rows:
        """Put vectors under keys; a key that is there gets the new vector. All of them or, if an error is raised, none.

        Args:
            keys: Of one type, that of the keys that are there; the last vector of a key that stands twice holds.
            vectors: ``[keys, dim]``.

        Returns:
            The row of each key.

        Raises:
            DataError: If a key is of another type.
            ShapeError: If there is not one vector of the right width for each key.
            RunError: If a vector is not finite.
        """

    @abstractmethod
    def delete(self, keys: Sequence[Key]) -> int:
        """Take keys out: no search finds them from now on. A key that is not there is skipped.

        Returns:
            How many were there.
        """

    @abstractmethod
    def rows_of(self, keys: Sequence[Key]) -> Rows:
        """``[keys]`` the row of each key; -1 where it is not there."""

    @abstractmethod
    def keys_of(self, rows: Rows) -> list[Key]:
        """The key of each row that holds one, such as the rows of hits.

        Raises:
            DataError: If a row holds none.
        """

    @abstractmethod
    def vectors_of(self, rows: Rows) -> Floats:
        """``[rows, dim]`` the vectors as they are compared: of a cosine at length one.

        Raises:
            DataError: If a row holds none.
        """

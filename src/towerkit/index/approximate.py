"""What approximate indexes share: a library proposes candidates, and everything that must hold does not depend on it.

The library is asked for more than ``k`` where some of what it proposes may not be an answer, and its proposals are scored pair by
pair, so that scores and order are those of an exact search. A query that is left with too few, because a condition suits few
candidates or the library found few, is searched exactly. So ``k`` hits are never fewer than there are; only *which* they are is
approximate, and that is measured as recall.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from towerkit.index.contract import Floats, Rows
from towerkit.index.keyed import KeyedVectors
from towerkit.index.question import Question
from towerkit.index.scan import ranked, search_exactly
from towerkit.index.stored import StoredIndex

_MOST = 2048
"""Proposals for a query; where a condition asks for more, an exact search of what suits it is as fast."""
_SPARE = 1.25
"""Proposals for each one that is expected to be usable: those near a query suit a condition more or less often than all do."""


class ApproximateIndex(StoredIndex):
    """Proposals by a library, checked and ordered here. What was written gets a new *label* there; the old one is nobody's.

    Args:
        stored: Keys and vectors.
        labels: ``[labels]`` the row of each; -1 for one whose row is gone or has a newer one.
        space: The embedding-space id.
        refine: Proposals asked for each hit: more than 1 where the library keeps vectors in fewer bits.
    """

    exact = False

    def __init__(self, stored: KeyedVectors, labels: Rows, space: str | None, *, refine: int = 1) -> None:
        super().__init__(stored, space)
        self.refine = refine
        self._rows, self.num_labels = labels.copy(), len(labels)
        self._label = np.full(stored.num_rows, -1, np.int64)
        live = np.flatnonzero(labels >= 0)
        self._label[labels[live]] = live

    @abstractmethod
    def _nearest(self, queries: Floats, count: int) -> NDArray[np.int64]:
        """``[queries, count]`` labels that the library proposes; -1 where it has none.

        Args:
            queries: ``[queries, dim]``, ready.
            count: At most the number of labels.
        """

    @abstractmethod
    def _add(self, ready: Floats) -> None:
        """Give vectors to the library, under the labels that follow; ``[n, dim]``, ready."""

    @property
    def labels(self) -> Rows:
        """``[labels]`` the row of each, -1 for nobody's."""
        return self._rows[: self.num_labels]

    def _found(self, asked: Question) -> tuple[Rows, Floats]:
        count = self._proposals(asked)
        if count == 0:
            return search_exactly(self.stored, asked)
        proposed = self._nearest(asked.queries, count)
        rows = self._usable(asked, proposed)
        found, scores = ranked(self.stored, asked.queries, rows, asked.k)
        short = np.flatnonzero(np.count_nonzero(found >= 0, axis=1) < asked.wanted)
        if len(short):
            found[short], scores[short] = search_exactly(self.stored, asked.of(short))
        return found, scores

    def _proposals(self, asked: Question) -> int:
        """How many to ask the library for; 0 where an exact search is the better one."""
        if asked.k == 0 or not len(asked.queries):
            return 0
        count = asked.k * self.refine
        if asked.num_usable < self.num_labels:
            count = int(np.ceil(count * _SPARE * self.num_labels / asked.num_usable))
        count += int(asked.excluded.max(initial=0))
        return 0 if count > min(_MOST, self.num_labels) else count

    def _usable(self, asked: Question, proposed: NDArray[np.int64]) -> Rows:
        """``[queries, count]`` the rows of labels, -1 where the row is gone or no answer to the query."""
        rows = np.where(proposed >= 0, self._rows[proposed], -1) if (proposed < 0).any() else self._rows[proposed]
        if asked.usable is not None:
            rows = np.where((rows >= 0) & asked.usable[rows], rows, -1)
        owner, excluded = asked.pairs()
        if len(excluded):
            taken = owner * self.num_rows + excluded
            cells = np.arange(len(rows))[:, None] * self.num_rows + rows
            rows = np.where(np.isin(cells, taken) & (rows >= 0), -1, rows)
        return rows

    def _written(self, rows: Rows) -> None:
        if len(self._label) < self.num_rows:
            self._label = _longer(self._label, self.num_rows)
        self._removed(rows)
        stop = self.num_labels + len(rows)
        if len(self._rows) < stop:
            self._rows = _longer(self._rows, stop)
        self._add(self.stored.vectors[rows])
        self._rows[self.num_labels : stop], self._label[rows] = rows, np.arange(self.num_labels, stop)
        self.num_labels = stop

    def _removed(self, rows: Rows) -> None:
        old = self._label[rows]
        self._rows[old[old >= 0]], self._label[rows] = -1, -1


def _longer(values: Rows, length: int) -> Rows:
    """The same with room for twice as many, or for ``length``; -1 in what is new."""
    longer = np.full(max(length, 2 * len(values)), -1, np.int64)
    longer[: len(values)] = values
    return longer

"""What is asked of one block of scores, and what its ranking gives; two ways of ranking a block share it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import RunError

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Pairs:
    """Columns named for each row of a block, as flat arrays that all chunks of a ranking share.

    Example:
        >>> from scipy.sparse import csr_array
        >>> pairs = Pairs.of(csr_array(np.array([[0, 1], [1, 1], [1, 0]])))
        >>> pairs.part(1, 3).owner.tolist(), pairs.part(1, 3).own.tolist()
        ([0, 0, 1], [0, 1, 0])
    """

    starts: NDArray[np.int64]
    """``[rows + 1]`` where the columns of each row begin."""
    columns: NDArray[np.int32]
    """Those of all rows of the ranking."""

    @classmethod
    def of(cls, matrix: csr_array) -> Pairs:
        """Every stored entry, whatever its value."""
        columns = np.require(matrix.indices, np.int32, ["C", "W"])  # a kernel is compiled for one kind of array
        return cls(matrix.indptr.astype(np.int64), columns)

    @classmethod
    def empty(cls, num_rows: int) -> Pairs:
        """No columns."""
        return cls(np.zeros(num_rows + 1, np.int64), np.zeros(0, np.int32))

    def part(self, start: int, stop: int) -> Pairs:
        """Those of some rows."""
        return Pairs(self.starts[start : stop + 1], self.columns)

    @property
    def owner(self) -> NDArray[np.int64]:
        """The row of each column, from 0."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @property
    def own(self) -> NDArray[np.int32]:
        """The columns of these rows."""
        return self.columns[self.starts[0] : self.starts[-1]]


@dataclass(frozen=True)
class Chunk:
    """What is asked of one block of scores."""

    queries: NDArray[np.int64]
    """``[rows]``, for messages."""
    k: int
    """At most the number of candidates."""
    ties: NDArray[np.int32]
    """``[candidates]`` place of each candidate among equals."""
    exclude: Pairs | None
    blocked: NDArray[np.bool_] | None
    """``[candidates]`` True where no query may have the candidate."""
    positives: Pairs | None

    def part(self, start: int, stop: int) -> Chunk:
        """What is asked of some rows."""
        exclude, positives = (pairs and pairs.part(start, stop) for pairs in (self.exclude, self.positives))
        return replace(self, queries=self.queries[start:stop], exclude=exclude, positives=positives)


class Ranked(NamedTuple):
    """The ranking of a block."""

    rows: NDArray[np.int64]
    """``[rows, k]`` candidates, best first; anything where the score is minus infinity."""
    scores: NDArray[np.float32]
    """``[rows, k]``, minus infinity where there is no candidate."""
    beaten: NDArray[np.float64] | None
    """Of each positive, as :func:`towerkit.index.beaten.beaten` says; None where nobody asked."""


def no_number(query: int, candidate: int) -> RunError:
    """A score that is NaN."""
    return RunError(
        f"Every score must be a number; query row {query} and candidate row {candidate} "
        "score NaN. The training probably diverged: lower its learning rate, or look for NaN in the features."
    )

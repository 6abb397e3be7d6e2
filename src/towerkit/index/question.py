"""What an index is asked, checked once: queries made ready, and which rows may be no answer to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import ShapeError, SpecError
from towerkit.index.contract import Floats, Rows
from towerkit.index.keyed import KeyedVectors


@dataclass(frozen=True, eq=False)
class Question:
    """Queries, and the rows that may be answers to all and to each of them."""

    queries: Floats
    """``[queries, dim]``, ready."""
    k: int
    """At most the number of rows that may be answers to any."""
    usable: NDArray[np.bool_] | None
    """``[num_rows]`` False where no query may have the row; None where all may."""
    num_usable: int
    exclude: Sequence[Rows] | None
    """``[queries]`` distinct usable rows that each may not have."""

    @cached_property
    def excluded(self) -> NDArray[np.int64]:
        """``[queries]`` how many."""
        if self.exclude is None:
            return np.zeros(len(self.queries), np.int64)
        return np.array([len(rows) for rows in self.exclude], np.int64)

    @property
    def wanted(self) -> NDArray[np.int64]:
        """``[queries]`` hits that each must have."""
        return np.minimum(self.k, self.num_usable - self.excluded)

    def of(self, places: NDArray[np.int64]) -> Question:
        """What is asked of some of the queries."""
        exclude = None if self.exclude is None else [self.exclude[place] for place in places.tolist()]
        return replace(self, queries=self.queries[places], exclude=exclude)

    def pairs(self) -> tuple[NDArray[np.int64], Rows]:
        """The query and the row of each exclusion."""
        if self.exclude is None or not len(self.queries):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return np.repeat(np.arange(len(self.queries)), self.excluded), np.concatenate(self.exclude)

    def reason(self, k: int, num_held: int, *, chosen: bool) -> str | None:
        """Why a query has fewer than ``k`` hits; None where none has.

        Args:
            k: Asked for.
            num_held: Candidates of the index.
            chosen: Whether a mask was given.
        """
        fewest = int(self.wanted.min(initial=k))
        if fewest >= k:
            return None
        parts = [f"the index holds {num_held:,}"]
        if chosen:
            parts.append(f"allowed leaves {self.num_usable:,}")
        if self.excluded.any():
            parts.append(f"exclude takes up to {int(self.excluded.max()):,} more from a query")
        return f"Fewer than the {k:,} hits asked for, the fewest {fewest:,}: {'; '.join(parts)}."


def question_of(
    stored: KeyedVectors,
    queries: NDArray[np.floating],
    k: int,
    allowed: NDArray[np.bool_] | None,
    exclude: Sequence[Rows] | None,
) -> Question:
    """Check what was asked; see :meth:`towerkit.index.contract.Index.search`.

    Args:
        stored: The candidates.
        queries: ``[queries, dim]`` raw.
        k: How many.
        allowed: ``[num_rows]``.
        exclude: ``[queries]`` lists of rows.

    Raises:
        SpecError: If ``k`` is below 1.
        ShapeError: If something does not fit.
        RunError: If a query is not finite.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise SpecError(f"k must be a whole number of at least 1; received {k!r}. Ask for one or more.")
    ready = stored.measure.ready("query", queries)
    usable = None if len(stored) == stored.num_rows else stored.used
    if allowed is not None:
        allowed = np.asarray(allowed)
        if allowed.shape != (stored.num_rows,) or allowed.dtype != np.bool_:
            raise ShapeError(
                f"allowed must be one bool per row of the index, here ({stored.num_rows},); received {allowed.shape} of "
                f"{allowed.dtype}. Make it a mask of num_rows, not a list of rows."
            )
        usable = allowed if usable is None else usable & allowed
    num_usable = stored.num_rows if usable is None else int(np.count_nonzero(usable))
    lists = None if exclude is None else excluded_rows(exclude, len(ready), stored.num_rows, usable)
    return Question(ready, min(int(k), num_usable), usable, num_usable, lists)


def excluded_rows(
    exclude: Sequence[Rows], num_queries: int, num_rows: int, usable: NDArray[np.bool_] | None
) -> list[Rows]:
    """The rows that each query may not have but could, each once.

    Args:
        exclude: ``[queries]`` lists of rows.
        num_queries: How many lists there must be.
        num_rows: Of the index.
        usable: ``[num_rows]``; all when not given.

    Raises:
        ShapeError: If there are more or fewer lists, or one names a row that there is not.
    """
    if len(exclude) != num_queries:
        raise ShapeError(
            f"exclude must be one list of rows per query, here {num_queries}; received {len(exclude)}. Give an empty array to "
            "a query that may have all."
        )
    lists = [np.asarray(given, dtype=np.int64).ravel() for given in exclude]
    if not _each_in_order(lists, num_rows):
        lists = [_in_order(rows, num_rows) for rows in lists]
    return lists if usable is None else [rows[usable[rows]] for rows in lists]


def _each_in_order(lists: Sequence[Rows], num_rows: int) -> bool:
    """Whether each list names rows that there are, rising: then it stays as it is, as those of a Run's own pairs do."""
    together = np.concatenate(lists) if len(lists) else np.empty(0, np.int64)
    if not len(together):
        return True
    if together.min() < 0 or together.max() >= num_rows:
        return False
    falls = np.flatnonzero(together[1:] <= together[:-1]) + 1  # at the beginning of a list it may
    return bool(np.isin(falls, np.cumsum([len(rows) for rows in lists])).all())


def _in_order(given: Rows, num_rows: int) -> Rows:
    """The rows of a list, each once, without the row of nobody."""
    rows = np.unique(given)
    if len(rows) and (rows[0] < -1 or rows[-1] >= num_rows):
        wrong = rows[-1] if rows[-1] >= num_rows else rows[0]
        raise ShapeError(
            f"exclude names row {wrong}; the rows of this index are 0 to {num_rows - 1:,} (-1 is skipped)."
        )
    return rows[np.searchsorted(rows, 0) :]

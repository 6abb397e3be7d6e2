"""Vectors under keys, in rows that stay where they are: what every index here stands on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import DataError, ShapeError
from towerkit.index.contract import Floats, Key, Rows
from towerkit.index.hits import candidate_tie_order
from towerkit.index.measure import Measure, squared_lengths

_SMALLEST = 16
"""Rows that are made room for at least."""


class KeyedVectors:
    """Rows of vectors with a key each; writing one costs O(dim), the doubling of the room included.

    Args:
        measure: How they are compared.
        keys: ``[rows]``; None for a row that is empty.
        ready: ``[rows, dim]``, made ready by the measure; it is kept, not copied.

    Attributes:
        measure: See above.
        num_rows: Rows ever given to keys.
    """

    def __init__(self, measure: Measure, keys: Sequence[Key | None], ready: Floats) -> None:
        self.measure, self.num_rows = measure, len(keys)
        self._keys: list[Key | None] = list(keys)
        self._vectors = ready
        self._squares = squared_lengths(ready)
        self._used = np.array([key is not None for key in self._keys], bool)
        self._free = [row for row, used in enumerate(self._used) if not used] if not self._used.all() else []
        self._longest = float(self._squares.max(initial=0.0))
        if len(keys) != len(ready):
            raise ShapeError(f"Each key needs one vector; received {len(keys):,} keys and {len(ready):,} vectors.")
        check_keys([key for key in self._keys if key is not None], None)

    def __len__(self) -> int:
        return self.num_rows - len(self._free)

    @cached_property
    def _row(self) -> dict[Key, int]:
        """Made when a key is first asked for: a server that only searches never does."""
        return {key: row for row, key in enumerate(self._keys) if key is not None}

    @property
    def vectors(self) -> Floats:
        """``[num_rows, dim]`` ready; those of empty rows are anything."""
        return self._vectors[: self.num_rows]

    @property
    def squares(self) -> Floats:
        """``[num_rows]`` squared lengths."""
        return self._squares[: self.num_rows]

    @property
    def used(self) -> NDArray[np.bool_]:
        """``[num_rows]`` whether a row has a key."""
        return self._used[: self.num_rows]

    @property
    def longest(self) -> float:
        """Length of the longest vector there ever was."""
        return float(np.sqrt(self._longest) * 1.001)

    @property
    def keys(self) -> list[Key | None]:
        """``[num_rows]``."""
        return list(self._keys)

    @property
    def ties(self) -> NDArray[np.int64]:
        """``[num_rows or more]`` the place of each row among equals; made anew only when the room doubles."""
        return candidate_tie_order(len(self._vectors))

    def put(self, keys: Sequence[Key], ready: Floats) -> Rows:
        """``[keys]`` the row of each, new ones in the first free rows; see :meth:`towerkit.index.contract.Index.upsert`.

        Args:
            keys: Of the type of those that are there.
            ready: ``[keys, dim]``.

        Raises:
            DataError: If a key is of another type.
            ShapeError: If there is not one vector for each key.
        """
        if len(keys) != len(ready):
            raise ShapeError(f"Each key needs one vector; received {len(keys):,} keys and {len(ready):,} vectors.")
        check_keys(keys, next((key for key in self._keys if key is not None), None))
        rows = np.empty(len(keys), np.int64)
        for place, key in enumerate(keys):
            row = self._row.get(key)
            if row is None:
                row = self._row[key] = self._new_row(key)
            rows[place] = row
        squares = squared_lengths(ready)
        for place, row in enumerate(rows.tolist()):  # in order: of a key that stands twice, the last holds
            self._vectors[row], self._squares[row] = ready[place], squares[place]
        self._longest = max(self._longest, float(squares.max(initial=0.0)))
        return rows

    def remove(self, keys: Sequence[Key]) -> Rows:
        """The rows of those keys that were there; they are empty now."""
        rows = [row for key in keys if (row := self._row.pop(key, None)) is not None]
        for row in rows:
            self._keys[row], self._used[row] = None, False
            self._free.append(row)
        return np.array(rows, np.int64)

    def rows_of(self, keys: Sequence[Key]) -> Rows:
        """``[keys]``, -1 where it is not there."""
        return np.array([self._row.get(key, -1) for key in keys], np.int64)

    def check_rows(self, rows: Rows) -> Rows:
        """Refuse rows without a key.

        Raises:
            DataError: Names the first of them.
        """
        return check_rows(rows, self.used)

    def keys_of(self, rows: Rows) -> list[Key]:
        """The key of each row.

        Raises:
            DataError: If a row has none.
        """
        return [key for row in self.check_rows(rows).tolist() if (key := self._keys[row]) is not None]

    def _new_row(self, key: Key) -> int:
        if self._free:
            row = self._free.pop()
            self._keys[row] = key
        else:
            row = self.num_rows
            if row == len(self._vectors):
                self._make_room(max(_SMALLEST, 2 * row))
            self.num_rows += 1
            self._keys.append(key)
        self._used[row] = True
        return row

    def _make_room(self, room: int) -> None:
        """Room for so many rows: each is copied once per doubling."""
        rows = self.num_rows
        for name in ("_vectors", "_squares", "_used"):
            old = getattr(self, name)
            new = np.zeros((room, *old.shape[1:]), old.dtype)
            new[:rows] = old[:rows]
            setattr(self, name, new)


def check_rows(rows: Rows, used: NDArray[np.bool_]) -> Rows:
    """Refuse rows without a key.

    Args:
        rows: ``[rows]``.
        used: ``[num_rows]`` whether a row has a key.

    Raises:
        DataError: Names the first of them.
    """
    rows = np.asarray(rows, np.int64)
    inside = (rows >= 0) & (rows < len(used))
    wrong = np.flatnonzero(~inside | ~used[np.where(inside, rows, 0)]) if len(used) else np.arange(len(rows))
    if len(wrong):
        raise DataError(
            f"Row {rows[wrong[0]]} of the index holds no key ({len(wrong):,} such rows asked for; it has {len(used):,} "
            "rows). Leave out the places of hits that are -1."
        )
    return rows


def check_keys(keys: Sequence[Key], known: Key | None) -> None:
    """Refuse keys that are not all texts, whole numbers or bytes, like the known one.

    Args:
        keys: New ones.
        known: One that is there.

    Raises:
        DataError: Names the first of another type.
    """
    first = known if known is not None else next(iter(keys), None)
    for place, key in enumerate(keys):
        if isinstance(key, bool) or not isinstance(key, str | int | bytes) or type(key) is not type(first):
            raise DataError(
                f"The keys of an index are all texts, all whole numbers or all bytes, here such as {first!r}; received {key!r} "
                f"at place {place}. Convert it first."
            )

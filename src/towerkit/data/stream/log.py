"""A log of pairs, encoded on disk: what a training reads of it, and what says where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.data.roles import EntityTable, Roles
from towerkit.data.schema import ColumnInfo
from towerkit.data.splits import Rows
from towerkit.data.stream.arrays import chunks, opened
from towerkit.data.stream.parting import TEST, TRAIN, VALIDATION
from towerkit.data.table import Table

PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class LogParts:
    """The rows of a log by what is done with them."""

    train: range
    """The rows that are learned from, counted among themselves: they are many, and lie encoded on disk."""
    validation: Rows
    """Row numbers of the log, ascending."""
    test: Rows

    def sizes(self) -> dict[str, int]:
        """Number of rows of each part."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}


@dataclass(frozen=True, eq=False)
class Log:
    """The counterpart of a ``Dataset`` whose rows need not fit into memory: only keys and held-out row numbers do."""

    folder: Path
    """The encoded log."""
    name: str
    """The path as the user wrote it."""
    roles: Roles
    keys: Mapping[str, pa.Array]
    """Query and candidate column -> its distinct keys in the order of first appearance, by code."""
    columns: tuple[ColumnInfo, ...]
    """What the columns are, by the first rows."""
    sizes: Mapping[str, int]
    """Part -> its rows."""
    split: Mapping[str, Any]
    """How the parts were made, in plain data, for the protocol."""
    seal: str
    """The SHA-256 of the encoded files, and so of the keys, the rows and the parts."""
    learned: tuple[str, ...] = ("train",)
    """The parts that are learned from."""
    entities: Mapping[str, EntityTable] = field(default_factory=dict)
    """None: a log has no tables beside it."""

    @property
    def pair(self) -> tuple[str, str]:
        """The query and the candidate column."""
        assert self.roles.query is not None and self.roles.candidate is not None
        return self.roles.query, self.roles.candidate

    @cached_property
    def parts(self) -> LogParts:
        """What is learned from and what is held out."""
        held = {name: self._rows_of(name) for name in ("validation", "test")}
        if "validation" in self.learned:
            held["validation"] = held["validation"][:0]
        return LogParts(range(sum(self.sizes[name] for name in self.learned)), **held)

    @property
    def num_rows(self) -> int:
        """Of all parts."""
        return sum(self.sizes.values())

    def codes(self, column: str) -> NDArray[np.int32]:
        """``[rows]`` the place of each row's key in :attr:`keys`, on disk."""
        return opened(self.folder / f"{self.pair.index(column)}.npy")

    def part_numbers(self) -> NDArray[np.uint8]:
        """``[rows]`` the number of each row's part, on disk; see :data:`PARTS`."""
        return opened(self.folder / "part.npy")

    def labelled(self, column: str, rows: Rows) -> pa.Array:
        """The keys of a column at some rows.

        Args:
            column: The query or the candidate column.
            rows: Row numbers of the log.
        """
        return self.keys[column].take(pa.array(self.codes(column)[rows]))

    def for_refit(self) -> Log:
        """The log that the final model learns from: validation rows among the training rows."""
        return replace(self, learned=("train", "validation"))

    @property
    def source(self) -> Table:
        """The name of its rows, without any."""
        return Table(pa.table({}), self.name)

    def row_numbers(self, chosen: Rows) -> Rows:
        """Rows that are learned from, counted among themselves, as the log counts them.

        Args:
            chosen: ``[rows]`` places among the rows that are learned from.
        """
        numbers, found, before = self.part_numbers(), np.full(len(chosen), -1, np.int64), 0
        taken = [PARTS[name] for name in self.learned]
        for each in chunks(len(numbers)):
            rows = each.start + np.flatnonzero(np.isin(numbers[each], taken))
            here = (chosen >= before) & (chosen < before + len(rows))
            found[here] = rows[chosen[here] - before]
            before += len(rows)
        return found

    def _rows_of(self, part: str) -> Rows:
        numbers = self.part_numbers()
        found = [each.start + np.flatnonzero(numbers[each] == PARTS[part]) for each in chunks(len(numbers))]
        return np.concatenate(found)

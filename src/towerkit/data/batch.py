"""A batch: encoded columns of its distinct rows, and for each example the position of its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Bag:
    """A ragged column: for each row a set of codes with weights (hashed n-grams, multi-hot values)."""

    codes: Tensor
    """``[entries]`` int64."""
    offsets: Tensor
    """``[rows + 1]`` int64; row ``r`` owns ``codes[offsets[r]:offsets[r + 1]]``."""
    weights: Tensor
    """``[entries]`` float32."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: Tensor) -> Bag:
        """The bags of some rows, in their order."""
        starts, counts = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        offsets = self.offsets.new_zeros(len(rows) + 1)
        torch.cumsum(counts, 0, out=offsets[1:])
        entry = torch.repeat_interleave(starts - offsets[:-1], counts)
        entry += torch.arange(len(entry), device=entry.device)
        return Bag(self.codes[entry], offsets, self.weights[entry])

    @property
    def is_empty(self) -> Tensor:
        """``[rows]`` bool: the row has no entry, for example because its text is missing."""
        return self.offsets[1:] == self.offsets[:-1]


class Store(Protocol):
    """Rows of one shape that lie somewhere else, on disk or in memory."""

    def read(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """The rows at some places, each as often as it is named.

        Args:
            places: ``[n]`` from 0.

        Returns:
            ``[n, *shape]``.
        """


@dataclass(frozen=True)
class Stored:
    """A column of large rows, such as pictures: they stay where they lie until a tower reads those of its batch."""

    store: Store
    places: Tensor
    """``[rows]`` int64 place of each row in the store; -1 where the row has nothing."""

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: Tensor) -> Stored:
        """Some rows, in their order; nothing is read."""
        return Stored(self.store, self.places.index_select(0, rows))

    @property
    def is_empty(self) -> Tensor:
        """``[rows]`` bool: the row has nothing, for example because its picture is missing."""
        return self.places < 0

    def read(self, rows: Tensor) -> Tensor:
        """The content of some rows.

        Args:
            rows: ``[n]`` positions of rows that are not empty.

        Returns:
            ``[n, *shape]``.
        """
        return torch.from_numpy(self.store.read(self.places[rows].numpy()))


Column: TypeAlias = Tensor | Bag | Stored
Columns: TypeAlias = Mapping[str, Column]


def take(columns: Columns, rows: Tensor) -> dict[str, Column]:
    """The columns of some rows: an array slice, no work per row."""
    return {
        name: column.index_select(0, rows) if isinstance(column, Tensor) else column.take(rows)
        for name, column in columns.items()
    }


def dense(columns: Columns, name: str) -> Tensor:
    """A column that is a plain tensor."""
    column = columns[name]
    assert isinstance(column, Tensor), f"the column '{name}' is ragged"
    return column


def spread(rows: Tensor, index: Tensor) -> Tensor:
    """The rows at some positions, as ``rows[index]`` gives them.

    The gradient of ``rows[index]`` adds up what repeated positions get in an order that changes from run to run once several
    threads share the work; that of an embedding adds in the order of the positions, always.

    Args:
        rows: ``[rows, dim]``.
        index: Positions, any shape.

    Returns:
        ``[*index shape, dim]``.
    """
    return functional.embedding(index, rows)


def joined(first: Column, second: Column) -> Column:
    """The rows of one column after those of another of the same feature."""
    if isinstance(first, Bag) and isinstance(second, Bag):
        return Bag(
            torch.cat([first.codes, second.codes]),
            torch.cat([first.offsets, second.offsets[1:] + first.offsets[-1]]),
            torch.cat([first.weights, second.weights]),
        )
    if isinstance(first, Stored) and isinstance(second, Stored):
        assert bool(first.is_empty.all()), "only a row of nothing can stand before the rows of another store"
        return Stored(second.store, torch.cat([first.places, second.places]))
    assert isinstance(first, Tensor) and isinstance(second, Tensor)
    return torch.cat([first, second])


@dataclass(frozen=True)
class Block:
    """Candidates beside the positives that one sort of negatives brought into a batch."""

    index: Tensor | None = None
    """Positions among the candidate rows of the batch: ``[batch, n]`` for each query its own, ``[n]`` shared by all."""
    vectors: Tensor | None = None
    """``[n, dim]`` in place of ``index``: vectors of earlier steps, as the match saw them, without gradient."""
    collision: Tensor | None = None
    """``[batch, n]`` true where the candidate is a positive of the query and must not count; None where none is."""
    log_q: Tensor | None = None
    """``[n]`` or ``[batch, n]`` natural log of how often the candidate is drawn per positive; None: not corrected."""
    keep: int | None = None
    """Only so many, those with the highest scores, count."""


@dataclass(frozen=True)
class Shares:
    """Which rows of a batch each of several processes computes."""

    rank: int
    """This process."""
    places: tuple[NDArray[np.int64], ...]
    """Of each process, the places in the batch that are its own."""
    by_query: bool = False
    """All rows of a query belong to one process."""

    @property
    def sizes(self) -> list[int]:
        """Rows of each process."""
        return [len(own) for own in self.places]

    @property
    def idle(self) -> bool:
        """This process has no row of the batch."""
        return not len(self.places[self.rank])

    @property
    def own(self) -> NDArray[np.int64]:
        """The places of this process; the first one of the batch keeps it company where it has none."""
        return np.zeros(1, np.int64) if self.idle else self.places[self.rank]

    def in_order(self, rows: Tensor) -> Tensor:
        """Rows of all processes, those of the first one first, in the order of the batch."""
        place = torch.from_numpy(np.argsort(np.concatenate(self.places), kind="stable"))
        return rows.index_select(0, place)


@dataclass(frozen=True)
class Exchange:
    """The candidates of a batch that processes encode for each other."""

    index: Tensor
    """``[own]`` positions, among the candidate rows of this process, of those that it encodes for all."""
    sizes: tuple[int, ...]
    """Of each process, how many."""


@dataclass(frozen=True)
class Batch:
    """What a model sees. An entity's columns hold each distinct row once; ``index`` points into them."""

    columns: Mapping[str, Columns]
    """Entity (and ``example``) -> encoded columns of the distinct rows in this batch."""
    index: Mapping[str, Tensor]
    """Entity -> ``[batch]`` position into those rows."""
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    """Task -> ``[batch]`` class code."""
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    """Task -> ``[batch]`` bool: the label is known."""
    weights: Tensor | None = None
    """``[batch]`` weight of each example; None when all weigh one."""
    pool: Mapping[str, tuple[Block, ...]] = field(default_factory=dict)
    """Candidate entity -> the candidates drawn as negatives, a block for each sort."""
    shares: Shares | None = None
    """Where several processes compute one batch: who has which rows; those here are this process's."""
    exchange: Exchange | None = None
    """What they encode for each other; behind its own candidate rows each then has those of all."""

    @property
    def idle(self) -> bool:
        """This process has no row of the batch: the one that is here keeps it company and counts for nothing."""
        return self.shares is not None and self.shares.idle

    def __len__(self) -> int:
        return len(next(iter(self.index.values())))

"""Candidates that several processes encode for each other: each row once, its vector and its gradient carried between them.

A pool that a batch shares, such as its own positives, holds rows of all processes. Where a candidate's vector is a row of a
table, every process simply reads it. Where it is the work of towers, each process encodes some of the rows, and all of them
get the vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from towerkit.core.world import World
from towerkit.data.batch import Batch, Block, Columns, Exchange, Shares, spread
from towerkit.features.encoded import Drawn
from towerkit.models.two_tower import Encoding
from towerkit.training.forward import Wrapped
from towerkit.training.together import gathered


class Exchanging(Wrapped):
    """Answers for a two-tower; behind the candidates of this process's batch come those of all.

    Args:
        model: The two-tower, or what already wraps it.
        world: The processes.
    """

    def __init__(self, model: object, world: World) -> None:
        super().__init__(model)
        self.world = world

    def __call__(self, batch: Batch) -> tuple[Encoding, Encoding]:
        """Both sides of a batch."""
        query, candidate = self.model(batch)
        if batch.exchange is None:
            return query, candidate
        given = spread(candidate.vectors, batch.exchange.index)
        everyone = gathered(self.world, given, batch.exchange.sizes)
        return query, Encoding(candidate.parts, torch.cat([candidate.vectors, everyone]))


@dataclass(frozen=True)
class Parted:
    """The shared candidates of a batch, and who encodes them; the same in every process."""

    rows: tuple[NDArray[np.int64], ...]
    """Of each process, catalogue rows in ascending order; each row belongs to one."""

    @classmethod
    def of(cls, drawn: Sequence[Drawn], positives: NDArray[np.int64], shares: Shares) -> Parted | None:
        """Part what is shared: a process's own positives to it, which it encodes anyway, the others evenly.

        Args:
            drawn: What the negatives bring.
            positives: ``[batch]`` candidate rows of the whole batch.
            shares: Who has which rows.

        Returns:
            None where nothing is shared.
        """
        shared = [each.rows for each in drawn if each.rows is not None and each.rows.ndim == 1]
        if not shared:
            return None
        distinct = np.unique(np.concatenate(shared))
        owner = np.arange(len(distinct)) * len(shares.places) // max(1, len(distinct))
        for rank in reversed(range(len(shares.places))):
            owner[np.isin(distinct, positives[shares.places[rank]])] = rank
        return cls(tuple(distinct[owner == rank] for rank in range(len(shares.places))))

    def place(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where catalogue rows stand among those of all processes."""
        everyone = np.concatenate(self.rows)
        order = np.argsort(everyone)
        return np.asarray(order[np.searchsorted(everyone, rows, sorter=order)])


def encoded_locally(drawn: Sequence[Drawn], parted: Parted, rank: int) -> list[Drawn]:
    """What a process has to encode: what is drawn for its own pairs, and its part of what is shared."""
    own = [each for each in drawn if each.rows is not None and each.rows.ndim == 2]
    return [*own, Drawn(parted.rows[rank])]


def with_exchange(batch: Batch, entity: str, drawn: Sequence[Drawn], parted: Parted) -> Batch:
    """Let the shared candidates of a batch point behind its own rows, where those of all processes come.

    Args:
        batch: Made of :func:`encoded_locally`.
        entity: The candidates'.
        drawn: What the negatives bring, in their order.
        parted: Who encodes what is shared.
    """
    *own, given = batch.pool[entity]
    assert given.index is not None
    num_rows, mine, pool = _num_rows(batch.columns[entity]), iter(own), list[Block]()
    for each in drawn:
        if each.rows is not None and each.rows.ndim == 1:
            pool.append(each.block(torch.from_numpy(num_rows + parted.place(each.rows))))
        else:
            pool.append(each.block(None) if each.rows is None else next(mine))
    exchange = Exchange(given.index, tuple(len(rows) for rows in parted.rows))
    return replace(batch, pool={**batch.pool, entity: tuple(pool)}, exchange=exchange)


def _num_rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))

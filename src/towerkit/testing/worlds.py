"""Several processes played by threads of one: what they exchange goes through memory, so rank 1 of 2 runs in a unit test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from towerkit.core.world import World

T = TypeVar("T")


class _Table:
    """Where all put something down, and each takes what all have put."""

    def __init__(self, size: int) -> None:
        self.barrier, self.slots = threading.Barrier(size), list[Any]([None] * size)

    def exchange(self, rank: int, given: Any) -> list[Any]:
        """What every one gave, in order of rank."""
        self.slots[rank] = given
        self.barrier.wait()
        found = list(self.slots)
        self.barrier.wait()  # nobody puts the next thing down before all have looked
        return found


class ThreadWorld(World):
    """One of several threads.

    Args:
        rank: Which one.
        size: How many.
        table: Where they meet.
    """

    def __init__(self, rank: int, size: int, table: _Table) -> None:
        self.rank, self.size, self._table = rank, size, table

    def sum(self, values: Tensor) -> Tensor:
        """See :meth:`World.sum`."""
        return torch.stack(self._table.exchange(self.rank, values.clone())).sum(dim=0)

    def largest(self, values: Tensor) -> Tensor:
        """See :meth:`World.largest`."""
        return torch.stack(self._table.exchange(self.rank, values.clone())).amax(dim=0)

    def all(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """See :meth:`World.all`."""
        found = self._table.exchange(self.rank, rows.clone())
        assert [len(each) for each in found] == list(sizes), "each process gives as many rows as was said"
        return torch.cat(found)

    def exchange(self, rows: Tensor, given: Sequence[int], taken: Sequence[int]) -> Tensor:
        """See :meth:`World.exchange`."""
        assert sum(given) == len(rows), "each row goes to one process"
        found = [each[self.rank] for each in self._table.exchange(self.rank, rows.clone().split(list(given)))]
        assert [len(each) for each in found] == list(taken), "each process gives as many rows as was said"
        return torch.cat(found)

    def at_first(self, rows: Tensor, sizes: Sequence[int], put: Callable[[int, Tensor], None]) -> None:
        """See :meth:`World.at_first`."""
        found = self.all(rows, sizes)
        if self.is_first:
            for rank, theirs in enumerate(found.split(list(sizes))):
                put(rank, theirs)

    def told(self, text: str) -> str:
        """See :meth:`World.told`."""
        return str(self._table.exchange(self.rank, text)[0])


def together(size: int, work: Callable[[World], T]) -> list[T]:
    """Let several threads do the same work, each in its own world.

    Args:
        size: How many.
        work: Done by each.

    Returns:
        What each found, in order of rank.

    Example:
        >>> together(2, lambda world: world.sum(torch.tensor([world.rank + 1])).item())
        [3, 3]
    """
    table, found, failed = _Table(size), list[Any]([None] * size), list[BaseException]()

    def run(rank: int) -> None:
        try:
            found[rank] = work(ThreadWorld(rank, size, table))
        except threading.BrokenBarrierError:
            pass  # another thread failed, and its reason is told
        except BaseException as error:
            failed.append(error)
            table.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return found

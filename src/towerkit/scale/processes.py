"""A world of processes that torch.distributed connects; every byte that this one sends is counted."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from towerkit.core.world import LostProcessError, World

_PATIENCE = timedelta(hours=6)
"""The others wait while the first process validates; a process that died is noticed at once, for its connections close."""


class Processes(World):
    """One of the processes of torch.distributed's default group, which is connected already.

    :attr:`sent` counts the bytes of payload that this process puts on the wire, by what is done with them: a sum over ``n``
    processes sends ``2 (n - 1) / n`` of its tensor (a ring), rows for everyone ``n - 1`` times the largest share, rows for
    other processes, for the first one, and texts what they are. Headers come on top; ``benchmarks/bench_scale.py`` compares
    it with the counters of the loopback interface.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.sent: Counter[str] = Counter()

    def sum(self, values: Tensor) -> Tensor:
        """See :meth:`World.sum`."""
        self.sent["sum"] += 2 * (self.size - 1) * _bytes(values) // self.size
        with _others_are_there():
            dist.all_reduce(values)
        return values

    def largest(self, values: Tensor) -> Tensor:
        """See :meth:`World.largest`."""
        self.sent["sum"] += 2 * (self.size - 1) * _bytes(values) // self.size
        with _others_are_there():
            dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return values

    def all(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """See :meth:`World.all`; short shares are filled up to the longest, as the group wants them of one size."""
        longest = max(sizes)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        self.sent["all"] += (self.size - 1) * _bytes(padded)
        found = [torch.empty_like(padded) for _ in sizes]
        with _others_are_there():
            dist.all_gather(found, padded)
        return torch.cat([each[:size] for each, size in zip(found, sizes, strict=True)])

    def exchange(self, rows: Tensor, given: Sequence[int], taken: Sequence[int]) -> Tensor:
        """See :meth:`World.exchange`."""
        self.sent["exchange"] += (len(rows) - given[self.rank]) * _bytes(rows) // max(1, len(rows))
        found = rows.new_empty(sum(taken), *rows.shape[1:])
        with _others_are_there():
            dist.all_to_all_single(found, rows.contiguous(), list(taken), list(given))
        return found

    def at_first(self, rows: Tensor, sizes: Sequence[int], put: Callable[[int, Tensor], None]) -> None:
        """See :meth:`World.at_first`."""
        if not self.is_first:
            self.sent["at_first"] += _bytes(rows)
            with _others_are_there():
                dist.send(rows.contiguous(), 0)
            return
        put(0, rows)
        for rank, size in enumerate(sizes[1:], 1):
            theirs = rows.new_empty(size, *rows.shape[1:])
            with _others_are_there():
                dist.recv(theirs, rank)
            put(rank, theirs)

    def told(self, text: str) -> str:
        """See :meth:`World.told`."""
        content = torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8)
        length = torch.tensor([len(content)])
        with _others_are_there():
            dist.broadcast(length, 0)
            content = content if self.is_first else torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(content, 0)
        self.sent["told"] += _bytes(content) + _bytes(length) if self.is_first else 0
        return bytes(content.tolist()).decode().strip()


@contextlib.contextmanager
def connected(rank: int, size: int, meeting: Path) -> Iterator[Processes]:
    """Connect processes of one machine over its loopback interface, without Ray.

    Args:
        rank: This process, from 0.
        size: How many there are.
        meeting: A file that does not exist yet, where they find each other; the same for all.
    """
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=_PATIENCE)
    try:
        yield Processes()
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def _others_are_there() -> Iterator[None]:
    """An exchange; what fails in it is told apart from errors of this process.

    Raises:
        LostProcessError: With what gloo says, for which it has no kind of error of its own.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, RuntimeError) or not dist.is_initialized():  # Ray takes the group from those that are left
            raise LostProcessError(str(error)) from error
        raise


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()

"""Several processes that train together, as one of them sees it: its rank, their number, and the few things that they exchange.

What is exchanged is decided on higher floors; a :class:`World` only carries it. Every process must ask for the same things
in the same order, as for any collective operation, and meets :class:`LostProcessError` where another one is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T", bound=Any)
"""A tensor or an array."""


class LostProcessError(RuntimeError):
    """What this process wanted to exchange failed, since another one is gone: no fault of this one, and worth another try."""


class World:
    """A process on its own: nothing is exchanged, and every answer is what was given.

    Example:
        >>> World().size
        1
    """

    rank: int = 0
    """This process, from 0."""
    size: int = 1
    """How many processes there are."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that validates, saves and writes."""
        return self.rank == 0

    @property
    def own(self) -> slice:
        """The rows of a table that are this process's where each has some: row ``r`` belongs to process ``r mod size``."""
        return slice(self.rank, None, self.size)

    def owner(self, rows: T) -> T:
        """The process that each row belongs to.

        Args:
            rows: Numbers of rows in the table.
        """
        return rows % self.size

    def place(self, rows: T) -> T:
        """Where each row stands among those of its process.

        Args:
            rows: Numbers of rows in the table.
        """
        return rows // self.size

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in each of them to the same bits.

        Args:
            values: Of the same shape in every process; may be overwritten.
        """
        return values

    def largest(self, values: Tensor) -> Tensor:
        """The largest over all processes, element by element.

        Args:
            values: Of the same shape in every process; may be overwritten.
        """
        return values

    def all(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """The rows of all processes, those of the first one first.

        Args:
            rows: ``[own, ...]`` of this process.
            sizes: Of each process, how many rows it gives.
        """
        return rows

    def exchange(self, rows: Tensor, given: Sequence[int], taken: Sequence[int]) -> Tensor:
        """Rows for each process from each process, those of the first one first.

        Args:
            rows: ``[sum of given, ...]``, those for the first process first.
            given: To each process, how many rows go.
            taken: From each process, how many rows come: what it gives to this one.

        Returns:
            ``[sum of taken, ...]``.
        """
        return rows

    def at_first(self, rows: Tensor, sizes: Sequence[int], put: Callable[[int, Tensor], None]) -> None:
        """The rows of all processes for the first one, which holds those of one other process at a time.

        Args:
            rows: ``[own, ...]`` of this process.
            sizes: Of each process, how many rows it gives.
            put: Given the rank and the rows of each process, in the first process alone.
        """
        put(0, rows)

    def told(self, text: str) -> str:
        """What the first process says.

        Args:
            text: Said by the first process; the others' is not looked at.
        """
        return text


ALONE = World()
"""No other process: the usual training."""

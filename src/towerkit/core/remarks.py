"""What was odd about the data and dealt with, told by what met it to whoever writes it down.

A block that collects is entered by whoever reports; what works inside it remarks. Nothing outlives the block, and another
thread is told nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_COLLECTED: ContextVar[list[str] | None] = ContextVar("collected", default=None)


@contextmanager
def collecting() -> Iterator[list[str]]:
    """A list that fills with the remarks of what works inside the block, each once.

    Example:
        >>> with collecting() as remarks:
        ...     remark("row 3 has no picture")
        ...     remark("row 3 has no picture")
        >>> remarks
        ['row 3 has no picture']
    """
    collected: list[str] = []
    token = _COLLECTED.set(collected)
    try:
        yield collected
    finally:
        _COLLECTED.reset(token)


def remark(text: str) -> None:
    """Tell whoever collects; nothing happens where nobody does.

    Args:
        text: A sentence with file, column, row and what was done.
    """
    collected = _COLLECTED.get()
    if collected is not None and text not in collected:
        collected.append(text)

"""Who is told that something long goes on, far below where anyone listens.

A block that listens is entered by whoever shows progress; what works inside it tells. Nothing outlives the block, and
another thread is told nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


@contextmanager
def listening(tell: Callable[[str], None]) -> Iterator[None]:
    """Let what works inside the block tell how far it is.

    Args:
        tell: Called with a text now and then.

    Example:
        >>> with listening(print):
        ...     notice("half of it is done")
        half of it is done
        >>> notice("nobody hears this")
    """
    token = _LISTENER.set(tell)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def notice(text: str) -> None:
    """Tell whoever listens; nothing happens where nobody does.

    Args:
        text: What goes on, and how far it is.
    """
    tell = _LISTENER.get()
    if tell is not None:
        tell(text)

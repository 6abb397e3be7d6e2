"""What was made once and is asked for again: kept while a block lasts, where somebody makes many things of the same parts.

A block that keeps is entered by whoever trains several models on the same data; what works inside it asks. A key holds all that
the value depends on. Nothing outlives the block, and another thread makes its own.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

V = TypeVar("V")
MOST = 256
"""Values that are kept; the one that was not asked for the longest goes."""


class Keeper:
    """Values by key.

    Args:
        most: How many.

    Attributes:
        hits: How often a value was there already.
        saved_s: The seconds that making those took the first time.
    """

    def __init__(self, most: int = MOST) -> None:
        self.hits, self.saved_s = 0, 0.0
        self._most = most
        self._values: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()

    def value(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key, made if it is not there.

        Args:
            key: All that it depends on.
            make: Makes it.
        """
        if key in self._values:
            self._values.move_to_end(key)
            found, seconds = self._values[key]
            self.hits, self.saved_s = self.hits + 1, self.saved_s + seconds
            return found
        before, started = self.saved_s, time.perf_counter()
        found = make()
        seconds = time.perf_counter() - started + self.saved_s - before  # with what was there already inside of it
        self._values[key] = found, seconds
        if len(self._values) > self._most:
            self._values.popitem(last=False)
        return found


class Same:
    """A key that is one object and no other, however alike; the key keeps the object alive.

    Args:
        thing: The object.

    Example:
        >>> one, other = [1], [1]
        >>> Same(one) == Same(one), Same(one) == Same(other)
        (True, False)
    """

    def __init__(self, thing: object) -> None:
        self._thing = thing

    def __hash__(self) -> int:
        return id(self._thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self._thing is other._thing


_KEEPER: ContextVar[Keeper | None] = ContextVar("keeper", default=None)


@contextmanager
def keeping(most: int = MOST) -> Iterator[Keeper]:
    """Keep what works inside the block asks for.

    Args:
        most: How many values.

    Example:
        >>> with keeping() as keeper:
        ...     found = [kept(("square", 3), lambda: 3 * 3) for _ in range(3)]
        >>> found, keeper.hits
        ([9, 9, 9], 2)
    """
    keeper = Keeper(most)
    token = _KEEPER.set(keeper)
    try:
        yield keeper
    finally:
        _KEEPER.reset(token)


def kept(key: Hashable, make: Callable[[], V]) -> V:
    """A value that whoever uses it leaves as it is; made anew where nobody keeps.

    Args:
        key: All that it depends on, and what it is.
        make: Makes it.
    """
    keeper = _KEEPER.get()
    if keeper is None:
        return make()
    found: V = keeper.value(key, make)
    return found

"""Named values within named values: ``part.name`` in one flat mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

V = TypeVar("V")


def below(part: str, values: Mapping[str, V]) -> dict[str, V]:
    """The values of one part under their own names.

    Example:
        >>> below("a", {"a.x": 1, "a.y.z": 2, "ab.x": 3})
        {'x': 1, 'y.z': 2}
    """
    return {name.removeprefix(f"{part}."): value for name, value in values.items() if name.startswith(f"{part}.")}

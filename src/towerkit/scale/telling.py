"""Errors on purpose on their way from a worker to the driver, as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from towerkit.core.errors import TowerkitError


def as_told(error: TowerkitError) -> dict[str, Any]:
    """An error as plain data: its message, what the command ends with, and the names of its kinds, the narrowest first.

    Args:
        error: As a worker raised it.
    """
    kinds = [kind.__name__ for kind in type(error).__mro__ if issubclass(kind, TowerkitError)]
    return {"kinds": kinds, "message": str(error), "status": error.status}


def from_told(told: Mapping[str, Any]) -> TowerkitError:
    """The error again, of the narrowest kind that this process knows.

    Args:
        told: From :func:`as_told`.
    """
    known = {kind.__name__: kind for kind in _family(TowerkitError)}
    kind = next((known[name] for name in told.get("kinds", ()) if name in known), TowerkitError)
    error = kind.__new__(kind, told["message"])  # kinds are made of more than a message, and have it whole already
    error.status = told["status"]
    return error


def _family(kind: type[TowerkitError]) -> Iterator[type[TowerkitError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _family(each)

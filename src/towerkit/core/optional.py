"""Optional packages: imported when first used, and named with their extra when missing."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from towerkit.core.errors import MissingExtraError


def optional_import(package: str, *, extra: str) -> ModuleType:
    """Import ``package`` or say which extra brings it; Python's random state stays, whatever the package draws from it.

    Raises:
        MissingExtraError: If the package is not installed.
    """
    try:
        with python_random_kept():
            return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(
            f"This needs the package '{package}', which is not installed ({error}); "
            f"install it with: pip install 'towerkit[{extra}]'"
        ) from error


@contextmanager
def python_random_kept() -> Iterator[None]:
    """Put Python's global random state back: some packages draw names or seeds from it."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)

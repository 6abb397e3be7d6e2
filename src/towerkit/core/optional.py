"""Optional packages: imported when first used, and named with their extra when missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from towerkit.core.errors import MissingExtraError


def optional_import(package: str, *, extra: str) -> ModuleType:
    """Import ``package`` or say which extra brings it.

    Raises:
        MissingExtraError: If the package is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(
            f"This needs the package '{package}', which is not installed ({error}); "
            f"install it with: pip install 'towerkit[{extra}]'"
        ) from error

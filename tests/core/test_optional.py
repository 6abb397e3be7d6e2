"""Optional packages: imported when there, and named with their extra when not."""

from __future__ import annotations

import math

import pytest

from towerkit.core.errors import MissingExtraError
from towerkit.core.optional import optional_import


def test_a_package_that_is_there() -> None:
    assert optional_import("math", extra="none") is math


def test_a_missing_package_names_its_extra() -> None:
    message = r"needs the package 'no_such_package', which is not installed .*pip install 'towerkit\[ann\]'"
    with pytest.raises(MissingExtraError, match=message) as caught:
        optional_import("no_such_package", extra="ann")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value.__cause__, ImportError)

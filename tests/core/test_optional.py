"""Optional packages: imported when there, and named with their extra when not; Python's random state stays."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from towerkit.core.errors import MissingExtraError
from towerkit.core.optional import optional_import


def test_a_package_that_is_there() -> None:
    assert optional_import("math", extra="none") is math


def test_what_a_package_draws_when_it_is_imported_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "drawing_package.py").write_text("import random\nrandom.random()\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = random.getstate()
    optional_import("drawing_package", extra="none")
    assert random.getstate() == before


def test_a_missing_package_names_its_extra() -> None:
    message = r"needs the package 'no_such_package', which is not installed .*pip install 'towerkit\[ann\]'"
    with pytest.raises(MissingExtraError, match=message) as caught:
        optional_import("no_such_package", extra="ann")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value.__cause__, ImportError)

"""Benchmarks are scripts, so their folder is on the path only while they are tested."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def benchmark_module() -> Iterator[Callable[[str], Any]]:
    """Imports a module of ``benchmarks/`` by its name there."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    yield importlib.import_module
    sys.path.pop(0)

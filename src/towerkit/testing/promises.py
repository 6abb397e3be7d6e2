"""Promises with a name: what does not hold is told, also under ``python -O``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import torch

TOLERANCE = 1e-6
"""How far a number may move between two ways to the same answer on one machine."""


@contextmanager
def untouched_global_state() -> Iterator[None]:
    """Fail if the block moves a global random generator or leaves torch in another mode."""
    before = _global_state()
    yield
    moved = [name for name, state in _global_state().items() if state != before[name]]
    require(not moved, f"training must leave global state as it was; it changed {', '.join(moved)}")


def _global_state() -> dict[str, object]:
    return {
        "Python's random state": random.getstate(),
        "NumPy's random state": str(np.random.get_state()),  # noqa: NPY002 - it is being watched
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's default dtype": torch.get_default_dtype(),
    }


def require(holds: bool, promise: str) -> None:
    """Say which promise was broken; unlike ``assert`` this stays under ``python -O``.

    Raises:
        AssertionError: If it does not hold.
    """
    if not holds:
        raise AssertionError(promise)


def require_same(first: pa.Table, second: pa.Table, promise: str) -> None:
    """Two tables of answers agree: numbers to :data:`TOLERANCE`, everything else exactly."""
    require(first.column_names == second.column_names, f"{promise}: {first.column_names} and {second.column_names}")
    require(first.num_rows == second.num_rows, f"{promise}: {first.num_rows} and {second.num_rows} rows")
    for name in first.column_names:
        one, other = first.column(name), second.column(name)
        if pa.types.is_floating(one.type):
            gap = float(np.max(np.abs(one.to_numpy() - other.to_numpy()), initial=0.0))
            require(gap <= TOLERANCE, f"{promise}: '{name}' differs by {gap:.3g}")
        else:
            require(one.to_pylist() == other.to_pylist(), f"{promise}: '{name}' differs")

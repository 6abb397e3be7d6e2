"""A small world for studies: people who like one of two sorts of things, and a two-tower of them that trains in a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import towerkit as tk
from towerkit.data.dataset import Dataset


@pytest.fixture(scope="session")
def pairs() -> dict[str, list[str]]:
    """Sixty people, forty things; a person likes mostly the things of one sort."""
    draw = np.random.default_rng(0)
    found: dict[str, list[str]] = {"user": [], "item": []}
    for user in range(60):
        likes = draw.permutation(20)[:9] * 2 + user % 2
        for item in [*likes, int(draw.integers(40))]:
            found["user"].append(f"u{user}")
            found["item"].append(f"i{item}")
    return found


@pytest.fixture(scope="session")
def world(pairs: dict[str, list[str]]) -> Dataset:
    """The same as a data set."""
    return tk.read(
        pairs,
        query="user",
        candidate="item",
        split={"kind": "per_query", "validation": 0.2, "test": 0.2},
        duplicates="first",
    )


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    """A space over a two-tower, for that data set."""
    return {
        "model": {
            "kind": "two_tower",
            "query": {"kind": "id", "dim": {"choice": [4, 8, 16]}},
            "candidate": {"kind": "id", "dim": {"same_as": "model.query.dim"}},
        },
        "training": {
            "engine": "torch",
            "epochs": 6,
            "batch_size": 128,
            "optimizer": {"kind": "adam", "lr": {"float": [0.0003, 0.1], "log": True, "default": 0.0005}},
        },
        "evaluation": {"k": [5], "baselines": ["popularity"]},
    }

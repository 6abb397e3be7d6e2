"""A Run of a small shop with prices and kinds, for the tests of answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import towerkit as tk
from towerkit.run import Run

_DRAW = np.random.default_rng(5)
NUM_ITEMS, NUM_USERS = 40, 60
ITEMS: dict[str, Any] = {
    "item": [f"i{n}" for n in range(NUM_ITEMS)],
    "name": [f"Item {n}" for n in range(NUM_ITEMS)],
    "price": [None if n % 11 == 10 else round(float(p), 1) for n, p in enumerate(_DRAW.uniform(1, 50, NUM_ITEMS))],
    "kind": [["book", "toy", "lamp"][n % 3] for n in range(NUM_ITEMS)],
}
USERS: dict[str, Any] = {
    "user": [f"u{n}" for n in range(NUM_USERS)],
    "age": [float(age) for age in _DRAW.integers(18, 80, NUM_USERS)],
}
EVENTS: dict[str, Any] = {
    "user": [f"u{n}" for n in _DRAW.integers(0, NUM_USERS, 900)],
    "item": [f"i{n}" for n in _DRAW.integers(0, NUM_ITEMS, 900)],
}
SPEC: dict[str, Any] = {
    "model": {
        "kind": "two_tower",
        "query": {
            "towers": {
                "id": {"kind": "id", "dim": 6},
                "about": {"kind": "table", "columns": ["age"], "dim": 6, "layers": []},
            }
        },
        "candidate": {
            "towers": {
                "id": {"kind": "id", "dim": 6},
                "more": {"kind": "table", "columns": ["price"], "dim": 6, "layers": []},
            }
        },
    },
    "training": {"epochs": 2, "batch_size": 64, "optimizer": {"kind": "adam", "lr": 0.05}},
    "evaluation": {"k": [3]},
}


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A two-tower over ids and one column of each side."""
    items = {"table": ITEMS, "title": "name"}
    data = tk.read(EVENTS, query="user", candidate="item", entities={"item": items, "user": USERS})
    return tk.fit(SPEC, data, run=tmp_path_factory.mktemp("shop") / "run")

"""What docs/results.md compares: data, settings and updates, with what is chosen on validation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, Any]
"""``key.of.part`` -> value, as ``--set`` takes them."""


@dataclass(frozen=True)
class Data:
    """A public data set under a published split."""

    name: str
    title: str
    spec: str
    """Beside this file."""
    epochs: int
    validate_every: int


@dataclass(frozen=True)
class Variant:
    """An update rule, and what of it is chosen on validation: every variant tries equally many settings."""

    name: str
    fixed: Settings
    grid: dict[str, list[Any]] = field(default_factory=dict)

    def trials(self) -> list[Settings]:
        """Every combination of the grid."""
        values = itertools.product(*self.grid.values())
        return [{**self.fixed, **dict(zip(self.grid, combination, strict=True))} for combination in values]


DATA = [
    Data("ml100k", "MovieLens-100K, reference split", "ml100k.yaml", 100, 2),
    Data("ml1m", "MovieLens-1M, LightGCN-style split", "ml1m.yaml", 40, 2),
    Data("gowalla", "Gowalla, LightGCN split", "gowalla.yaml", 40, 4),
]
LR = "training.optimizer.lr"
VARIANTS = [
    Variant("two_backprop", {"update": {"kind": "two_backprop"}}, {LR: [0.003, 0.006, 0.012, 0.024]}),
    Variant(
        "one_backprop",
        {"update": {"kind": "one_backprop", "debias": True}},
        {LR: [0.006, 0.012], "update.beta": [0.9, 0.99]},
    ),
    Variant(
        "one_backprop by epoch",
        {"update": {"kind": "one_backprop", "start": "mean_of_items", "refresh": "epoch"}},
        {LR: [0.006, 0.012], "update.beta": [0.9, 0.99]},
    ),
]
SEEDS = (0, 1, 2)

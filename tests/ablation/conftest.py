"""Small Runs on the bundled shop that the tests of ablation share; each is trained once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import towerkit as tk
from towerkit.core.random import generator
from towerkit.data.dataset import Dataset
from towerkit.data.shop.tables import shop_table
from towerkit.run import Run

ADAM = {"kind": "adam", "lr": 0.01}


@dataclass(frozen=True)
class Trained:
    """A Run with the data that it was trained on."""

    run: Run
    dataset: Dataset


def table(column: str, dim: int = 16, **more: Any) -> dict[str, Any]:
    """A tower of one column."""
    return {"kind": "table", "columns": [column], "dim": dim, **more}


def purchases() -> Dataset:
    """Who bought what in the small shop."""
    tables = {name: shop_table(name, 0, "small") for name in ("purchases", "users", "products")}
    split = {"kind": "time", "validation": 0.1, "test": 0.2}
    entities = {"user_id": tables["users"], "product_id": tables["products"]}
    return tk.read(
        tables["purchases"], query="user_id", candidate="product_id", time="time", entities=entities, split=split
    )


def reviews() -> Dataset:
    """Reviews of the small shop, with two columns of noise."""
    rows = shop_table("reviews", 0, "small")
    noise = generator(7, "noise").normal(size=(rows.num_rows, 2))
    rows = rows.append_column("noise_a", pa.array(noise[:, 0])).append_column("noise_b", pa.array(noise[:, 1]))
    return tk.read(rows, split={"kind": "random", "validation": 0.1, "test": 0.4})


TWO_TOWER: Mapping[str, Any] = {
    "model": {
        "kind": "two_tower",
        "query": {"kind": "id", "dim": 16},
        "candidate": {
            "towers": {name: table(column) for name, column in
                       {"category": "category", "brand": "brand", "color": "color", "shelf": "shelf_code"}.items()},
            "absent": 0.1,
        },
    },
    "objective": {"loss": {"kind": "sampled_softmax"}, "negatives": [{"kind": "uniform", "count": 10}]},
    "training": {"epochs": 12, "batch_size": 256, "optimizer": ADAM, "patience": 3, "refit": False},
    "evaluation": {"k": [10], "baselines": ["popularity"]},
}  # fmt: skip

TOWER_MODEL: Mapping[str, Any] = {
    "model": {
        "kind": "tower_model",
        "absent": 0.15,
        "towers": {
            "text": {
                "kind": "text",
                "columns": ["title", "text"],
                "encoder": {"kind": "hashed_ngrams", "buckets": 2048},
                "dim": 16,
            },
            "table": {"kind": "table", "columns": ["age", "category"], "dim": 8},
            "noise": {"kind": "table", "columns": ["noise_a", "noise_b"], "dim": 8},
        },
        "backbone": {"kind": "gated", "dim": 16},
        "heads": {
            "rating": {"kind": "ordinal", "column": "rating", "layers": [8]},
            "recommended": {"kind": "binary", "column": "recommended"},
        },
    },
    "training": {"epochs": 15, "batch_size": 64, "optimizer": ADAM, "patience": 4},
}


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the Runs are."""
    return tmp_path_factory.mktemp("ablation")


@pytest.fixture(scope="package")
def two_tower(folder: Path) -> Trained:
    """A two-tower whose candidate side has a useless tower, the shelf."""
    dataset = purchases()
    return Trained(tk.fit(dict(TWO_TOWER), dataset, run=folder / "two_tower"), dataset)


@pytest.fixture(scope="package")
def tower_model(folder: Path) -> Trained:
    """A tower model of two tasks with a useless tower, the noise."""
    dataset = reviews()
    return Trained(tk.fit(dict(TOWER_MODEL), dataset, run=folder / "tower_model"), dataset)


def close(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two sets of figures are the same but for rounding."""
    return one.keys() == other.keys() and all(np.isclose(one[name], other[name], atol=1e-6) for name in one)

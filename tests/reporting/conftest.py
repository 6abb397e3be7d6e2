"""Small Runs of the kinds that a report shows differently, with texts that a careless page would run."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

import towerkit as tk
from towerkit.core.spec import parse
from towerkit.data.dataset import read_dataset
from towerkit.data.shop import shop_table
from towerkit.run_writer import train_run
from towerkit.spec import ExperimentSpec, parse_yaml
from towerkit.training.progress import Silent

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202eevil\u202c שלום",
    "</style><style>*{display:none}</style>",
    "a & b 'c'",
)
"""Titles of the first products."""

RANKING = """
data:
  examples: {path: purchases.csv, query: user_id, candidate: product_id, time: time}
  entities:
    user_id: {path: "builtin:shop-small/users"}
    product_id: {path: products.csv, title: title}
  split: {kind: time, validation: 0.1, test: 0.2}
model:
  kind: two_tower
  query: {kind: id, dim: 8}
  candidate: {towers: {id: {kind: id, dim: 8}, about: {kind: table, columns: [category], dim: 8}}}
training: {epochs: 2, batch_size: 512}
evaluation: {k: [5, 10], segments: [user_id.city]}
"""
PREDICTION = """
data:
  examples: {path: reviews.csv}
  split: {kind: random, validation: 0.1, test: 0.3}
model:
  kind: tower_model
  towers: {about: {kind: table, columns: [age, category, title], dim: 8}}
  heads:
    rating: {kind: ordinal, column: rating}
    recommended: {kind: binary, column: recommended}
training: {epochs: 2, batch_size: 256}
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data files."""
    folder = tmp_path_factory.mktemp("report")
    products = shop_table("products", size="small").select(["product_id", "title", "category"])
    titles = [*HOSTILE, *products.column("title").to_pylist()[len(HOSTILE) :]]
    products = products.set_column(1, "title", pa.array(titles))
    reviews = (
        shop_table("reviews", size="small").select(["title", "age", "category", "rating", "recommended"]).slice(0, 900)
    )
    mixed = [
        HOSTILE[place % len(HOSTILE)] if place % 3 == 0 else each
        for place, each in enumerate(reviews.column("title").to_pylist())
    ]
    reviews = reviews.set_column(0, "title", pa.array(mixed))
    for name, table in {
        "products": products,
        "reviews": reviews,
        "purchases": shop_table("purchases", size="small").select(["user_id", "product_id", "time"]),
    }.items():
        pa.csv.write_csv(table, folder / f"{name}.csv")
    return folder


def trained(folder: Path, name: str, text: str) -> tk.Run:
    """A Run whose data has relative paths."""
    spec = parse(ExperimentSpec, parse_yaml(text, name), name)
    dataset = read_dataset(spec.data, base=folder, seed=spec.training.seed)
    run, _ = train_run(folder / name, spec, dataset, Silent())
    return run


@pytest.fixture(scope="session")
def ranking(folder: Path) -> tk.Run:
    """A two-tower over products with hostile titles."""
    return trained(folder, "ranking", RANKING)


@pytest.fixture(scope="session")
def prediction(folder: Path) -> tk.Run:
    """A tower model with two tasks, of rows with hostile texts."""
    return trained(folder, "prediction", PREDICTION)

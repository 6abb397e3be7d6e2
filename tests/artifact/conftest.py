"""One small Run of each model kind, trained once for all tests of this folder; never change one in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest

from towerkit.api import fit, read
from towerkit.data.shop import shop_table
from towerkit.run import Run

TRAINING = {"epochs": 1, "batch_size": 256}
ID = {"kind": "id", "dim": 4}
WORDS = {"kind": "text", "columns": ["title", "text"], "encoder": {"kind": "hashed_ngrams", "buckets": 64}, "dim": 4}
NUMBERS = {"kind": "table", "columns": ["age", "helpful_count", "category"], "layers": [4], "dim": 4}
PRODUCT = {"kind": "table", "entity": "product_id", "columns": ["brand", "price"], "layers": [], "dim": 4}
LIKED, STARS = {"kind": "binary", "column": "recommended"}, {"kind": "ordinal", "column": "rating"}
MODELS: Mapping[str, Any] = {
    "two_tower": {
        "kind": "two_tower",
        "query": ID,
        "candidate": {"towers": {"words": {**WORDS, "columns": ["title"]}, "id": ID}},
    },
    "tower_model": {
        "kind": "tower_model",
        "towers": {"words": WORDS, "numbers": NUMBERS, "product": PRODUCT},
        "heads": {"stars": STARS, "liked": LIKED},
    },
    "ranker": {
        "kind": "ranker",
        "towers": {
            "user": {**ID, "entity": "user_id"},
            "words": {**WORDS, "columns": ["title"], "entity": "product_id"},
            "store": {"kind": "table", "entity": "store", "columns": ["city"], "layers": [], "dim": 4},
        },
        "absent": 0.1,
        "heads": {"many": {"kind": "binary", "column": "many"}},
    },
    "joint": {
        "kind": "joint",
        "query": ID,
        "candidates": {"product_id": {"towers": {"words": {**WORDS, "columns": ["title"]}, "id": ID}}, "store": ID},
    },
    "late_fusion": {
        "kind": "late_fusion",
        "members": {
            "words": {"kind": "tower_model", "towers": {"words": WORDS}, "heads": {"liked": LIKED}},
            "trees": {"kind": "xgboost", "columns": ["age", "category"], "task": LIKED, "rounds": 3},
        },
        "combine": {"kind": "stack", "folds": 2},
    },
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Kind -> its Run."""
    folder = tmp_path_factory.mktemp("runs")
    products = shop_table("products", size="small").select(["product_id", "title", "brand", "price"])
    reviews = shop_table("reviews", size="small").slice(0, 300)
    purchases = shop_table("purchases", size="small").slice(0, 400)
    entities = {"product_id": {"table": products, "key": "product_id", "title": "title"}}
    keys = [f"s{place % 40}" for place in range(len(purchases))]
    many = [str(place % 3 > 0) for place in range(len(purchases))]
    purchases = purchases.append_column("store", pa.array(keys)).append_column("many", pa.array(many))
    stores = pa.table(
        {"store": [f"s{number}" for number in range(40)], "city": ["Rome", "Oslo", None, "Bern", "Oslo"] * 8}
    )
    of_pairs = {**entities, "store": {"table": stores, "key": "store"}}
    pairs = read(purchases, query="user_id", candidate="product_id", time="time", entities=of_pairs)
    rows = read(reviews, entities=entities)
    of_baskets = read(purchases, query="user_id", time="time", entities=of_pairs)
    tables = {"two_tower": pairs, "ranker": pairs, "joint": of_baskets}
    return {
        name: fit({"model": model, "training": TRAINING}, tables.get(name, rows), run=folder / name)
        for name, model in MODELS.items()
    }  # fmt: skip

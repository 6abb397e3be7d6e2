"""A folder of small Runs of the kinds that pages show differently, and the studio over it, asked over real connections."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.serving.conftest import Asked

import towerkit as tk
from towerkit.data.shop import shop_table
from towerkit.run import Run

if importlib.util.find_spec("fastapi") is None:
    collect_ignore_glob = ["*"]  # they need the extra studio

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\u202eevil\u202c שלום", "a & b 'c'")
"""Titles of the first products."""
SIDES: dict[str, Any] = {
    "kind": "two_tower",
    "query": {
        "towers": {"id": {"kind": "id", "dim": 8}, "about": {"kind": "table", "columns": ["age", "plan"], "dim": 8}}
    },
    "candidate": {
        "towers": {
            "id": {"kind": "id", "dim": 8},
            "about": {"kind": "table", "columns": ["category", "price"], "dim": 8},
        }
    },
}
REVIEWS: dict[str, Any] = {
    "text": {"kind": "text", "columns": ["text"], "encoder": {"kind": "hashed_ngrams", "buckets": 256}, "dim": 8},
    "table": {"kind": "table", "columns": ["age", "category"], "dim": 8},
}


def products(*, hostile: bool) -> pa.Table:
    """The products of the small shop, the first ones with titles that a careless page would run."""
    products = shop_table("products", size="small").select(["product_id", "title", "category", "price"])
    if not hostile:
        return products
    titles = [*HOSTILE, *products.column("title").to_pylist()[len(HOSTILE) :]]
    return products.set_column(1, "title", pa.array(titles))


def trained(folder: Path, model: dict[str, Any], data: Any, epochs: int = 1, **more: Any) -> Run:
    """A Run."""
    training = {"epochs": epochs, "batch_size": 512 if epochs == 1 else 128, "optimizer": {"kind": "adam", "lr": 0.01}}
    spec = {"model": model, "training": training, "evaluation": {"k": [5]}, **more}
    return tk.fit(spec, data, run=folder)


def purchases(*, hostile: bool) -> Any:
    """Who bought what, in time."""
    entities = {
        "user_id": {"table": shop_table("users", size="small").select(["user_id", "age", "plan"])},
        "product_id": {"table": products(hostile=hostile), "title": "title"},
    }
    rows = shop_table("purchases", size="small").select(["user_id", "product_id", "time"])
    return tk.read(rows, query="user_id", candidate="product_id", time="time", entities=entities)


def reviews() -> pa.Table:
    """Texts with two labels."""
    columns = ["text", "age", "category", "rating", "recommended"]
    return shop_table("reviews", size="small").select(columns)


HEADS = {
    "rating": {"kind": "ordinal", "column": "rating"},
    "recommended": {"kind": "binary", "column": "recommended"},
}


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``shop`` takes histories, ``deep~ids`` does not; ``reviews`` predicts two tasks, ``late`` is of two members."""
    root = tmp_path_factory.mktemp("studio")
    bought = purchases(hostile=True)
    trained(root / "shop", SIDES, bought, update={"kind": "one_backprop", "beta": 0.8})
    ids = {"kind": "two_tower", "query": {"kind": "id", "dim": 4}, "candidate": {"kind": "id", "dim": 4}}
    (root / "deep").mkdir()
    trained(root / "deep" / "ids", ids, bought)
    read = tk.read(reviews().slice(0, 600))
    trained(root / "reviews", {"kind": "tower_model", "towers": REVIEWS, "heads": HEADS}, read)
    one = {"recommended": HEADS["recommended"]}
    members = {name: {"kind": "tower_model", "towers": {name: tower}, "heads": one} for name, tower in REVIEWS.items()}
    trained(root / "late", {"kind": "late_fusion", "members": members, "combine": {"kind": "average"}}, read)
    (root / "broken").mkdir()
    (root / "broken" / "manifest.json").write_text("{}", encoding="utf-8")
    return root


def open_studio(root: Path, service: str | None = None, **settings: Any) -> Asked:
    """The studio over a folder, in a thread of this process."""
    from towerkit.serving.settings import Settings
    from towerkit.studio.app import LIMITS
    from towerkit.studio.server import studio_server
    from towerkit.studio.service import ServiceLink
    from towerkit.studio.state import Studio

    address: list[str] = []
    shown = Studio(root, root, None if service is None else ServiceLink(service))
    server = studio_server(shown, Settings(port=0, limits=LIMITS, **settings), address.append)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 120
    while not address and thread.is_alive() and time.monotonic() < until:
        time.sleep(0.01)
    return Asked(server, thread, address, None)


@pytest.fixture(scope="session")
def studio(root: Path) -> Generator[Asked]:
    """One studio for all tests."""
    asked = open_studio(root)
    yield asked
    asked.stop()


Part = Callable[..., str]


@pytest.fixture(scope="session")
def part(studio: Asked) -> Part:
    """What a module of ours would put into its page."""

    def ask(path: str, **body: Any) -> str:
        content = studio.post(path, **body)
        return str(content["html"])

    return ask


def run_of(root: Path, name: str) -> Run:
    """One of the Runs."""
    return tk.load(root / name.replace("~", "/"))


def history_line(epoch: int, loss: float) -> str:
    """A line as a training writes it."""
    return json.dumps({"stage": "train", "epoch": epoch, "loss": loss, "validation/ndcg@5": 0.1 * epoch}) + "\n"

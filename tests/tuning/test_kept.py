"""What trials of one process share (`towerkit.core.keeping` in the encoder and the decomposition).

Pinned here:
- a model that is trained on what was kept goes through the same losses, bit for bit, as one that is trained alone;
- a trial that changes one feature encodes that one anew, and no other; other rows share nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import towerkit as tk
from towerkit.core.keeping import keeping
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.features.columns import NumberFeature
from towerkit.features.ngrams import NgramsFeature
from towerkit.spec import ModelingSpec
from towerkit.training.progress import Silent
from towerkit.tuning.objective import measure


@pytest.fixture(scope="module")
def rows() -> Dataset:
    draw = np.random.default_rng(0)
    words = np.array(["red", "round", "sour", "soft"])
    table = {
        "text": [" ".join(words[draw.integers(0, 4, 3)]) for _ in range(120)],
        "size": draw.normal(size=120).tolist(),
    }
    table["good"] = [int("red" in text) for text in table["text"]]
    return tk.read(table, split={"kind": "random", "validation": 0.2, "test": 0.2})


def spec(*, buckets: int = 64, dim: int = 4) -> ModelingSpec:
    model: Mapping[str, Any] = {
        "kind": "tower_model",
        "towers": {
            "text": {
                "kind": "text",
                "columns": ["text"],
                "encoder": {"kind": "hashed_ngrams", "buckets": buckets},
                "dim": dim,
            },
            "table": {"kind": "table", "columns": ["size"], "layers": [4], "dim": 4},
        },
        "heads": {"good": {"kind": "binary", "column": "good"}},
    }
    return parse(ModelingSpec, {"model": model, "training": {"epochs": 2, "batch_size": 32}}, "x")


def curve(modeling: ModelingSpec, dataset: Dataset) -> str:
    return measure(modeling, dataset, lambda epoch, best: False, Silent()).curve


def test_what_was_kept_changes_nothing_and_only_what_changed_is_encoded(rows: Dataset, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    for kind in (NgramsFeature, NumberFeature):
        true = kind.encode

        def encode(self: Any, table: Any, true: Any = true, name: str = kind.__name__) -> Any:
            if table.num_rows > 1:  # not the unknown row
                read.append(name)
            return true(self, table)

        monkeypatch.setattr(kind, "encode", encode)
    alone = curve(spec(), rows)
    changed = curve(spec(buckets=32), rows)
    assert alone != changed
    with keeping() as keeper:
        read.clear()
        assert curve(spec(), rows) == alone and set(read) == {"NgramsFeature", "NumberFeature"}
        read.clear()
        assert curve(spec(), rows) == alone and curve(spec(dim=8), rows) != alone and read == []
        assert curve(spec(buckets=32), rows) == changed and set(read) == {"NgramsFeature"}
        assert keeper.hits > 0 and keeper.saved_s > 0
        read.clear()
        other = rows.with_parts(replace(rows.parts, train=rows.parts.train[5:]))
        assert curve(spec(), other) != alone and "NumberFeature" in read


def test_a_decomposition_is_kept(world: Dataset):
    tower = {"kind": "id", "dim": 4, "start": "spectral"}
    model = {"kind": "two_tower", "query": tower, "candidate": tower}
    modeling = parse(ModelingSpec, {"model": model, "training": {"epochs": 2, "engine": "torch"}}, "x")
    alone = curve(modeling, world)
    with keeping() as keeper:
        assert curve(modeling, world) == alone
        before = keeper.hits
        assert curve(modeling, world) == alone and keeper.hits > before

"""Frozen towers, whose vectors are computed once (`towerkit.training.still`).

Pinned here:
- the training is that without this: the same weights within rounding, for each kind of model;
- in training the rows of a frozen tower are looked at once, all others in every step; a trained model computes them again;
- a frozen tower has no dropout, and gets it back with another training;
- a tower whose rows change with the example, and one that only looks up, are left alone;
- trainings under one search compute the vectors of the same weights and rows once; other weights or rows anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import towerkit as tk
from towerkit.core.keeping import keeping
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.outcomes.recipes import recipe_of
from towerkit.spec import ModelingSpec
from towerkit.towers import TableTower
from towerkit.training import starts
from towerkit.training.starts import towers_in
from towerkit.training.state import seeded_torch

TABLE = {"kind": "table", "columns": ["color", "size"], "layers": [4], "dropout": 0.5, "dim": 6}
WORDS = {"kind": "text", "columns": ["name"], "encoder": {"kind": "hashed_ngrams", "buckets": 32}, "dim": 6}


def data(shift: float = 0.0) -> Dataset:
    draw = np.random.default_rng(0)
    pairs = sorted({(u, int(i)) for u in range(30) for i in draw.choice(range(u % 2, 30, 2), 6, replace=False)})
    table = {
        "user": [f"u{u}" for u, _ in pairs],
        "item": [f"i{i}" for _, i in pairs],
        "liked": [bool(i % 3) for _, i in pairs],
    }
    about = {
        "item": [f"i{i}" for i in range(30)],
        "name": [f"thing number {i % 7}" for i in range(30)],
        "color": [("red", "blue", "green")[i % 3] for i in range(30)],
        "size": [float(i) + shift for i in range(30)],
    }
    split = {"kind": "random", "validation": 0.2, "test": 0.2}
    return tk.read(table, query="user", candidate="item", entities={"item": about}, split=split)


def spec(kind: str, frozen: str = "about") -> ModelingSpec:
    query, words, about = {"kind": "id", "dim": 6}, WORDS, TABLE
    if kind == "two_tower":
        model: dict[str, Any] = {"query": query, "candidate": {"towers": {"words": words, "about": about}}}
        frozen = f"candidate.{frozen}"
    else:
        towers = {"query": {**query, "entity": "user"}, "words": {**words, "entity": "item"}}
        model = {"towers": {**towers, "about": {**about, "entity": "item"}}}
        model |= {"heads": {"liked": {"kind": "binary", "column": "liked"}}} if kind == "tower_model" else {}
    training = {"epochs": 3, "batch_size": 32, "refit": False, "towers": {frozen: {"freeze": True}}}
    return parse(ModelingSpec, {"model": {"kind": kind, **model}, "training": training}, "test")


def trained(kind: str, run: Path) -> Any:
    return tk.fit(spec(kind), data(), run=run).model


def prepared_of(asked: ModelingSpec, dataset: Dataset, seed: int = 0) -> Any:
    with seeded_torch(seed):
        recipe: Any = recipe_of(asked, dataset)
        return recipe.prepare(dataset, dataset.parts.train, asked.training)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each look of a table tower."""
    seen: list[int] = []
    before = TableTower.forward

    def forward(tower: TableTower, columns: Any) -> torch.Tensor:
        found = before(tower, columns)
        seen.append(len(found))
        return found

    monkeypatch.setattr(TableTower, "forward", forward)
    return seen


@pytest.mark.parametrize("kind", ["two_tower", "tower_model", "ranker"])
def test_the_training_is_the_same(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = trained(kind, tmp_path / "once").model.state_dict()
    monkeypatch.setattr(starts, "with_vectors", lambda encoded, *_: encoded)
    each_step = trained(kind, tmp_path / "each").model.state_dict()
    assert once.keys() == each_step.keys()
    assert all(torch.allclose(once[name], each_step[name], atol=1e-5) for name in once)


@pytest.mark.parametrize("kind", ["two_tower", "tower_model", "ranker"])
def test_training_looks_once(kind: str, looks: list[int]) -> None:
    dataset = data()
    prepared = prepared_of(spec(kind), dataset)
    assert looks == [31], "all things and the unknown one"
    model, encoded = prepared.state.model.train(), prepared.encoded
    tower = next(each for name, each in towers_in(model).items() if name.endswith("about"))
    assert not tower.training and model.training
    batch = encoded.batch(dataset.parts.train[:16])
    model(batch)
    assert looks == [31]
    served = {name: column for name, column in batch.columns["item"].items() if name != tower.computed}
    assert torch.allclose(tower.vectors(batch.columns["item"]), tower.vectors(served), atol=1e-6) and len(looks) == 2
    tower.still = False
    assert tower.train().training


def test_what_looks_up_is_left_alone() -> None:
    prepared = prepared_of(spec("ranker", frozen="query"), data())
    assert towers_in(prepared.state.model)["query"].computed is None


def test_a_row_that_is_seen_as_of_its_time_is_computed_in_each_step() -> None:
    draw = np.random.default_rng(0)
    table = {
        "user": [f"u{n % 20}" for n in range(200)],
        "item": [f"i{int(i)}" for i in draw.integers(0, 30, 200)],
        "time": list(range(200)),
    }
    dataset = tk.read(
        table, query="user", candidate="item", time="time", split={"kind": "per_query"}, duplicates="keep"
    )
    past = {"kind": "table", "columns": [{"aggregate": "count", "by": "user"}], "layers": [4], "dim": 6}
    model = {
        "kind": "two_tower",
        "query": {"towers": {"id": {"kind": "id", "dim": 6}, "past": past}},
        "candidate": {"kind": "id", "dim": 6},
    }
    asked = parse(ModelingSpec, {"model": model, "training": {"towers": {"query.past": {"freeze": True}}}}, "test")
    prepared = prepared_of(asked, dataset)
    assert prepared.encoded.dated and towers_in(prepared.state.model)["query.past"].computed is None


def test_a_search_computes_the_same_vectors_once(looks: list[int]) -> None:
    asked, dataset = spec("tower_model"), data()
    with keeping() as keeper:
        for expected, seed in ((1, 0), (1, 0), (2, 1)):
            prepared_of(asked, dataset, seed)
            assert len(looks) == expected
        prepared_of(asked, data(), 0)
        assert len(looks) == 2, "the rows are alike, whoever read them"
    assert keeper.saved_s > 0
    prepared_of(asked, dataset)
    assert len(looks) == 3, "nobody keeps"

"""Towers that start from a Run, stay or move at their own pace (`training.towers`, `towerkit.training.starts`).

Pinned here:
- a tower starts with the vectors of the Run's by key, in whatever order the new data has them; new keys start at its unknown row;
  other towers start as they would have;
- a frozen tower ends as it began, and the others move; a factor of the step size moves a tower less;
- columns with features, whose vocabularies and means come along, start in a model of another kind;
- another width is refused, unless it is to be projected, which keeps inner products as well as that width can;
- a Run, a tower or columns that are not there, and starts where nothing would look at them, are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import towerkit as tk
from towerkit.core.errors import RunError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.outcomes.recipes import recipe_of
from towerkit.run import Run
from towerkit.spec import ModelingSpec
from towerkit.training.starts import Starts, towers_in
from towerkit.training.state import seeded_torch

USERS, ITEMS = 40, 30


def world(seed: int, users: range, items: range) -> Dataset:
    draw = np.random.default_rng(seed)
    pairs = {(u, int(i)) for u in users for i in draw.choice([n for n in items if n % 2 == u % 2], 6, replace=False)}
    rows = draw.permutation(sorted(pairs))
    table = {"user": [f"u{u}" for u, _ in rows], "item": [f"i{i}" for _, i in rows]}
    about = {
        "item": [f"i{i}" for i in items],
        "color": [("red", "blue", "green")[i % 3] for i in items],
        "size": [float(i) for i in items],
    }
    split = {"kind": "random", "validation": 0.2, "test": 0.2}
    return tk.read(table, query="user", candidate="item", entities={"item": about}, split=split)


def spec(dim: int = 6, towers: Mapping[str, Any] | None = None, lr: float = 0.01, **more: Any) -> dict[str, Any]:
    table = {"kind": "table", "columns": ["color", "size"], "layers": [4], "dim": dim}
    return {
        "model": {
            "kind": "two_tower",
            "query": {"kind": "id", "dim": dim},
            "candidate": {"towers": {"id": {"kind": "id", "dim": dim}, "table": table}},
        },
        "training": {
            "epochs": 3,
            "batch_size": 64,
            "refit": False,
            "optimizer": {"lr": lr},
            "towers": dict(towers or {}),
        },
        "evaluation": {"k": [5], "baselines": ["popularity"]},
        **more,
    }


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tk.fit(spec(), world(0, range(USERS), range(ITEMS)), run=tmp_path_factory.mktemp("old") / "run")


@pytest.fixture(scope="module")
def new() -> Dataset:
    """Other pairs, half of the people new, some things new."""
    return world(1, range(USERS // 2, 2 * USERS), range(10, ITEMS + 10))


def started(modeling: Mapping[str, Any], dataset: Dataset) -> tuple[Any, Any]:
    """The model as it begins, and its encoder."""
    found = parse(ModelingSpec, modeling, "x")
    with seeded_torch(7):
        prepared = recipe_of(found, dataset).prepare(dataset, dataset.parts.train, found.training)
    return prepared.state.model, prepared.encoded.encoder


def vectors(tower: Any, encoder: Any, entity: str) -> dict[str, Any]:
    vocabulary = next(f.feature.state().vocabulary for f in encoder.features[entity] if f.spec.kind == "id")
    return dict(zip(["", *vocabulary.values.to_pylist()], tower.table.detach().numpy(), strict=True))


def test_a_tower_starts_with_the_vectors_of_the_run_by_key(old: Run, new: Dataset):
    theirs = vectors(towers_in(old.model.model)["candidate.id"], old.model.encoder, "item")
    model, encoder = started(spec(towers={"candidate.id": {"start": {"path": str(old.path)}}}), new)
    ours = vectors(towers_in(model)["candidate.id"], encoder, "item")
    fresh = set(ours) - set(theirs)
    assert fresh and set(theirs) <= set(ours)
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
    assert all(np.array_equal(ours[key], theirs[""]) for key in fresh)
    plain, _ = started(spec(), new)
    assert torch.equal(towers_in(plain)["query.id"].table, towers_in(model)["query.id"].table), (
        "others start as they would"
    )


def test_features_come_along_into_a_model_of_another_kind(old: Run, new: Dataset):
    modeling = {
        "model": {
            "kind": "ranker",
            "towers": {
                "user": {"kind": "id", "entity": "user", "dim": 6},
                "about": {"kind": "table", "entity": "item", "columns": ["color", "size"], "layers": [4], "dim": 6},
            },
        },
        "training": {"towers": {"about": {"start": {"path": str(old.path), "tower": "candidate.table"}}}},
    }
    model, encoder = started(modeling, new)
    theirs = {each.spec: each.feature.state() for each in old.model.encoder.features["item"]}
    for each in encoder.features["item"]:
        if each.spec.kind == "number":
            assert each.feature.state().values == theirs[each.spec].values, "the mean is that of the Run"
    before, after = (towers_in(each) for each in (old.model.model, model))
    for name, tensor in before["candidate.table"].state_dict().items():
        assert torch.equal(after["about"].state_dict()[name][: len(tensor)], tensor)


def test_a_frozen_tower_stays_and_a_slow_one_moves_less(old: Run, new: Dataset, tmp_path: Path):
    start = {"start": {"path": str(old.path)}}
    begun, _ = started(spec(towers={"candidate.id": start}), new)
    distance = {}
    for name, own in {"frozen": {"freeze": True}, "slow": {"lr_factor": 0.01}, "free": {}}.items():
        run = tk.fit(spec(towers={"candidate.id": start | own}), new, run=tmp_path / name)
        towers = towers_in(run.model.model)
        moved = towers["candidate.id"].table[1:] - towers_in(begun)["candidate.id"].table[1:]
        distance[name] = float(moved.detach().abs().max())
        assert not torch.equal(towers["query.id"].table, towers_in(begun)["query.id"].table)
    assert distance["frozen"] == 0.0 < distance["slow"] < 0.2 * distance["free"]


def test_another_width_is_refused_or_projected(old: Run, new: Dataset):
    with pytest.raises(
        RunError, match=r"'candidate\.id' of .* has 6 dimensions, and the tower 'candidate\.id' 4\..*project: true"
    ):
        started(spec(dim=4, towers={"candidate.id": {"start": {"path": str(old.path)}}}), new)
    with pytest.raises(RunError, match=r"project brings id vectors to another width; the tower 'candidate\.table'"):
        started(spec(dim=4, towers={"candidate.table": {"start": {"path": str(old.path), "project": True}}}), new)
    start = {"start": {"path": str(old.path), "project": True}}
    for dim in (4, 9):
        model, encoder = started(spec(dim=dim, towers={"candidate.id": start, "query.id": start}), new)
        sides = (("query.id", "user"), ("candidate.id", "item"))
        ours = [vectors(towers_in(model)[name], encoder, entity) for name, entity in sides]
        before, known = towers_in(old.model.model), old.model.encoder
        theirs = [vectors(before[name], known, entity) for name, entity in sides]
        assert ours[0]["u1"].shape == (dim,)
        width = min(dim, 6)
        pairs = zip(ours, theirs, strict=True)
        query, candidate = (np.stack([each[key] for key in keys])[:, :width] for each, keys in pairs)
        exact = np.stack(list(theirs[0].values())) @ np.stack(list(theirs[1].values())).T
        gap = np.linalg.norm(query @ candidate.T - exact) / np.linalg.norm(exact)
        assert gap < 1e-5 if dim == 9 else 0 < gap < 0.7


@pytest.mark.parametrize(
    ("tower", "own", "message"),
    [
        ("candidate.ids", {"freeze": True}, r"no tower 'candidate\.ids'; did you mean 'candidate\.id'"),
        ("query.id", {"tower": "user"}, r"has no tower 'user'.*'candidate\.id', 'candidate\.table', 'query\.id'"),
        ("query.id", {"tower": "candidate.id"}, r"does not read 'id of user', as the tower 'query\.id' does"),
        ("candidate.id", {"tower": "candidate.table"}, r"is a TableTower, and the tower 'candidate\.id' is a IdTower"),
        ("query.id", {"path": "nowhere"}, r"nowhere"),
    ],
)
def test_what_is_not_there_is_refused_by_name(old: Run, new: Dataset, tower: str, own: Any, message: str):
    asked = own if "freeze" in own else {"start": {"path": str(old.path)} | own}
    with pytest.raises((RunError, SpecError), match=message):
        started(spec(towers={tower: asked}), new)


def test_starts_where_nothing_would_look_at_them_are_refused(old: Run, new: Dataset, tmp_path: Path):
    start = {"start": {"path": str(old.path)}}
    with pytest.raises(SpecError, match=r"training\.towers\.query\.id: with update: .*one_backprop"):
        parse(ModelingSpec, spec(towers={"query.id": start}, update={"kind": "one_backprop"}), "x")
    with pytest.raises(SpecError, match=r"'lr_factor' is for a tower that is trained; received 0\.5 with freeze"):
        parse(ModelingSpec, spec(towers={"query.id": {"freeze": True, "lr_factor": 0.5}}), "x")
    with pytest.raises(SpecError, match=r"training\.towers has starts"):
        ids = {"kind": "id", "dim": 4}
        modeling = spec(towers={"candidate.id": start}) | {
            "model": {"kind": "two_tower", "query": ids, "candidate": ids}
        }
        modeling["training"]["engine"] = "compiled"
        parse(ModelingSpec, modeling, "x")
    found = parse(ModelingSpec, spec(towers={"candidate.id": start}), "x")
    with pytest.raises(SpecError, match=r"goes on from a Run, where its towers start too"):
        Starts.of(found.training, found.model, new, base=object())  # type: ignore[arg-type]

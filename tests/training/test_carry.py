"""Going on from a Run on new data.

Invariants:
- before the first step known keys have the vectors of the Run, new ones that of its unknown row, all other weights are the Run's;
  so what it answers for known rows is what the Run answers, bit for bit;
- three times in a row: each time the vocabulary keeps its order and grows behind, unseen ids get trained, keys that only earlier
  data had are still answered, and what a query had before is still left out;
- numbers keep mean and deviation; a category that is new has a row of its own, and widths stay, also when the Run is loaded again;
- one-backprop with ``debias`` or a start does not forget the vectors of known queries; new ones begin as they would;
- a class that the new data lacks stays a class; a number is learned in the unit it was; baselines answer in the Run's classes;
- another model, another label class, a late fusion are refused, naming what differs; card and manifest say what it continues.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import towerkit as tk
from towerkit.core.errors import RunError
from towerkit.core.random import stream
from towerkit.core.spec import parse
from towerkit.experiment import recipe_of
from towerkit.run_writer import base_of
from towerkit.spec import ModelingSpec
from towerkit.training.state import seeded_torch

ID = {"kind": "id", "dim": 4}
ITEMS = {"towers": {"id": ID, "table": {"kind": "table", "columns": ["color", "price"], "layers": [6], "dim": 4}}}
RETRIEVAL: dict[str, Any] = {
    "model": {"kind": "two_tower", "query": ID, "candidate": ITEMS},
    "objective": {"negatives": [{"kind": "uniform", "count": 2}]},
    "training": {"epochs": 2, "batch_size": 64, "optimizer": {"kind": "adam", "lr": 0.05}},
    "evaluation": {"k": [3]},
}
ONE_BACKPROP = {**RETRIEVAL, "model": {**RETRIEVAL["model"], "candidate": ID}}


def week(number: int, colors: str = "rgb") -> tk.Dataset:
    """Pairs of ten users and twelve items, each week four users and four items further."""
    rng = np.random.default_rng(number)
    users, items = np.arange(10) + 4 * number, np.arange(12) + 4 * number
    pairs = [(f"u{user}", f"i{item}") for user in users for item in items if rng.random() < 0.7]
    table = {
        "item": [f"i{item}" for item in items],
        "color": [colors[item % len(colors)] for item in items],
        "price": [float(10 * number + item) for item in items],
    }
    rng.shuffle(pairs)
    events = {"user": [user for user, _ in pairs], "item": [item for _, item in pairs]}
    return tk.read(events, query="user", candidate="item", entities={"item": table})


def codes(run: tk.Run, entity: str) -> list[Any]:
    return next(
        f.feature for f in run.model.encoder.features[entity] if f.spec.kind == "id"
    ).vocabulary.values.to_pylist()


def row(run: tk.Run, side: str, key: str) -> torch.Tensor:
    entity = {"query": "user", "candidate": "item"}[side]
    weights = run.model.model.state_dict()
    name = f"{side}.towers.id.table"
    return weights[name][codes(run, entity).index(key) + 1]


def begun(run: tk.Run, spec: dict[str, Any], data: tk.Dataset) -> Any:
    """The model that a training from a Run begins with."""
    parsed = parse(ModelingSpec, spec)
    base = base_of(run, parsed)
    data = base.with_known(data)
    with seeded_torch(stream(0, "torch")):
        return recipe_of(parsed, data, base).prepare(data, data.parts.train, parsed.training), base


def test_it_begins_where_the_run_ended() -> None:
    run = tk.fit(RETRIEVAL, week(0))
    prepared, _ = begun(run, RETRIEVAL, week(1, "rgbyk"))
    old, new = run.model.model.state_dict(), prepared.state.model.state_dict()
    assert old.keys() == new.keys()
    for name, tensor in old.items():
        grown = new[name]
        assert grown.shape[1:] == tensor.shape[1:] and len(grown) >= len(tensor) if tensor.dim() else True
        assert torch.equal(grown[: len(tensor)], tensor), name
        assert all(torch.equal(extra, tensor[0]) for extra in grown[len(tensor) :]), name
    assert len(new["query.towers.id.table"]) > len(old["query.towers.id.table"])
    features = {f.feature.name: f.feature for f in prepared.encoded.encoder.features["item"]}
    before = {f.feature.name: f.feature for f in run.model.encoder.features["item"]}
    assert features["number:price"].mean == before["number:price"].mean
    assert features["category:color"].vocabulary.values.to_pylist() == ["r", "g", "b", "y", "k"] or set(
        features["category:color"].vocabulary.values.to_pylist()
    ) == set("rgbyk")


def test_three_weeks_in_a_row(tmp_path: Path) -> None:
    run = tk.fit(RETRIEVAL, week(0), run=tmp_path / "week-0")
    for number in (1, 2, 3):
        before, run = (
            run,
            tk.fit(
                RETRIEVAL,
                week(number, "rgbyk"[: 3 + number]),
                run=tmp_path / f"week-{number}",
                base=tmp_path / f"week-{number - 1}",
            ),
        )
        run = tk.load(run.path)  # widths and vocabularies come back from the files
        for entity in ("user", "item"):
            known, now = codes(before, entity), codes(run, entity)
            assert now[: len(known)] == known and len(now) > len(known)
        new_user, new_item = f"u{9 + 4 * number}", f"i{11 + 4 * number}"
        for side, key in (("query", new_user), ("candidate", new_item)):
            unknown = before.model.model.state_dict()[f"{side}.towers.id.table"][0]
            assert (row(run, side, key) - unknown).abs().max() > 1e-3, "a new id was not trained"
        found = run.recommend("u0", k=100)
        assert not any(found.column("cold").to_pylist()), "a user of the first week is known for ever"
        learned = week(0).for_refit().parts.train
        pairs = zip(*(week(0).labelled(column, learned).to_pylist() for column in ("user", "item")), strict=True)
        mine = {item for user, item in pairs if user == "u0"}
        assert mine and not mine & set(found.column("item").to_pylist()), "what u0 had in the first week is recommended"
        assert new_item in run.recommend("u0", k=100).column("item").to_pylist()
        assert run.manifest.extra["continues"]["run"] == f"week-{number - 1}"
        assert f"went on from the Run `week-{number - 1}`" in (run.path / "card.md").read_text()
    assert "category:color" in {f.feature.name for f in run.model.encoder.features["item"]}
    assert len(codes(run, "user")) == 10 + 3 * 4


@pytest.mark.parametrize("update", [{"debias": True}, {"start": "mean_of_items"}, {}])
def test_one_backprop_does_not_forget(update: dict[str, Any]) -> None:
    spec = {**ONE_BACKPROP, "update": {"kind": "one_backprop", "beta": 0.99, **update}}
    run = tk.fit(spec, week(0))
    prepared, _ = begun(run, spec, week(1))
    before, model = row(run, "query", "u9").clone(), prepared.state.model
    assert torch.equal(model.query.towers["id"].table[codes(run, "user").index("u9") + 1], before)
    again = tk.fit({**spec, "training": {**spec["training"], "epochs": 1}}, week(1), base=run)
    moved = (row(again, "query", "u9") - before).norm() / before.norm()
    assert 0 < moved < 0.5, "one week of beta 0.99 must not set a known vector anew"


def test_a_tower_model_goes_on(tmp_path: Path) -> None:
    spec = {
        "model": {
            "kind": "tower_model",
            "towers": {"table": {"kind": "table", "columns": ["color", "price"], "layers": [6], "dim": 4}},
            "heads": {"good": {"kind": "binary", "column": "good"}},
        },
        "training": {"epochs": 1, "batch_size": 32},
    }
    rng = np.random.default_rng(0)

    def rows(colors: str, shift: float) -> pa.Table:
        color = rng.choice(list(colors), 200)
        return pa.table(
            {"color": color, "price": rng.normal(size=200) + shift, "good": (color == "r") | (rng.random(200) < 0.2)}
        )

    run = tk.fit(spec, tk.read(rows("rg", 0.0)), run=tmp_path / "one")
    asked = rows("rg", 0.0)
    prepared, _ = begun(run, spec, tk.read(rows("rgb", 5.0)))
    old = run.model.predict(tk.data.readers.read_table(asked))["good"]
    prepared.state.model.eval()
    grown = type(run.model)(run.model.spec, prepared.encoded.encoder, prepared.state.model, {})
    np.testing.assert_array_equal(grown.predict(tk.data.readers.read_table(asked))["good"], old)
    again = tk.fit(spec, tk.read(rows("rgb", 5.0)), base=run, run=tmp_path / "two")
    assert tk.load(again.path).predict(asked).num_rows == 200


def test_labels_keep_their_classes_and_their_unit(tmp_path: Path) -> None:
    heads = {
        "grade": {"kind": "multiclass", "column": "grade"},
        "tags": {"kind": "multilabel", "column": "tags"},
        "price": {"kind": "regression", "column": "price"},
    }
    towers = {"t": {"kind": "table", "columns": ["n"], "dim": 4}}
    spec = {"model": {"kind": "tower_model", "towers": towers, "heads": heads}, "training": {"epochs": 1}}
    rng = np.random.default_rng(0)

    def rows(grades: str, shift: float) -> dict[str, Any]:
        grade = rng.choice(list(grades), 200).tolist()
        price = (rng.normal(size=200) + shift).tolist()
        return {
            "n": rng.normal(size=200).tolist(),
            "grade": grade,
            "tags": [["x", one] for one in grade],
            "price": price,
        }

    first = tk.fit(spec, tk.read(rows("abc", 10.0)), run=tmp_path / "one")
    again = tk.fit(spec, tk.read(rows("ac", 50.0)), base=first, run=tmp_path / "two")
    old, new = first.model.tasks, again.model.tasks
    assert new["grade"].classes == ("a", "b", "c") and new["tags"].classes == ("a", "b", "c", "x")
    assert new["price"].scale == old["price"].scale and new["tags"].frequencies[1] == 0.0
    assert set(again.baselines) == {"majority", "logistic_regression"}
    assert again.baselines["majority"].metrics["price/mae"].value == pytest.approx(0.8, abs=0.3)
    with pytest.raises(RunError, match=r"column 'tags' has the classes 'd', which .* does not know"):
        tk.fit(spec, tk.read(rows("acd", 10.0) | {"grade": ["a", "c"] * 100}), base=first)


def test_what_is_refused(tmp_path: Path) -> None:
    run = tk.fit(ONE_BACKPROP, week(0), run=tmp_path / "run")
    wider = {
        **RETRIEVAL,
        "model": {"kind": "two_tower", "query": {"kind": "id", "dim": 8}, "candidate": {"kind": "id", "dim": 8}},
    }
    with pytest.raises(
        RunError, match=r"model: model\.candidate\.dim was 4 and is 8; model\.query\.dim was 4 and is 8\. A tr"
    ):
        tk.fit(wider, week(1), base=run)
    label = {"kind": "multiclass", "column": "kind"}
    spec = {
        "model": {
            "kind": "tower_model",
            "towers": {"t": {"kind": "table", "columns": ["n"], "dim": 4}},
            "heads": {"kind": label},
        },
        "training": {"epochs": 1},
    }
    rng = np.random.default_rng(0)

    def rows(kinds: str) -> tk.Dataset:
        return tk.read({"n": rng.normal(size=200).tolist(), "kind": rng.choice(list(kinds), 200).tolist()})

    first = tk.fit(spec, rows("abc"))
    with pytest.raises(
        RunError, match=r"column 'kind' has the classes 'd', which .* does not know; its head tells 'a', 'b', 'c'"
    ):
        tk.fit(spec, rows("abcd"), base=first)
    assert tk.fit(spec, rows("ab"), base=first).model.tasks["kind"].classes == ("a", "b", "c")

"""Layers of a tower by depth (`training.towers.NAME.lr_decay`, `unfreeze`).

Pinned here:
- layers are those of the tower from its input to its output: vectors of words, blocks of a transformer with their norms, the
  projection with the vector of missing texts; the columns of a table are one layer; what is frozen is in none;
- the size of a step is the tower's factor, times the decay once for each layer further from the output, times the factor that the
  kind has;
- in each epoch exactly the layers move that have had their turn, also in the refit and after a stop: the same bits as without one;
- a frozen tower has no layers to move.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import towerkit as tk
from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.outcomes.recipes import recipe_of
from towerkit.spec import ExperimentSpec
from towerkit.testing.faults import digests, train_case
from towerkit.training.depths import layers_of
from towerkit.training.fit import Prepared
from towerkit.training.starts import towers_in
from towerkit.training.state import seeded_torch

WORDS = ["red", "blue", "green", "wide", "long", "warm"]
ENCODER = {"kind": "transformer", "buckets": 64, "words": 4, "channels": 8, "layers": 2, "heads": 2}


def data() -> Dataset:
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, 3)) for _ in range(60)]
    return tk.read(
        {
            "text": texts,
            "size": draw.normal(size=60),
            "color": draw.choice(WORDS[:3], 60),
            "warm": ["warm" in t for t in texts],
        },
        split={"kind": "random", "validation": 0.2, "test": 0.2},
    )


def spec(own: dict[str, Any], epochs: int = 4, **training: Any) -> ExperimentSpec:
    described = {
        "data": {"examples": {"path": "builtin:shop/reviews"}},  # not read here
        "model": {
            "kind": "tower_model",
            "towers": {
                "text": {"kind": "text", "columns": ["text"], "encoder": ENCODER, "dim": 4},
                "table": {"kind": "table", "columns": ["size", "color"], "layers": [6], "dim": 4},
            },
            "heads": {"warm": {"kind": "binary", "column": "warm"}},
        },
        "training": {"epochs": epochs, "batch_size": 12, "patience": 50, "refit": False, "towers": own, **training},
    }
    return parse(ExperimentSpec, described, "test")


def prepared(own: dict[str, Any]) -> Prepared:
    asked, dataset = spec(own), data()
    with seeded_torch(0):
        recipe: Any = recipe_of(asked, dataset)
        found: Prepared = recipe.prepare(dataset, dataset.parts.train, asked.training)
    return found


def names(own: dict[str, Any], tower: str) -> list[list[str]]:
    found = towers_in(prepared(own).state.model)[tower]
    by_id = {id(parameter): name for name, parameter in found.named_parameters()}
    return [sorted(by_id[id(parameter)] for parameter in layer) for layer in layers_of(found)]


def test_layers_go_from_the_input_to_the_output() -> None:
    text = names({}, "text")
    assert [layer[0].rpartition(".")[0].removesuffix(".answer") for layer in text][:2] == ["", "encoder"]
    assert text[0] == ["table"] and text[1] == ["encoder.places"]
    assert all(name.startswith("encoder.blocks.0.") for name in text[2])
    assert {name.split(".")[1] for name in text[3]} == {"blocks", "norm"}
    assert text[4] == ["absent", "projection.bias", "projection.weight"] and len(text) == 5
    table = names({}, "table")
    assert all(name.startswith("parts.") for name in table[0])
    assert [layer[0].split(".")[0] for layer in table[1:]] == ["mlp", "mlp"]
    assert names({"table": {"freeze": True}}, "table") == []


def test_a_layer_takes_steps_of_its_depth() -> None:
    state = prepared({"text": {"lr_factor": 0.5, "lr_decay": 0.8}}).state
    towers = towers_in(state.model)
    places = {id(parameter): place for place, parameter in enumerate(state.optimizer.parameters)}
    for depth, layer in enumerate(reversed(layers_of(towers["text"]))):
        for parameter in layer:
            assert state.optimizer.scales[places[id(parameter)]] == pytest.approx(0.5 * 0.8**depth)
    assert all(places[id(parameter)] not in state.optimizer.scales for parameter in towers["table"].parameters())


def weights(own: dict[str, Any], epochs: int, folder: Path, *, refit: bool = False) -> dict[str, torch.Tensor]:
    found = tk.fit(spec(own, epochs, refit=refit), data(), run=folder / f"{epochs}-{refit}").model
    return {name: tensor.clone() for name, tensor in towers_in(found.model)["text"].state_dict().items()}  # type: ignore[union-attr]


@pytest.mark.parametrize("every", [1, 2])
def test_layers_begin_to_move_one_after_the_other(every: int, tmp_path: Path) -> None:
    own = {"text": {"unfreeze": every}}
    layers = names(own, "text")[::-1]
    with seeded_torch(0):
        before = {
            name: tensor.clone() for name, tensor in weights(own, 1, tmp_path).items()
        }  # after the first epoch; the last layer alone has moved
    for epoch in range(1, 6):  # counted from 0: training for one epoch more adds the epoch of this number
        after = weights(own, epoch + 1, tmp_path)
        moved = {name for name in after if not torch.equal(after[name], before[name])}
        turn = {name for depth, layer in enumerate(layers) for name in layer if depth * every <= epoch}
        assert moved <= turn
        assert {layer[0].split(".")[0] for layer in layers if moved & set(layer)} == {
            layer[0].split(".")[0] for depth, layer in enumerate(layers) if depth * every <= epoch
        }
        before = after


def test_after_a_stop_it_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    class Crash(Exception):
        pass

    def crash(done: int) -> None:
        if done == 7:
            raise Crash

    asked, dataset = spec({"text": {"unfreeze": 1, "lr_decay": 0.7}}, refit=True), data()
    expected = digests(train_case(asked, dataset, tmp_path / "whole", every=0))
    with pytest.raises(Crash):
        train_case(asked, dataset, tmp_path / "run", every=1, each=crash)
    assert digests(train_case(asked, dataset, tmp_path / "run")) == expected
    plain = digests(train_case(spec({}, refit=True), dataset, tmp_path / "plain", every=0))
    assert plain != expected


def test_a_frozen_tower_has_no_layers_to_move() -> None:
    for key, value in (("lr_decay", 0.5), ("unfreeze", 1), ("lr_factor", 0.5)):
        with pytest.raises(SpecError, match=f"'{key}' is for a tower that is trained; received {value} with freeze"):
            spec({"text": {"freeze": True, key: value}})

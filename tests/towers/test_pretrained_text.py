"""Text towers by a pretrained encoder (`towerkit.towers.pretrained_text`, `.adapters`, `towerkit.features.text`).

Invariants: without a projection a tower's vectors are the encoder's own, frozen and trained alike; what is not to be trained
does not move and has no dropout, what is to be does move, by its own step size; a correction of low rank begins at nothing;
a text that is missing, empty or of nothing but spaces has the learned absent vector; both sides may have one encoder, whose
weights move together; settings that do not fit are refused with what was received; cached vectors train what tokens train.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.data.batch import Bag, dense
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.roles import EXAMPLE, EntityTable
from towerkit.data.spec import DataSpec
from towerkit.data.table import Table
from towerkit.features.base import State
from towerkit.features.design import _block
from towerkit.features.encoder import Demand, Encoder
from towerkit.features.text import TextVectorsSpec, TokensSpec
from towerkit.models.tower_model import TowerModelSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.pretrained import Pretrained, PretrainedSource, load_module
from towerkit.spec import load_spec
from towerkit.towers import TextTowerSpec, TowerContext
from towerkit.towers.adapters import LoraLinear, add_lora, blocks_of, train_last
from towerkit.towers.pretrained_text import TokensTower, VectorsTower
from towerkit.training.optimizers import AdamSpec
from towerkit.training.recipes import apply_rates
from towerkit.training.state import seeded_torch

LONG = "wool and tea " * 8_000
TEXTS = pa.table({"a": ["Soft wool.", None, "", " \n", "tea", LONG], "b": ["red", None, None, "", "warm cup", None]})


def encoder_of(table: pa.Table, spec: TextTowerSpec) -> Encoder:
    described = parse(
        DataSpec, {"examples": {"path": "p"}, "split": {"kind": "random", "validation": 0.0, "test": 0.0}}
    )
    dataset: Dataset = make_dataset(described, Table(table, "p"))
    return Encoder.fit(
        Demand({EXAMPLE: spec.features(dataset.schemas[EXAMPLE], None)}), dataset, np.arange(table.num_rows)
    )


def tower_of(folder: Path, **encoder: Any) -> tuple[Any, Any]:
    """A tower over the texts, with their encoded columns."""
    keys = {"kind": "pretrained", "path": str(folder), "max_tokens": 12, **encoder}
    dim = 6 if encoder.get("projection", "linear") == "linear" else 32
    spec = parse(TextTowerSpec, {"columns": ["a", "b"], "encoder": keys, "dim": dim})
    fitted = encoder_of(TEXTS, spec)
    with seeded_torch(0):
        tower = spec.build(TowerContext(fitted, EXAMPLE, sparse_rows=False))
    return tower, fitted.encode(EXAMPLE, Table(TEXTS, "p"))


@pytest.mark.parametrize("projection", ["none", "residual"])
@pytest.mark.parametrize("train", ["frozen", "full", {"last": 1}, {"lora": 3}])
def test_without_a_projection_the_vectors_are_the_encoders_own(
    small_encoder: Path, train: Any, projection: str
) -> None:
    tower, columns = tower_of(small_encoder, train=train, projection=projection)
    tower.eval()
    vectors = tower(columns)
    assert vectors.shape == (7, 32)
    spec = TextVectorsSpec(columns=("a", "b"), source=PretrainedSource(path=str(small_encoder)), max_tokens=12)
    expected = spec.fit(TEXTS).encoder.compute(["Soft wool.\nred", "tea\nwarm cup", LONG])
    torch.testing.assert_close(vectors[[1, 5, 6]], torch.from_numpy(expected), atol=1e-6, rtol=1e-5)
    absent = vectors[0]
    assert torch.equal(vectors[2:5], absent.expand(3, -1)) and absent.abs().sum() > 0
    (torch.cat([vectors[:1], vectors[2:5]]).sum()).backward()
    assert tower.projection.absent.grad.tolist() == [4.0] * 32


def trained(tower: Any, optimizer: Any, columns: Any) -> None:
    """Two steps: the first step of a correction moves one of its two halves."""
    for _ in range(2):
        optimizer.zero_grad()
        tower(columns).square().sum().backward()
        optimizer.step()


def block(name: str) -> str:
    """The part of an encoder that a name is in."""
    return ".".join(name.split(".")[: 1 if name.startswith("embeddings") else 3])


@pytest.mark.parametrize(
    ("train", "moved", "dropped"),
    [
        (
            "full",
            {"embeddings", "encoder.layer.0", "encoder.layer.1"},
            {"embeddings", "encoder.layer.0", "encoder.layer.1"},
        ),
        ({"last": 1}, {"encoder.layer.1"}, {"encoder.layer.1"}),
        ({"last": 2}, {"encoder.layer.0", "encoder.layer.1"}, {"encoder.layer.0", "encoder.layer.1"}),
        ({"lora": 2}, {"down", "up"}, {"embeddings", "encoder.layer.0", "encoder.layer.1"}),
    ],
)
def test_only_what_is_trained_moves_and_has_dropout(
    small_encoder: Path, train: Any, moved: set[str], dropped: set[str]
) -> None:
    tower, columns = tower_of(small_encoder, train=train, lr_factor=0.5)
    before = {name: weight.clone() for name, weight in tower.module.named_parameters()}
    trainable = [parameter for parameter in tower.parameters() if parameter.requires_grad]
    optimizer = AdamSpec(lr=0.01).build(trainable)
    apply_rates(optimizer, nn.ModuleList([tower]))
    tower.train()
    with seeded_torch(1):
        trained(tower, optimizer, columns)
    changed = {name: (weight - before[name]).abs().max().item() for name, weight in tower.module.named_parameters()}
    kind = block if "lora" not in train else lambda name: name.rpartition(".")[2]
    assert {kind(name) for name, gap in changed.items() if gap > 0} == moved
    assert max(changed.values()) <= 2 * 0.5 * 0.01 * 1.001  # two steps of Adam at half the rate
    in_training = {
        name for name, part in tower.module.named_modules() if part.training and isinstance(part, nn.Dropout)
    }
    assert {block(name) for name in in_training} == dropped
    tower.eval()
    assert not any(part.training for part in tower.modules())


def test_a_residual_projection_learns_a_correction(small_encoder: Path) -> None:
    tower, columns = tower_of(small_encoder, projection="residual", layers=[5])
    before = tower(columns).detach()
    optimizer = AdamSpec(lr=0.01).build(tower.parameters())
    trained(tower, optimizer, columns)
    after = tower(columns).detach()
    vectors = columns[tower.feature][:, :-1]
    expected = vectors + tower.projection.layers(vectors)
    torch.testing.assert_close(after[[1, 5, 6]], expected.detach()[[1, 5, 6]])
    assert (after - before)[1].abs().max() > 1e-3


def test_a_correction_of_low_rank_is_the_formula() -> None:
    with seeded_torch(0):
        base = nn.Linear(5, 3)
        layer = LoraLinear(base, rank=2, alpha=6.0)
    inputs = torch.arange(20.0).reshape(4, 5)
    assert torch.equal(layer(inputs), base(inputs))
    layer.up.data.copy_(torch.ones(3, 2))
    expected = inputs @ (base.weight + 3.0 * torch.ones(3, 2) @ layer.down).T + base.bias
    torch.testing.assert_close(layer(inputs), expected)
    assert [name for name, each in layer.named_parameters() if each.requires_grad] == ["down", "up"]


def test_blocks_are_found_and_counted(small_encoder: Path) -> None:
    module = load_module(Pretrained.of(small_encoder))
    assert len(blocks_of(module)) == 2
    with pytest.raises(SpecError, match=r"train: \{last: 3\} asks for more blocks than the encoder has, 2"):
        train_last(module, 3)
    with pytest.raises(SpecError, match="An? Identity has no list of blocks"):
        blocks_of(nn.Identity())
    with seeded_torch(0):
        add_lora(module, 2, 16.0)
    assert sum(isinstance(each, LoraLinear) for each in module.modules()) == 12
    assert not isinstance(module.embeddings.word_embeddings, LoraLinear)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"layers": [8], "projection": "none"},
            r"'layers' are those of the projection; received \[8\] with projection: none",
        ),
        ({"lr_factor": 0.1}, "'lr_factor' is for an encoder that is trained; received 0.1 with train: frozen"),
        ({"train": "full", "precision": "bfloat16"}, "'precision' and 'vectors' are for a frozen encoder"),
        ({"train": {"lora": 0}}, "greater than or equal to 1"),
        ({"train": {"first": 1}}, "unknown key 'first'"),
        ({"path": None}, "received path: None, name: None"),
        ({"pooling": "sum"}, "'auto', 'mean', 'cls' or 'max'|'mean', 'cls' or 'max'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(keys: Any, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        parse(TextTowerSpec, {"columns": ["a"], "encoder": {"kind": "pretrained", "path": "p", **keys}})


def test_widths_lengths_and_starts_that_do_not_fit_are_refused(small_encoder: Path) -> None:
    keys = {"kind": "pretrained", "path": str(small_encoder), "projection": "none"}
    spec = parse(TextTowerSpec, {"columns": ["a"], "dim": 8, "encoder": keys})
    with pytest.raises(SpecError, match="projection: none keeps .* width, which is 32; the text tower has dim 8"):
        spec.build(TowerContext(encoder_of(TEXTS, spec), EXAMPLE, sparse_rows=False))
    with pytest.raises(SpecError, match=r"max_tokens must be at most 64, .*; received 65"):
        tower_of(small_encoder, max_tokens=65)
    with pytest.raises(SpecError, match="start: spectral is where .* begin; received the encoder pretrained"):
        parse(TextTowerSpec, {"columns": ["a"], "start": "spectral", "encoder": {"kind": "pretrained", "path": "p"}})


def test_what_is_held_is_the_vector_and_a_flag(small_encoder: Path) -> None:
    source = PretrainedSource(path=str(small_encoder))
    feature = TextVectorsSpec(columns=("a",), source=source).fit(TEXTS)
    column = feature.encode(TEXTS)
    assert isinstance(column, torch.Tensor) and column.shape == (6, 33) and column.dtype == torch.float32
    assert column[:, -1].tolist() == [0, 1, 1, 1, 0, 0] and not column[1:4, :-1].any()
    half = TextVectorsSpec(columns=("a",), source=source, vectors="float16").fit(TEXTS)
    assert half.name != feature.name
    torch.testing.assert_close(dense({"x": half.encode(TEXTS)}, "x").float(), column, atol=2e-3, rtol=1e-3)
    assert dense({"x": half.encode(TEXTS)}, "x").dtype == torch.float16
    design = _block(half, half.encode(TEXTS))  # for the linear baseline
    torch.testing.assert_close(torch.from_numpy(design.toarray()), column, atol=2e-3, rtol=1e-3)
    again = TextVectorsSpec(columns=("a",), source=source).restore(feature.state())
    assert again.name == feature.name and torch.equal(dense({"x": again.encode(TEXTS)}, "x"), column)


def test_tokens_are_kept_in_order_and_named_alike_with_and_without_weights(small_encoder: Path) -> None:
    spec = TokensSpec(columns=("a", "b"), source=PretrainedSource(path=str(small_encoder)), max_tokens=12)
    feature = spec.fit(TEXTS)
    bag = feature.encode(TEXTS)
    assert isinstance(bag, Bag) and bag.is_empty.tolist() == [False, True, True, True, False, False]
    first = bag.codes[: bag.offsets[1]].tolist()
    assert first == feature.reader.tokens(["Soft wool.\nred"])[0] and len(bag.codes[bag.offsets[5] :]) == 12
    assert int(bag.codes.max()) < feature.num_codes
    design = _block(feature, bag)
    assert design.shape == (6, feature.num_codes) and design.sum(axis=1).tolist() == [
        6,
        0,
        0,
        0,
        len(bag.codes) - 18,
        12,
    ]
    state = feature.state()
    assert state.pretrained is not None and not state.pretrained.has_weights
    again = spec.restore(State(dict(state.values), None, state.pretrained))
    assert again.name == feature.name


def two_sided(folder: Path, train: Any, **query: Any) -> TwoTowerSpec:
    encoder = {"kind": "pretrained", "path": str(folder), "train": train, "max_tokens": 8}
    sides = {"query": {"columns": ["asked"], "of": "candidate", **query}, "candidate": {"columns": ["title"]}}
    return parse(
        TwoTowerSpec, {name: {"kind": "text", "encoder": encoder, "dim": 4, **side} for name, side in sides.items()}
    )


@pytest.mark.parametrize("train", ["frozen", "full", {"last": 1}])
def test_both_sides_have_one_encoder(small_encoder: Path, train: Any) -> None:
    pairs = pa.table({"q": ["1", "2"], "c": ["x", "y"]})
    described = parse(
        DataSpec,
        {
            "examples": {"path": "p", "query": "q", "candidate": "c"},
            "split": {"kind": "random", "validation": 0.0, "test": 0.0},
        },
    )
    tables = {
        "q": Table(pa.table({"q": ["1", "2"], "asked": ["red tea", "wool"]}), "q"),
        "c": Table(pa.table({"c": ["x", "y"], "title": ["red tea", None]}), "c"),
    }
    entities = {name: EntityTable(name, name, table) for name, table in tables.items()}
    dataset = make_dataset(described, Table(pairs, "p"), entities=entities)
    spec = two_sided(small_encoder, train)
    fitted = Encoder.fit(spec.demand(dataset), dataset, np.arange(2))
    with seeded_torch(0):
        model = spec.build(fitted, ("q", "c")).eval()
    (_, query), (_, candidate) = next(model.query.each()), next(model.candidate.each())
    assert isinstance(query, VectorsTower | TokensTower) and isinstance(candidate, VectorsTower | TokensTower)
    assert query.feature != candidate.feature and query.projection is candidate.projection
    asked = query(fitted.encode("q", tables["q"]))
    shown = candidate(fitted.encode("c", tables["c"]))
    torch.testing.assert_close(asked[1], shown[1], atol=1e-6, rtol=1e-5)
    assert torch.equal(asked[0], shown[2])  # nobody's text, and a missing one
    names = [name for name, _ in model.named_parameters()]
    assert not [name for name in names if name.startswith("candidate.")] and len(names) > 2
    with pytest.raises(SpecError, match=r"received dropout 0\.5 here and dropout 0\.0 there"):
        two_sided(small_encoder, train, dropout=0.5)


def test_a_relative_path_starts_at_the_spec_file(small_encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(small_encoder, tmp_path / "enc")
    text = (
        "data: {examples: {path: rows.csv}}\n"
        "model:\n  kind: tower_model\n  heads: {h: {kind: binary, column: y}}\n"
        "  towers: {t: {kind: text, columns: [a], encoder: {kind: pretrained, path: %s}}}\n"
    )
    paths = {"enc": str(tmp_path / "enc"), str(small_encoder): str(small_encoder), '"${HOME}/x"': "${HOME}/x"}
    for written, expected in paths.items():
        (tmp_path / "spec.yaml").write_text(text % written)
        model = load_spec(tmp_path / "spec.yaml").model
        assert isinstance(model, TowerModelSpec) and isinstance(model.towers["t"], TextTowerSpec)
        assert model.towers["t"].encoder.path == expected  # type: ignore[union-attr]

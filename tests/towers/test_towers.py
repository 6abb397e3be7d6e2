"""Towers.

Invariants, for every kind:
- ``[rows, out_dim]`` for any number of rows, also none; a row of a batch is the row alone;
- unknown, missing and never seen values give finite vectors, in training and after it; so does a table of nulls;
- every parameter gets a finite gradient; with ``sparse_rows`` the gradient of a table equals the dense one;
- the spec survives JSON, and the tower rebuilt from the stored spec and encoder gives the same vectors with its weights.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import TypeAdapter

from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.batch import Columns, dense, take
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.roles import EXAMPLE
from towerkit.data.schema import Schema
from towerkit.data.shop import shop_table
from towerkit.data.spec import DataSpec
from towerkit.data.table import Table
from towerkit.features.columns import IdSpec
from towerkit.features.encoder import Demand, Encoder
from towerkit.towers import (
    AnyTowerSpec,
    IdTower,
    IdTowerSpec,
    TextTowerSpec,
    Tower,
    TowerContext,
)
from towerkit.towers.layers import perceptron
from towerkit.training.state import seeded_torch

NUM_ROWS = 12
PICTURES: list[bytes] = shop_table("products", size="small")["image"].to_pylist()[:3]
SOUNDS: list[bytes] = shop_table("snacks", size="small")["sound"].to_pylist()[:3]
TRAIN: dict[str, list[Any]] = {
    "user": [f"u{n % 5}" for n in range(NUM_ROWS)],
    "age": [float(20 + n) for n in range(NUM_ROWS - 1)] + [None],
    "color": ["red", "blue", "red", None] * 3,
    "title": ["soft wool", "hard nails", None, ""] * 3,
    "body": ["a b c", None, "soft", "the nails are hard"] * 3,
    "when": ["2024-01-01T10:00:00", None, "2023-07-05T00:00:00", "2024-02-29T23:59:59"] * 3,
    "tags": [["new", "red"], [], None, ["red"]] * 3,
    "vector": [[0.5, -1.0, 2.0], [3.0, 0.0, 1.0], None, [0.0, 0.0, 0.0]] * 3,
    "picture": [*PICTURES[:2], None, b""] * 3,
    "sound": [*SOUNDS[:2], None, b""] * 3,
}
ODD: dict[str, list[Any]] = {
    "user": ["u1", "stranger", None],
    "age": [1e300, None, -1e300],
    "color": ["green", None, "red"],
    "title": [None, "words never seen", "\x00"],
    "body": [None, "", "毛"],
    "when": [None, "0001-01-01T00:00:00", "9999-12-31T23:59:59"],
    "tags": [["never", "red", "red"], None, [""]],
    "vector": [[1e9, -1e9, 0.0], None, [1e-30, 0.0, 0.0]],
    "picture": [b"no picture", None, PICTURES[2]],
    "sound": [SOUNDS[2][:50], None, SOUNDS[2]],
}
KINDS = {
    "id": {"kind": "id", "dim": 3},
    "table": {"kind": "table", "columns": ["age", "color"], "layers": [5], "dim": 4},
    "table_plain": {"kind": "table", "columns": ["color"], "layers": [], "dim": 2},
    "table_all": {
        "kind": "table",
        "columns": [
            "age",
            "when",
            "tags",
            "color",
            {"column": "age", "as": "log"},
            {"column": "age", "as": "quantile", "buckets": 3},
            {"column": "age", "as": "piecewise", "bins": 3, "dim": 5},
            {"column": "age", "as": "periodic", "frequencies": 2, "dim": 5},
            {"column": "title", "as": "category", "min_count": 1, "dim": 3},
            {"column": "user", "as": "hashed", "buckets": 30},
            {"column": "tags", "as": "multi_hot", "pool": "sum"},
            {"cross": ["user", "color"], "buckets": 30, "dim": 2},
        ],
        "activation": "gelu",
        "norm": "layer",
        "dim": 4,
    },
    "vector": {"kind": "vector", "columns": ["vector"], "dim": 4},
    "vector_standard": {"kind": "vector", "columns": ["vector"], "scale": "standard", "layers": [5], "dim": 4},
    "image": {
        "kind": "image",
        "column": "picture",
        "size": 9,
        "dim": 4,
        "encoder": {"kind": "convolution", "channels": [4, 6]},
    },
    "audio": {
        "kind": "audio",
        "column": "sound",
        "rate": 8000,
        "seconds": 0.25,
        "mels": 8,
        "dim": 4,
        "encoder": {"kind": "convolution", "channels": [3]},
    },
    "text": {
        "kind": "text",
        "columns": ["title", "body"],
        "dim": 6,
        "encoder": {"kind": "hashed_ngrams", "buckets": 50},
    },
}
MENU: TypeAdapter[Any] = TypeAdapter(AnyTowerSpec)
kinds = pytest.mark.parametrize("kind", KINDS)


def dataset_of(columns: dict[str, list[Any]]) -> Dataset:
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    return make_dataset(
        parse(DataSpec, {"examples": {"path": "t.csv"}, "split": split}), Table(pa.table(columns), "t.csv")
    )


def entity_of(kind: str) -> tuple[str, str | None]:
    return ("user", "user") if kind == "id" else (EXAMPLE, None)


def fitted(kind: str) -> tuple[Any, Encoder]:
    spec = MENU.validate_python(KINDS[kind])
    dataset = dataset_of(TRAIN)
    entity, key = entity_of(kind)
    demand = Demand()
    demand.add(entity, spec.features(dataset.schemas[EXAMPLE], key))
    return spec, Encoder.fit(demand, dataset, np.arange(NUM_ROWS))


def built(kind: str, *, sparse_rows: bool = False, seed: int = 0) -> tuple[Tower, Encoder]:
    spec, encoder = fitted(kind)
    with seeded_torch(seed):
        return spec.build(TowerContext(encoder, entity_of(kind)[0], sparse_rows)), encoder


def columns_of(encoder: Encoder, kind: str, columns: dict[str, list[Any]]) -> Columns:
    return encoder.encode(entity_of(kind)[0], Table(pa.table(columns), "asked"))


@kinds
def test_shapes(kind: str) -> None:
    tower, encoder = built(kind)
    columns = columns_of(encoder, kind, TRAIN)
    for rows in ([], [3], [5, 5, 0, 1]):
        vectors = tower(take(columns, torch.tensor(rows, dtype=torch.int64)))
        assert vectors.shape == (len(rows), tower.out_dim)
        assert vectors.dtype == torch.float32
    assert tower.out_dim == KINDS[kind]["dim"]


@kinds
def test_a_row_of_a_batch_is_the_row_alone(kind: str) -> None:
    tower, encoder = built(kind)
    tower.eval()
    both = {name: TRAIN[name] + ODD[name] for name in TRAIN}
    together = tower(columns_of(encoder, kind, both))
    for row in range(len(both["user"])):
        alone = tower(columns_of(encoder, kind, {name: values[row : row + 1] for name, values in both.items()}))
        torch.testing.assert_close(alone[1], together[row + 1], rtol=0, atol=1e-6)
        torch.testing.assert_close(alone[0], together[0], rtol=0, atol=1e-6)


@kinds
def test_unknown_and_missing_values_have_finite_vectors(kind: str) -> None:
    tower, encoder = built(kind)
    assert bool(tower(columns_of(encoder, kind, ODD)).isfinite().all())
    nulls = {name: [None, None] for name in TRAIN}
    empty = tower(columns_of(encoder, kind, nulls))
    torch.testing.assert_close(
        empty, empty[:1].expand_as(empty), rtol=0, atol=1e-6
    )  # rows of one product may differ in rounding
    vectors = tower(columns_of(encoder, kind, TRAIN))
    vectors.square().sum().backward()
    with torch.no_grad():
        for parameter in tower.parameters():
            assert parameter.grad is not None
            parameter -= 0.1 * parameter.grad
    assert bool(tower(columns_of(encoder, kind, ODD)).isfinite().all())


@kinds
def test_every_parameter_gets_a_finite_gradient(kind: str) -> None:
    tower, encoder = built(kind)
    vectors = tower(columns_of(encoder, kind, TRAIN))
    (vectors * torch.arange(1, vectors.numel() + 1).view_as(vectors)).sum().backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool((parameter.grad != 0).any()), name


@pytest.mark.parametrize("kind", ["id", "text"])
def test_sparse_gradients_equal_dense_ones(kind: str) -> None:
    gradients = []
    for sparse_rows in (False, True):
        tower, encoder = built(kind, sparse_rows=sparse_rows)
        columns = take(columns_of(encoder, kind, TRAIN), torch.tensor([1, 2, 2, 4]))
        tower(columns).square().sum().backward()
        table = dict(tower.named_parameters())["table"]
        assert table.grad is not None
        assert table.grad.is_sparse == sparse_rows
        gradients.append(table.grad.to_dense() if sparse_rows else table.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


@kinds
def test_the_spec_and_the_encoder_survive_storage(kind: str) -> None:
    spec, encoder = fitted(kind)
    stored = json.loads(spec.model_dump_json())
    again = MENU.validate_python(stored)
    assert again == spec
    assert again.model_dump_json() == spec.model_dump_json()
    data, vocabularies = encoder.as_dict()
    restored = Encoder.from_dict(json.loads(json.dumps(data)), vocabularies)
    tower = built(kind)[0].eval()
    with seeded_torch(7):
        other = again.build(TowerContext(restored, entity_of(kind)[0], False)).eval()
    other.load_state_dict(tower.state_dict())
    for columns in (TRAIN, ODD):
        found = other(columns_of(restored, kind, columns))
        assert torch.equal(found, tower(columns_of(encoder, kind, columns)))


# --- id -----------------------------------------------------------------------------------------------------------


def test_ids_are_looked_up_and_strangers_get_the_mean() -> None:
    tower, encoder = built("id")
    assert isinstance(tower, IdTower)
    assert tower.table.shape == (6, 3)
    torch.testing.assert_close(tower.table[0], tower.table[1:].mean(dim=0))
    vectors = tower(columns_of(encoder, "id", {"user": ["u4", "nobody", "u0", None]}))
    assert torch.equal(vectors, tower.table[[0, 5, 0, 1, 0]])
    with torch.no_grad():
        tower.table[1:] = torch.arange(15.0).view(5, 3)
    tower.settle()
    assert tower.table[0].tolist() == [6.0, 7.0, 8.0]


def test_an_id_tower_that_knows_no_key_stays_finite() -> None:
    with seeded_torch(0):
        tower = IdTower(1, 4)
    tower.settle()
    assert bool(tower({"id": torch.tensor([0, 0])}).isfinite().all())


def test_an_id_tower_of_examples_is_refused() -> None:
    with pytest.raises(SpecError, match=r"An id tower needs an entity with a key.*for example entity: user"):
        IdTowerSpec().features(Schema(columns=()), None)
    assert IdTowerSpec().features(Schema(columns=()), "sku") == [IdSpec(column="sku")]


# --- layers ---------------------------------------------------------------------------------------------------------


def test_the_layers_of_a_perceptron() -> None:
    with seeded_torch(0):
        layers = perceptron(3, (5, 4), 2, dropout=0.25)
        other = perceptron(3, (5,), 2, activation="silu", norm="layer")
        plain = perceptron(3, (), 2, activation="gelu", norm="layer")
    names = [type(layer).__name__ for layer in layers]
    assert names == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert layers.eval()(torch.zeros(7, 3)).shape == (7, 2)
    assert [type(layer).__name__ for layer in other] == ["Linear", "LayerNorm", "SiLU", "Linear"]
    assert [type(layer).__name__ for layer in plain] == ["Linear"]


# --- text ---------------------------------------------------------------------------------------------------------


def test_missing_texts_share_the_absent_vector() -> None:
    tower, encoder = built("text")
    tower.eval()
    with torch.no_grad():
        dict(tower.named_parameters())["absent"].copy_(torch.arange(6.0))
    vectors = tower(columns_of(encoder, "text", {"title": [None, "wool", ""], "body": [None, None, "..."]}))
    assert vectors[[0, 1, 3]].tolist() == [list(range(6))] * 3
    assert vectors[2].tolist() != list(range(6))


def test_a_text_tower_without_its_column_is_refused() -> None:
    schema = dataset_of(TRAIN).schemas[EXAMPLE]
    with pytest.raises(DataError, match=r"the text tower's columns: there is no column 'titl'; did you mean 'title'\?"):
        TextTowerSpec(columns=("body", "titl")).features(schema, None)


def test_ids_are_not_ragged() -> None:
    encoder = built("id")[1]
    assert dense(columns_of(encoder, "id", {"user": ["u0"]}), "id").tolist() == [0, 1]


def test_hidden_ids_are_unknown_in_training_only() -> None:
    with seeded_torch(0):
        tower = IdTower(2001, 3, hide=0.25)
        columns = {"id": torch.arange(1, 2001)}
        hidden = (tower(columns) == tower.table[0]).all(dim=1)
    assert 0.2 < hidden.float().mean().item() < 0.3
    with torch.no_grad():  # as an update reads the rows
        assert torch.equal(tower(columns), tower.table[1:])
    tower.eval()
    assert torch.equal(tower(columns), tower.table[1:])
    with torch.no_grad():
        tower.table[0] = 7.0
    tower.settle()
    assert tower.table[0].tolist() == [7.0, 7.0, 7.0]  # learned from the hidden ones

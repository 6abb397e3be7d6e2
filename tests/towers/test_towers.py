"""Towers.

Invariants, for every kind:
- ``[rows, out_dim]`` for any number of rows, also none; a row of a batch is the row alone;
- unknown, missing and never seen values give finite vectors, in training and after it; so does a table of nulls;
- every parameter gets a finite gradient; with ``sparse_rows`` the gradient of a table equals the dense one;
- a table tower that never met an unknown category or a missing number answers them as if the column said nothing;
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
from towerkit.data.schema import Schema, infer_schema
from towerkit.data.spec import DataSpec
from towerkit.data.table import Table
from towerkit.features.columns import CategorySpec, IdSpec, NumberSpec
from towerkit.features.encoder import Demand, Encoder
from towerkit.towers import (
    AnyTowerSpec,
    IdTower,
    IdTowerSpec,
    TableTower,
    TableTowerSpec,
    TextTowerSpec,
    Tower,
    TowerContext,
)
from towerkit.towers.layers import perceptron
from towerkit.towers.table import category_dim
from towerkit.training.state import seeded_torch

NUM_ROWS = 12
TRAIN: dict[str, list[Any]] = {
    "user": [f"u{n % 5}" for n in range(NUM_ROWS)],
    "age": [float(20 + n) for n in range(NUM_ROWS - 1)] + [None],
    "color": ["red", "blue", "red", None] * 3,
    "title": ["soft wool", "hard nails", None, ""] * 3,
    "body": ["a b c", None, "soft", "the nails are hard"] * 3,
}
ODD: dict[str, list[Any]] = {
    "user": ["u1", "stranger", None],
    "age": [1e300, None, -1e300],
    "color": ["green", None, "red"],
    "title": [None, "words never seen", "\x00"],
    "body": [None, "", "毛"],
}
KINDS = {
    "id": {"kind": "id", "dim": 3},
    "table": {"kind": "table", "columns": ["age", "color"], "layers": [5], "dim": 4},
    "table_plain": {"kind": "table", "columns": ["color"], "layers": [], "dim": 2},
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


# --- table --------------------------------------------------------------------------------------------------------


def test_the_schema_tells_numbers_from_categories() -> None:
    schema = dataset_of(TRAIN).schemas[EXAMPLE]
    spec = TableTowerSpec(columns=("color", "age", "user"))
    assert spec.features(schema, None) == [
        CategorySpec(column="color"),
        NumberSpec(column="age"),
        CategorySpec(column="user"),
    ]


def test_a_table_tower_refuses_what_it_cannot_read() -> None:
    schema = infer_schema(Table(pa.table({"when": ["2024-01-01", "2024-01-02"], "n": [1, 2]}), "t.csv"), {})
    with pytest.raises(SpecError, match=r"the column 'when' holds time values"):
        TableTowerSpec(columns=("n", "when")).features(schema, None)
    with pytest.raises(DataError, match=r"the table tower's columns: there is no column 'nn'; did you mean 'n'\?"):
        TableTowerSpec(columns=("nn",)).features(schema, None)


def test_a_table_tower_is_an_mlp_over_its_columns() -> None:
    with seeded_torch(0):
        tower = TableTower(["number:a"], {"category:c": 3}, layers=(4,), out_dim=2, dropout=0.0)
    columns = {"number:a": torch.tensor([[0.5, 0.0], [0.0, 1.0]]), "category:c": torch.tensor([2, 0])}
    width = category_dim(3)
    embedding, first, last = tower.embeddings[0], tower.mlp[0], tower.mlp[2]
    beside = torch.cat([columns["number:a"], embedding.weight[[2, 0]]], dim=1)  # type: ignore[index]
    assert beside.shape == (2, 2 + width)
    hidden = torch.relu(beside @ first.weight.T + first.bias)  # type: ignore[union-attr, operator]
    expected = hidden @ last.weight.T + last.bias  # type: ignore[union-attr, operator]
    torch.testing.assert_close(tower(columns), expected)


def test_two_table_towers_of_one_entity_read_their_own_columns() -> None:
    dataset = dataset_of(TRAIN)
    schema = dataset.schemas[EXAMPLE]
    specs = [TableTowerSpec(columns=("age", "color")), TableTowerSpec(columns=("color",))]
    demand = Demand()
    for spec in specs:
        demand.add(EXAMPLE, spec.features(schema, None))
    encoder = Encoder.fit(demand, dataset, np.arange(NUM_ROWS))
    with seeded_torch(0):
        towers = [spec.build(TowerContext(encoder, EXAMPLE, False)) for spec in specs]
    assert [tower.numbers for tower in towers] == [["number:age"], []]
    assert [tower.categories for tower in towers] == [["category:color"]] * 2


def test_dropout_only_in_training() -> None:
    with seeded_torch(0):
        tower = TableTower(["number:a"], {}, layers=(64,), out_dim=8, dropout=0.5)
        columns = {"number:a": torch.ones(1, 2)}
        tower.train()
        assert not torch.equal(tower(columns), tower(columns))
        tower.eval()
        assert torch.equal(tower(columns), tower(columns))


@pytest.mark.parametrize(("size", "dim"), [(1, 4), (2, 5), (16, 8), (10_000, 40), (10**9, 64)])
def test_the_width_of_a_category(size: int, dim: int) -> None:
    assert category_dim(size) == dim


def test_the_layers_of_a_perceptron() -> None:
    with seeded_torch(0):
        layers = perceptron(3, (5, 4), 2, dropout=0.25)
    names = [type(layer).__name__ for layer in layers]
    assert names == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert layers.eval()(torch.zeros(7, 3)).shape == (7, 2)


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


def test_what_a_table_tower_never_met_says_nothing() -> None:
    with seeded_torch(0):
        tower = TableTower(["age", "size"], {"color": 5}, layers=(), out_dim=3, dropout=0.0)
    known = {"age": torch.tensor([[0.7, 0.0]]), "size": torch.tensor([[0.0, 0.0]]), "color": torch.tensor([2])}
    optimizer = torch.optim.SGD(tower.parameters(), lr=0.02)
    for _ in range(5):  # nothing is missing or unknown in training
        optimizer.zero_grad()
        (tower(known) - 1.0).square().sum().backward()
        optimizer.step()
    with torch.no_grad():
        assert torch.equal(tower(known), tower({**known, "size": torch.tensor([[0.0, 1.0]])}))
        assert tower.embeddings[0].weight[0].tolist() == [0.0] * category_dim(5)  # type: ignore[union-attr, index]
    tower({**known, "size": torch.tensor([[0.0, 1.0]]), "color": torch.tensor([0])}).sum().backward()
    assert tower.embeddings[0].weight.grad[0].abs().sum() > 0  # type: ignore[union-attr, index]
    first = tower.mlp[0].weight.grad
    assert first is not None and first[:, 3].abs().sum() > 0  # but what it does meet, it learns

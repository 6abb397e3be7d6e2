"""Encoded data sets, their catalogues and batches.

Invariants:
- a batch holds each distinct row once, ascending; the index gives every example (and drawn candidate) its own row back;
- labels are codes with -1 masked out; weights are those of the rows, 1 where a test row has none;
- a catalogue holds every key once: those of the table in its order, then of training and validation, then of test; the
  last ones are cold and lie behind ``num_known``;
- a key outside the catalogue is row 0; a test-only key has a row, and its id is unknown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.spec import parse
from towerkit.data.batch import dense
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.roles import EXAMPLE, EntityTable
from towerkit.data.spec import DataSpec
from towerkit.data.splits import Parts
from towerkit.data.table import Table
from towerkit.features.columns import CategorySpec, IdSpec, NumberSpec
from towerkit.features.encoded import Drawn, Encoded, _sorted_out, catalogue_of, encode
from towerkit.features.encoder import Demand, Encoder, LabelSpec

COLUMNS: dict[str, list[Any]] = {
    "user": ["u4", "u1", "u2", "u1", "u3", "u2"],
    "item": [3, 1, 2, 1, 7, 8],
    "age": [10.0, None, 30.0, 40.0, 50.0, 60.0],
    "stars": [1, 5, None, 5, 1, 3],
    "w": [1.0, 0.5, 2.0, 1.0, 1.0, 3.0],
}
PARTS = Parts(np.array([1, 2, 3]), np.array([0]), np.array([4, 5]))


def dataset_of(items: dict[str, Any] | None = None, **roles: str) -> Dataset:
    examples = {"path": "pairs.csv", "query": "user", "candidate": "item", **roles}
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    spec = parse(DataSpec, {"examples": examples, "split": split})
    entities = {} if items is None else {"item": EntityTable("item", "id", Table(pa.table(items), "items.csv"))}
    return make_dataset(spec, Table(pa.table(COLUMNS), "pairs.csv"), entities=entities).with_parts(PARTS)


def encoded_of(dataset: Dataset, item_key: str = "item") -> Encoded:
    demand = Demand(labels={"rating": LabelSpec("stars", "ordinal")})
    demand.add("user", [IdSpec(column="user")])
    demand.add("item", [IdSpec(column=item_key)])
    demand.add(EXAMPLE, [NumberSpec(column="age")])
    rows = np.array([0, 1, 2, 3])  # both classes
    return encode(Encoder.fit(demand, dataset, rows), dataset)


# --- catalogues ---------------------------------------------------------------------------------------------------


def test_a_catalogue_without_a_table() -> None:
    catalogue = catalogue_of(dataset_of(), "item")
    assert catalogue.keys.to_pylist() == [1, 2, 3, 7, 8]  # training, validation, then the cold ones
    assert catalogue.num_known == 3
    assert catalogue.key == "item"
    assert catalogue.table.data.to_pydict() == {"item": [1, 2, 3, 7, 8]}
    assert catalogue.rows(pa.array([8, 1, 99])).tolist() == [5, 1, 0]


def test_keys_outside_the_rows_learned_from_are_cold() -> None:
    catalogue = catalogue_of(dataset_of(), "item", PARTS.train)
    assert catalogue.keys.to_pylist() == [1, 2, 3, 7, 8]
    assert catalogue.num_known == 2  # item 3 occurs in validation only
    assert encoded_of(dataset_of()).catalogues["item"].num_known == 3


def test_a_catalogue_with_a_table() -> None:
    items = {"id": [9, 7, 2], "name": ["nine", "seven", "two"]}
    catalogue = catalogue_of(dataset_of(items), "item")
    assert catalogue.keys.to_pylist() == [9, 7, 2, 1, 3, 8]  # the table, training and validation, test only
    assert catalogue.num_known == 5
    assert catalogue.table.data.to_pydict() == {
        "id": [9, 7, 2, 1, 3, 8],
        "name": ["nine", "seven", "two", None, None, None],
    }
    assert catalogue.rows(pa.array([3, 8, 4])).tolist() == [5, 6, 0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=4, max_size=30),
    st.lists(st.integers(0, 15), min_size=1, unique=True) | st.none(),
    st.integers(0, 2**32),
)
def test_cold_keys_come_last(pairs: list[int], own: list[int] | None, seed: int) -> None:
    part = np.random.default_rng(seed).integers(0, 3, len(pairs))
    columns = pa.table({"user": [f"u{n % 2}" for n in range(len(pairs))], "item": [*pairs[:-1], 99]})
    spec = parse(
        DataSpec,
        {
            "examples": {"path": "p", "query": "user", "candidate": "item"},
            "split": {"kind": "random", "validation": 0.0, "test": 0.0},
        },
    )
    entities = {} if own is None else {"item": EntityTable("item", "id", Table(pa.table({"id": own}), "items"))}
    parts = Parts(*(np.flatnonzero(part == number) for number in range(3)))
    catalogue = catalogue_of(make_dataset(spec, Table(columns, "p"), entities=entities).with_parts(parts), "item")
    keys = catalogue.keys.to_pylist()
    values = np.array(columns.column("item"))
    known = {*(own or []), *values[part < 2].tolist()}
    assert len(keys) == len(set(keys))
    assert set(keys) == known | set(values.tolist())
    assert set(keys[: catalogue.num_known]) == known
    assert keys[: len(own or [])] == (own or [])
    assert catalogue.table.data.column(0).to_pylist() == keys
    assert [keys[row - 1] for row in catalogue.rows(pa.array(values))] == values.tolist()


# --- encoding -----------------------------------------------------------------------------------------------------


def test_tables_index_labels() -> None:
    encoded = encoded_of(dataset_of())
    assert encoded.index["item"].tolist() == [3, 1, 2, 1, 4, 5]
    assert encoded.index[EXAMPLE].tolist() == [1, 2, 3, 4, 5, 6]
    # the encoder met items 3, 1 and 2 in this order; the cold ones are unknown to it
    assert dense(encoded.tables["item"], "id").tolist() == [0, 2, 3, 1, 0, 0]
    assert encoded.labels["rating"].tolist() == [0, 1, -1, 1, 0, -1]
    assert encoded.weights is None
    assert encoded_of(dataset_of(weight="w")).weights.tolist() == COLUMNS["w"]  # type: ignore[union-attr]


def test_an_entity_with_a_table_and_a_null_key() -> None:
    columns = {"shop": ["s1", None, "s9"], "y": [0, 1, 0]}
    spec = parse(DataSpec, {"examples": {"path": "p"}, "split": {"kind": "random", "validation": 0.0, "test": 0.0}})
    shops = EntityTable("shop", "name", Table(pa.table({"name": ["s0", "s1"], "city": ["x", "y"]}), "shops.csv"))
    dataset = make_dataset(spec, Table(pa.table(columns), "p"), entities={"shop": shops})
    demand = Demand()
    demand.add("shop", [CategorySpec(column="city", min_count=1)])
    encoded = encode(Encoder.fit(demand, dataset, np.arange(3)), dataset)
    assert encoded.index["shop"].tolist() == [2, 0, 3]
    assert dense(encoded.tables["shop"], "category-1:city").tolist() == [0, 0, 1, 0]  # x: no training row points to it


# --- batches ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=10), st.integers(0, 3), st.integers(0, 2**32))
def test_a_batch_gives_every_example_its_own_rows(rows: list[int], num_drawn: int, seed: int) -> None:
    encoded = ENCODED
    drawn = np.random.default_rng(seed).integers(1, 4, (len(rows), num_drawn))
    batch = encoded.batch(np.array(rows), {"item": [Drawn(drawn)]} if num_drawn else None)
    assert len(batch) == len(rows)
    for entity in ("user", "item", EXAMPLE):
        wanted = encoded.index[entity][rows]
        everything = np.concatenate([wanted, drawn.ravel()]) if entity == "item" else wanted
        for name, column in encoded.tables[entity].items():
            assert isinstance(column, torch.Tensor)
            own = dense(batch.columns[entity], name)
            assert len(own) == len(np.unique(everything))
            assert torch.equal(own[batch.index[entity]], column[torch.from_numpy(wanted)])
    if num_drawn:
        own = dense(batch.columns["item"], "id")
        index = batch.pool["item"][0].index
        assert index is not None and index.shape == drawn.shape
        assert torch.equal(own[index], dense(encoded.tables["item"], "id")[torch.from_numpy(drawn)])
    assert set(batch.pool) == ({"item"} if num_drawn else set())
    codes = encoded.labels["rating"][rows]
    assert batch.labels["rating"].tolist() == codes.tolist()
    assert batch.masks["rating"].tolist() == (codes >= 0).tolist()
    assert batch.weights is not None
    assert batch.weights.tolist() == [COLUMNS["w"][row] for row in rows]


ENCODED = encoded_of(dataset_of(weight="w"))


def test_distinct_rows_once() -> None:
    batch = ENCODED.batch(np.array([1, 3, 1]), {"item": [Drawn(np.array([[2, 3], [3, 2], [1, 2]]))]})
    assert dense(batch.columns["user"], "id").tolist() == [2]
    assert batch.index["user"].tolist() == [0, 0, 0]
    assert dense(batch.columns["item"], "id").tolist() == [2, 3, 1]
    assert batch.index["item"].tolist() == [0, 0, 0]
    (block,) = batch.pool["item"]
    assert block.index is not None and block.index.tolist() == [[1, 2], [2, 1], [0, 1]]
    assert block.collision is None and block.log_q is None


def test_no_weights_are_none() -> None:
    assert encoded_of(dataset_of()).batch(np.array([0])).weights is None


def test_a_test_row_without_a_weight_weighs_one() -> None:
    examples = {"path": "p", "query": "user", "candidate": "item", "weight": "w"}
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    spec = parse(DataSpec, {"examples": examples, "test": {"path": "t"}, "split": split})
    train = Table(pa.table({"user": ["a", "b"], "item": [1, 2], "w": [2.0, 3.0]}), "p")
    dataset = make_dataset(spec, train, test=Table(pa.table({"user": ["a"], "item": [2]}), "t"))
    encoded = encode(Encoder({}, {}), dataset)
    assert encoded.weights is not None
    assert encoded.weights.tolist() == [2.0, 3.0, 1.0]


@pytest.mark.parametrize("keys", [["3", "1", "2", "1", "7", "8"], [3.0, 1.0, 2.0, 1.0, 7.0, 8.0]])
def test_keys_written_in_another_type_than_those_of_the_entity(keys: list[Any]) -> None:
    spec = parse(
        DataSpec,
        {
            "examples": {"path": "p", "query": "user", "candidate": "item"},
            "split": {"kind": "random", "validation": 0.0, "test": 0.0},
        },
    )
    items = EntityTable("item", "id", Table(pa.table({"id": [9, 7, 2]}), "items.csv"))
    table = Table(pa.table({"user": COLUMNS["user"], "item": keys}), "p")
    catalogue = catalogue_of(make_dataset(spec, table, entities={"item": items}).with_parts(PARTS), "item")
    assert catalogue.keys.to_pylist() == [9, 7, 2, 1, 3, 8]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([3, 40, 100_000]).flatmap(lambda most: st.lists(st.integers(0, most), max_size=60)))
def test_rows_are_sorted_out_by_marks_as_by_sorting(rows: list[int]) -> None:
    given_rows = np.array(rows, np.int64)
    distinct, place = _sorted_out(given_rows)
    np.testing.assert_array_equal(distinct, np.unique(given_rows))
    np.testing.assert_array_equal(distinct[place], given_rows)
    assert distinct.dtype == place.dtype == np.int64

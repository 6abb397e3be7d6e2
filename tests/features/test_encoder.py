"""Fitting features and labels, and encoding tables with them.

Invariants:
- nothing is learned from a row outside the given training rows: planted categories, numbers, ids and classes of the
  held-out rows are in no vocabulary, statistic or class, for examples and for entities;
- row 0 of an encoded table is the unknown row, row ``r`` is row ``r - 1`` of the table;
- the stored form (JSON and Arrow arrays) rebuilds an encoder that encodes alike;
- an equal feature asked for twice is fitted once; a label that is also a feature is refused;
- a bad value is refused with the file and the row it has there, also when it was found among some training rows.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from towerkit.core.errors import DataError
from towerkit.core.spec import parse
from towerkit.data.batch import Bag, Column
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.roles import EXAMPLE, EntityTable
from towerkit.data.spec import DataSpec
from towerkit.data.table import Table
from towerkit.features.columns import CategoryFeature, CategorySpec, IdSpec, NumberFeature, NumberSpec
from towerkit.features.encoder import Demand, Encoder, LabelSpec, training_keys, training_rows
from towerkit.features.ngrams import NgramsSpec

SPECS = [
    CategorySpec(column="color", min_count=1),
    NumberSpec(column="price"),
    NgramsSpec(columns=("text",), buckets=64),
]
TRAIN = np.array([0, 1, 2, 4])
COLUMNS: dict[str, list[Any]] = {
    "user": ["a", "b", "a", "leak", "b", "leak"],
    "item": [1, 2, 3, 4, 1, 5],
    "color": ["red", "blue", None, "leak", "red", "leak"],
    "price": [1.0, 2.0, None, 1e6, 3.0, -1e6],
    "text": ["soft wool", "", None, "leak", "red", "x"],
    "stars": [1, 5, 1, 3, 5, 3],
}


def dataset_of(columns: dict[str, Any] | None = None, items: dict[str, Any] | None = None) -> Dataset:
    spec = parse(
        DataSpec,
        {
            "examples": {"path": "pairs.csv", "query": "user", "candidate": "item"},
            "split": {"kind": "random", "validation": 0.0, "test": 0.0},
        },
    )
    entities = {} if items is None else {"item": EntityTable("item", "id", Table(pa.table(items), "items.csv", 2))}
    return make_dataset(spec, Table(pa.table(columns or COLUMNS), "pairs.csv", 2), entities=entities)


def demand_of(**features: Any) -> Demand:
    demand = Demand(labels={"rating": LabelSpec("stars", "ordinal")})
    for entity, specs in features.items():
        demand.add(entity, specs)
    return demand


def fitted(encoder: Encoder, entity: str, kind: type) -> Any:
    return next(f.feature for f in encoder.features[entity] if isinstance(f.feature, kind))


def assert_same_column(found: Column, expected: Column) -> None:
    if isinstance(expected, Bag):
        assert isinstance(found, Bag)
        for part in ("codes", "offsets", "weights"):
            assert torch.equal(getattr(found, part), getattr(expected, part))
    else:
        assert isinstance(found, torch.Tensor) and torch.equal(found, expected)


# --- leaks --------------------------------------------------------------------------------------------------------


def test_nothing_is_learned_from_held_out_examples() -> None:
    demand = demand_of(**{EXAMPLE: SPECS, "user": [IdSpec(column="user")]})
    encoder = Encoder.fit(demand, dataset_of(), TRAIN)
    assert fitted(encoder, EXAMPLE, CategoryFeature).vocabulary.values.to_pylist() == ["red", "blue"]
    price = fitted(encoder, EXAMPLE, NumberFeature)
    assert (price.mean, price.deviation) == (2.0, pytest.approx(np.std([1, 2, 3])))
    assert fitted(encoder, "user", CategoryFeature).vocabulary.values.to_pylist() == ["a", "b"]
    assert encoder.labels["rating"].classes == ("1", "5")
    assert encoder.labels["rating"].frequencies == (0.5, 0.5)


def test_nothing_is_learned_from_entities_that_only_held_out_examples_point_to() -> None:
    items = {
        "id": [9, 5, 4, 3, 2, 1],
        "color": ["leak", "leak", "leak", "red", "red", "blue"],
        "price": [1e9, 1e9, 1e9, 3.0, 2.0, 1.0],
    }
    demand = demand_of(item=[IdSpec(column="id"), *SPECS[:2]])
    dataset = dataset_of(items=items)
    encoder = Encoder.fit(demand, dataset, TRAIN)
    ids, colors = (f.feature for f in encoder.features["item"] if isinstance(f.feature, CategoryFeature))
    assert isinstance(ids, CategoryFeature) and isinstance(colors, CategoryFeature)
    assert ids.vocabulary.values.to_pylist() == [1, 2, 3]
    assert colors.vocabulary.values.to_pylist() == ["red", "blue"]
    price = fitted(encoder, "item", NumberFeature)
    assert price.mean == 2.0  # each item once, however often it occurs
    assert training_rows(dataset, "item", TRAIN).data.column("id").to_pylist() == [3, 2, 1]
    assert training_keys(dataset, "item", TRAIN).to_pydict() == {"id": [1, 2, 3, 1]}
    assert training_rows(dataset, EXAMPLE, TRAIN).data.column("color").to_pylist() == ["red", "blue", None, "red"]


# --- encoding -----------------------------------------------------------------------------------------------------


def test_row_0_is_unknown_and_unknown_values_are_like_it() -> None:
    encoder = Encoder.fit(demand_of(**{EXAMPLE: SPECS}), dataset_of(), TRAIN)
    asked = Table(
        pa.table({"color": ["blue", "green", None], "price": [3, None, 2], "text": ["wool", None, ""]}), "ask"
    )
    columns = encoder.encode(EXAMPLE, asked)
    assert columns["category-1:color"].tolist() == [0, 2, 0, 0]  # type: ignore[union-attr]
    price = columns["number:price"]
    assert isinstance(price, torch.Tensor)
    assert price[[0, 2]].tolist() == [[0.0, 1.0]] * 2
    assert price[3].tolist() == [0.0, 0.0]
    texts = next(column for column in columns.values() if isinstance(column, Bag))
    assert texts.is_empty.tolist() == [True, False, True, True]
    assert encoder.columns(EXAMPLE) == ("color", "price", "text")
    assert encoder.encode("nobody", asked) == {}


def test_a_column_of_nulls_is_all_unknown() -> None:
    encoder = Encoder.fit(demand_of(**{EXAMPLE: SPECS}), dataset_of(), TRAIN)
    nothing = pa.table({name: pa.nulls(2) for name in ("color", "price", "text")})
    for column in encoder.encode(EXAMPLE, Table(nothing, "ask")).values():
        if isinstance(column, Bag):
            assert bool(column.is_empty.all())
        else:
            assert torch.equal(column, column[:1].expand_as(column))


def test_the_stored_form_encodes_alike() -> None:
    items = {"id": [3, 2, 1], "color": ["red", "red", "blue"], "price": [3.5, 2.0, None], "text": ["a b", "b", None]}
    dataset = dataset_of(items=items)
    encoder = Encoder.fit(demand_of(item=[IdSpec(column="id"), *SPECS]), dataset, TRAIN)
    data, vocabularies = encoder.as_dict()
    restored = Encoder.from_dict(json.loads(json.dumps(data, allow_nan=False)), vocabularies)
    asked = Table(
        pa.table({"id": ["1", "9"], "color": ["blue", "leak"], "price": [7.25, None], "text": ["b", "q"]}), "ask"
    )
    expected = encoder.encode("item", asked)
    found = restored.encode("item", asked)
    assert list(found) == list(expected)
    for name, column in expected.items():
        assert_same_column(found[name], column)
    assert restored.labels == encoder.labels
    assert restored.as_dict()[0] == data
    assert len(vocabularies) == 2


def test_a_feature_is_found_by_its_spec() -> None:
    encoder = Encoder.fit(demand_of(**{EXAMPLE: SPECS}), dataset_of(), TRAIN)
    assert encoder.feature(EXAMPLE, NumberSpec(column="price")).name == "number:price"


def test_a_sample_has_a_value_for_every_column() -> None:
    encoder = Encoder.fit(demand_of(**{EXAMPLE: SPECS, "user": [IdSpec(column="user")]}), dataset_of(), TRAIN)
    sample = encoder.sample(EXAMPLE)
    assert set(sample) == {"color", "price", "text"}
    assert encoder.sample("user") == {"user": None}
    assert len(encoder.encode(EXAMPLE, Table(pa.Table.from_pylist([sample]), "sample"))) == 3


def test_a_sample_suits_every_feature_of_a_shared_column() -> None:
    shared = [NumberSpec(column="price"), CategorySpec(column="price", min_count=1), NgramsSpec(columns=("price",))]
    for specs in (shared, shared[::-1]):
        encoder = Encoder.fit(demand_of(**{EXAMPLE: specs}), dataset_of(), TRAIN)
        sample = encoder.sample(EXAMPLE)
        assert sample == {"price": 2.0}
        assert len(encoder.encode(EXAMPLE, Table(pa.Table.from_pylist([sample]), "sample"))) == 3


# --- asking -------------------------------------------------------------------------------------------------------


def test_an_equal_feature_is_fitted_once() -> None:
    demand = demand_of(**{EXAMPLE: [*SPECS, NumberSpec(column="price"), CategorySpec(column="color", min_count=2)]})
    demand.add(EXAMPLE, SPECS)
    assert len(demand.features[EXAMPLE]) == 4


def test_a_label_that_is_also_a_feature_is_refused() -> None:
    demand = demand_of(**{EXAMPLE: [NumberSpec(column="stars")]})
    with pytest.raises(DataError, match=r"'stars' is the label of the task 'rating' and also a feature of a tower"):
        Encoder.fit(demand, dataset_of(), TRAIN)


# --- bad values ---------------------------------------------------------------------------------------------------


def test_an_infinity_in_training_is_refused_with_its_row_in_the_file() -> None:
    columns = {**COLUMNS, "price": [1.0, 2.0, 3.0, 4.0, float("inf"), 6.0]}
    with pytest.raises(DataError, match=r"^pairs\.csv: The column 'price' must hold finite numbers; row 5 has inf"):
        Encoder.fit(demand_of(**{EXAMPLE: SPECS}), dataset_of(columns), np.array([4, 5]))


def test_an_infinity_of_an_entity_is_refused_with_its_row_in_the_file() -> None:
    items = {"id": [9, 1, 2, 3], "price": [0.0, 0.0, float("-inf"), 0.0]}
    with pytest.raises(DataError, match=r"^items\.csv: The column 'price' must hold finite numbers; row 3 has -inf"):
        Encoder.fit(demand_of(item=[NumberSpec(column="price")]), dataset_of(items=items), TRAIN)


def test_a_text_where_training_had_numbers_is_refused_with_its_row() -> None:
    encoder = Encoder.fit(demand_of(**{EXAMPLE: SPECS}), dataset_of(), TRAIN)
    asked = Table(pa.table({"color": ["red"] * 2, "price": ["1", "cheap"], "text": ["x"] * 2}), "ask.csv")
    with pytest.raises(DataError, match=r"^ask\.csv: The column 'price' must hold numbers; row 2 has 'cheap'"):
        encoder.encode(EXAMPLE, asked)


def test_a_missing_column_is_refused_with_the_file() -> None:
    encoder = Encoder.fit(demand_of(**{EXAMPLE: SPECS}), dataset_of(), TRAIN)
    with pytest.raises(DataError, match=r"^ask\.csv: The column 'price' is missing; the table has \['color'\]"):
        encoder.encode(EXAMPLE, Table(pa.table({"color": ["red"]}), "ask.csv"))


def test_a_label_of_one_class_is_refused_with_the_file() -> None:
    with pytest.raises(DataError, match=r"^pairs\.csv: The label column 'stars' holds one class only \('1'\)"):
        Encoder.fit(demand_of(), dataset_of(), np.array([0, 2]))

"""The table tower: how it reads each column.

Invariants (those of every tower stand in ``test_towers.py``, which a table of every kind of column passes too):
- a name alone is read as the type of its column suggests, in every tower of the entity; where that cannot be told, the
  tower is refused; so is a column of a type that its entry cannot read, an entry that stands twice, an unknown way;
- the vectors are an MLP over the parts, plain numbers first;
- what was never met in training says nothing, whatever the kind: unknown, missing, and a bucket that was never trained;
- each part equals a few lines: pooled members, piecewise-linear and periodic numbers, hashed values and crosses;
- sparse gradients equal dense ones;
- a Run with every kind of column keeps the contract of models, with lists and times in its tables.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.batch import Bag, Columns, take
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.roles import EXAMPLE
from towerkit.data.schema import infer_schema
from towerkit.data.shop import shop_table
from towerkit.data.spec import DataSpec
from towerkit.data.table import Table
from towerkit.features.columns import CategorySpec, NumberSpec
from towerkit.features.cyclic import CyclicSpec
from towerkit.features.encoder import Demand, Encoder
from towerkit.features.multi_hot import MultiHotSpec
from towerkit.testing.contract import ModelContract
from towerkit.towers import TableTower, TableTowerSpec, TowerContext
from towerkit.towers.column_parts import (
    BagPart,
    ColumnPart,
    EmbeddedPart,
    FlaggedPart,
    PeriodicPart,
    PiecewisePart,
    category_dim,
)
from towerkit.towers.column_specs import CategoryColumn, LogColumn
from towerkit.training.state import seeded_torch

NUM_ROWS = 8
ROWS: dict[str, list[Any]] = {
    "age": [20.0, 30.0, 40.0, 50.0, 20.0, 30.0, 40.0, 50.0],
    "color": ["red", "blue", "red", "green"] * 2,
    "tags": [["a"], ["a", "b"], ["b"], ["a", "b", "c"]] * 2,
    "when": ["2024-01-01", "2024-03-02", "2024-07-04", "2024-11-30"] * 2,
}


def dataset_of(columns: dict[str, list[Any]] = ROWS) -> Dataset:
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    return make_dataset(
        parse(DataSpec, {"examples": {"path": "t.csv"}, "split": split}), Table(pa.table(columns), "t.csv")
    )


def built(*columns: Any, sparse_rows: bool = False, **settings: Any) -> tuple[TableTower, Encoder]:
    spec = parse(TableTowerSpec, {"columns": list(columns), **settings})
    dataset = dataset_of()
    demand = Demand()
    demand.add(EXAMPLE, spec.features(dataset.schemas[EXAMPLE], None))
    encoder = Encoder.fit(demand, dataset, np.arange(NUM_ROWS))
    with seeded_torch(0):
        return spec.build(TowerContext(encoder, EXAMPLE, sparse_rows)), encoder


def encoded(encoder: Encoder, **columns: Any) -> Columns:
    """Asked rows, without the unknown row in front."""
    given = {name: columns.get(name, [None] * len(next(iter(columns.values())))) for name in ROWS}
    found = encoder.encode(EXAMPLE, Table(pa.table(given), "asked"))
    return take(found, torch.arange(1, len(next(iter(given.values()))) + 1))


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_name_is_read_as_its_type_suggests() -> None:
    schema = dataset_of().schemas[EXAMPLE]
    assert TableTowerSpec(columns=("color", "age", "when", "tags")).features(schema, None) == [
        CategorySpec(column="color"),
        NumberSpec(column="age"),
        CyclicSpec(column="when"),
        MultiHotSpec(column="tags"),
    ]


def test_entries_are_specs_or_plain_data() -> None:
    typed = TableTowerSpec(columns=("color", LogColumn(column="age")))
    assert typed == parse(TableTowerSpec, {"columns": ["color", {"column": "age", "as": "log"}]})
    assert typed.model_dump()["columns"] == ("color", {"column": "age", "as": "log"})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            [5],
            r"columns\.0: must be a column's name, or keys as in \{column: price, as: log\}, \{cross: .*received 5",
        ),
        ([{"column": "x"}], r"columns\.0: needs a key 'as' that says which part this is; received \{'column': 'x'\}"),
        ([{"column": "x", "as": "lag"}], r"columns\.0: unknown kind 'lag'; did you mean 'log'\? The kinds .* 'cyclic'"),
        (
            [{"column": "x", "as": "log", "bins": 3}],
            r"columns\.0: unknown key 'bins'\. The keys here are 'as', 'column'",
        ),
        (
            [{"column": "x", "as": "hashed", "buckets": 1}],
            r"columns\.0\.buckets: .*greater than or equal to 2; received 1",
        ),
        ([{"cross": ["x"]}], r"columns\.0\.cross: needs 2 or more entries; received \['x'\]"),
        (["x", "y", "x"], r"columns: each entry stands once; received 'x' twice"),
        ([{"column": "x", "as": "log"}] * 2, r"each entry stands once; received \{'column': 'x', 'as': 'log'\} twice"),
        ([{"column": "x", "as": "cyclic", "periods": ["decade"]}], r"columns\.0\.periods\.0: .*'decade'"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(columns: list[Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(TableTowerSpec, {"columns": columns})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("vector", r"the column 'vector' holds vector values"),
        (
            {"column": "when", "as": "standard"},
            r"standard reads columns of the types .*'number'.*'when' holds time values",
        ),
        ({"column": "when", "as": "category"}, r"category reads columns of the types .*'when' holds time values"),
        ({"column": "tags", "as": "hashed"}, r"hashed reads .* the column 'tags' holds list values"),
        ({"cross": ["color", "tags"]}, r"cross reads .* the column 'tags' holds list values"),
        ({"column": "tags", "as": "cyclic"}, r"cyclic reads .* the column 'tags' holds list values"),
    ],
)
def test_a_column_of_another_type_is_refused(entry: Any, message: str) -> None:
    columns = {**ROWS, "vector": [[1.0, 2.0]] * NUM_ROWS}
    schema = infer_schema(Table(pa.table(columns), "t.csv"), {})
    with pytest.raises(SpecError, match=message):
        parse(TableTowerSpec, {"columns": [entry]}).features(schema, None)
    assert parse(TableTowerSpec, {"columns": [{"column": "vector", "as": "multi_hot"}]}).features(schema, None)


@pytest.mark.parametrize("entry", ["colour", {"column": "colour", "as": "hashed"}, {"cross": ["age", "colour"]}])
def test_a_column_that_is_not_there_is_refused(entry: Any) -> None:
    schema = dataset_of().schemas[EXAMPLE]
    with pytest.raises(
        DataError, match=r"the table tower's columns: there is no column 'colour'; did you mean 'color'\?"
    ):
        parse(TableTowerSpec, {"columns": [entry]}).features(schema, None)


def test_two_table_towers_of_one_entity_read_their_own_columns() -> None:
    dataset = dataset_of()
    specs = [
        TableTowerSpec(columns=("age", "color")),
        TableTowerSpec(columns=("color", CategoryColumn(column="color", min_count=3))),
    ]
    demand = Demand()
    for spec in specs:
        demand.add(EXAMPLE, spec.features(dataset.schemas[EXAMPLE], None))
    encoder = Encoder.fit(demand, dataset, np.arange(NUM_ROWS))
    with seeded_torch(0):
        towers = [spec.build(TowerContext(encoder, EXAMPLE, False)) for spec in specs]
    read = [[part.feature for part in tower.parts] for tower in towers]
    assert read == [["number:age", "category:color"], ["category:color", "category-3:color"]]


def test_a_name_that_two_towers_read_in_different_ways_is_refused() -> None:
    with pytest.raises(
        SpecError, match=r"'age' of the entity 'example' is read as standard and category.*\{column: age,"
    ):
        built("age", {"column": "age", "as": "category"})
    tower, _ = built({"column": "age", "as": "standard"}, {"column": "age", "as": "category"})
    assert [type(part) for part in tower.parts] == [FlaggedPart, EmbeddedPart]
    tower, _ = built("age", {"column": "age", "as": "quantile"}, {"column": "age", "as": "periodic"})
    assert [type(part) for part in tower.parts] == [FlaggedPart, EmbeddedPart, PeriodicPart]


# --- computing ----------------------------------------------------------------------------------------------------


def test_a_table_tower_is_an_mlp_over_its_parts() -> None:
    tower, encoder = built("color", "age", layers=[4], dim=2)
    columns = encoded(encoder, color=["red", "never"], age=[35.0, None])
    embedding = tower.parts[1].table.weight[[1, 0]]  # type: ignore[union-attr, index]
    beside = torch.cat([torch.tensor([[0.0, 0.0], [0.0, 1.0]]), embedding], dim=1)
    first, last = tower.mlp[0], tower.mlp[2]
    hidden = torch.relu(beside @ first.weight.T + first.bias)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(tower(columns), hidden @ last.weight.T + last.bias)  # type: ignore[union-attr, operator]


def test_dropout_only_in_training() -> None:
    tower, encoder = built("age", dropout=0.5)
    columns = encoded(encoder, age=[20.0])
    with seeded_torch(0):
        tower.train()
        assert not torch.equal(tower(columns), tower(columns))
        tower.eval()
        assert torch.equal(tower(columns), tower(columns))


@pytest.mark.parametrize(("size", "dim"), [(1, 4), (2, 5), (16, 8), (10_000, 40), (10**9, 64)])
def test_the_width_of_a_category(size: int, dim: int) -> None:
    assert category_dim(size) == dim


def numbers(values: list[float | None]) -> dict[str, Tensor]:
    return {"f": torch.tensor([[value or 0.0, float(value is None)] for value in values])}


def test_members_are_pooled() -> None:
    bag = Bag(torch.tensor([1, 2, 2]), torch.tensor([0, 2, 2, 3]), torch.ones(3))
    for mean in (True, False):
        with seeded_torch(0):
            part = BagPart("f", 3, 4, mean=mean)
        with torch.no_grad():
            part.absent.fill_(7.0)
        rows = part.table[1] + part.table[2]
        expected = torch.stack([rows / 2 if mean else rows, torch.full((4,), 7.0), part.table[2]])
        torch.testing.assert_close(part({"f": bag}), expected)


def test_piecewise_numbers() -> None:
    with seeded_torch(0):
        part = PiecewisePart("f", 3, 4)
    with torch.no_grad():
        part.absent.fill_(7.0)
    encoding = torch.tensor([[1.0, 0.25, 0.0], [-2.0, 0.0, 0.0], [1.0, 1.0, 3.0]])
    expected = torch.relu(part.linear(encoding))
    found = part(numbers([1.25, -2.0, 5.0, None]))
    torch.testing.assert_close(found, torch.cat([expected, torch.full((1, 4), 7.0)]))


def test_periodic_numbers() -> None:
    with seeded_torch(0):
        part = PeriodicPart("f", 2, 0.5, 3)
    c1, c2 = part.frequencies.tolist()
    angles = [2 * math.pi * c * 1.5 for c in (c1, c2)]
    encoding = torch.tensor([[math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]])
    torch.testing.assert_close(part(numbers([1.5])), torch.relu(part.linear(encoding)))
    assert part(numbers([None])).tolist() == [[0.0] * 3]
    with seeded_torch(0):
        many = PeriodicPart("f", 10_000, 0.5, 1)
    assert float(many.frequencies.detach().std()) == pytest.approx(0.5, rel=0.05)


def test_sparse_gradients_equal_dense_ones() -> None:
    entries = ["tags", {"column": "color", "as": "hashed", "buckets": 9}, {"cross": ["color", "age"], "buckets": 9}]
    gradients = []
    for sparse_rows in (False, True):
        tower, encoder = built(*entries, sparse_rows=sparse_rows)
        tower(encoded(encoder, **ROWS | {"tags": [[], *ROWS["tags"][1:]]})).square().sum().backward()
        gradients.append([parameter.grad for parameter in tower.parameters()])
        assert sum(grad is not None and grad.is_sparse for grad in gradients[-1]) == (3 if sparse_rows else 0)
    for one, other in zip(*gradients, strict=True):
        assert one is not None and other is not None
        torch.testing.assert_close(one, other.to_dense() if other.is_sparse else other)
        assert one.any()


# --- nothing is known ---------------------------------------------------------------------------------------------

STRANGE: dict[str, list[tuple[Any, Any]]] = {
    "age": [
        ("age", None),
        ({"column": "age", "as": "log"}, None),
        ({"column": "age", "as": "quantile"}, None),
        ({"column": "age", "as": "piecewise"}, None),
        ({"column": "age", "as": "periodic"}, None),
        ({"column": "age", "as": "hashed", "buckets": 2**14}, 1e9),
    ],
    "color": [
        ("color", "never"),
        ("color", None),
        ({"column": "color", "as": "hashed", "buckets": 2**14}, "never"),
        ({"column": "color", "as": "hashed"}, None),
        ({"cross": ["color", "age"], "buckets": 2**14}, "never"),
        ({"cross": ["color", "age"]}, None),
    ],
    "tags": [("tags", []), ("tags", None), ("tags", ["never"])],
    "when": [("when", None)],
}


def silenced(part: ColumnPart, columns: Columns) -> Tensor:
    """What the part says, without its flag: zeros if it says nothing."""
    found = part(columns)
    return found[:, :-1] if part.has_flag else found


@pytest.mark.parametrize(
    ("column", "entry", "value"),
    [(column, entry, value) for column, cases in STRANGE.items() for entry, value in cases],
    ids=str,
)
def test_what_was_never_met_in_training_says_nothing(column: str, entry: Any, value: Any) -> None:
    tower, encoder = built(entry, layers=[], dim=3)
    (part,) = tower.parts
    assert isinstance(part, ColumnPart)
    known = encoded(encoder, **ROWS)
    optimizer = torch.optim.SGD(tower.parameters(), lr=0.02)
    for _ in range(5):  # nothing is missing or unknown in training
        optimizer.zero_grad()
        (tower(known) - 1.0).square().mean().backward()
        optimizer.step()
    assert silenced(part, known).abs().sum() > 0
    strange = encoded(encoder, **{"age": [20.0], "color": ["red"], column: [value]})
    with torch.no_grad():
        assert silenced(part, strange).tolist() == [[0.0] * (part.out_dim - part.has_flag)]
        torch.testing.assert_close(tower(strange), tower.mlp[-1].bias[None])  # type: ignore[arg-type, index]
    before = tower(strange).detach()
    for _ in range(2):  # but once it is met, it is learned
        optimizer.zero_grad()
        (tower(strange) - 5.0).square().sum().backward()
        gradients = [parameter.grad for name, parameter in tower.named_parameters() if name != "mlp.0.bias"]
        assert any(grad is not None and bool(grad.any()) for grad in gradients)
        optimizer.step()
    assert not torch.equal(tower(strange), before)


# --- whole models -------------------------------------------------------------------------------------------------


def products_with_lists() -> pa.Table:
    """The shop's products with a list, a time and a text of members."""
    products = shop_table("products", size="small").select(["product_id", "category", "brand", "price"])
    kinds = list(zip(products["category"].to_pylist(), products["brand"].to_pylist(), strict=True))
    tags = [None if place % 7 == 0 else [kind, brand] for place, (kind, brand) in enumerate(kinds)]
    shelves = ["" if place % 5 == 0 else f"{kind}, {brand}" for place, (kind, brand) in enumerate(kinds)]
    since = [None if place % 9 == 0 else place * 86_400_000_000 for place in range(len(kinds))]
    products = products.append_column("tags", pa.array(tags, pa.list_(pa.string())))
    return products.append_column("shelves", pa.array(shelves)).append_column(
        "since", pa.array(since, pa.timestamp("us"))
    )


CANDIDATE = {
    "kind": "table",
    "columns": [
        "tags",
        "since",
        {"column": "shelves", "as": "multi_hot", "separator": ",", "pool": "sum"},
        {"column": "price", "as": "piecewise", "bins": 4},
        {"column": "price", "as": "periodic", "frequencies": 4},
        {"cross": ["category", "brand"], "buckets": 64},
    ],
    "dim": 8,
}
QUERY = {
    "kind": "table",
    "columns": [
        "joined",
        {"column": "age", "as": "quantile", "buckets": 4},
        {"column": "city", "as": "hashed", "buckets": 64},
    ],
    "dim": 8,
}
EXAMPLES = {
    "kind": "table",
    "columns": [
        "time",
        {"column": "age", "as": "piecewise", "bins": 4},
        {"column": "helpful_count", "as": "log"},
        {"column": "user_id", "as": "hashed", "buckets": 64},
        {"cross": ["category", "age"], "buckets": 64},
        {"column": "tags", "as": "multi_hot", "separator": ","},
    ],
    "dim": 8,
}
TRAINING = {"epochs": 2, "batch_size": 256, "optimizer": {"kind": "adam", "lr": 0.02}}
CASES = {
    "two_tower": ModelContract(
        name="two_tower",
        spec={
            "model": {
                "kind": "two_tower",
                "query": {"towers": {"id": {"kind": "id", "dim": 8}, "table": QUERY}},
                "candidate": {"towers": {"id": {"kind": "id", "dim": 8}, "table": CANDIDATE}},
            },
            "training": TRAINING,
            "evaluation": {"k": [5, 10]},
        },
        examples=shop_table("purchases", size="small").select(["user_id", "product_id", "time"]).slice(0, 1200),
        roles={"query": "user_id", "candidate": "product_id", "time": "time"},
        entities={
            "user_id": shop_table("users", size="small").select(["user_id", "age", "city", "joined"]),
            "product_id": products_with_lists(),
        },
        split={"kind": "time", "validation": 0.1, "test": 0.15},
    ),
    "tower_model": ModelContract(
        name="tower_model",
        spec={
            "model": {
                "kind": "tower_model",
                "towers": {"table": EXAMPLES},
                "heads": {"liked": {"kind": "binary", "column": "recommended"}},
            },
            "training": TRAINING,
        },
        examples=shop_table("reviews", size="small").drop_columns(["title", "text", "rating"]).slice(0, 500),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_with_every_kind_of_column_keeps_the_contract(name: str, tmp_path: Path) -> None:
    CASES[name].check(tmp_path)

"""Absent towers.

Invariants:
- where all columns of a tower are missing, or the tower is left out, the backbone gets its learned vector alone;
- every subset of the towers, none included, gives finite probabilities that sum to one, in the model and from raw rows;
- leaving a tower out is the same as a table without its columns, and as a table in which they are all null;
- a column that another tower still reads must be given; a model without learned vectors refuses to leave a tower out, and so does
  any model for a tower that it does not have;
- trained so, every subset is calibrated on rows that training never saw, and knows the more the more towers there are;
- in training a share of the rows, and no more, gets the vector, and only then; the vector and all weights get a gradient;
- a side of a two-tower has it too, for towers that read columns; a model without ``absent`` has no weight of it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import towerkit as tk
from towerkit.core.errors import DataError, SpecError
from towerkit.data.batch import take
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.roles import EntityTable
from towerkit.data.spec import DataSpec
from towerkit.data.splits import Parts
from towerkit.data.table import Table
from towerkit.features.encoded import Encoded, encode
from towerkit.features.encoder import Encoder
from towerkit.models.answer import TaskPredictor
from towerkit.models.tower_model import TowerModel, TowerModelSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.objectives.tasks import TasksObjective
from towerkit.training.state import seeded_torch

COLUMNS: dict[str, list[Any]] = {
    "item": [1, 2, 3, 1, None, 2],
    "age": [20.0, None, 40.0, 50.0, None, 70.0],
    "city": ["x", None, "y", "x", None, "y"],
    "title": ["soft wool", None, "nails", "", "wool", "soft"],
    "stars": [1, 2, 3, 1, 2, 3],
    "liked": [True, False, True, None, True, False],
}
ITEMS = {"item": [3, 2, 1], "price": [3.0, None, 1.0]}
WORDS = {"kind": "text", "columns": ["title"], "dim": 5, "encoder": {"kind": "hashed_ngrams", "buckets": 64}}
MODEL: dict[str, Any] = {
    "towers": {
        "text": WORDS,
        "table": {"kind": "table", "columns": ["age", "city"], "layers": [4], "dim": 3},
        "price": {"kind": "table", "columns": ["price"], "layers": [], "dim": 2, "entity": "item"},
        "item": {"kind": "id", "dim": 2, "entity": "item"},
    },
    "backbone": {"kind": "gated", "dim": 6},
    "heads": {"rating": {"kind": "ordinal", "column": "stars"}, "liked": {"kind": "binary", "column": "liked"}},
    "absent": 0.3,
}
ALL = np.arange(6)
SUBSETS = list(chain.from_iterable(combinations(MODEL["towers"], size) for size in range(5)))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    spec = DataSpec.model_validate({"examples": {"path": "p.csv"}, "split": split})
    entities = {"item": EntityTable("item", "item", Table(pa.table(ITEMS), "items.csv"))}
    made = make_dataset(spec, Table(pa.table(COLUMNS), "p.csv"), entities=entities)
    none = np.array([], np.int64)
    return made.with_parts(Parts(ALL, none, none))


def built(dataset: Dataset, **parts: Any) -> tuple[TowerModel, Encoded, TaskPredictor]:
    spec = TowerModelSpec.model_validate({**MODEL, **parts})
    encoder = Encoder.fit(spec.demand(dataset), dataset, ALL)
    with seeded_torch(0):
        model = spec.build(encoder)
    encoded = encode(encoder, dataset)
    return model.eval(), encoded, TaskPredictor(spec, encoder, model, encoded.catalogues)


def rows_of(*, drop: tuple[str, ...] = (), null: tuple[str, ...] = ()) -> Table:
    table = {name: [None] * 6 if name in null else values for name, values in COLUMNS.items() if name not in drop}
    return Table(pa.table(table), "ask.csv")


def test_a_row_without_a_towers_columns_has_its_learned_vector(dataset: Dataset) -> None:
    model, encoded, _ = built(dataset)
    assert model.absent is not None
    seen: dict[str, torch.Tensor] = {}
    model.backbone.register_forward_pre_hook(lambda module, given: seen.update(given[0]))
    model(encoded.batch(ALL))
    gone = {"text": [1, 3], "table": [1, 4], "price": [1, 4, 5], "item": [4]}  # item 2 has no price, row 4 no item
    for name, rows in gone.items():
        is_vector = (seen[name] == model.absent.vector(name)).all(dim=1)
        assert is_vector.nonzero()[:, 0].tolist() == rows, name


@pytest.mark.parametrize("without", SUBSETS, ids=str)
def test_every_subset_of_towers_answers(dataset: Dataset, without: tuple[str, ...]) -> None:
    model, encoded, predictor = built(dataset)
    seen: dict[str, torch.Tensor] = {}
    model.backbone.register_forward_pre_hook(lambda module, given: seen.update(given[0]))
    logits = model(encoded.batch(ALL), without)
    assert model.absent is not None
    for name in without:
        assert torch.equal(seen[name], model.absent.vector(name).expand(6, -1))
    assert all(bool(torch.isfinite(values).all()) for values in logits.values())
    for task, values in predictor.predict(rows_of(), without).items():
        assert np.isfinite(values).all()
        np.testing.assert_allclose(values.sum(axis=1), 1.0, atol=1e-6)
        np.testing.assert_allclose(
            values, model.head(task).probabilities(logits[task].double()).detach().numpy(), atol=1e-6
        )


COLUMNS_OF = {("text",): ("title",), ("table",): ("age", "city"), ("price", "item"): ("item",)}


@pytest.mark.parametrize("towers", COLUMNS_OF, ids=str)
def test_left_out_is_the_same_as_no_column_and_as_null(dataset: Dataset, towers: tuple[str, ...]) -> None:
    _, _, predictor = built(dataset)
    columns = COLUMNS_OF[towers]
    expected, whole = predictor.predict(rows_of(), set(towers)), predictor.predict(rows_of())
    dropped = rows_of(drop=columns)
    for found in (
        predictor.predict(dropped),
        predictor.predict(rows_of(null=columns)),
        predictor.predict(dropped, towers),
    ):
        for task, values in found.items():
            np.testing.assert_allclose(values, expected[task], atol=1e-7)
            assert np.abs(values - whole[task]).max() > 1e-4
    assert len(predictor.states(dropped)) == 6
    cold = predictor.cold(dropped)
    assert cold is not None and cold.all() == ("item" in columns)


def test_part_of_a_towers_columns_is_not_enough(dataset: Dataset) -> None:
    _, _, predictor = built(dataset)
    with pytest.raises(DataError, match="'city' is missing"):
        predictor.predict(rows_of(drop=("city",)))
    sharing = {**MODEL["towers"], "age": {"kind": "table", "columns": ["age"], "dim": 2}}
    _, _, predictor = built(dataset, towers=sharing)
    predictor.predict(rows_of(drop=("city",)), {"table"})
    with pytest.raises(DataError, match="'age' is missing"):
        predictor.predict(rows_of(drop=("age", "title")), {"age"})


def test_what_cannot_be_left_out_is_refused(dataset: Dataset) -> None:
    model, encoded, _ = built(dataset)
    with pytest.raises(
        SpecError, match=r"no tower 'txt' to leave out; did you mean 'text'\? The towers are 'item', 'price'"
    ):
        model(encoded.batch(ALL), {"txt"})
    plain, encoded, predictor = built(dataset, absent=None)
    assert plain.absent is None and not any("absent." in f"{n}." and n.startswith("absent") for n in plain.state_dict())
    with pytest.raises(SpecError, match=r"To leave out 'text' .* this one has none\. Set model\.absent"):
        predictor.predict(rows_of(), {"text"})
    with pytest.raises(DataError, match="'title' is missing"):
        predictor.predict(rows_of(drop=("title",)))


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_in_training_a_share_of_the_rows_gets_the_vector(dataset: Dataset, share: float) -> None:
    model, encoded, _ = built(dataset, absent=share)
    assert model.absent is not None
    batch = encoded.batch(np.full(4000, 0))  # row 0 has everything
    counts = []
    for training in (True, False):
        model.train(training)
        with seeded_torch(3):
            gone = model.absent.gone("text", batch.columns["example"], batch.index["example"])
        counts.append(float(gone.float().mean()))
    assert counts[1] == 0.0
    assert counts[0] == pytest.approx(share, abs=0.03)


def test_every_vector_learns(dataset: Dataset) -> None:
    model, encoded, _ = built(dataset)
    model.train()
    with seeded_torch(1):
        torch.stack(list(TasksObjective()(model, encoded.batch(ALL)).values())).sum().backward()
    assert model.absent is not None
    for name in MODEL["towers"]:
        gradient = model.absent.vector(name).grad
        assert gradient is not None and bool((gradient != 0).any()), name


def test_every_subset_is_calibrated() -> None:
    """Trained with towers left out, a model without some of them still says the base rate on the whole, and what comes true."""
    numbers = np.random.default_rng(0)
    signs = numbers.integers(0, 2, size=(3, 4000))
    liked = numbers.random(4000) < np.array([0.1, 0.35, 0.65, 0.9])[signs[:3].sum(axis=0)]
    columns = {name: [("no", "yes")[each] for each in values] for name, values in zip("abc", signs, strict=True)}
    rows = pa.table({**columns, "liked": liked})
    model = {
        "kind": "tower_model",
        "towers": {name: {"kind": "table", "columns": [name], "layers": [], "dim": 4} for name in "abc"},
        "backbone": {"kind": "concat", "dim": 16},
        "heads": {"liked": {"kind": "binary", "column": "liked"}},
        "absent": 0.3,
    }
    training = {"epochs": 12, "batch_size": 200, "optimizer": {"kind": "adam", "lr": 0.01}, "patience": 12}
    run = tk.fit({"model": model, "training": training}, tk.read(rows.slice(0, 3000)))
    fresh, truth = rows.slice(3000), liked[3000:].astype(np.float64)
    losses = {}
    for size in range(4):
        for without in combinations("abc", size):
            said = run.predict(fresh.drop_columns(list(without))).column("liked=1").to_numpy()
            assert said.mean() == pytest.approx(truth.mean(), abs=0.05), without
            for low in (0.0, 0.4, 0.7):  # what is said comes true
                chosen = (said >= low) & (said < low + 0.35)
                if chosen.sum() > 100:
                    assert said[chosen].mean() == pytest.approx(truth[chosen].mean(), abs=0.09), (without, low)
            losses[without] = float(-np.log(np.where(truth == 1, said, 1 - said)).mean())
    for without, loss in losses.items():
        for more in losses:
            assert loss < losses[more] + 0.02 if set(without) < set(more) else True  # each tower helps


def test_a_side_of_a_two_tower_has_it_for_towers_that_read_columns(dataset: Dataset) -> None:
    ids = {"kind": "id", "dim": 3}
    towers = {"id": ids, "price": {"kind": "table", "columns": ["price"], "dim": 3}}
    spec = TwoTowerSpec.model_validate(
        {
            "query": {"kind": "id", "dim": 3},
            "candidate": {"towers": towers, "absent": 0.5, "backbone": {"kind": "mean"}},
        }
    )
    roles = replace(dataset.roles, query="city", candidate="item")
    paired = replace(dataset, roles=roles)
    encoder = Encoder.fit(spec.demand(paired), paired, ALL)
    with seeded_torch(0):
        model = spec.build(encoder, ("city", "item"))
    side = model.candidate.eval()
    assert side.absent is not None and list(side.absent.towers) == ["price"]
    columns = encode(encoder, paired).tables["item"]
    parts = side.parts(columns)
    is_vector = (parts["price"] == side.absent.vector("price")).all(dim=1)
    assert is_vector.tolist() == [True, False, True, False]  # unknown, 3, 2, 1; no one knows the price of 2
    with seeded_torch(1):
        drawn = side.train().parts(take(columns, torch.ones(400, dtype=torch.int64)))["price"]
    known = parts["price"][1]
    assert float((drawn != known).any(dim=1).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_experts_of_tasks_have_no_place_in_a_side() -> None:
    side = {"towers": {"a": {"kind": "id", "dim": 3}, "b": {"kind": "id", "dim": 3}}, "backbone": {"kind": "mmoe"}}
    with pytest.raises(ValueError, match=r"a side of a two_tower is one vector.*received kind: mmoe"):
        TwoTowerSpec.model_validate({"query": side, "candidate": {"kind": "id", "dim": 3}})

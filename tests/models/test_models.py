"""Model kinds and trained models that answer raw rows.

Invariants:
- a two-tower gives each side's vectors for its distinct rows; sides of different widths are refused with both;
- a side of several towers is their backbone's; its towers may not read another entity;
- a tower model gives each task's logits per example, entities looked up per example, unknown ones included;
- a prediction for one row is the row of many, in any order, and rows sum to one; no rows give an empty answer;
- a retriever's vectors are those of the model; cold keys are not in its catalogues; strangers get the unknown vector;
- towers, tasks and terms may have any such name, also those of torch's own methods;
- specs survive JSON and build the same model again.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_array

from towerkit.core.errors import DataError, ShapeError, SpecError
from towerkit.core.spec import parse
from towerkit.data.batch import dense
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.roles import EntityTable
from towerkit.data.spec import DataSpec
from towerkit.data.splits import Parts
from towerkit.data.table import Table
from towerkit.features.encoded import Drawn, Encoded, encode
from towerkit.features.encoder import Encoder
from towerkit.models.answer import Retriever, TaskPredictor, retriever_of
from towerkit.models.tower_model import TowerModel, TowerModelSpec
from towerkit.models.two_tower import TwoTower, TwoTowerSpec
from towerkit.models.wiring import key_of, schema_of
from towerkit.objectives.balance import UncertaintyBalance
from towerkit.objectives.tasks import TasksObjective
from towerkit.training.recipes import pairs_matrix
from towerkit.training.state import seeded_torch

ROWS = 8
TRAIN = np.arange(6)
COLUMNS: dict[str, list[Any]] = {
    "user": ["a", "b", "a", "c", "b", "c", "a", "cold"],
    "item": [1, 2, 3, 1, 3, 2, 9, 1],
    "age": [20.0, None, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0],
    "title": ["soft wool", None, "nails", "", "wool", "soft", "x", "y"],
    "stars": [1, 2, 3, 1, 2, 3, 1, 2],
    "liked": [True, False, True, None, True, False, True, False],
}
ITEMS = {"item": [3, 2, 1, 4], "price": [3.0, None, 1.0, 4.0]}
IDS = {"kind": "id", "dim": 4}
PRICED = {"towers": {"id": IDS, "about": {"kind": "table", "columns": ["price"], "layers": [5], "dim": 4}}}
TASKS = {
    "towers": {
        "text": {"kind": "text", "columns": ["title"], "dim": 5, "encoder": {"kind": "hashed_ngrams", "buckets": 64}},
        "table": {"kind": "table", "columns": ["age"], "layers": [4], "dim": 3, "dropout": 0.5},
        "item": {"kind": "table", "columns": ["price"], "layers": [], "dim": 2, "entity": "item"},
        "user": {"kind": "id", "dim": 2, "entity": "user"},
    },
    "backbone": {"kind": "gated", "dim": 6},
    "heads": {
        "rating": {"kind": "ordinal", "column": "stars", "layers": [4]},
        "liked": {"kind": "binary", "column": "liked"},
    },
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    spec = parse(DataSpec, {"examples": {"path": "p.csv", "query": "user", "candidate": "item"}, "split": split})
    entities = {"item": EntityTable("item", "item", Table(pa.table(ITEMS), "items.csv"), "item")}
    made = make_dataset(spec, Table(pa.table(COLUMNS), "p.csv"), entities=entities)
    return made.with_parts(Parts(TRAIN, np.array([], np.int64), np.array([6, 7])))


def two_tower(dataset: Dataset, **parts: Any) -> tuple[TwoTower, Encoded]:
    spec = TwoTowerSpec.model_validate({"query": IDS, "candidate": PRICED, **parts})
    encoder = Encoder.fit(spec.demand(dataset), dataset, TRAIN)
    with seeded_torch(0):
        model = spec.build(encoder, spec.entities(dataset))
    return model, encode(encoder, dataset)


def tower_model(dataset: Dataset) -> tuple[TowerModel, Encoded, TowerModelSpec]:
    spec = TowerModelSpec.model_validate(TASKS)
    encoder = Encoder.fit(spec.demand(dataset), dataset, TRAIN)
    with seeded_torch(0):
        model = spec.build(encoder)
    return model, encode(encoder, dataset), spec


# --- two-tower ----------------------------------------------------------------------------------------------------


def test_a_two_tower_encodes_distinct_rows(dataset: Dataset) -> None:
    model, encoded = two_tower(dataset)
    batch = encoded.batch(np.array([0, 2, 3]), {"item": [Drawn(np.array([[2], [1], [2]]))]})
    query, candidate = model(batch)
    assert query.vectors.shape == (2, 4)
    assert candidate.vectors.shape == (3, 4)
    assert torch.equal(query.vectors, model.query.towers["id"].table[dense(batch.columns["user"], "id")])  # type: ignore[index]
    assert set(candidate.parts) == {"id", "about"}
    torch.testing.assert_close(candidate.vectors, candidate.parts["id"] + candidate.parts["about"])
    assert torch.equal(model.candidate(batch.columns["item"]), candidate.vectors)


def test_sides_of_other_widths_are_refused_with_both(dataset: Dataset) -> None:
    with pytest.raises(ShapeError, match=r"query gives 7,\s+candidate gives 4"):
        two_tower(dataset, query={"kind": "id", "dim": 7})
    towers = {"id": IDS, "other": {"kind": "id", "dim": 3}}
    with pytest.raises(ShapeError, match=r"one width; received \{'id': 4, 'other': 3\}"):
        two_tower(dataset, candidate={"towers": towers})


def test_a_side_reads_its_own_entity_only(dataset: Dataset) -> None:
    with pytest.raises(
        SpecError, match=r"The tower 'id' reads the entity 'item', but its side of the two-tower is 'user'"
    ):
        two_tower(dataset, query={"kind": "id", "dim": 4, "entity": "item"})


def test_a_two_tower_needs_both_roles(dataset: Dataset) -> None:
    bare = replace(dataset, roles=replace(dataset.roles, candidate=None))
    with pytest.raises(
        DataError, match=r"set data\.examples\.query and data\.examples\.candidate .*'user', 'item', 'age'"
    ):
        TwoTowerSpec.model_validate({"query": IDS, "candidate": IDS}).demand(bare)


@pytest.mark.parametrize("spec", [{"query": IDS, "candidate": PRICED}, {"query": PRICED, "candidate": IDS}])
def test_a_two_tower_spec_survives_json(spec: dict[str, Any]) -> None:
    built = TwoTowerSpec.model_validate(spec)
    assert TwoTowerSpec.model_validate(json.loads(built.model_dump_json())) == built


@pytest.mark.parametrize("name", ["a.b", "", "a b", "1st", "x" * 65])
def test_names_that_files_and_weights_cannot_have_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match=r"query\.towers.*a name must begin with a letter"):
        parse(TwoTowerSpec, {"query": {"towers": {name: IDS}}, "candidate": IDS})


# --- tower model --------------------------------------------------------------------------------------------------


def test_a_tower_model_looks_every_entity_up(dataset: Dataset) -> None:
    model, encoded, _ = tower_model(dataset)
    model.eval()
    rows = np.array([7, 0, 3, 0, 1])
    batch = encoded.batch(rows)
    assert len(dense(batch.columns["user"], "id")) == 4  # cold, a, c, b
    logits = model(batch)
    assert {task: tuple(values.shape) for task, values in logits.items()} == {"rating": (5, 2), "liked": (5, 1)}
    for place, row in enumerate(rows):
        alone = model(encoded.batch(np.array([row])))
        for task, values in logits.items():
            torch.testing.assert_close(alone[task][0], values[place], rtol=0, atol=1e-6)


def test_heads_start_at_the_base_rates(dataset: Dataset) -> None:
    model, _, _ = tower_model(dataset)
    model.eval()
    head = model.head("liked")
    with torch.no_grad():
        probabilities = head.probabilities(head(torch.zeros(1, 6)))
    assert probabilities[0].tolist() == pytest.approx([2 / 5, 3 / 5])  # three of five known training labels


def test_a_tower_model_spec_builds_the_same_model_again(dataset: Dataset) -> None:
    model, encoded, spec = tower_model(dataset)
    again = TowerModelSpec.model_validate(json.loads(spec.model_dump_json()))
    assert again == spec
    with seeded_torch(5):
        other = again.build(encoded.encoder)
    other.load_state_dict(model.state_dict())
    batch = encoded.batch(np.arange(ROWS))
    for task, logits in other.eval()(batch).items():
        assert torch.equal(logits, model.eval()(batch)[task])


@pytest.mark.parametrize("name", ["", "a b", "a.b", "../x", "1st"])
def test_names_of_towers_and_tasks_are_plain(name: str) -> None:
    with pytest.raises(SpecError, match="a name must begin with a letter"):
        parse(TowerModelSpec, {**TASKS, "towers": {name: IDS}})


def test_an_entity_that_is_nowhere_is_refused(dataset: Dataset) -> None:
    with pytest.raises(SpecError, match=r"Unknown entity 'itm'; did you mean 'item'\?.*'age', 'example'"):
        schema_of(dataset, "itm")
    assert (key_of(dataset, "example"), key_of(dataset, "item"), key_of(dataset, "user")) == (None, "item", "user")
    assert [c.name for c in schema_of(dataset, "item").columns] == ["item", "price"]
    assert schema_of(dataset, "user").columns == ()


# --- answers ------------------------------------------------------------------------------------------------------


def predictor(dataset: Dataset) -> TaskPredictor:
    model, encoded, spec = tower_model(dataset)
    model.train()  # answering must switch dropout off by itself
    return TaskPredictor(spec, encoded.encoder, model, encoded.catalogues)


def asked(rows: list[int]) -> Table:
    odd = {"user": ["nobody", None], "item": [77, None], "age": [None, -1e200], "title": [None, "毛"]}
    table = {name: [*COLUMNS[name], *odd[name]] for name in odd}
    return Table(pa.table({name: [values[row] for row in rows] for name, values in table.items()}), "ask.csv")


def test_a_row_alone_is_the_row_of_many(dataset: Dataset) -> None:
    model = predictor(dataset)
    rows = [9, 0, 3, 8, 0, 7, 1]
    together = model.predict(asked(rows))
    assert {task: values.shape for task, values in together.items()} == {"rating": (7, 3), "liked": (7, 2)}
    for place, row in enumerate(rows):
        alone = model.predict(asked([row]))
        for task, values in together.items():
            np.testing.assert_allclose(alone[task][0], values[place], rtol=0, atol=1e-6)
            assert values[place].sum() == pytest.approx(1.0)
            assert np.isfinite(values).all()


def test_no_rows_no_answers(dataset: Dataset) -> None:
    empty = Table(asked([0]).data.slice(0, 0), "ask.csv")
    assert {task: values.shape for task, values in predictor(dataset).predict(empty).items()} == {
        "rating": (0, 3),
        "liked": (0, 2),
    }


def test_a_missing_column_is_refused(dataset: Dataset) -> None:
    for name in ("age", "item"):
        with pytest.raises(DataError, match=rf"olumn '{name}'( is missing|; did you mean)"):
            predictor(dataset).predict(Table(asked([0]).data.drop_columns([name]), "ask.csv"))


def retriever(dataset: Dataset, match: str = "cosine") -> tuple[Retriever, TwoTower, Encoded]:
    model, encoded = two_tower(dataset, match={"kind": match})
    seen = pairs_matrix(encoded, TRAIN, ("user", "item"))
    spec = TwoTowerSpec.model_validate({"query": IDS, "candidate": PRICED, "match": {"kind": match}})
    built = retriever_of(
        spec, encoded.encoder, model, encoded.catalogues, seen, queries_average_candidates=True, titles={"user": None}
    )
    return built, model, encoded


def test_a_retriever_knows_what_was_known_before_test(dataset: Dataset) -> None:
    built, _, _ = retriever(dataset)
    assert built.query.keys.to_pylist() == ["a", "b", "c"]
    assert built.candidate.keys.to_pylist() == [3, 2, 1, 4]
    assert built.candidate.table.data.to_pydict() == ITEMS
    expected = np.zeros((3, 4))
    for row in TRAIN:
        expected["abc".index(COLUMNS["user"][row]), [3, 2, 1, 4].index(COLUMNS["item"][row])] = 1
    assert isinstance(built.seen, csr_array)
    np.testing.assert_array_equal(built.seen.toarray(), expected)


@pytest.mark.parametrize("match", ["dot", "cosine"])
def test_a_retrievers_vectors_are_the_models(dataset: Dataset, match: str) -> None:
    built, model, encoded = retriever(dataset, match)
    with torch.no_grad():
        expected = model.match.prepare(model.candidate(encoded.tables["item"])).numpy()
    np.testing.assert_allclose(built.candidate_vectors, expected[:5], atol=1e-6)  # item 9 is cold
    assert built.query_vectors.shape == (4, 4)
    strangers = Table(pa.table({"user": ["b", "nobody", None]}), "ask")
    vectors = built.vectors_of(model.query, "user", strangers)
    np.testing.assert_array_equal(vectors[1], built.query_vectors[2])
    for row in (2, 3):
        np.testing.assert_array_equal(vectors[row], built.query_vectors[0])
    mean = built.candidate_vectors[[1, 3]].mean(axis=0)
    mean = model.match.prepare(torch.from_numpy(mean)).numpy()
    np.testing.assert_allclose(built.vector_of_history(np.array([1, 3])), mean, atol=1e-7)


def test_a_new_candidate_is_its_columns_and_the_unknown_id(dataset: Dataset) -> None:
    built, model, _ = retriever(dataset, "dot")
    fresh = Table(pa.table({"item": [500, 4], "price": [3.0, 3.0]}), "ask")
    vectors = built.vectors_of(model.candidate, "item", fresh)
    np.testing.assert_array_equal(vectors[1], vectors[2])  # item 4 had no training row: its id is unknown too
    known = Table(pa.table({"item": [3], "price": [3.0]}), "ask")
    ids = model.candidate.id_towers()["id"].table.detach().numpy()
    code = 3  # the third distinct item of the training rows
    moved = built.vectors_of(model.candidate, "item", known)[1] - vectors[1]
    np.testing.assert_allclose(moved, ids[code] - ids[0], atol=1e-6)


@pytest.mark.parametrize("name", ["type", "items", "keys", "values", "pop", "update", "forward", "training", "float"])
def test_names_of_torchs_own_methods_are_names_like_others(dataset: Dataset, name: str) -> None:
    spec = parse(
        TowerModelSpec,
        {
            **TASKS,
            "towers": {name: TASKS["towers"]["table"], "b": TASKS["towers"]["text"]},
            "heads": {name: TASKS["heads"]["liked"]},
        },
    )  # type: ignore[index]
    encoder = Encoder.fit(spec.demand(dataset), dataset, TRAIN)
    with seeded_torch(0):
        model, again = spec.build(encoder), spec.build(encoder)
        terms = TasksObjective()(model.train(), encode(encoder, dataset).batch(TRAIN))
    again.load_state_dict(model.state_dict())
    assert any(f"heads.{name}." in weight for weight in model.state_dict())
    balancer = UncertaintyBalance({name: 1.0})
    balancer.backward(terms)
    assert [parameter.grad is not None for parameter in balancer.parameters()] == [True]
    assert all(parameter.grad is not None for parameter in model.parameters())
    sides = {
        "query": {"towers": {name: IDS}},
        "candidate": {"towers": {name: IDS, "b": IDS}, "backbone": {"kind": "gated", "dim": 4}},
    }
    built, encoded = two_tower(dataset, **sides)
    assert built(encoded.batch(TRAIN))[0].vectors.shape == (3, 4)

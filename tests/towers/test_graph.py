"""Spectral and graph towers in a two-tower.

Invariants:
- the graph towers' vectors equal the dense formula of LightGCN in value and in gradient, in training and, with the weights as
  they are, in evaluation; the unknown row is the mean; pairs of unknown ids carry nothing;
- both tables are propagated once for a step, and the stored table follows the weights at the end of an epoch;
- spectral towers and spectral starts hold the spectral vectors of the training pairs, the latter are trained from there;
- a model without anything to train is measured without a step; a Run answers from its stored vectors;
- one side alone, two that differ, a tower model, and updates that do not fit are refused with the reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor

import towerkit as tk
from towerkit.api import read
from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.experiment import train_and_evaluate
from towerkit.matching.updates import TwoBackpropSpec
from towerkit.models.two_tower import TwoTower
from towerkit.spec import ModelingSpec
from towerkit.towers.graph import Graph, GraphTower, GraphTowerSpec, symmetric_normalised
from towerkit.towers.id import IdTower
from towerkit.towers.spectral import SpectralTower
from towerkit.towers.svd import SpectralSettings, id_tables
from towerkit.training.fit import Prepared, batches_of, fit_recipe
from towerkit.training.loop import Selection, Silent
from towerkit.training.recipes import RetrievalRecipe, id_pairs
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import seeded_torch, settle, train_step

SPECTRAL = {"kind": "spectral", "dim": 4}
WARM = {"kind": "id", "dim": 4, "start": "spectral"}
GRAPH = {"kind": "graph", "layers": 2, "of": {"kind": "id", "dim": 4}}
SELECTION = Selection("ndcg@5", higher_is_better=True)


def dataset_of() -> Any:
    draw = np.random.default_rng(0)
    users, items = draw.integers(0, 30, 400), draw.integers(0, 20, 400)
    rows = pa.table({"user": [f"u{n}" for n in users], "item": [f"i{n}" for n in items]})
    split = {"kind": "per_query", "validation": 0.1, "test": 0.2}
    return read(rows, split=split, query="user", candidate="item")


def spec_of(query: Any, candidate: Any = None, **parts: Any) -> ModelingSpec:
    model = {"kind": "two_tower", "query": query, "candidate": candidate or query}
    training = {"epochs": 3, "batch_size": 64, "optimizer": {"kind": "adam", "lr": 0.05}}
    return parse(ModelingSpec, {"model": model, "training": training, "evaluation": {"k": [5]}, **parts})


def prepared(tower: Any) -> tuple[Prepared, Any, ModelingSpec]:
    spec, dataset = spec_of(tower), dataset_of()
    recipe = RetrievalRecipe(spec.model, spec.objective, TwoBackpropSpec(), SELECTION, lambda *_: {})  # type: ignore[arg-type]
    with seeded_torch(0):
        return recipe.prepare(dataset, dataset.parts.train, spec.training), dataset, spec


def dense_lightgcn(pairs: csr_array, query: Tensor, candidate: Tensor, layers: int) -> tuple[Tensor, Tensor]:
    matrix = torch.from_numpy(pairs.toarray()).clone()
    matrix[0], matrix[:, 0] = 0.0, 0.0
    scale = (matrix.sum(1, keepdim=True).clamp(min=1) * matrix.sum(0, keepdim=True).clamp(min=1)).sqrt()
    matrix = (matrix / scale).to(query.dtype)
    size = len(query) + len(candidate)
    whole = torch.zeros(size, size, dtype=query.dtype)
    whole[: len(query), len(query) :], whole[len(query) :, : len(query)] = matrix, matrix.T
    stack = [torch.cat([query, candidate])]
    for _ in range(layers):
        stack.append(whole @ stack[-1])
    mean = torch.stack(stack).mean(0)
    return mean[: len(query)], mean[len(query) :]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_graph_equals_the_dense_formula_in_value_and_gradient(layers: int) -> None:
    draw = np.random.default_rng(layers)
    pairs = csr_array((draw.random((9, 7)) < 0.3).astype(np.float32))
    with seeded_torch(1):
        query, candidate = IdTower(9, 3), IdTower(7, 3)
        weights = torch.randn(9, 3), torch.randn(7, 3)
    found = Graph(query, candidate, pairs, layers).tables()
    sum((t * w).sum() for t, w in zip(found, weights, strict=True)).backward()  # type: ignore[union-attr]
    tables = [t.table.detach().double().requires_grad_() for t in (query, candidate)]
    expected = dense_lightgcn(pairs, tables[0], tables[1], layers)
    sum((t * w).sum() for t, w in zip(expected, weights, strict=True)).backward()  # type: ignore[union-attr]
    for tower, table, one, other in zip((query, candidate), tables, found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6)
        assert tower.table.grad is not None and table.grad is not None
        torch.testing.assert_close(tower.table.grad.double(), table.grad, rtol=1e-5, atol=1e-6)
        assert table.grad.abs().max() > 0.1


def test_pairs_of_unknown_ids_carry_nothing() -> None:
    found = symmetric_normalised(csr_array(np.array([[1, 1, 0], [1, 1, 1], [0, 1, 0]]))).toarray()
    np.testing.assert_allclose(found, [[0, 0, 0], [0, 1 / 2, 1 / np.sqrt(2)], [0, 1 / np.sqrt(2), 0]])


def test_graph_towers_train_through_the_graph_and_answer_without_it() -> None:
    ready, dataset, spec = prepared(GRAPH)
    model: TwoTower = ready.state.model
    query, candidate = (next(side.each())[1] for side in (model.query, model.candidate))
    assert isinstance(query, GraphTower) and isinstance(candidate, GraphTower) and query.graph is candidate.graph
    batch = next(batches_of(ready, dataset.parts.train, spec.training, 0))
    before = query.propagated.clone()
    model.train()
    for _ in range(2):  # the second step needs its own propagation
        train_step(ready.state, batch)
    assert torch.equal(query.propagated, before)
    settle(model)
    model.eval()
    assert not torch.equal(query.propagated, before)
    pairs = id_pairs(ready.encoded, dataset.parts.train, ("user", "item"))
    expected = dense_lightgcn(pairs, query.base.table.detach(), candidate.base.table.detach(), 2)
    for tower, table in zip((query, candidate), expected, strict=True):
        torch.testing.assert_close(tower.propagated[1:], table[1:])
        torch.testing.assert_close(tower.propagated[0], table[1:].mean(dim=0))
    answered = model(batch)
    model.train()
    trained = model(batch)
    for one, other in zip(answered, trained, strict=True):
        torch.testing.assert_close(one.vectors, other.vectors)
    with torch.no_grad():  # outside of a step, the weights as they are
        query.base.table *= 2.0
        candidate.base.table *= 2.0
        columns = batch.columns["user"]
        torch.testing.assert_close(model.query(columns), 2.0 * trained[0].vectors)


def test_a_step_propagates_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ready, dataset, spec = prepared(GRAPH)
    calls: list[int] = []
    tables = Graph.tables
    monkeypatch.setattr(Graph, "tables", lambda graph: calls.append(1) or tables(graph))  # type: ignore[func-returns-value]
    ready.state.model.train()
    train_step(ready.state, next(batches_of(ready, dataset.parts.train, spec.training, 0)))
    assert len(calls) == 1


def test_spectral_towers_hold_the_spectral_vectors() -> None:
    ready, dataset, _ = prepared({**SPECTRAL, "power": 0.3})
    pairs = id_pairs(ready.encoded, dataset.parts.train, ("user", "item"))
    expected = id_tables(pairs, 4, SpectralSettings(power=0.3))
    for side, table in zip((ready.state.model.query, ready.state.model.candidate), expected, strict=True):
        tower = next(side.each())[1]
        assert isinstance(tower, SpectralTower) and not list(tower.parameters())
        torch.testing.assert_close(tower.table, torch.from_numpy(table).float())


def test_a_spectral_start_is_trained_from_there() -> None:
    ready, dataset, spec = prepared(WARM)
    expected = id_tables(id_pairs(ready.encoded, dataset.parts.train, ("user", "item")), 4, SpectralSettings())
    towers = [next(side.each())[1] for side in (ready.state.model.query, ready.state.model.candidate)]
    for tower, table in zip(towers, expected, strict=True):
        assert isinstance(tower, IdTower)
        torch.testing.assert_close(tower.table.detach(), torch.from_numpy(table).float())
    ready.state.model.train()
    before = [tower.table.detach().clone() for tower in towers]  # type: ignore[operator]
    train_step(ready.state, next(batches_of(ready, dataset.parts.train, spec.training, 0)))
    assert all(not torch.equal(tower.table, old) for tower, old in zip(towers, before, strict=True))


def test_a_graph_of_a_spectral_start_begins_there() -> None:
    ready, dataset, _ = prepared({"kind": "graph", "layers": 1, "of": WARM})
    pairs = id_pairs(ready.encoded, dataset.parts.train, ("user", "item"))
    tables = [torch.from_numpy(table).float() for table in id_tables(pairs, 4, SpectralSettings())]
    tower = next(ready.state.model.query.each())[1]
    torch.testing.assert_close(tower.propagated[1:], dense_lightgcn(pairs, tables[0], tables[1], 1)[0][1:])


def test_nothing_to_train_is_no_step() -> None:
    spec, dataset = spec_of(SPECTRAL), dataset_of()
    outcome = train_and_evaluate(spec, dataset, Silent())
    assert [record["epoch"] for record in outcome.history.records] == [1, 1]  # training, and the refit on both parts
    assert all(np.isnan(record["loss"]) for record in outcome.history.records)
    recipe = RetrievalRecipe(spec.model, spec.objective, spec.update, SELECTION, lambda *_: {"ndcg@5": 0.5})  # type: ignore[arg-type]
    trained = fit_recipe(recipe, dataset, TrainingSpec(epochs=9, refit=False), Silent())
    assert trained.history.best_epoch == 1 and trained.prepared.state.step == 0


@pytest.mark.parametrize("tower", [SPECTRAL, WARM, GRAPH], ids=["spectral", "warm", "graph"])
def test_a_run_answers_from_its_stored_vectors(tower: Any, tmp_path: Path) -> None:
    spec, dataset = spec_of(tower), dataset_of()
    run = tk.fit(spec, dataset, run=tmp_path / "run")
    model = tk.load(tmp_path / "run").model
    np.testing.assert_array_equal(run.model.query_vectors, model.query_vectors)
    assert np.abs(model.query_vectors).max() > 0
    np.testing.assert_allclose(model.query_vectors[0], model.query_vectors[1:].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("tower", [SPECTRAL, WARM, GRAPH], ids=["spectral", "warm", "graph"])
def test_one_side_alone_is_refused(tower: Any) -> None:
    plain = {"kind": "id", "dim": 4}
    described = rf"\{{.*'kind': '{tower['kind']}'.*\}}"
    with pytest.raises(
        SpecError, match=rf"both sides need the same one; query has {described}, candidate has no such tower"
    ):
        spec_of(tower, plain)
    with pytest.raises(SpecError, match=rf"query has no such tower, candidate has {described}"):
        spec_of(plain, tower)


def test_other_bad_choices_are_refused() -> None:
    with pytest.raises(SpecError, match=r"query has \{.*'dim': 4.*candidate has \{.*'dim': 8"):
        spec_of(SPECTRAL, {**SPECTRAL, "dim": 8})
    with pytest.raises(SpecError, match="the query side has 'first', 'second'"):
        spec_of({"towers": {"first": SPECTRAL, "second": WARM}}, SPECTRAL)
    model = {"kind": "tower_model", "towers": {"who": {**WARM, "entity": "user"}}}
    with pytest.raises(SpecError, match=r"received 'who' in a tower_model, which has no pairs"):
        parse(ModelingSpec, {"model": {**model, "heads": {"x": {"kind": "binary", "column": "x"}}}})
    with pytest.raises(SpecError, match=r"update: \{kind: ema\} treats .* the graph tower 'graph' makes"):
        spec_of(GRAPH, update={"kind": "ema"})


def test_one_backprop_moves_a_spectral_start_and_refuses_towers_without_an_id_table() -> None:
    outcome = train_and_evaluate(spec_of(WARM, update={"kind": "one_backprop"}), dataset_of(), Silent())
    assert len(outcome.history.records) > 1
    with pytest.raises(SpecError, match="that side needs one id tower; it has 0"):
        train_and_evaluate(spec_of(SPECTRAL, update={"kind": "one_backprop"}), dataset_of(), Silent())
    with pytest.raises(SpecError, match=r"update: \{kind: one_backprop\} treats the two sides differently"):
        spec_of(GRAPH, update={"kind": "one_backprop"})


def test_a_graph_of_hidden_ids_is_refused() -> None:
    with pytest.raises(ValueError, match=r"none can be hidden; received hide 0\.5"):
        GraphTowerSpec.model_validate({"of": {"kind": "id", "hide": 0.5}})

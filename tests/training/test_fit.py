"""From a recipe and a data set to a trained model.

Invariants:
- the same seed trained twice gives the same weights bit for bit, another seed others; global generators are untouched;
- refit trains afresh on training and validation rows for the best number of epochs; its weights are those of that training;
- test rows are not read: other test rows leave the weights as they are;
- an epoch's batches hold every row once, in an order that is a pure function of seed and epoch; ``drop_last`` leaves the
  short one out;
- ``rows: touched`` and ``rows: all`` differ as documented, and are one where every batch touches every row;
- validation of tasks is the weighted mean over all labelled rows, however they are cut into batches;
- a training that is resumed tells the epochs that were done as they were told then, of a refit how many there will be;
- the model that comes back is in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from towerkit.core.random import stream
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.roles import EXAMPLE
from towerkit.data.spec import DataSpec
from towerkit.data.splits import Parts
from towerkit.data.table import Table
from towerkit.evaluation.selection import ranking_validator
from towerkit.evaluation.spec import EvaluationSpec
from towerkit.matching.negatives import Negatives
from towerkit.matching.updates import OneBackpropSpec, TwoBackpropSpec
from towerkit.models.tower_model import TowerModelSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.objectives.balance import FixedBalanceSpec, UncertaintyBalanceSpec
from towerkit.objectives.retrieval import RetrievalObjectiveSpec
from towerkit.objectives.tasks import TasksObjective
from towerkit.training import fit
from towerkit.training.fit import Trained, batches_of, fit_recipe
from towerkit.training.loop import History, Selection, Stretch, fit_loop
from towerkit.training.progress import Silent
from towerkit.training.recipes import PredictionRecipe, RetrievalRecipe, pairs_matrix
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import seeded_torch, weights_of

NUM_ROWS = 240
IDS = {"kind": "id", "dim": 4}


def pairs(seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    known = rng.permutation(12 * 30)[:NUM_ROWS]
    columns = {"user": [f"u{pair // 30}" for pair in known], "item": (known % 30).tolist()}
    split = {"kind": "random", "validation": 0.2, "test": 0.2}
    spec = parse(DataSpec, {"examples": {"path": "p", "query": "user", "candidate": "item"}, "split": split})
    return make_dataset(spec, Table(pa.table(columns), "p"))


def reviews(rows: int = NUM_ROWS, **roles: str) -> Dataset:
    rng = np.random.default_rng(1)
    sign = rng.integers(0, 2, rows)
    liked = [None if n % 7 == 0 else bool(value) for n, value in enumerate(sign)]
    columns = {
        "age": (sign * 2 + rng.normal(size=rows)).tolist(),
        "text": [("good" if value else "bad") + f" w{n % 9}" for n, value in enumerate(sign)],
        "liked": liked,
        "stars": (1 + sign + rng.integers(0, 2, rows)).tolist(),
        "w": rng.uniform(0.1, 5, rows).tolist(),
    }
    split = {"kind": "random", "validation": 0.2, "test": 0.2}
    spec = parse(DataSpec, {"examples": {"path": "p", **roles}, "split": split})
    return make_dataset(spec, Table(pa.table(columns), "p"))


def retrieval(dataset: Dataset, update: Any = None, **parts: Any) -> RetrievalRecipe:
    return RetrievalRecipe(
        TwoTowerSpec.model_validate({"query": IDS, "candidate": IDS, **parts}),
        RetrievalObjectiveSpec.model_validate({"negatives": [{"kind": "uniform", "count": 3}]}),
        update or TwoBackpropSpec(),
        Selection("ndcg@5", higher_is_better=True),
        ranking_validator(dataset, EvaluationSpec(k=(5,))),
    )


TASKS = {
    "towers": {
        "text": {"kind": "text", "columns": ["text"], "dim": 4, "encoder": {"kind": "hashed_ngrams", "buckets": 128}},
        "table": {"kind": "table", "columns": ["age"], "layers": [8], "dim": 4, "dropout": 0.2},
    },
    "heads": {
        "liked": {"kind": "binary", "column": "liked", "weight": 0.5},
        "rating": {"kind": "ordinal", "column": "stars", "weight": 2.0},
    },
}


def prediction(balance: Any = None) -> PredictionRecipe:
    return PredictionRecipe(
        TowerModelSpec.model_validate(TASKS), balance or FixedBalanceSpec(), Selection("loss", higher_is_better=False)
    )


def training(**changes: Any) -> TrainingSpec:
    optimizer = {"kind": "adam", "lr": 0.05, **changes.pop("optimizer", {})}
    return TrainingSpec.model_validate({"epochs": 4, "batch_size": 32, "optimizer": optimizer, **changes})


def trained(kind: str, **changes: Any) -> Trained:
    if kind == "prediction":
        return fit_recipe(prediction(UncertaintyBalanceSpec()), reviews(), training(**changes), Silent())
    dataset = pairs()
    update = OneBackpropSpec(beta=0.9) if kind == "one_backprop" else TwoBackpropSpec()
    return fit_recipe(retrieval(dataset, update), dataset, training(**changes), Silent())


kinds = pytest.mark.parametrize("kind", ["two_backprop", "one_backprop", "prediction"])


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    assert list(first) == list(second)
    return all(torch.equal(first[name], second[name]) for name in first)


# --- the same again -----------------------------------------------------------------------------------------------


@kinds
def test_a_seed_gives_the_same_weights_bit_for_bit(kind: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (trained(kind, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first.model.state_dict(), again.model.state_dict())
    assert not same(first.model.state_dict(), other.model.state_dict())
    assert not first.model.training
    figures = [[{**record, "seconds": 0} for record in run.history.records] for run in (first, again)]
    assert figures[0] == figures[1]


@kinds
def test_the_state_of_the_global_generator_does_not_matter(kind: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.rand(17)
        moved = trained(kind)
    assert same(moved.model.state_dict(), trained(kind).model.state_dict())


@kinds
def test_refit_is_a_training_on_both_parts_for_the_best_number_of_epochs(kind: str) -> None:
    run = trained(kind, epochs=6, patience=2)
    stages = [record["stage"] for record in run.history.records]
    assert stages.count("refit") == run.history.best_epoch
    assert stages == sorted(stages, key=["train", "refit"].index)
    dataset = reviews() if kind == "prediction" else pairs()
    both = np.union1d(dataset.parts.train, dataset.parts.validation)
    update = OneBackpropSpec(beta=0.9) if kind == "one_backprop" else TwoBackpropSpec()
    recipe = prediction(UncertaintyBalanceSpec()) if kind == "prediction" else retrieval(dataset, update)
    spec = training(epochs=run.history.best_epoch)
    with seeded_torch(stream(0, "torch")):
        prepared = recipe.prepare(dataset, both, spec)
        fit_loop(
            prepared.state,
            lambda epoch, done: batches_of(prepared, both, spec, epoch, done),
            epochs=spec.epochs,
            validate=None,
            selection=recipe.selection,
            patience=1,
            progress=Silent(),
        )
    assert same(run.model.state_dict(), weights_of(prepared.state.model))


@kinds
def test_without_refit_the_best_epoch_stays(kind: str) -> None:
    run = trained(kind, epochs=5, refit=False)
    shorter = trained(kind, epochs=run.history.best_epoch, refit=False)
    assert {record["stage"] for record in run.history.records} == {"train"}
    assert same(run.model.state_dict(), shorter.model.state_dict())


def test_test_rows_are_not_read() -> None:
    weights = []
    for poisoned in (False, True):
        dataset = pairs()
        if poisoned:
            items = dataset.examples.data.column("item").to_numpy().copy()
            items[dataset.parts.test] = items[dataset.parts.test][::-1]
            columns = pa.table({"user": dataset.examples.data.column("user"), "item": items})
            split = {"kind": "random", "validation": 0.2, "test": 0.2}
            spec = parse(DataSpec, {"examples": {"path": "p", "query": "user", "candidate": "item"}, "split": split})
            dataset = make_dataset(spec, Table(columns, "p")).with_parts(dataset.parts)
        weights.append(fit_recipe(retrieval(dataset), dataset, training(), Silent()).model.state_dict())
    assert same(*weights)


def test_without_validation_rows_all_epochs_run() -> None:
    dataset = pairs()
    parts = Parts(np.arange(NUM_ROWS), np.array([], np.int64), np.array([], np.int64))
    run = fit_recipe(retrieval(dataset), dataset.with_parts(parts), training(patience=1), Silent())
    assert [record["stage"] for record in run.history.records] == ["train"] * 4
    assert run.prepared.state.step == 4 * 8


# --- batches ------------------------------------------------------------------------------------------------------


def prepared_pairs(spec: TrainingSpec) -> tuple[Any, np.ndarray[Any, Any], Dataset]:
    dataset = pairs()
    with seeded_torch(0):
        return retrieval(dataset).prepare(dataset, dataset.parts.train, spec), dataset.parts.train, dataset


def keys_of(prepared: Any, rows: Any, spec: TrainingSpec, epoch: int) -> list[list[tuple[int, int]]]:
    found = []
    for batch in batches_of(prepared, rows, spec, epoch):
        codes = [batch.columns[name]["id"][batch.index[name]].tolist() for name in ("user", "item")]
        found.append(list(zip(*codes, strict=True)))
    return found


def test_an_epoch_holds_every_row_once() -> None:
    spec = training()
    prepared, rows, _ = prepared_pairs(spec)
    epochs = [keys_of(prepared, rows, spec, epoch) for epoch in (0, 0, 1)]
    assert [len(batch) for batch in epochs[0]] == [32, 32, 32, 32, 16]
    assert epochs[0] == epochs[1] != epochs[2]
    together = [sorted(pair for batch in epoch for pair in batch) for epoch in epochs]
    assert together[0] == together[2]
    assert len(set(together[0])) == len(rows) == 144
    assert keys_of(prepared, rows, spec.model_copy(update={"seed": 1}), 0) != epochs[0]


@pytest.mark.parametrize(
    ("size", "drop_last", "sizes"),
    [(32, True, [32] * 4), (48, True, [48] * 3), (1000, True, [144]), (1000, False, [144]), (100, False, [100, 44])],
)
def test_batch_sizes(size: int, drop_last: bool, sizes: list[int]) -> None:
    spec = training(batch_size=size, drop_last=drop_last)
    prepared, rows, _ = prepared_pairs(spec)
    assert [len(batch) for batch in keys_of(prepared, rows, spec, 0)] == sizes


def test_negatives_go_by_the_step() -> None:
    spec = training()
    prepared, rows, dataset = prepared_pairs(spec)
    drawn = []
    for step in (0, 0, 5):
        prepared.state.step = step
        batch = next(batches_of(prepared, rows, spec, 0))
        drawn.append(batch.columns["item"]["id"][batch.pool["item"][0].index])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    known = pairs_matrix(prepared.encoded, rows, ("user", "item"))
    assert known.shape == (13, 31) and known.nnz == len(rows)
    assert set(known.data.tolist()) == {1.0}
    held_out = dataset.parts.validation
    assert pairs_matrix(prepared.encoded, np.concatenate([held_out, held_out]), ("user", "item")).nnz == len(held_out)


# --- rows: touched or all -----------------------------------------------------------------------------------------


def test_rows_touched_and_all() -> None:
    moved = {}
    for rows in ("touched", "all"):
        spec = training(batch_size=4, optimizer={"rows": rows, "weight_decay": 0.01})
        prepared, train, _ = prepared_pairs(spec)
        batch = next(batches_of(prepared, train, spec, 0))
        table = prepared.state.model.candidate.towers["id"].table
        before = table.detach().clone()
        terms = prepared.state.objective(prepared.state.model, batch)
        terms["retrieval"].backward()
        assert table.grad.is_sparse == (rows == "touched")
        prepared.state.optimizer.step()
        shown = set(batch.columns["item"]["id"].tolist())
        changed = set(torch.nonzero((table != before).any(dim=1))[:, 0].tolist())
        moved[rows] = (changed, shown)
    assert moved["touched"][0] == moved["touched"][1]
    assert moved["all"][0] == set(range(31)) > moved["all"][1]


def test_touched_equals_all_where_a_batch_touches_every_row() -> None:
    weights = []
    for rows in ("touched", "all"):
        spec = training(batch_size=1000, optimizer={"rows": rows, "weight_decay": 0.01})
        prepared, train, _ = prepared_pairs(spec)
        for epoch in range(5):
            for batch in batches_of(prepared, train, spec, epoch):
                assert len(batch.columns["item"]["id"]) == 30
                prepared.state.optimizer.zero_grad()
                prepared.state.objective(prepared.state.model, batch)["retrieval"].backward()
                prepared.state.optimizer.step()
                prepared.state.step += 1
        weights.append(
            [side.towers["id"].table[1:] for side in (prepared.state.model.query, prepared.state.model.candidate)]
        )
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-6)


# --- recipes ------------------------------------------------------------------------------------------------------


def test_cold_candidates_are_never_negatives() -> None:
    dataset = pairs()
    items = np.array(dataset.examples.data.column("item"))
    train = np.flatnonzero(items < 20)
    cold = dataset.with_parts(Parts(train, np.array([], np.int64), np.flatnonzero(items >= 20)))
    spec = training()
    with seeded_torch(0):
        prepared = retrieval(cold).prepare(cold, train, spec)
    assert isinstance(prepared.negatives, Negatives) and prepared.negatives.rates[0].shape == (21,)
    for batch in batches_of(prepared, train, spec, 0):
        assert int(batch.columns["item"]["id"].min()) >= 1  # type: ignore[union-attr]


def test_training_learns() -> None:
    for kind in ("two_backprop", "one_backprop", "prediction"):
        losses = [record["loss"] for record in trained(kind, epochs=6, refit=False, patience=9).history.records]
        assert losses[-1] < losses[0], kind


@pytest.mark.parametrize("roles", [{}, {"weight": "w"}])
def test_validation_of_tasks_is_the_mean_over_all_labelled_rows(roles: dict[str, str]) -> None:
    dataset = reviews(rows=7_000, **roles)
    rows = np.arange(6_500)  # more than one chunk, the last one short
    recipe = prediction()
    with seeded_torch(0):
        prepared = recipe.prepare(dataset, rows, training())
    prepared.state.model.eval()
    found = recipe.validate(prepared, dataset, rows)
    with torch.no_grad():
        whole = TasksObjective()(prepared.state.model, prepared.encoded.batch(rows))
    for task in ("liked", "rating"):
        assert found[f"{task}/loss"] == pytest.approx(whole[task].item(), rel=1e-5)
    assert found["loss"] == pytest.approx(0.5 * whole["liked"].item() + 2.0 * whole["rating"].item(), rel=1e-5)


def test_validation_without_labels_of_a_task() -> None:
    dataset = reviews()
    rows = dataset.parts.train
    recipe = prediction()
    with seeded_torch(0):
        prepared = recipe.prepare(dataset, rows, training())
    prepared.state.model.eval()
    unlabelled = np.arange(0, NUM_ROWS, 7)
    found = recipe.validate(prepared, dataset, unlabelled)
    assert np.isnan(found["liked/loss"])
    assert found["loss"] == pytest.approx(2.0 * found["rating/loss"])
    assert EXAMPLE in prepared.encoded.tables


def test_epochs_that_were_done_are_told_as_they_were() -> None:
    told: list[tuple[str, int, int, bool]] = []

    class Told(Silent):
        def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
            told.append((stage, record["epoch"], epochs, is_best))

    figures = (0.2, 0.3, 0.1)
    before = History([{"stage": "train", "epoch": 1 + i, "validation/auc": figures[i]} for i in range(3)], 2)
    refit = Stretch("refit", History([{"stage": "refit", "epoch": 1}]), before=before)
    fit._replay(refit, Told(), 3, Selection("auc", higher_is_better=True))
    assert told == [("train", 1, 3, True), ("train", 2, 3, True), ("train", 3, 3, False), ("refit", 1, 2, False)]

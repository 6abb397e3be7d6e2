"""The one-backprop path follows the reference semantics, epoch by epoch, on MovieLens-100K in the reference split.

- Loss and test NDCG@20 of every epoch agree to 1e-4 with a few lines of NumPy: softmax loss whose query vectors are
  constants, Adam with coupled weight decay on the items alone, then ``e_u <- beta e_u + (1 - beta) e_i`` with one of
  several writes kept.
- The NumPy side shares the initial tables, the order of the pairs and the negatives; mathematics, Adam and NDCG are its
  own.
- The two sides do not agree under other semantics (grouped duplicates, weight decay on nothing): the bound can fail.
- No gradient and no optimizer slot exists for the user table.

All 1,682 films have a place in the ranking. The 35 that occur in test pairs only are cold: towerkit never answers them
and counts them as misses, so the NumPy side gives them the lowest score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from towerkit.core.random import stream
from towerkit.data.batch import Batch, dense
from towerkit.data.dataset import Dataset, read_dataset
from towerkit.data.spec import DataSpec
from towerkit.evaluation.ranking import ranking_values
from towerkit.evaluation.ranking_task import RankingTask, ranking_task
from towerkit.evaluation.selection import model_ranker
from towerkit.features.columns import CategoryFeature, IdSpec
from towerkit.features.encoded import Encoded
from towerkit.matching.updates import OneBackpropSpec
from towerkit.models.two_tower import TwoTower, TwoTowerSpec
from towerkit.objectives.retrieval import RetrievalObjectiveSpec
from towerkit.training.fit import Prepared, batches_of
from towerkit.training.loop import Selection, fit_loop
from towerkit.training.progress import Silent
from towerkit.training.recipes import RetrievalRecipe, pairs_matrix
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import seeded_torch

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

DIM, BETA, K = 32, 0.99, 20
LR, DECAY, BETA_1, BETA_2, EPS = 5e-4, 1e-5, 0.9, 0.999, 1e-8
TOLERANCE = 1e-4


# --- the reference: NumPy only ------------------------------------------------------------------------------------


@dataclass
class NumpyOneBackprop:
    """The reference semantics on two tables; row 0 of each is nobody's and stays out."""

    users: Floats
    items: Floats
    weight_decay: float = DECAY

    def __post_init__(self) -> None:
        self.first, self.second, self.step = np.zeros_like(self.items), np.zeros_like(self.items), 0

    def train(self, user: Ints, item: Ints, negatives: Ints) -> float:
        """One batch; returns its loss before the step."""
        query = self.users[user]  # a copy: read without gradient
        shown = np.concatenate([item[:, None], negatives], axis=1)  # [batch, 1 + N], the positive first
        scores = (self.items[shown] @ query[:, :, None])[:, :, 0]
        shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
        share = shifted / shifted.sum(axis=1, keepdims=True)  # softmax
        loss = float(-np.log(share[:, 0]).mean())
        share[:, 0] -= 1.0  # d loss / d score
        moved = np.zeros((len(user), len(self.items)), np.float32)  # d loss / d score of every item
        moved[np.arange(len(user))[:, None], shown] = share / np.float32(len(user))  # shown items differ within a row
        self.adam(moved.T @ query)
        self.users[user] = np.float32(BETA) * query + np.float32(1 - BETA) * self.items[item]  # the last write stays
        return loss

    def adam(self, gradient: Floats) -> None:
        """Kingma and Ba, algorithm 1, after ``g + weight_decay * parameter``."""
        self.step += 1
        gradient = gradient + np.float32(self.weight_decay) * self.items
        self.first = np.float32(BETA_1) * self.first + np.float32(1 - BETA_1) * gradient
        self.second = np.float32(BETA_2) * self.second + np.float32(1 - BETA_2) * gradient**2
        mean = self.first / np.float32(1 - BETA_1**self.step)
        spread = self.second / np.float32(1 - BETA_2**self.step)
        self.items = self.items - np.float32(LR) * mean / (np.sqrt(spread) + np.float32(EPS))

    def ndcg(self, seen: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
        """NDCG@20 of all items for all users, seen pairs removed; items outside the table come last."""
        scores = np.full(wanted.shape, -np.inf)
        scores[:, : len(self.items) - 1] = self.users[1:] @ self.items[1:].T
        scores[seen] = -np.inf
        top = np.argpartition(-scores, K, axis=1)[:, :K]
        top = np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1), axis=1)
        discount = 1.0 / np.log2(np.arange(2, K + 2))
        gained = (np.take_along_axis(wanted, top, axis=1) * discount).sum(axis=1)
        ideal = np.array([discount[: min(K, count)].sum() for count in wanted.sum(axis=1)])
        return float((gained / ideal).mean())


# --- towerkit's side ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """The data, once for all tests."""

    dataset: Dataset
    seen: NDArray[np.bool_]
    """``[users, items]`` training pairs, columns in the order of towerkit's item codes, cold items behind."""
    wanted: NDArray[np.bool_]


@pytest.fixture(scope="module")
def case(data_root: Path) -> Case:
    folder = data_root / "ml-100k" / "reference_split"
    if not folder.is_dir():
        pytest.skip(f"needs {folder.name} of MovieLens-100K in the public data sets")
    spec = DataSpec.model_validate(
        {
            "examples": {"path": str(folder / "100k_train.csv"), "query": "user", "candidate": "item"},
            "test": {"path": str(folder / "100k_test.csv")},
            "split": {"kind": "per_query", "validation": 0.0},
        }
    )
    dataset = read_dataset(spec)
    assert dataset.parts.sizes() == {"train": 80_000, "validation": 0, "test": 20_000}
    columns = {name: dataset.examples.data.column(name).to_numpy() for name in ("user", "item")}
    codes = {name: codes_in_order(values, dataset.parts.train) for name, values in columns.items()}
    shape = tuple(int(values.max()) for values in codes.values())
    assert shape == (943, 1682)
    seen, wanted = np.zeros(shape, bool), np.zeros(shape, bool)
    for matrix, rows in ((seen, dataset.parts.train), (wanted, dataset.parts.test)):
        matrix[codes["user"][rows] - 1, codes["item"][rows] - 1] = True
    return Case(dataset, seen, wanted)


def codes_in_order(values: Ints, train: Ints) -> Ints:
    """Codes from 1 in order of first appearance among the training rows, then among the rest."""
    code: dict[int, int] = {}
    for value in [*values[train].tolist(), *values.tolist()]:
        code.setdefault(value, len(code) + 1)
    return np.array([code[value] for value in values.tolist()])


def recipe(duplicates: str) -> RetrievalRecipe:
    ids = {"kind": "id", "dim": DIM}
    negatives = [{"kind": "uniform", "count": 5, "exclude_positives": True}]
    return RetrievalRecipe(
        TwoTowerSpec.model_validate({"query": ids, "candidate": ids, "match": {"kind": "dot"}}),
        RetrievalObjectiveSpec.model_validate({"loss": {"kind": "sampled_softmax"}, "negatives": negatives}),
        OneBackpropSpec.model_validate({"beta": BETA, "duplicates": duplicates}),
        Selection("ndcg@20", higher_is_better=True),
        lambda *_: {},
    )


def training(epochs: int) -> TrainingSpec:
    optimizer = {"kind": "adam", "lr": LR, "weight_decay": DECAY, "rows": "all"}
    return TrainingSpec.model_validate(
        {"epochs": epochs, "batch_size": 1024, "drop_last": True, "optimizer": optimizer, "seed": 0}
    )


def prepared_for(case: Case, spec: TrainingSpec, duplicates: str) -> Prepared:
    with seeded_torch(stream(spec.seed, "torch")):
        return recipe(duplicates).prepare(case.dataset, case.dataset.parts.train, spec)


class Measured(Silent):
    """Keeps loss and test NDCG@20 of every epoch of towerkit's loop."""

    def __init__(self, model: TwoTower, encoded: Encoded, task: RankingTask) -> None:
        self.model, self.encoded, self.task = model, encoded, task
        self.rows: list[tuple[float, float]] = []

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        values = ranking_values(
            model_ranker(self.model, self.encoded, (self.model.query_entity, self.model.candidate_entity)),
            self.task,
            [K],
        )
        self.rows.append((record["loss"], float(values[f"ndcg@{K}"].mean())))


def task_of(case: Case, encoded: Encoded) -> RankingTask:
    entities = ("user", "item")
    keys = [case.dataset.labelled(entity, case.dataset.parts.test) for entity in entities]
    seen = pairs_matrix(encoded, case.dataset.parts.train, entities)
    return ranking_task(encoded.catalogues["user"], encoded.catalogues["item"], seen, *keys)


def codes_of(batch: Batch) -> tuple[Ints, Ints, Ints]:
    """User codes, item codes and codes of the negatives, as the plan of towerkit has them."""
    users, items = (dense(batch.columns[name], "id").numpy() for name in ("user", "item"))
    place = {name: index.numpy() for name, index in batch.index.items()}
    return users[place["user"]], items[place["item"]], items[batch.pool["item"][0].index.numpy()]


@dataclass(frozen=True)
class Curves:
    """``[epochs, 2]`` loss and NDCG@20 of both sides, and the state towerkit ended in."""

    towerkit: NDArray[np.float64]
    reference: NDArray[np.float64]
    prepared: Prepared

    @property
    def apart(self) -> float:
        return float(np.abs(self.towerkit - self.reference).max())


def run(case: Case, epochs: int, *, duplicates: str = "last", weight_decay: float = DECAY) -> Curves:
    """Both sides for some epochs; the NumPy side always keeps one write and eats the batches as they are made."""
    spec = training(epochs)
    prepared = prepared_for(case, spec, duplicates)
    model = prepared.state.model
    measured = Measured(model, prepared.encoded, task_of(case, prepared.encoded))
    tables = [side.towers["id"].table.detach().numpy().copy() for side in (model.query, model.candidate)]
    reference = NumpyOneBackprop(*tables, weight_decay=weight_decay)
    curve = []

    def batches(epoch: int, done: int = 0) -> Iterator[Batch]:
        losses = []
        for batch in batches_of(prepared, case.dataset.parts.train, spec, epoch):
            losses.append(reference.train(*codes_of(batch)))
            yield batch
        assert len(losses) == 78  # 80,000 // 1,024: the short batch is left out
        curve.append((np.mean(losses), reference.ndcg(case.seen, case.wanted)))

    fit_loop(
        prepared.state,
        batches,
        epochs=epochs,
        validate=None,
        selection=Selection("ndcg@20", higher_is_better=True),
        patience=1,
        progress=measured,
    )
    return Curves(np.array(measured.rows), np.array(curve), prepared)


def table_of(curves: Curves) -> str:
    lines = ["epoch | loss towerkit  NumPy      | NDCG@20 towerkit  NumPy"]
    for epoch, (own, other) in enumerate(zip(curves.towerkit, curves.reference, strict=True), start=1):
        lines.append(f"{epoch:5d} | {own[0]:.8f}  {other[0]:.8f} | {own[1]:.8f}     {other[1]:.8f}")
    return "\n".join([*lines, f"farthest apart: {curves.apart:.2e}"])


def test_codes_stand_in_the_order_the_reference_assumes(case: Case) -> None:
    encoded = prepared_for(case, training(1), "last").encoded
    for name in ("user", "item"):
        feature = next(f.feature for f in encoded.encoder.features[name] if isinstance(f.spec, IdSpec))
        assert isinstance(feature, CategoryFeature)
        values = case.dataset.examples.data.column(name).to_numpy()
        train = case.dataset.parts.train
        expected = codes_in_order(values, train)[train]
        np.testing.assert_array_equal(feature.vocabulary.encode(case.dataset.labelled(name, train)), expected)


def test_twenty_epochs_agree(case: Case) -> None:
    curves = run(case, 20)
    print("\n" + table_of(curves))  # shown with pytest -s
    assert curves.towerkit.shape == (20, 2)
    np.testing.assert_allclose(curves.towerkit, curves.reference, rtol=0, atol=TOLERANCE)
    loss, ndcg = curves.towerkit.T
    assert (loss[-1], ndcg[-1]) == pytest.approx((1.024, 0.325), abs=2e-3)  # and not 20 times the first epoch
    state = curves.prepared.state
    users = state.model.query.towers["id"].table
    assert users.grad is None and not users.requires_grad
    assert [moments.first.shape for moments in state.optimizer.moments.values()] == [(1648, DIM)]


def test_grouped_duplicates_are_told_apart(case: Case) -> None:
    assert run(case, 2, duplicates="grouped").apart > 10 * TOLERANCE


def test_a_wrong_adam_is_told_apart(case: Case) -> None:
    assert run(case, 3, weight_decay=1e-2).apart > 10 * TOLERANCE


def test_unknown_rows_stay_out_of_the_batches(case: Case) -> None:
    spec = training(1)
    prepared = prepared_for(case, spec, "last")
    batch = next(batches_of(prepared, case.dataset.parts.train, spec, 0))
    assert all(int(codes.min()) > 0 for codes in codes_of(batch))

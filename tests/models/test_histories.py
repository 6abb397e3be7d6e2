"""Histories in a two-tower, from the data set to the trained weights.

Invariants:
- a batch has a query row per example, whose history is of the past alone; a check over the raw rows finds planted leaks (the
  own candidate, later events, held-out events), and a model trained with its own candidate in view scores suspiciously well;
- no value of a test row reaches a trained weight; planted test events do;
- validation ranks with all events of the rows that are trained on, in chunks of any size;
- the fixed point of one-backprop for resting candidates is the output of a history tower over the same candidates;
- ``id_history`` counts as the one id tower of the query side; stop_gradient rests what the sides do not share;
- towers of histories anywhere else, and shared vectors that are not there, are refused; so are half-lives without times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from towerkit.api import read
from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.batch import Bag, dense
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Parts
from towerkit.evaluation import selection
from towerkit.evaluation.selection import model_ranker
from towerkit.features.encoded import Encoded, encode
from towerkit.features.encoder import Encoder
from towerkit.features.history import Events, Histories
from towerkit.matching.updates import OneBackprop, StopGradient, TwoBackpropSpec
from towerkit.models.histories import with_histories
from towerkit.models.tower_model import TowerModelSpec
from towerkit.models.two_tower import TwoTower, TwoTowerSpec
from towerkit.objectives.retrieval import RetrievalObjectiveSpec
from towerkit.spec import ModelingSpec
from towerkit.testing.histories import assert_histories_are_past
from towerkit.training.fit import Trained, fit_recipe
from towerkit.training.loop import Selection, Silent
from towerkit.training.optimizers import AdamSpec
from towerkit.training.recipes import RetrievalRecipe
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import seeded_torch

DIM = 8
ENTITIES = ("user", "item")
ITEM: dict[str, Any] = {"kind": "id", "dim": DIM}
HISTORY: dict[str, Any] = {"kind": "history", "dim": DIM}
NOTHING_HELD_OUT = {"kind": "random", "validation": 0.0, "test": 0.0}


def random_pairs(size: int = 400, *, users: int = 20, items: int = 60, seed: int = 0) -> dict[str, list[Any]]:
    """Pairs without any structure: nothing can be learned about a target from other events."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(users * items)[:size]
    return {
        "user": [f"u{pair // items}" for pair in pairs],
        "item": [f"i{pair % items}" for pair in pairs],
        "day": (rng.integers(0, size // 2, size) * 86_400 + 1_600_000_000).tolist(),
    }


def dataset_of(columns: dict[str, list[Any]], *, time: str | None = "day", parts: Parts | None = None) -> Dataset:
    data = read(columns, query="user", candidate="item", time=time, split=NOTHING_HELD_OUT)
    return data if parts is None else data.with_parts(parts)


def built(
    dataset: Dataset, rows: NDArray[np.int64], query: Any = HISTORY, candidate: Any = ITEM
) -> tuple[TwoTower, Encoded]:
    spec = TwoTowerSpec.model_validate({"query": query, "candidate": candidate})
    encoder = Encoder.fit(spec.demand(dataset), dataset, rows)
    with seeded_torch(3):
        model = spec.build(encoder, ENTITIES, sparse_rows=True)
    return model, with_histories(encode(encoder, dataset, rows), dataset, rows, ENTITIES, model.query.reaches())


def trained(
    dataset: Dataset, query: Any = HISTORY, *, epochs: int = 12, update: Any = None, **training: Any
) -> Trained:
    spec = TwoTowerSpec.model_validate({"query": query, "candidate": ITEM})
    recipe = RetrievalRecipe(
        spec, RetrievalObjectiveSpec(), update or TwoBackpropSpec(), Selection("x", True), lambda *_: {"x": 1.0}
    )
    settings = TrainingSpec(epochs=epochs, batch_size=64, optimizer=AdamSpec(lr=0.05), **training)
    return fit_recipe(recipe, dataset, settings, Silent())


def last_loss(found: Trained) -> float:
    return float(found.history.records[-1]["loss"])


# --- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", ["day", None])
def test_a_batch_has_a_query_row_per_example_with_its_past(time: str | None) -> None:
    data = dataset_of(random_pairs(), time=time)
    rows = np.arange(400)
    model, encoded = built(data, rows, {"towers": {"id": ITEM, "met": {**HISTORY, "length": 7}}})
    chosen = np.array([5, 6, 5, 399])
    batch = encoded.batch(chosen)
    assert batch.index["user"].tolist() == [0, 1, 2, 3]
    assert (
        dense(batch.columns["user"], "id").tolist()
        == dense(encoded.tables["user"], "id")[encoded.index["user"][chosen]].tolist()
    )
    assert isinstance(batch.columns["user"]["history:7"], Bag)
    assert_histories_are_past(data, encoded, rows, rows, ENTITIES)
    assert model(batch)[0].vectors.shape == (4, DIM)


def test_rows_that_are_not_learned_from_are_in_nobodys_history() -> None:
    data = dataset_of(random_pairs())
    learned, held_out = np.arange(0, 300), np.arange(300, 400)
    _, encoded = built(data, learned)
    assert_histories_are_past(data, encoded, learned, learned, ENTITIES)
    counts = np.diff(encoded.histories["user"].events.starts)
    assert counts.sum() == 300
    everything = encoded.histories["user"].of_examples(held_out)["history:50"]
    users = encoded.index["user"][held_out]
    own = [
        int(((encoded.index["user"][learned] == user) & (encoded.index["item"][learned] == item)).sum())
        for user, item in zip(users, encoded.index["item"][held_out], strict=True)
    ]
    assert np.diff(everything.offsets.numpy()).tolist() == (counts[users] - own).tolist()


# --- planted leaks --------------------------------------------------------------------------------------------------------


def with_own_candidate(plain: Callable[..., Bag]) -> Callable[..., Bag]:
    def leaky(self: Events, reach: Any, queries: Any, end: Any = None, without: Any = None) -> Bag:
        return plain(self, reach, queries)

    return leaky


def test_the_own_candidate_in_its_history_is_found_and_scores_suspiciously(monkeypatch: pytest.MonkeyPatch) -> None:
    data, rows = dataset_of(random_pairs(users=100), time=None), np.arange(400)
    own = {**HISTORY, "of": "own"}
    honest = trained(data, own)
    assert_histories_are_past(data, honest.prepared.encoded, rows, rows, ENTITIES)
    monkeypatch.setattr(Events, "bag", with_own_candidate(Events.bag))
    leaky = trained(data, own)
    assert last_loss(leaky) < 0.6 * last_loss(honest), (last_loss(leaky), last_loss(honest))
    with pytest.raises(AssertionError, match=r"A leak: the history of row 0 holds 'i\d+', its own candidate"):
        assert_histories_are_past(data, leaky.prepared.encoded, rows, rows, ENTITIES)


def test_later_events_in_a_history_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    data, rows = dataset_of(random_pairs()), np.arange(400)
    _, encoded = built(data, rows)
    assert_histories_are_past(data, encoded, rows, rows, ENTITIES)

    def leaky(self: Histories, chosen: NDArray[np.int64]) -> dict[str, Bag]:
        queries, targets = self.queries[chosen], self.targets[chosen]
        return {reach.name: self.events.bag(reach, queries, None, targets) for reach in self.reaches}

    monkeypatch.setattr(Histories, "of_examples", leaky)
    with pytest.raises(AssertionError, match=r"holds 'i\d+', no earlier event of its query"):
        assert_histories_are_past(data, encoded, rows, rows, ENTITIES)


def weights_with(columns: dict[str, list[Any]], parts: Parts) -> dict[str, torch.Tensor]:
    found = trained(dataset_of(columns, parts=parts), epochs=3, refit=False)
    return {name: value.clone() for name, value in found.model.state_dict().items()}


def test_no_value_of_a_test_row_reaches_a_weight_and_planted_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.arange(400)
    parts = Parts(rows[:300], rows[300:340], rows[340:])
    columns = random_pairs()
    other = {name: values[:340] + values[340:][::-1] for name, values in columns.items()}
    other["user"] = columns["user"]  # other candidates and times for the same users
    before, after = weights_with(columns, parts), weights_with(other, parts)
    assert all(torch.equal(before[name], after[name]) for name in before)

    def leaky(encoded: Encoded, dataset: Dataset, learned: Any, *rest: Any) -> Encoded:
        return with_histories(encoded, dataset, rows, *rest)

    monkeypatch.setattr("towerkit.training.recipes.with_histories", leaky)
    before, after = weights_with(columns, parts), weights_with(other, parts)
    assert not all(torch.equal(before[name], after[name]) for name in before)


# --- validation ------------------------------------------------------------------------------------------------------------


def test_validation_ranks_with_all_trained_events_in_chunks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    data, learned = dataset_of(random_pairs()), np.arange(300)
    model, encoded = built(data, learned, {**HISTORY, "length": 100})
    whole = model_ranker(model, encoded, (model.query_entity, model.candidate_entity)).scores(np.arange(21))
    table = model.candidate.id_towers()["id"].table.detach()
    codes = dense(encoded.tables["item"], "id")
    for user in range(1, 21):
        met = codes[encoded.index["item"][learned[encoded.index["user"][learned] == user]]]
        known = table[codes[1 : encoded.catalogues["item"].num_known + 1]]
        np.testing.assert_allclose(whole[user], (known @ table[met].mean(dim=0)).numpy(), rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(selection, "_CHUNK", 3)
    np.testing.assert_array_equal(
        model_ranker(model, encoded, (model.query_entity, model.candidate_entity)).scores(np.arange(21)), whole
    )


# --- updates ---------------------------------------------------------------------------------------------------------------


def test_the_fixed_point_of_one_backprop_is_a_history_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    """With resting candidates the id vectors end where a history tower over the same candidates is at once."""
    data, rows = dataset_of(random_pairs(120, users=6), time=None), np.arange(120)
    pooling, with_history = built(data, rows, {**HISTORY, "length": 1000})
    averaging, encoded = built(data, rows, ITEM)
    table = pooling.candidate.id_towers()["id"].table
    averaging.candidate.load_state_dict(pooling.candidate.state_dict())
    update = OneBackprop(0.9, "grouped")
    list(update.trainable(averaging))
    batch = encoded.batch(rows)
    for _ in range(30):
        update.views(averaging, batch, *averaging(batch))
        update.after_step(averaging, batch)
    with torch.no_grad():
        pooled = pooling.query(with_history.columns("user", torch.arange(7)))[1:]
    torch.testing.assert_close(averaging.query.id_towers()["id"].table.detach()[1:], pooled, rtol=0, atol=1e-5)
    assert torch.equal(table, averaging.candidate.id_towers()["id"].table)
    assert pooled.std() > 0.01


def test_id_history_is_the_one_id_tower_that_one_backprop_moves() -> None:
    data, rows = dataset_of(random_pairs()), np.arange(400)
    model, encoded = built(data, rows, {"kind": "id_history", "dim": DIM, "gate": 0.3})
    (tower,) = model.query.id_towers().values()
    update = OneBackprop(0.5, "grouped")
    trainable = {id(parameter) for parameter in update.trainable(model)}
    assert id(tower.table) not in trainable
    assert id(model.candidate.id_towers()["id"].table) in trainable
    batch, before = encoded.batch(rows[:64]), tower.table.detach().clone()
    update.views(model, batch, *model(batch))
    update.after_step(model, batch)
    codes = dense(batch.columns["user"], "id")
    moved = (tower.table.detach() != before).any(dim=1)
    assert set(torch.nonzero(moved).flatten().tolist()) == set(codes.tolist())
    targets = model.candidate(batch.columns["item"])[batch.index["item"]].detach()
    mine = targets[codes == codes[0]]
    kept = 0.5 ** len(mine)
    torch.testing.assert_close(tower.table[codes[0]].detach(), kept * before[codes[0]] + (1 - kept) * mine.mean(dim=0))


@pytest.mark.parametrize(("side", "resting"), [("query", "absent"), ("candidate", "table")])
def test_stop_gradient_rests_what_the_sides_do_not_share(side: Any, resting: str) -> None:
    model, _ = built(dataset_of(random_pairs()), np.arange(400))
    names = {id(parameter): name.split(".")[-1] for name, parameter in model.named_parameters()}
    assert sorted(names.values()) == ["absent", "table"]
    moving = [names[id(parameter)] for parameter in StopGradient(side).trainable(model)]
    assert moving == [name for name in ("absent", "table") if name != resting]


UPDATES = [
    {"kind": "two_backprop"},
    {"kind": "stop_gradient"},
    {"kind": "ema", "side": "both"},
    {"kind": "alternating"},
    {"kind": "one_backprop", "debias": True},
    {"kind": "one_backprop", "refresh": "epoch", "start": "mean_of_items"},
]


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: "_".join(map(str, update.values())))
@pytest.mark.parametrize("rows", ["touched", "all"])
def test_every_update_trains_id_history(update: dict[str, Any], rows: Any) -> None:
    spec = parse(
        ModelingSpec,
        {
            "model": {"kind": "two_tower", "query": {"kind": "id_history", "dim": DIM}, "candidate": ITEM},
            "update": update,
        },
    )
    found = trained(dataset_of(random_pairs()), spec.model.query, epochs=2, update=spec.update)  # type: ignore[union-attr]
    assert all(np.isfinite(record["loss"]) for record in found.history.records)
    assert all(torch.isfinite(value).all() for value in found.model.state_dict().values())


# --- refusals --------------------------------------------------------------------------------------------------------------


def test_histories_stand_on_the_query_side_of_a_two_tower() -> None:
    with pytest.raises(SpecError, match=r"its tower stands on the query side; the candidate side has one too"):
        parse(TwoTowerSpec, {"query": ITEM, "candidate": HISTORY})
    heads = {"good": {"kind": "binary", "column": "good"}}
    with pytest.raises(SpecError, match=r"the tower 'met' is a history: .* a tower_model has no query side"):
        parse(TowerModelSpec, {"towers": {"met": HISTORY}, "heads": heads})


def test_shared_vectors_must_be_there() -> None:
    table = {"kind": "table", "columns": ["price"], "dim": DIM}
    with pytest.raises(SpecError, match=r"the tower 'history' pools .* and that side has 0\. Use of: own"):
        parse(TwoTowerSpec, {"query": HISTORY, "candidate": table})
    with pytest.raises(SpecError, match=r"the tower 'met' pools .* and that side has 2\."):
        parse(TwoTowerSpec, {"query": {"towers": {"met": HISTORY}}, "candidate": {"towers": {"a": ITEM, "b": ITEM}}})
    with pytest.raises(SpecError, match=r"received dim 4 here and 8 there\. Set the same dim"):
        parse(TwoTowerSpec, {"query": {"kind": "history", "dim": 4}, "candidate": ITEM})
    parse(TwoTowerSpec, {"query": {**HISTORY, "of": "own"}, "candidate": table})


def test_a_half_life_needs_times_and_days_need_moments() -> None:
    columns, rows = random_pairs(), np.arange(400)
    timeless = dataset_of(columns, time=None)
    with pytest.raises(DataError, match=r"a half-life of 3 needs to know which event came later"):
        built(timeless, rows, {**HISTORY, "half_life_events": 3})
    places = dataset_of({**columns, "day": list(range(400))})
    with pytest.raises(
        DataError, match=r"'day' holds plain numbers from 0 to 399, .* so 2\.5 days mean nothing\. Use half_life_events"
    ):
        built(places, rows, {**HISTORY, "half_life_days": 2.5})
    built(places, rows, {**HISTORY, "half_life_events": 2.5})
    dates = pa.array(columns["day"], pa.int64()).cast(pa.timestamp("s")).to_pylist()
    built(dataset_of({**columns, "day": dates}), rows, {**HISTORY, "half_life_days": 2.5})

"""Rankers.

Pinned: a pair's score is the same through the catalogue (towers once per row), through a batch of rows, and alone; the objective
is the loss of a few lines that score every pair by itself, in value and gradient, with shared and own negatives, hard ones,
collisions and logQ; tasks beside the ranking learn from the rows with a label alone; towers that read the request have their
learned vector stand in, and their columns where rows hold them; specs that make no sense are refused with what to change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import towerkit as tk
from towerkit.core.errors import RunError, SpecError
from towerkit.data.batch import Batch, Block
from towerkit.data.splits import Rows
from towerkit.data.table import Table
from towerkit.features.encoded import Drawn, Encoded, encode
from towerkit.features.encoder import Encoder
from towerkit.index.pairs import PairRanker, pair_ranker
from towerkit.losses import BprSpec, SampledSoftmaxSpec
from towerkit.models.pair_scorer import PairScorer
from towerkit.models.ranker import RANKING, RankerSpec
from towerkit.models.tower_model import TowerModel
from towerkit.objectives.pairs import PairsObjective, with_drawn
from towerkit.training.state import seeded_torch

TOWERS = {
    "user": {"kind": "id", "entity": "user", "dim": 4},
    "profile": {"kind": "table", "entity": "user", "columns": ["age"], "layers": [], "dim": 3},
    "item": {"kind": "id", "entity": "item", "dim": 4},
}
WHEN = {"kind": "table", "columns": ["hour"], "layers": [], "dim": 2}
RATING = {"kind": "regression", "column": "stars"}


def events(count: int = 80) -> pa.Table:
    """Who had what, at which hour, and how it was liked by some."""
    draw = np.random.default_rng(3)
    users, items = draw.integers(0, 10, count), draw.integers(0, 12, count)
    stars = [float(place % 5) if place % 3 else None for place in range(count)]
    hours = draw.integers(0, 24, count).astype(float)
    return pa.table(
        {"user": [f"u{u}" for u in users], "item": [f"i{i}" for i in items], "hour": hours, "stars": pa.array(stars)}
    )


def people() -> pa.Table:
    """Ten users, one of unknown age."""
    return pa.table({"user": [f"u{u}" for u in range(10)], "age": [20.0 + u if u != 4 else None for u in range(10)]})


def dataset() -> tk.Dataset:
    """Events with users."""
    split = {"kind": "random", "validation": 0.1, "test": 0.1}
    return tk.read(events(), query="user", candidate="item", entities={"user": people()}, split=split)


def spec(**model: Any) -> dict[str, Any]:
    """A small ranker."""
    return {
        "model": {"kind": "ranker", "towers": TOWERS, "layers": [5], **model},
        "objective": {"negatives": [{"kind": "uniform", "count": 3}]},
        "training": {"epochs": 2, "batch_size": 16, "optimizer": {"kind": "adam", "lr": 0.05}},
        "evaluation": {"k": [3]},
    }


def built(**model: Any) -> tuple[TowerModel, Encoded, Rows]:
    """A module with its arrays."""
    data = dataset()
    ranker = RankerSpec.model_validate({"towers": TOWERS, "layers": [5], **model})
    rows = data.parts.train
    encoder = Encoder.fit(ranker.demand(data), data, rows)
    with seeded_torch(0):
        return ranker.build(encoder), encode(encoder, data, rows), rows


def alone(model: TowerModel, encoded: Encoded, user: int, item: int) -> torch.Tensor:
    """The score of one pair of catalogue rows, by itself."""
    columns = {
        name: {key: column[row : row + 1] for key, column in encoded.tables[name].items()}  # type: ignore[index]
        for name, row in (("user", user), ("item", item))
    }
    batch = Batch(columns=columns, index={name: torch.zeros(1, dtype=torch.int64) for name in columns})
    score: torch.Tensor = model(batch)[RANKING][0, 0]
    return score


def drawn() -> list[Drawn]:
    """Negatives of a batch of four: own ones that collide here and there, shared ones, and the hardest of many."""
    own = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [2, 2, 11]])
    collision = np.zeros((4, 3), bool)
    collision[1, 2] = collision[3, 0] = True
    many = np.array([[3, 9, 1, 5], [8, 7, 6, 2], [10, 1, 4, 3], [5, 6, 7, 9]])
    return [
        Drawn(own, collision=collision, log_q=np.full((4, 3), -1.5, np.float32)),
        Drawn(np.array([10, 1]), log_q=np.array([-0.5, -2.0], np.float32)),
        Drawn(many, keep=2),
    ]


def reference(model: TowerModel, encoded: Encoded, rows: Rows, blocks: list[Drawn]) -> torch.Tensor:
    """The mean sampled softmax of four rows, each pair scored by itself."""
    losses = []
    for place, row in enumerate(rows):
        user, item = int(encoded.index["user"][rows[place : place + 1]][0]), int(encoded.index["item"][[row]][0])
        positive = alone(model, encoded, user, item)
        logits = [positive]
        for block in blocks:
            assert block.rows is not None
            candidates = block.rows[place] if block.rows.ndim == 2 else block.rows
            scores = [alone(model, encoded, user, int(each)) for each in candidates]
            if block.keep:
                scores = sorted(scores, key=Tensor.item)[::-1][: block.keep]
            for number, score in enumerate(scores):
                if block.collision is not None and block.collision[place, number]:
                    continue
                log_q = (
                    0.0 if block.log_q is None else float(np.broadcast_to(block.log_q, (4, len(scores)))[place, number])
                )
                logits.append(score - log_q)
        losses.append(functional.cross_entropy(torch.stack(logits)[None], torch.tensor([0])))
    return torch.stack(losses).mean()


def test_the_objective_is_that_of_a_few_lines() -> None:
    model, encoded, rows = built()
    batch = encoded.batch(rows[:4], {"item": drawn()})
    objective = PairsObjective(SampledSoftmaxSpec().build(), None, "item")
    loss = objective(model, batch)[RANKING]
    loss.backward()
    got = [parameter.grad.clone() for parameter in model.parameters()]  # type: ignore[union-attr]
    model.zero_grad()
    wanted = reference(model, encoded, rows[:4], drawn())
    wanted.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    for mine, parameter in zip(got, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-6)
    assert objective.report()["negatives"] == pytest.approx((3 + 2 + 2) - 2 / 4)


def test_weights_of_rows_count() -> None:
    model, encoded, rows = built()
    whole = encoded.batch(rows[:4], {"item": [Drawn(np.array([1, 2, 3]))]})
    objective = PairsObjective(BprSpec().build(), None, "item")
    first = encoded.batch(rows[:1], {"item": [Drawn(np.array([1, 2, 3]))]})
    weighted = Batch(whole.columns, whole.index, weights=torch.tensor([2.0, 0.0, 0.0, 0.0]), pool=whole.pool)
    assert objective(model, weighted)[RANKING].item() == pytest.approx(
        objective(model, first)[RANKING].item(), rel=1e-5
    )


def test_drawn_pairs_stand_behind_the_rows() -> None:
    index = {"user": torch.tensor([0, 1]), "item": torch.tensor([4, 5])}
    pool = {"item": (Block(torch.tensor([[6, 7], [8, 9]])), Block(torch.tensor([1, 2, 3])))}
    found = with_drawn(Batch({}, index, pool=pool), "item")
    assert found.index["user"].tolist() == [0, 1, *(0, 0, 1, 1), *(0, 0, 0, 1, 1, 1)]
    assert found.index["item"].tolist() == [4, 5, *(6, 7, 8, 9), *(1, 2, 3, 1, 2, 3)]


def test_heads_learn_from_their_labels_alone() -> None:
    model, encoded, rows = built(heads={"rating": RATING}, backbone={"kind": "mmoe"})
    objective = PairsObjective(SampledSoftmaxSpec().build(), None, "item")
    unlabelled = np.array([row for row in rows if events()["stars"][int(row)].as_py() is None][:4])
    assert set(objective(model, encoded.batch(unlabelled, {"item": drawn()}))) == {RANKING}
    labelled = np.array([row for row in rows if events()["stars"][int(row)].as_py() is not None][:4])
    terms = objective(model, encoded.batch(labelled, {"item": drawn()}))
    bare = encoded.batch(labelled)
    wanted = model.head("rating").loss(model(bare)["rating"], bare.labels["rating"]).mean()
    assert terms["rating"].item() == pytest.approx(wanted.item(), rel=1e-6)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> PairScorer:
    """A trained ranker with a task and a tower of the request."""
    towers = {**TOWERS, "when": WHEN}
    given = spec(towers=towers, absent=0.2, heads={"rating": RATING})
    run = tk.fit(given, dataset(), run=tmp_path_factory.mktemp("runs") / "run")
    assert isinstance(run.model, PairScorer)
    return run.model


def test_one_score_by_every_way(scorer: PairScorer) -> None:
    ranker = pair_ranker(scorer)
    rows = np.arange(len(scorer.query.keys) + 1)
    every = ranker.scores(rows)
    assert every.shape == (len(rows), len(scorer.candidate.keys))
    for row in rows:
        np.testing.assert_allclose(ranker.scores(rows[row : row + 1])[0], every[row], atol=1e-6)
    chosen = np.array([[3, 1], [0, 5]])
    np.testing.assert_allclose(
        ranker.scores_at(np.array([2, 7]), chosen), np.take_along_axis(every[[2, 7]], chosen, 1), atol=1e-6
    )
    user, item = scorer.query.keys[3].as_py(), scorer.candidate.keys[4].as_py()
    table = pa.table({"user": [user], "item": [item], "hour": pa.nulls(1, pa.float64())})
    in_a_row = scorer.predictor.scores(Table(table, "rows", 0))
    assert in_a_row[0] == pytest.approx(every[4, 4], abs=1e-5)


def test_blocks_of_pairs_do_not_change_scores(scorer: PairScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = pair_ranker(scorer)
    wanted = ranker.scores(np.arange(5))
    monkeypatch.setattr("towerkit.index.pairs._PAIRS", 16)
    np.testing.assert_allclose(ranker.scores(np.arange(5)), wanted, atol=1e-6)
    assert PairRanker(scorer.model, scorer.query_parts, scorer.candidate_parts).scores_at(
        np.empty(0, np.int64), np.empty((0, 3), np.int64)
    ).shape == (0, 3)


def test_what_is_known_of_a_request_counts_where_it_is_given(tmp_path: Path) -> None:
    given = spec(towers={**TOWERS, "when": WHEN}, absent=0.2, heads={"rating": RATING})
    run = tk.fit(given, dataset(), run=tmp_path / "run")
    pair = {"user": ["u1"], "item": ["i2"]}
    night, noon, unknown = (
        run.predict(pa.table({**pair, **more}))["score"][0].as_py() for more in ({"hour": [3.0]}, {"hour": [12.0]}, {})
    )
    assert len({night, noon, unknown}) == 3
    listed = run.recommend("u1", k=20, exclude_seen=False).to_pylist()
    assert next(each["score"] for each in listed if each["item"] == "i2") == pytest.approx(unknown, abs=1e-5)
    assert {"user", "item", "score", "cold", "rating"} <= set(run.predict(pa.table(pair)).column_names)


def test_newcomers_of_both_sides(tmp_path: Path) -> None:
    run = tk.fit(spec(), dataset(), run=tmp_path / "run")
    strangers = run.recommend(rows=pa.table({"user": ["new", None], "age": [25.0, 25.0]}), k=4).to_pylist()
    assert [each["item"] for each in strangers[:4]] == [each["item"] for each in strangers[4:]]
    assert all(each["cold"] for each in strangers)
    fitting = run.queries_for(pa.table({"item": ["new"]}), k=3)
    assert fitting.column_names == ["item", "rank", "user", "score"] and fitting.num_rows == 3
    assert fitting["user"][0].as_py() in run.model.query.keys.to_pylist()  # type: ignore[union-attr]


def test_it_goes_on_from_a_run(tmp_path: Path) -> None:
    first = tk.fit(spec(), dataset(), run=tmp_path / "first")
    again = tk.fit(
        {**spec(), "training": {**spec()["training"], "epochs": 1}}, dataset(), run=tmp_path / "b", base=first
    )
    assert again.manifest.files.keys() == first.manifest.files.keys()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"towers": {"user": TOWERS["user"]}},
            "no tower reads the candidate 'item'; the towers read 'user'. Give one entity: item.",
        ),
        ({"towers": {**TOWERS, "when": WHEN}}, "'when' of a ranker reads 'example', which is known of a request"),
        ({"heads": {"ranking": RATING}}, "'ranking' is what the score of a ranker is called"),
        ({"towers": {**TOWERS, "met": {"kind": "history", "dim": 4}}}, "a ranker has no query side"),
        ({"towers": {**TOWERS, "item": {"kind": "spectral", "dim": 4}}}, "in a ranker, which merges both sides"),
    ],
)
def test_models_that_cannot_be(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        tk.fit(spec(**changed), dataset())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"objective": {"loss": {"kind": "ccl"}}}, "ccl wants cosines"),
        ({"objective": {"negatives": [{"kind": "queue", "size": 64}]}}, "a ranker scores pairs. Use negatives"),
        ({"update": {"kind": "one_backprop"}}, "'update' belongs to a two_tower, but the model is a ranker"),
    ],
)
def test_trainings_that_cannot_be(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        tk.fit({**spec(), **changed}, dataset())


def test_what_it_cannot_be_asked(tmp_path: Path) -> None:
    run = tk.fit(spec(), dataset(), run=tmp_path / "run")
    with pytest.raises(RunError, match="is a ranker: it scores pairs and has no vectors"):
        run.similar("i1")
    with pytest.raises(RunError, match="is a ranker: it scores pairs. Embed with"):
        run.embed(side="query")
    with pytest.raises(RunError, match="This Run is a ranker, and its towers read no histories"):
        run.recommend(history=["i1"])

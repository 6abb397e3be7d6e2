"""A Run: the folder and its answers.

Pinned: the model is loaded only when asked; no row of the examples is in the folder; recommendations are the exact
ranking by score without what was seen, marked cold where the key is unknown, the same for a key and for its raw row; a
history is the mean of its candidates; predictions name the classes; a spec read from a Run trains the same model again;
evaluation of new rows says so in its protocol.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

import towerkit as tk
from towerkit.data.table import Table
from towerkit.models.answer import Retriever
from towerkit.run import Run

DRAW = np.random.default_rng(1)
EVENTS: dict[str, Any] = {"user": DRAW.integers(100, 140, 500), "item": DRAW.integers(0, 25, 500)}
ITEMS: dict[str, Any] = {"item": list(range(26)), "name": [f"Item {n}" for n in range(26)], "price": DRAW.random(26)}
USERS: dict[str, Any] = {"user": list(range(100, 141)), "age": DRAW.integers(20, 60, 41)}
SECRET = "xyzzy-plugh"
REVIEWS: dict[str, Any] = {
    "text": [f"{SECRET} {('bad', 'fine', 'good')[n]} thing" for n in DRAW.integers(0, 3, 150)],
    "stars": None,
    "liked": None,
}
REVIEWS["stars"] = [("bad", "fine", "good").index(text.split()[1]) + 1 for text in REVIEWS["text"]]
REVIEWS["liked"] = [["no", "yes"][stars > 1] for stars in REVIEWS["stars"]]
TRAINING = {"epochs": 2, "batch_size": 64, "optimizer": {"kind": "adam", "lr": 0.05}}
SIDE = {
    "towers": {"id": {"kind": "id", "dim": 6}, "more": {"kind": "table", "columns": ["price"], "layers": [], "dim": 6}}
}
RANKING: dict[str, Any] = {
    "model": {"kind": "two_tower", "query": {"kind": "id", "dim": 6}, "candidate": SIDE},
    "update": {"kind": "one_backprop", "beta": 0.8},
    "training": TRAINING,
    "evaluation": {"k": [3, 5]},
}
WORDS = {"kind": "text", "columns": ["text"], "encoder": {"kind": "hashed_ngrams", "buckets": 256}, "dim": 4}
HEADS = {"stars": {"kind": "ordinal", "column": "stars"}, "liked": {"kind": "binary", "column": "liked"}}
PREDICTING: dict[str, Any] = {
    "model": {"kind": "tower_model", "towers": {"text": WORDS}, "heads": HEADS},
    "training": {**TRAINING, "epochs": 15},
}


def events() -> tk.Dataset:
    """The events with both entity tables."""
    items = {"table": ITEMS, "key": "item", "title": "name"}
    return tk.read(EVENTS, query="user", candidate="item", entities={"item": items, "user": USERS})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the Runs of this file lie."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def ranking(folder: Path) -> Run:
    """A two-tower whose users learn by aggregation."""
    return tk.fit(RANKING, events(), run=folder / "ranking")


@pytest.fixture(scope="module")
def predicting(folder: Path) -> Run:
    """A tower model of two tasks."""
    return tk.fit(PREDICTING, tk.read(REVIEWS), run=folder / "predicting")


def retriever(run: Run) -> Retriever:
    """The loaded model."""
    assert isinstance(run.model, Retriever)
    return run.model


def test_the_folder_holds_what_it_should(ranking: Run) -> None:
    assert {path.name for path in ranking.path.iterdir()} == {
        "card.md", "data.json", "details-0.arrow", "golden.json", "history.jsonl", "manifest.json", "metrics.json",
        "model", "spec.json",
    }  # fmt: skip
    records = [json.loads(line) for line in (ranking.path / "history.jsonl").read_text().splitlines()]
    assert [record["stage"] for record in records][:2] == ["train", "train"] and records[-1]["stage"] == "refit"
    described = json.loads((ranking.path / "data.json").read_text())
    assert described["roles"]["query"] == "user" and described["rows"]["train"] > 300
    card = (ranking.path / "card.md").read_text()
    assert "# A two_tower trained by towerkit" in card and "| ndcg@5 |" in card and "popularity" in card


def test_the_model_is_loaded_only_when_asked(ranking: Run) -> None:
    run = tk.load(ranking.path)
    assert run.kind == "two_tower" and run.evaluate().metrics
    assert "model" not in vars(run)
    assert run.model is run.model


def test_no_example_row_is_stored(predicting: Run) -> None:
    holding = [
        path.name for path in predicting.path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert holding == []


def test_recommendations_are_the_exact_ranking_without_what_was_seen(ranking: Run) -> None:
    model, user = retriever(ranking), 117
    place = int(pc.index(model.query.keys, user).as_py())
    scores = model.query_vectors[place + 1] @ model.candidate_vectors[1:].T
    seen = set(model.candidate.keys.take(model.seen[[place]].indices).to_pylist())
    assert seen
    order = [item for item in np.argsort(-scores).tolist() if item not in seen]
    found = ranking.recommend(user, k=6)
    assert found.column("item").to_pylist() == order[:6]
    assert found.column("rank").to_pylist() == [1, 2, 3, 4, 5, 6]
    assert np.allclose(found.column("score").to_numpy(), scores[order[:6]], atol=1e-6)
    assert found.column("title").to_pylist() == [f"Item {item}" for item in order[:6]]
    assert found.column("query").to_pylist() == [117] * 6 and not any(found.column("cold").to_pylist())
    everything = ranking.recommend(user, k=6, exclude_seen=False).column("item").to_pylist()
    assert everything == np.argsort(-scores)[:6].tolist()


def test_a_key_as_text_finds_the_number(ranking: Run) -> None:
    assert ranking.recommend("117").drop_columns("query").equals(ranking.recommend(117).drop_columns("query"))


def test_an_unknown_key_is_answered_and_marked_cold(ranking: Run) -> None:
    for key in (99_999, "nobody"):
        found = ranking.recommend(key, k=4)
        assert found.num_rows == 4 and all(found.column("cold").to_pylist())
        assert found.column("query").to_pylist() == [str(key) if isinstance(key, str) else key] * 4


def test_a_raw_row_is_answered_as_its_key(ranking: Run) -> None:
    by_row = ranking.recommend(rows={"useless": [1, 2], "user": [117, 118]}, k=5)
    by_key = pa.concat_tables([ranking.recommend(key, k=5) for key in (117, 118)])
    assert by_row.column("item").equals(by_key.column("item"))
    assert np.allclose(by_row.column("score").to_numpy(), by_key.column("score").to_numpy(), atol=1e-6)
    stranger = ranking.recommend(rows=[{"more": 1}], k=2)
    assert stranger.column("query").to_pylist() == [None, None] and all(stranger.column("cold").to_pylist())


def test_a_history_is_the_mean_of_its_candidates(ranking: Run) -> None:
    model = retriever(ranking)
    vector = model.candidate_vectors[[4, 8]].mean(axis=0)  # items 3 and 7; row 0 is the unknown one
    order = [item for item in np.argsort(-(model.candidate_vectors[1:] @ vector)).tolist() if item not in (3, 7)]
    found = ranking.recommend(history=[3, "7"], k=5)
    assert found.column("item").to_pylist() == order[:5]
    assert set(ranking.recommend(history=[3, 7], k=100, exclude_seen=False).column("item").to_pylist()) == set(
        range(26)
    )


def test_a_history_fills_the_id_part_of_a_query_and_goes_through_its_backbone() -> None:
    query = {
        "towers": {"id": {"kind": "id", "dim": 6}, "about": {"kind": "table", "columns": ["age"], "dim": 4}},
        "backbone": {"kind": "gated", "dim": 6},
    }
    model = retriever(tk.fit({**RANKING, "model": {**RANKING["model"], "query": query}}, events()))
    side, columns = (
        model.model.query,
        model.encoder.encode("user", Table(pa.table({"user": [0], "age": [None]}), "nobody")),
    )
    mean = torch.from_numpy(model.candidate_vectors[[4, 8]]).mean(dim=0)
    with torch.no_grad():
        parts = {name: vectors[:1] for name, vectors in side.parts(columns).items()}
        expected = side.merge(parts | {"id": mean[None]})[0]
    np.testing.assert_allclose(model.vector_of_history(np.array([4, 8])), expected.numpy(), atol=1e-6)


def test_a_history_is_refused_where_queries_learn_by_gradient() -> None:
    run = tk.fit({**RANKING, "update": {"kind": "two_backprop"}}, events())
    with pytest.raises(tk.RunError, match=r"learn by gradient.*update: \{kind: one_backprop\}"):
        run.recommend(history=[3])


def test_queries_for_a_new_candidate(ranking: Run) -> None:
    found = ranking.queries_for({"price": [0.2, None]}, k=3)
    assert found.column_names == ["item", "rank", "user", "score"] and found.num_rows == 6
    assert set(found.column("user").to_pylist()) <= set(range(100, 141))
    known = ranking.queries_for({"item": [3], "price": [ITEMS["price"][3]]}, k=1)
    model = retriever(ranking)
    assert known.column("score")[0].as_py() == pytest.approx(
        (model.query_vectors[1:] @ model.candidate_vectors[4]).max(), abs=1e-5
    )


def test_pair_scores(ranking: Run) -> None:
    model = retriever(ranking)
    found = ranking.predict({"item": [3, 25, 777], "user": [117, 117, 117]})
    place = int(pc.index(model.query.keys, 117).as_py()) + 1
    wanted = [float(model.query_vectors[place] @ model.candidate_vectors[row]) for row in (4, 26, 0)]
    assert found.column("score").to_pylist() == pytest.approx(wanted, abs=1e-6)
    assert found.column("cold").to_pylist() == [False, False, True]


def test_predictions_name_the_classes(predicting: Run) -> None:
    found = predicting.predict({"text": ["bad thing", "good thing", None]})
    assert found.column_names == ["liked", "liked=yes", "stars", "stars=1", "stars=2", "stars=3"]
    assert found.column("liked").to_pylist()[:2] == ["no", "yes"]
    assert found.column("stars").to_pylist()[:2] == ["1", "3"]
    total = sum(found.column(f"stars={n}").to_numpy() for n in (1, 2, 3))
    assert np.allclose(total, 1.0)
    yes = found.column("liked=yes").to_numpy()
    assert ["yes" if p >= 0.5 else "no" for p in yes] == found.column("liked").to_pylist()
    assert predicting.tasks == ["liked", "stars"]


@pytest.mark.parametrize("name", ["ranking", "predicting"])
def test_the_spec_in_a_run_trains_the_same_model_again(name: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(name)
    again = tk.fit(dict(run.spec), events() if name == "ranking" else tk.read(REVIEWS))
    assert again.spec == run.spec
    assert again.evaluate().as_dict() == run.evaluate().as_dict()


def test_fresh_rows_are_evaluated_under_their_own_protocol(ranking: Run, predicting: Run) -> None:
    fresh = ranking.evaluate({"user": [117, 555], "item": [25, 3]})
    assert fresh.protocol["part"] == "new data (the given data frame)" and fresh.protocol["unknown_queries"] == 1
    assert fresh.protocol["k"] == [3, 5] and fresh.metrics["recall@5"].n == 2
    rows = {"text": ["bad", "good", "good"], "stars": [1, 3, None], "liked": ["no", "yes", "perhaps"]}
    found = predicting.evaluate(rows)
    assert found.metrics["liked/accuracy"].n == found.metrics["stars/accuracy"].n == 2
    assert found.protocol["tasks"]["liked"]["unknown_labels"] == 1
    with pytest.raises(tk.RunError, match="part: test against new data"):
        tk.compare(predicting.evaluate(), found)


def test_baselines_are_stored_with_the_same_metrics(ranking: Run, predicting: Run) -> None:
    assert set(ranking.baselines) == {"popularity", "item_knn"}
    assert set(predicting.baselines) == {"majority", "logistic_regression"}
    for run in (ranking, predicting):
        for baseline in run.baselines.values():
            assert baseline.metrics.keys() == run.evaluate().metrics.keys()
            assert baseline.protocol == run.evaluate().protocol
    with pytest.raises(tk.RunError, match="keeps figures only"):
        tk.compare(ranking.baselines["popularity"], ranking.evaluate())


def test_a_failed_training_leaves_no_folder(folder: Path) -> None:
    with pytest.raises(tk.ShapeError):
        tk.fit(
            {**RANKING, "model": {**RANKING["model"], "query": {"kind": "id", "dim": 5}}},
            events(),
            run=folder / "failed",
        )
    assert not (folder / "failed").exists()


def test_overwriting_replaces_a_run_whole(folder: Path) -> None:
    first = tk.fit(PREDICTING, tk.read(REVIEWS), run=folder / "again")
    second = tk.fit(RANKING, events(), run=folder / "again", overwrite=True)
    assert first.kind == "tower_model" and second.kind == "two_tower"
    assert tk.load(folder / "again").kind == "two_tower"

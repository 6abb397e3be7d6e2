"""Similar keys, and vectors to keep.

Invariants:
- similar gives the exact ranking by cosine of one side's vectors (by distance where the match is one), without the key itself,
  under the same choice as recommend; an unknown key is refused with the nearest;
- embed gives the vectors that answers are made of: the score of a pair is their match; known keys, rows of keys alone and raw
  rows agree; a row alone has the vector it has in a batch; an unknown key is cold;
- the table of vectors carries the embedding-space id of its Run, in memory and in Parquet and Arrow files;
- a tower model gives the state that its heads read; a late fusion is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from tests.recommend.conftest import EVENTS, ITEMS, NUM_ITEMS, NUM_USERS, USERS

import towerkit as tk
from towerkit.artifact.arrow import load_table
from towerkit.data.writers import write_table
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.recommend import space_of
from towerkit.run import Run


def matrix(table: pa.Table) -> np.ndarray:
    """The column of vectors as an array."""
    return np.array(table.column("vector").to_pylist(), np.float32)


def retriever(run: Run) -> Retriever:
    """The loaded model."""
    assert isinstance(run.model, Retriever)
    return run.model


def test_similar_is_the_exact_ranking_by_cosine(shop: Run) -> None:
    vectors = retriever(shop).candidate_vectors[1:]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    keys = retriever(shop).candidate.keys.to_pylist()
    for key in ("i0", "i39"):
        cosines = unit @ unit[keys.index(key)]
        cosines[keys.index(key)] = -2
        order = np.argsort(-cosines)[:6]
        found = shop.similar(key, k=6)
        assert found.column_names == ["similar_to", "rank", "item", "title", "score"]
        assert found.column("item").to_pylist() == [keys[place] for place in order]
        assert found.column("score").to_pylist() == pytest.approx(cosines[order].tolist(), abs=1e-5)
        assert found.column("title")[0].as_py() == f"Item {found.column('item')[0].as_py()[1:]}"
    both = shop.similar(["i0", "i39"], k=6)
    assert both.slice(6).drop_columns(["score"]).equals(shop.similar("i39", k=6).drop_columns(["score"]))


def test_similar_queries_and_choices(shop: Run) -> None:
    found = shop.similar(query="u3", k=NUM_USERS)
    assert found.column_names == ["similar_to", "rank", "user", "score"]
    assert sorted(found.column("user").to_pylist()) == sorted(set(USERS["user"]) - {"u3"})
    assert tk.notes_of(found) == [f"Fewer than the {NUM_USERS} answers asked for: there are {NUM_USERS - 1} others."]
    toys = shop.similar("i1", k=5, where="kind == 'toy'", deny=["i4"]).column("item").to_pylist()
    assert len(toys) == 5 and all(int(key[1:]) % 3 == 1 for key in toys) and not {"i1", "i4"} & set(toys)
    with pytest.raises(
        tk.DataError, match=r"The question names 'i 7', which is not among the 40 known candidates; 'i7' is"
    ):
        shop.similar("i 7")
    with pytest.raises(tk.DataError, match="not among the 60 known queries; did you mean 'u7'"):
        shop.similar(query="uu7")
    with pytest.raises(tk.SpecError, match="exactly one of candidate or query"):
        shop.similar("i1", query="u1")
    with pytest.raises(tk.SpecError, match="choose candidates, and the question is for queries"):
        shop.similar(query="u1", where="price < 3")


def test_under_a_match_by_distance_similar_is_near(tmp_path: Path) -> None:
    ids = {"kind": "id", "dim": 3}
    model = {"kind": "two_tower", "query": ids, "candidate": ids, "match": {"kind": "euclidean"}}
    run = tk.fit(
        {"model": model, "training": {"epochs": 1}},
        tk.read(EVENTS, query="user", candidate="item"),
        run=tmp_path / "run",
    )
    vectors = retriever(run).candidate_vectors[1:].astype(np.float64)
    keys = retriever(run).candidate.keys.to_pylist()
    distances = np.square(vectors - vectors[keys.index("i5")]).sum(axis=1)
    distances[keys.index("i5")] = np.inf
    found = run.similar("i5", k=4)
    assert found.column("item").to_pylist() == [keys[place] for place in np.argsort(distances)[:4]]
    assert found.column("score").to_pylist() == pytest.approx((-np.sort(distances)[:4]).tolist(), abs=1e-4)


def test_the_vectors_are_those_that_answers_are_made_of(shop: Run) -> None:
    queries, candidates = shop.embed(side="query"), shop.embed(side="candidate")
    assert queries.column_names == ["user", "vector", "cold"] and candidates.column_names == ["item", "vector", "cold"]
    assert queries.num_rows == NUM_USERS and candidates.num_rows == NUM_ITEMS
    assert queries.schema.field("vector").type == pa.list_(pa.float32())
    pairs = shop.predict({"user": ["u1", "u2"], "item": ["i3", "i4"]})
    scores = [
        matrix(queries)[queries.column("user").to_pylist().index(user)]
        @ matrix(candidates)[candidates.column("item").to_pylist().index(item)]
        for user, item in (("u1", "i3"), ("u2", "i4"))
    ]
    assert pairs.column("score").to_pylist() == pytest.approx(scores, abs=1e-5)


def test_keys_alone_raw_rows_and_single_rows_agree(shop: Run) -> None:
    known = shop.embed(side="candidate").slice(3, 4)
    keys = known.column("item").to_pylist()
    prices = [ITEMS["price"][ITEMS["item"].index(key)] for key in keys]
    for rows in ({"item": keys}, {"price": prices, "useless": [1] * 4, "item": keys}):
        found = shop.embed(rows, side="candidate")
        np.testing.assert_allclose(matrix(found), matrix(known), atol=1e-6)
        assert found.column("cold").to_pylist() == [False] * 4
    each = [
        shop.embed({"item": [key], "price": [price]}, side="candidate") for key, price in zip(keys, prices, strict=True)
    ]
    np.testing.assert_allclose(np.concatenate([matrix(one) for one in each]), matrix(known), atol=1e-6)
    new = shop.embed({"item": ["new", "i 3", None], "price": [3.0, 3.0, 3.0]}, side="candidate")
    assert new.column("cold").to_pylist() == [True] * 3
    assert np.array_equal(matrix(new)[0], matrix(new)[1]) and np.isfinite(matrix(new)).all()
    (note,) = tk.notes_of(new)
    assert (
        "row 2: the column 'item' holds 'i 3', which is unknown and differs from 'i3' by white space only (1 such"
        in note
    )
    other = shop.embed({"item": ["new"], "price": [49.0]}, side="candidate")
    assert not np.allclose(matrix(other)[0], matrix(new)[0])


@pytest.mark.parametrize("name", [None, "vectors.parquet", "vectors.arrow"])
def test_vectors_know_their_space(shop: Run, tmp_path: Path, name: str | None) -> None:
    found = shop.embed({"item": ["new", "i3"], "price": [3.0, 4.0]}, side="candidate")
    if name is not None:
        write_table(found, tmp_path / name)
        found = pyarrow.parquet.read_table(tmp_path / name) if name.endswith("parquet") else load_table(tmp_path / name)
    assert shop.space is not None and len(shop.space) == 64
    assert space_of(found) == shop.space == space_of(shop.embed(side="query"))
    assert len(tk.notes_of(shop.embed({"item": ["i 3"], "price": [4.0]}, side="candidate"))) == 1, "beside the notes"
    assert space_of(shop.recommend("u1")) is None


def test_a_side_must_be_said(shop: Run) -> None:
    with pytest.raises(tk.SpecError, match="say query or candidate .*received None"):
        shop.embed()
    with pytest.raises(tk.SpecError, match="received 'item'"):
        shop.embed(side="item")  # type: ignore[arg-type]
    with pytest.raises(tk.DataError, match=r"'age' is missing; the table has \['user', 'agee'\]; did you mean 'agee'"):
        shop.embed({"user": ["u1"], "agee": [3.0]}, side="query")


def test_the_state_of_a_tower_model(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows: dict[str, Any] = {
        "age": draw.normal(40, 9, 200), "user": [f"u{n}" for n in draw.integers(0, 20, 200)],
        "item": [f"i{n}" for n in draw.integers(0, 40, 200)], "liked": draw.integers(0, 2, 200),
    }  # fmt: skip
    towers = {
        "age": {"kind": "table", "columns": ["age"], "dim": 4},
        "user": {"kind": "id", "columns": None, "dim": 4, "entity": "user"},
        "item": {"kind": "table", "columns": ["price"], "dim": 4, "entity": "item"},
    }
    del towers["user"]["columns"]
    data = tk.read(rows, entities={"user": USERS, "item": ITEMS})
    model = {"kind": "tower_model", "towers": towers, "heads": {"liked": {"kind": "binary", "column": "liked"}}}
    run = tk.fit({"model": model, "training": {"epochs": 1}}, data, run=tmp_path / "run")
    asked = {"age": [30.0, None, 50.0], "user": ["u1", "stranger", None], "item": ["i1", "i2", "i3"]}
    found = run.embed(asked)
    assert found.column_names == ["item", "user", "vector", "cold"]
    assert found.column("cold").to_pylist() == [False, True, True]
    predictor = run.model
    assert isinstance(predictor, TaskPredictor)
    with torch.no_grad():
        head = predictor.model.head("liked")
        wanted = head.probabilities(head(torch.from_numpy(matrix(found))).double()).numpy()
    answered = run.predict(asked)
    np.testing.assert_allclose(answered.column("liked=1").to_numpy(), wanted[:, 1], atol=1e-6)
    assert answered.column_names == ["liked", "liked=1", "cold"]
    assert answered.column("cold").to_pylist() == [False, True, True]
    alone = [run.predict({key: values[place : place + 1] for key, values in asked.items()}) for place in range(3)]
    np.testing.assert_allclose(
        pa.concat_tables(alone).column("liked=1").to_numpy(), answered.column("liked=1").to_numpy(), atol=1e-6
    )
    with pytest.raises(tk.SpecError, match="no sides: leave side out; received 'query'"):
        run.embed(asked, side="query")
    with pytest.raises(tk.SpecError, match="keeps no rows: give the rows to embed"):
        run.embed()
    with pytest.raises(tk.DataError, match="there is no column 'user'; did you mean 'usr'"):
        run.predict({"age": [3.0], "usr": ["u1"], "item": ["i1"]})


def test_a_late_fusion_has_no_vector_and_says_what_is_cold(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows: dict[str, Any] = {
        "age": draw.normal(40, 9, 200), "user": [f"u{n}" for n in draw.integers(0, 20, 200)], "cold": draw.integers(0, 2, 200),
    }  # fmt: skip
    heads = {"cold": {"kind": "binary", "column": "cold"}}
    members = {
        "age": {
            "kind": "tower_model",
            "towers": {"t": {"kind": "table", "columns": ["age"], "dim": 4}},
            "heads": heads,
        },
        "user": {"kind": "tower_model", "towers": {"t": {"kind": "id", "entity": "user", "dim": 4}}, "heads": heads},
    }
    model = {"kind": "late_fusion", "members": members, "combine": {"kind": "average"}}
    data = tk.read(rows, entities={"user": USERS})
    run = tk.fit({"model": model, "training": {"epochs": 1}}, data, run=tmp_path / "run")
    answered = run.predict({"age": [30.0, 30.0], "user": ["u1", "stranger"]})
    assert answered.column_names == ["cold", "cold=1", "is_cold"]
    assert answered.column("is_cold").to_pylist() == [False, True]
    with pytest.raises(tk.RunError, match="is a late_fusion: its members share no vector"):
        run.embed({"age": [30.0]})

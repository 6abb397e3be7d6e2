"""A Run's questions answered by an index of its candidates.

- every question (key, unknown key, rows, lists of their own, history) has the answer that it has without an index: same candidates
  in the same order, scores to rounding, the same notes; with every match, and with settings that leave few candidates;
- an index of another training is refused, given as an object or as a folder; one without a space is refused too;
- what the index has beside the catalogue is left out with a note; what was deleted from it is no answer;
- a recall measures and chooses, and what was measured stays in the folder; a Run without vectors is refused.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import towerkit as tk
from towerkit.core.errors import IndexFileError, RunError, SpecError
from towerkit.index.contract import Index
from towerkit.index.exact import ExactIndex
from towerkit.index.files import open_folder, open_index
from towerkit.index.specs import ExactIndexSpec, FaissIndexSpec
from towerkit.run import Run

HAS_FAISS = importlib.util.find_spec("faiss") is not None
needs_faiss = pytest.mark.skipif(not HAS_FAISS, reason="needs towerkit[ann]")
_DRAW = np.random.default_rng(2)
EVENTS = {
    "user": [f"u{place}" for place in _DRAW.integers(0, 30, 400)],
    "item": [f"i{place}" for place in _DRAW.integers(0, 50, 400)],
}
ITEMS = {"item": [f"i{place}" for place in range(50)], "kind": [["book", "toy"][place % 2] for place in range(50)]}


def trained(folder: Path, match: str = "dot", seed: int = 0) -> Run:
    """A two-tower whose queries are averages of candidates."""
    side = {"kind": "id", "dim": 6}
    model = {"kind": "two_tower", "query": side, "candidate": side, "match": {"kind": match}}
    spec = {"model": model, "update": {"kind": "one_backprop"}, "training": {"epochs": 2, "seed": seed}}
    data = tk.read(
        EVENTS, query="user", candidate="item", entities={"item": ITEMS}, split={"kind": "random", "test": 0.2}
    )
    return tk.fit(spec, data, run=folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("indexed") / "run")


def questions() -> dict[str, Callable[[Run, Any], pa.Table]]:
    """Name -> a question, with or without an index."""
    rows = {"user": ["u1", "u2", "nobody"], "allow": [["i1", "i2"], None, ["i7"]], "deny": [None, ["i3"], ["i7"]]}
    lists = {"history": [["i3", "i4"], None], "user": [None, "u4"]}
    few = {"where": "kind == 'book'", "allow": ["i2", "i4", "i5"]}
    return {
        "key": lambda run, index: run.recommend("u3", k=7, index=index),
        "seen too": lambda run, index: run.recommend("u3", k=7, exclude_seen=False, index=index),
        "stranger": lambda run, index: run.recommend("nobody", k=7, index=index),
        "rows with lists": lambda run, index: run.recommend(rows=rows, k=4, index=index),
        "rows with histories": lambda run, index: run.recommend(rows=lists, k=4, index=index),
        "history": lambda run, index: run.recommend(history=["i3", "i9"], k=4, index=index),
        "few": lambda run, index: run.recommend("u3", k=9, index=index, **few),
        "all": lambda run, index: run.recommend("u3", k=500, index=index),
    }


def require_same(found: pa.Table, wanted: pa.Table) -> None:
    """Scores to rounding, all else equal."""
    scores = [table.column("score").to_numpy() for table in (found, wanted)]
    np.testing.assert_allclose(*scores, atol=1e-5)
    assert found.drop_columns("score").equals(wanted.drop_columns("score"))
    assert tk.notes_of(found) == tk.notes_of(wanted)


@pytest.mark.parametrize("match", ["dot", "cosine", "euclidean"])
def test_an_index_answers_as_the_run_does(tmp_path: Path, match: str) -> None:
    run = trained(tmp_path / "run", match)
    run.index(out=tmp_path / "exact")
    indexes: list[Any] = [tmp_path / "exact", open_index(tmp_path / "exact")]
    if HAS_FAISS:
        indexes.append(run.index(FaissIndexSpec(factory="HNSW8", ef_search=200)).index)
    for name, ask in questions().items():
        wanted = ask(run, None)
        assert wanted.num_rows > 0, name
        for index in indexes:
            require_same(ask(run, index), wanted)


def test_another_space_is_refused(run: Run, tmp_path: Path) -> None:
    other = trained(tmp_path / "other", seed=1)
    other.index(out=tmp_path / "index")
    vectors = np.array(run.embed(side="candidate").column("vector").to_pylist())
    nameless: Index = ExactIndex.of(ITEMS["item"], vectors, "dot")
    assert run.space is not None
    for index in (tmp_path / "index", other.index().index, nameless):
        with pytest.raises(IndexFileError, match=rf"the queries are of {run.space[:12]}"):
            run.recommend("u1", index=index)
    nameless.space = run.space
    require_same(run.recommend("u1", index=nameless), run.recommend("u1"))


def test_what_was_written_to_the_index_since(run: Run) -> None:
    index = run.index().index
    first = run.recommend("u1", k=1).column("item")[0].as_py()
    index.delete([first])
    vector = np.array(run.embed({"user": ["u1"]}, side="query").column("vector").to_pylist())
    index.upsert(["new"], 100 * vector)
    found = run.recommend("u1", k=60, index=index)
    assert not {first, "new"} & set(found.column("item").to_pylist())
    assert "1 candidates of the index are not in this Run's catalogue, and left out." in tk.notes_of(found)


@needs_faiss
def test_a_recall_chooses_and_the_folder_tells(run: Run, tmp_path: Path) -> None:
    specs = [FaissIndexSpec(factory="IVF2,Flat", nprobe=1), FaissIndexSpec(factory="HNSW8", ef_search=100)]
    built = run.index(specs, recall=0.999, k=5, queries=20, out=tmp_path / "index")
    assert isinstance(built.spec, FaissIndexSpec)
    assert built.spec.factory == "HNSW8"
    folder = open_folder(tmp_path / "index", space=run.space)
    assert folder.spec == built.spec
    assert folder.measured == built.measured
    assert (folder.measured["picked"], folder.measured["queries"], folder.measured["k"]) == (1, 20, 5)
    assert [trial["recall"] for trial in folder.measured["trials"]] == [trial.recall for trial in built.trials]
    with pytest.raises(SpecError, match="2 indexes are named and nothing to choose by"):
        run.index(specs)


def test_a_run_without_vectors_is_refused(tmp_path: Path) -> None:
    data = tk.read(EVENTS, query="user", candidate="item", entities={"item": ITEMS})
    side = {"kind": "table", "columns": ["kind"], "dim": 4}
    towers = {"who": {"kind": "id", "entity": "user", "dim": 4}, "what": {**side, "entity": "item"}}
    spec = {"model": {"kind": "ranker", "towers": towers, "backbone": {"kind": "concat"}}, "training": {"epochs": 1}}
    ranker = tk.fit(spec, data, run=tmp_path / "ranker")
    with pytest.raises(RunError, match="one vector per candidate"):
        ranker.index()
    with pytest.raises(RunError, match=r"not one of vectors|no vectors|is a ranker"):
        ranker.recommend("u1", index=ExactIndex.of(["i1"], np.ones((1, 2)), "dot"))
    assert ExactIndexSpec().kind == "exact"


def test_each_ranking_of_a_joint_model_has_a_space_of_its_own(tmp_path: Path) -> None:
    rows = {
        "user": [f"u{place % 20}" for place in range(120)],
        "film": [None if place % 3 == 0 else f"f{place % 31}" for place in range(120)],
        "snack": [f"s{place % 29}" if place % 3 == 0 else None for place in range(120)],
    }
    side = {"kind": "id", "dim": 4}
    model = {"kind": "joint", "query": side, "candidates": {"film": side, "snack": side}}
    data = tk.read(rows, query="user", split={"kind": "random", "validation": 0.0, "test": 0.2})
    joint = tk.fit({"model": model, "training": {"epochs": 1}}, data, run=tmp_path / "joint")
    films, snacks = joint.ranking("film"), joint.ranking("snack")
    index = films.index(out=tmp_path / "films").index
    assert len(index) == len(films.embed(side="candidate")) > 0
    require_same(films.recommend("u1", index=tmp_path / "films"), films.recommend("u1"))
    with pytest.raises(IndexFileError, match="they were made by another training"):
        snacks.recommend("u1", index=index)

"""Retrieve, then rank.

Pinned: the candidates that are ordered anew are the best of the first ranker, as many as asked for beside those that the query had
before; their order is the weighted mean of standardized scores, as a few lines compute it; below them the order of the first goes
on; the others are asked for these candidates alone; a remembered shortlist gives the same; the weights are chosen on validation; a
member that is not there, a ranker with heads and a depth of none are refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import towerkit as tk
from towerkit.core.errors import SpecError
from towerkit.ensembles.kept_scores import KeptScores
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.ensembles.rerank import Memory, Reranked
from towerkit.index.ranker import Ranker


class Table(Ranker):
    """Scores from a table; it knows how many pairs it was asked for."""

    def __init__(self, table: NDArray[np.float32]) -> None:
        self.exact, self.num_candidates, self.table, self.asked = True, table.shape[1], table, 0

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """All of some rows."""
        self.asked += len(queries) * self.num_candidates
        return self.table[queries]

    def scores_at(self, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        """Some of some rows."""
        self.asked += candidates.size
        return np.take_along_axis(self.table[queries], candidates, axis=1)


def plainly(first: Any, second: Any, weights: tuple[float, float], depth: int) -> list[int]:
    """The order of one query's candidates, from 1."""
    order = sorted(range(1, len(first)), key=lambda place: -first[place])
    head, rest = order[:depth], order[depth:]

    def standard(scores: Any) -> Any:
        own = np.array([scores[place] for place in head], np.float64)
        return (own - own.mean()) / (own.std() or 1.0)

    mean = weights[0] * standard(first) + weights[1] * standard(second)
    return [head[place] for place in np.argsort(-mean, kind="stable")] + rest


@given(
    seed=st.integers(0, 2**32 - 1),
    candidates=st.integers(1, 30),
    depth=st.integers(1, 40),
    share=st.floats(0.0, 1.0).filter(lambda share: abs(share - 0.5) > 1e-6),  # two that swap places would tie
)
@settings(max_examples=60, deadline=None)
def test_the_order_is_that_of_a_few_lines(seed: int, candidates: int, depth: int, share: float) -> None:
    draw = np.random.default_rng(seed)
    one, two = (Table(draw.normal(size=(4, candidates + 1)).astype(np.float32)) for _ in range(2))
    counts = draw.integers(0, 5, 4)
    weights = (1 - share, share)
    scores = Reranked([one, two], weights, first=0, depth=depth, counts=counts).scores(np.arange(4))
    assert np.isfinite(scores).all()
    for query in range(4):
        wanted = plainly(one.table[query], two.table[query], weights, depth + int(counts[query]))
        np.testing.assert_array_equal(1 + np.argsort(-scores[query, 1:], kind="stable"), wanted)


def test_the_others_are_asked_for_the_best_alone() -> None:
    draw = np.random.default_rng(1)
    one, two = (Table(draw.normal(size=(6, 101)).astype(np.float32)) for _ in range(2))
    ranker = Reranked([one, two], (0.5, 0.5), first=0, depth=7, counts=np.zeros(6, np.int64))
    ranker.scores(np.arange(6))
    assert two.asked == 6 * 7


def test_a_query_alone_is_a_query_among_others() -> None:
    draw = np.random.default_rng(2)
    one, two = (Table(draw.normal(size=(5, 40)).astype(np.float32)) for _ in range(2))
    counts = np.array([0, 9, 2, 0, 30])
    ranker = Reranked([one, two], (0.3, 0.7), first=1, depth=5, counts=counts)
    every = ranker.scores(np.arange(5))
    for query in range(5):
        np.testing.assert_allclose(ranker.scores(np.array([query]))[0], every[query], rtol=1e-6)


def test_a_remembered_shortlist_gives_the_same() -> None:
    draw = np.random.default_rng(3)
    one, two = (Table(draw.normal(size=(5, 40)).astype(np.float32)) for _ in range(2))
    memory: Memory = {}
    about: dict[str, Any] = {"first": 0, "depth": 5, "counts": np.zeros(5, np.int64)}
    Reranked([one, two], (1.0, 0.0), **about, memory=memory).scores(np.arange(5))
    asked = two.asked
    found = Reranked([one, two], (0.2, 0.8), **about, memory=memory).scores(np.arange(5))
    assert two.asked == asked
    np.testing.assert_array_equal(found, Reranked([one, two], (0.2, 0.8), **about).scores(np.arange(5)))


def test_scores_that_are_all_alike_say_nothing() -> None:
    one = Table(np.tile(np.arange(10, dtype=np.float32), (2, 1)))
    same = Table(np.full((2, 10), 0.1, np.float32))
    scores = Reranked([one, same], (0.5, 0.5), first=0, depth=4, counts=np.zeros(2, np.int64)).scores(np.arange(2))
    assert (np.argsort(-scores[0, 1:]) + 1).tolist() == list(range(9, 0, -1))


def test_costly_scores_are_asked_for_once() -> None:
    table = Table(np.random.default_rng(4).normal(size=(6, 20)).astype(np.float32))
    kept = KeptScores(table, most_bytes=4 * 20 * 4)
    for _ in range(3):
        first = kept.scores(np.arange(4))
        np.testing.assert_array_equal(first, table.table[:4])
        first[:] = 0.0  # a ranking writes into what it gets
    assert table.asked == 4 * 20
    for _ in range(2):  # no room for these
        np.testing.assert_array_equal(kept.scores(np.arange(4, 6)), table.table[4:])
    assert table.asked == (4 + 2 * 2) * 20
    chosen = np.array([[1, 5]])
    np.testing.assert_array_equal(kept.scores_at(np.array([3]), chosen), table.table[3, chosen])


def bought() -> pa.Table:
    """Users of two tastes, and what they bought."""
    draw = np.random.default_rng(0)
    users = np.repeat(np.arange(40), 8)
    items = (users % 2) * 15 + np.minimum(draw.geometric(0.15, len(users)), 15) - 1
    return pa.table({"user": [f"u{u:02d}" for u in users], "item": [f"i{i:02d}" for i in items]})


IDS = {"kind": "two_tower", "query": {"kind": "id", "dim": 8}, "candidate": {"kind": "id", "dim": 8}}
PAIRS = {
    "kind": "ranker",
    "towers": {"user": {"kind": "id", "entity": "user", "dim": 8}, "item": {"kind": "id", "entity": "item", "dim": 8}},
    "layers": [8],
}


def spec(**combine: Any) -> dict[str, Any]:
    """A fusion of both."""
    return {
        "model": {
            "kind": "late_fusion",
            "members": {"found": IDS, "ordered": PAIRS},
            "combine": {"kind": "rerank", "first": "found", **combine},
        },
        "training": {"epochs": 3, "batch_size": 64, "optimizer": {"kind": "adam", "lr": 0.05}},
        "evaluation": {"k": [5]},
    }


def data() -> tk.Dataset:
    """The purchases."""
    return tk.read(
        bought(), query="user", candidate="item", split={"kind": "per_query", "validation": 0.15, "test": 0.15}
    )


def test_a_fusion_orders_what_its_first_member_found(tmp_path: Path) -> None:
    run = tk.fit(spec(depth=6, weights={"found": 0.0, "ordered": 1.0}), data(), run=tmp_path / "run")
    model = run.model
    assert isinstance(model, RankFusion)
    alone = {name: ranker.scores(np.array([3]))[0] for name, ranker in model.member_rankers().items()}
    had = set(model.seen[[2]].indices.tolist())
    best = np.argsort(-alone["member found"]).tolist()[: 6 + len(had)]
    wanted = [place for place in sorted(best, key=lambda place: -alone["member ordered"][place]) if place not in had]
    user = model.query.keys[2].as_py()
    answers = run.recommend(user, k=6)["item"].to_pylist()
    assert answers == [model.candidate.keys[place].as_py() for place in wanted[:6]]
    by_row = run.recommend(rows=pa.table({"user": [user]}), k=6)["item"].to_pylist()
    assert by_row == answers
    assert run.recommend(rows=pa.table({"user": ["nobody"]}), k=3).num_rows == 3


def test_a_member_has_an_objective_of_its_own(tmp_path: Path) -> None:
    given = spec()
    own = {"loss": {"kind": "bpr"}, "negatives": [{"kind": "uniform", "count": 2}]}
    given["objective"] = {"loss": {"kind": "sampled_softmax"}, "negatives": [{"kind": "uniform", "count": 7}]}
    given["model"]["objectives"] = {"ordered": own}
    lines = (tk.fit(given, data(), run=tmp_path / "run").path / "history.jsonl").read_text().splitlines()
    negatives = {json.loads(line)["negatives"] for line in lines}
    assert {round(each) for each in negatives} == {2, 7}
    given["model"]["objectives"] = {"order": own}
    with pytest.raises(SpecError, match=r"received 'order'; did you mean 'ordered'\?"):
        tk.fit(given, data())
    given["model"]["objectives"] = {"ordered": {"loss": {"kind": "ccl"}}}
    with pytest.raises(SpecError, match="ccl wants cosines"):
        tk.fit(given, data())


def test_weights_are_chosen_on_validation(tmp_path: Path) -> None:
    run = tk.fit(spec(depth=10), data(), run=tmp_path / "run")
    assert isinstance(run.model, RankFusion)
    assert sum(run.model.weights.values()) == pytest.approx(1.0)
    again = tk.fit(spec(depth=10), data(), run=tmp_path / "again")
    assert isinstance(again.model, RankFusion)
    assert again.model.weights == run.model.weights
    assert again.evaluation.metrics["ndcg@5"] == run.evaluation.metrics["ndcg@5"]


def test_rankers_are_weighed_too(tmp_path: Path) -> None:
    given = spec()
    given["model"]["combine"] = {"kind": "weighted"}
    run = tk.fit(given, data(), run=tmp_path / "run")
    assert isinstance(run.model, RankFusion)
    assert set(run.model.weights) == {"found", "ordered"}


@pytest.mark.parametrize(
    ("combine", "message"),
    [
        ({"first": "fond"}, r"there is no 'fond'; did you mean 'found'\?"),
        ({"depth": 0}, "depth"),
        ({"weights": {"found": 1.0}}, "must name every member"),
    ],
)
def test_fusions_that_cannot_be(combine: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        tk.fit(spec(**combine), data())


def test_a_member_has_no_heads_of_its_own() -> None:
    given = spec()
    heads = {"liked": {"kind": "binary", "column": "liked"}}
    given["model"]["members"]["ordered"] = {**PAIRS, "heads": heads}
    with pytest.raises(SpecError, match="'ordered' has heads"):
        tk.fit(given, data())

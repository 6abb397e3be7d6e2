"""The ranking evaluator.

Pinned: only what can be asked is asked (repeats of training pairs left out, duplicates once), and what cannot be
answered counts as missed (cold candidates); unknown queries are row 0 and see everything; a perfect ranker scores 1,
and popularity what a few plain lines say; neither the order of the held-out rows nor their repetition moves a figure
or an interval; the protocol counts it all; ``contains`` is membership.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from towerkit.baselines.popularity import Popularity
from towerkit.core.errors import DataError
from towerkit.data.table import Table
from towerkit.evaluation.ranking import evaluate_ranking, ranking_values
from towerkit.evaluation.ranking_task import RankingTask, contains, ranking_task
from towerkit.evaluation.result import protocol_line
from towerkit.features.encoded import Catalogue
from towerkit.index.ranker import candidate_tie_order
from towerkit.testing.rankers import TableRanker

ABOUT: dict[str, Any] = {"part": "test", "split": {"kind": "time", "test": 0.1, "seed": 0}}


def catalogue(*keys: str, num_known: int | None = None) -> Catalogue:
    """Keys, the last ones only in the test part when ``num_known`` says so."""
    values = pa.array(list(keys), pa.string())
    return Catalogue("key", values, num_known or len(keys), Table(pa.table({"key": values}), "keys"))


def seen_matrix(query: Catalogue, candidate: Catalogue, pairs: list[tuple[str, str]]) -> csr_array:
    """Trained pairs with the unknown row and column in front."""
    shape = (len(query.keys) + 1, len(candidate.keys) + 1)
    rows = query.rows(pa.array([pair[0] for pair in pairs], pa.string()))
    columns = candidate.rows(pa.array([pair[1] for pair in pairs], pa.string()))
    return csr_array((np.ones(len(pairs), np.float32), (rows, columns)), shape=shape)


QUERIES, CANDIDATES = catalogue("ann", "bob", "cleo"), catalogue("a", "b", "c", "d", "new", num_known=4)
TRAINED = [("ann", "a"), ("ann", "b"), ("bob", "a"), ("cleo", "a"), ("cleo", "c")]
HELD_OUT = [("ann", "c"), ("ann", "c"), ("ann", "a"), ("bob", "b"), ("bob", "new"), ("zoe", "a"), ("zoe", "d")]


def task_of(pairs: list[tuple[str, str]] | None = None) -> RankingTask:
    """The hand-made task over ``HELD_OUT``."""
    queries, candidates = zip(*(pairs or HELD_OUT), strict=True)
    seen = seen_matrix(QUERIES, CANDIDATES, TRAINED)
    return ranking_task(QUERIES, CANDIDATES, seen, pa.array(queries), pa.array(candidates))


def test_what_is_asked() -> None:
    task = task_of()
    assert task.keys.to_pylist() == ["ann", "bob", "zoe"]
    assert task.queries.tolist() == [1, 2, 0], "zoe was never seen: the unknown row"
    assert task.repeats == 1, "ann had a in training"
    assert task.positives.toarray().astype(int).tolist() == [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 1]]
    assert task.num_positives.tolist() == [1, 2, 2], "ann's c once, bob's new candidate still his"
    assert task.cold_candidates == 1
    assert task.exclude.toarray().astype(int).tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_a_query_known_only_to_the_test_part_is_unknown() -> None:
    late = catalogue("ann", "bob", num_known=1)
    seen = csr_array((3, 6), dtype=np.float32)
    task = ranking_task(late, CANDIDATES, seen, pa.array(["ann", "bob"]), pa.array(["a", "a"]))
    assert task.queries.tolist() == [1, 0]


def test_nothing_left_to_ask() -> None:
    with pytest.raises(DataError, match=r"2 of 2 were seen in training"):
        task_of([("ann", "a"), ("cleo", "c"), ("ann", "a")])


def test_cold_candidates_are_missed_by_the_best_possible_ranker() -> None:
    task = task_of()
    table = np.zeros((4, 4), np.float32)
    table[task.queries] = task.positives.toarray()
    values = ranking_values(TableRanker(table), task, [1, 2, 4])
    assert values["hit_rate@1"].tolist() == [1.0, 1.0, 1.0]
    assert values["recall@4"].tolist() == [1.0, 0.5, 1.0], "bob's new candidate cannot be found"
    assert values["precision@1"].tolist() == [1.0, 1.0, 1.0]
    ideal = 1.0 + 1.0 / math.log2(3)
    assert values["ndcg@2"].tolist() == pytest.approx([1.0, 1.0 / ideal, 1.0])


def test_a_perfect_ranker_scores_one_and_its_reverse_zero() -> None:
    pairs = [pair for pair in HELD_OUT if pair[1] != "new"]
    task = task_of(pairs)
    table = np.zeros((4, 4), np.float32)
    table[task.queries] = task.positives.toarray()
    best = evaluate_ranking(TableRanker(table), task, [2], **ABOUT).metrics
    for name in ("recall@2", "ndcg@2", "mrr@2", "map@2", "hit_rate@2"):
        assert best[name].value == best[name].low == best[name].high == 1.0, name
    assert evaluate_ranking(TableRanker(-table), task, [1], **ABOUT).metrics["recall@1"].value == 0.0


def test_k_beyond_the_catalogue_counts_empty_places_as_misses() -> None:
    values = ranking_values(TableRanker(np.ones((4, 4), np.float32)), task_of(), [4, 50])
    assert values["recall@50"].tolist() == values["recall@4"].tolist() == [1.0, 0.5, 1.0]
    assert values["precision@50"].tolist() == [1 / 50, 1 / 50, 2 / 50]


def test_an_absurd_k_fills_no_memory() -> None:
    draw = np.random.default_rng(5).random((4, 4)).astype(np.float32)
    near, far = (ranking_values(TableRanker(draw), task_of(), [k]) for k in (8, 10**12))
    for name in ("recall", "hit_rate", "ndcg", "mrr", "map"):
        np.testing.assert_array_equal(far[f"{name}@{10**12}"], near[f"{name}@8"], err_msg=name)
    np.testing.assert_allclose(far[f"precision@{10**12}"] * 10**12, near["precision@8"] * 8)


def test_popularity_equals_a_few_plain_lines() -> None:
    draw = np.random.default_rng(3)
    users, items = [f"u{n}" for n in range(25)], [f"i{n}" for n in range(12)]
    trained = [
        (users[u], items[i]) for u, i in zip(draw.integers(0, 25, 120), draw.geometric(0.3, 120) % 12, strict=True)
    ]
    held = [(users[u], items[i]) for u, i in zip(draw.integers(0, 25, 60), draw.geometric(0.2, 60) % 12, strict=True)]
    query, candidate = catalogue(*users), catalogue(*items)
    seen = seen_matrix(query, candidate, sorted(set(trained)))
    task = ranking_task(query, candidate, seen, *(pa.array(side) for side in zip(*held, strict=True)))
    found = evaluate_ranking(Popularity(csr_array(seen[:, 1:])), task, [3], **ABOUT).metrics

    counts = {item: len({user for user, other in trained if other == item}) for item in items}
    ties = dict(zip(items, candidate_tie_order(12).tolist(), strict=True))
    recalls, hit_rates = [], []
    for user in users:
        right = {item for other, item in held if other == user} - {item for other, item in trained if other == user}
        if right:
            allowed = [item for item in items if (user, item) not in trained]
            first = sorted(allowed, key=lambda item: (-counts[item], ties[item]))[:3]
            recalls.append(len(right & set(first)) / len(right))
            hit_rates.append(float(bool(right & set(first))))
    assert 0 < np.mean(recalls) < 1
    assert found["recall@3"].value == pytest.approx(np.mean(recalls)) and found["recall@3"].n == len(recalls)
    assert found["hit_rate@3"].value == pytest.approx(np.mean(hit_rates))


@given(st.permutations(HELD_OUT), st.lists(st.sampled_from(HELD_OUT), max_size=4))
def test_order_and_repetition_of_held_out_rows_mean_nothing(
    order: list[tuple[str, str]], again: list[tuple[str, str]]
) -> None:
    ranker = TableRanker(np.arange(16, dtype=np.float32).reshape(4, 4) % 5)
    first, second = (evaluate_ranking(ranker, task_of(pairs), [1, 3], **ABOUT) for pairs in (HELD_OUT, order + again))
    assert first.as_dict() == second.as_dict(), "intervals included"
    assert first.details["ranking"].equals(second.details["ranking"])


def test_the_protocol_counts_everything() -> None:
    evaluation = evaluate_ranking(TableRanker(np.ones((4, 4), np.float32)), task_of(), [1, 3], **ABOUT)
    wanted = {
        "kind": "ranking", "part": "test", "queries": 3, "unknown_queries": 1, "candidates": 4, "positives": 5,
        "cold_candidates": 1, "repeats_left_out": 1, "exact": True, "k": [1, 3], "seen": "training pairs removed",
    }  # fmt: skip
    assert {name: evaluation.protocol[name] for name in wanted} == wanted
    line = protocol_line(evaluation.protocol)
    for part in (
        "3 queries of the test part",
        "4 candidates, all ranked",
        "1 positives are of cold",
        "time (test 0.1)",
    ):
        assert part in line
    assert evaluation.details["ranking"].column("query").to_pylist() == ["ann", "bob", "zoe"]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=20),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=20),
)
def test_contains_is_membership(stored: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    rows, columns = np.array([list(pair) for pair in stored] or np.empty((0, 2)), np.int64).reshape(-1, 2).T
    matrix = csr_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(6, 8))
    wanted = np.array(asked, np.int64)
    assert contains(matrix, wanted[:, 0], wanted[:, 1]).tolist() == [pair in stored for pair in asked]


def test_contains_reads_unsorted_indices_and_leaves_them_so() -> None:
    matrix = csr_array((np.ones(3, np.int8), np.array([3, 0, 2]), np.array([0, 3, 3])), shape=(2, 4))
    found = contains(matrix, np.array([0, 0, 0, 0, 1]), np.array([0, 1, 2, 3, 3]))
    assert found.tolist() == [True, False, True, True, False]
    assert matrix.indices.tolist() == [3, 0, 2]

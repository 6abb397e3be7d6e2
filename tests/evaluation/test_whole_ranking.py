"""The ranking evaluator as a whole, from scores to figures, against other software and against chance.

Pinned:
- ir_measures (trec_eval, and MS MARCO for MRR) agrees to 1e-9 on whole evaluations: scores full of ties, seen pairs left out,
  cold positives, lists shorter than k, with grades and without; AUC agrees with scikit-learn;
- chunks and the order of the rows move no figure, and no more than a chunk of scores is held;
- a collapsed model, all of whose scores are equal, scores at chance on catalogues sorted by popularity, and its AUC is one
  half (control: with ties in the order of the catalogue it would not);
- pairs of grade 0 are asked for by nobody; seen pairs may be answered where the spec says so; figures of all lists together
  have no interval.
"""

from __future__ import annotations

import math
from typing import Any

import ir_measures
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Success, nDCG
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.metrics import roc_auc_score

from towerkit.baselines.popularity import Popularity
from towerkit.core.errors import DataError
from towerkit.data.table import Table
from towerkit.evaluation.ranking import evaluate_ranking, ranking_values
from towerkit.evaluation.ranking_task import RankingTask, ranking_task
from towerkit.features.encoded import Catalogue
from towerkit.index import ranker as ranker_module
from towerkit.index.ranker import candidate_tie_order
from towerkit.index.vectors import VectorRanker
from towerkit.testing.rankers import TableRanker

ABOUT: dict[str, Any] = {"part": "test", "split": {"kind": "random"}}
KS = [1, 3, 8, 30]
MEASURES = {"precision": P, "recall": R, "hit_rate": Success, "ndcg": nDCG, "mrr": RR, "map": AP}


def catalogue(prefix: str, size: int, cold: int = 0) -> Catalogue:
    """``prefix0`` and so on; the last ones only in the test part."""
    keys = pa.array([f"{prefix}{place}" for place in range(size + cold)])
    return Catalogue("key", keys, size, Table(pa.table({"key": keys}), "keys"))


def task_of(
    held: NDArray[np.bool_], seen: NDArray[np.bool_], grades: NDArray[np.float64] | None = None, **settings: Any
) -> RankingTask:
    """A task of ``[queries, candidates + cold]`` held-out pairs and ``[queries, candidates]`` seen ones."""
    owner, candidates = np.nonzero(held)
    queries, known = catalogue("q", len(held)), seen.shape[1]
    items = catalogue("c", known, held.shape[1] - known)
    matrix = np.zeros((len(held) + 1, held.shape[1] + 1), np.float32)
    matrix[1:, 1 : known + 1] = seen
    keys = queries.keys.take(pa.array(owner)), items.keys.take(pa.array(candidates))
    settings["grades"] = None if grades is None else grades[owner, candidates]
    return ranking_task(queries, items, csr_array(matrix), *keys, **settings)


World = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Scores with ties for up to 6 queries and 9 candidates, what is held out (2 cold candidates more), seen, and grades."""
    num_queries, num_candidates = draw(st.integers(1, 6)), draw(st.integers(2, 9))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = random.integers(0, draw(st.integers(1, 6)), (num_queries, num_candidates))
    held = random.random((num_queries, num_candidates + 2)) < 0.4
    seen = random.random((num_queries, num_candidates)) < 0.3
    seen[0], held[0, 0] = False, True  # so that something is left to ask
    return scores, held, seen, random.integers(0, 4, held.shape).astype(np.float64)


def oracle(world: World, *, graded: bool) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """The qrels and the run as trec_eval reads them, by a sort over plain lists."""
    scores, held, seen, grades = world
    ties = candidate_tie_order(scores.shape[1])
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    for query in range(len(scores)):
        fresh = [c for c in np.flatnonzero(held[query]) if c >= seen.shape[1] or not seen[query, c]]
        right = {f"c{c}": int(grades[query, c]) if graded else 1 for c in fresh}
        if not any(right.values()):
            continue
        order = sorted(np.flatnonzero(~seen[query]), key=lambda c: (-scores[query, c], ties[c]))
        qrels[f"q{query}"] = right
        run[f"q{query}"] = {f"c{c}": 100.0 - rank for rank, c in enumerate(order)}
    return qrels, run


@given(world=worlds(), graded=st.booleans())
def test_ir_measures_agrees_on_whole_evaluations(world: World, graded: bool) -> None:
    scores, held, seen, grades = world
    if graded:
        grades[0, 0] = 2.0
    qrels, run = oracle(world, graded=graded)
    task = task_of(held, seen, grades if graded else None)
    ranker = TableRanker(np.vstack([np.zeros((1, scores.shape[1])), scores]))
    evaluation = evaluate_ranking(ranker, task, KS, **ABOUT)
    ours = evaluation.details["ranking"]
    assert sorted(ours.column("query").to_pylist()) == sorted(qrels)
    places = {key: place for place, key in enumerate(ours.column("query").to_pylist())}
    num_positives = {query: sum(grade > 0 for grade in right.values()) for query, right in qrels.items()}
    names = {measure @ k: f"{name}@{k}" for name, measure in MEASURES.items() for k in KS}
    of_trec_eval, of_msmarco = [m for m in names if m.NAME != "RR"], [m for m in names if m.NAME == "RR"]
    results = [
        *ir_measures.pytrec_eval.iter_calc(of_trec_eval, qrels, run),
        *ir_measures.msmarco.iter_calc(of_msmarco, qrels, run),
    ]
    for one in results:
        name, k = names[one.measure], one.measure["cutoff"]
        change = num_positives[one.query_id] / min(k, num_positives[one.query_id]) if name.startswith("map") else 1.0
        found = ours.column(name)[places[one.query_id]].as_py()
        assert found == pytest.approx(one.value * change, abs=1e-9), name
    answered = [query for query in run if run[query]]
    assert len(results) >= len(of_trec_eval) * len(answered)
    for name, interval in evaluation.metrics.items():
        if name in ours.column_names:
            assert interval.value == pytest.approx(np.mean(ours.column(name).to_numpy()), abs=1e-12)


@given(world=worlds())
def test_auc_is_that_of_scikit_learn_with_cold_positives_last(world: World) -> None:
    scores, held, seen, _ = world
    task = task_of(held, seen)
    values = ranking_values(TableRanker(np.vstack([np.zeros((1, scores.shape[1])), scores])), task, [3], auc=True)[
        "auc"
    ]
    for key, value in zip(task.keys.to_pylist(), values, strict=True):
        query = int(key[1:])
        right = held[query] & ~np.append(seen[query], [False, False])
        ranked = np.append(~seen[query], right[-2:])  # a cold positive is ranked behind everything
        table = np.append(scores[query], [-1, -1])
        if (ranked & ~right).any():
            assert value == pytest.approx(roc_auc_score(right[ranked], table[ranked]), abs=1e-9)
        else:
            assert value == pytest.approx(0.5 * right[:-2].sum() / right.sum())


def test_chunks_and_rows_move_no_figure_and_only_a_chunk_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    held, seen = random.random((70, 45)) < 0.1, random.random((70, 43)) < 0.2
    vectors = random.normal(size=(71, 8)), random.normal(size=(43, 8))
    whole = evaluate_ranking(VectorRanker(*vectors, "dot"), task_of(held, seen), KS, **ABOUT)
    table = TableRanker(VectorRanker(*vectors, "dot").scores(np.arange(71)))
    monkeypatch.setattr(ranker_module, "_BLOCK_BYTES", 1)
    parts = evaluate_ranking(VectorRanker(*vectors, "dot"), task_of(held, seen), KS, **ABOUT)
    assert parts.as_dict() == whole.as_dict()
    assert parts.details["ranking"].equals(whole.details["ranking"])
    evaluate_ranking(table, task_of(held, seen), KS, **ABOUT)
    assert len(table.asked) == 5 and max(table.asked) == 16, "one tile of queries at a time"
    order = random.permutation(70)
    moved = evaluate_ranking(
        VectorRanker(vectors[0][[0, *(1 + order)]], vectors[1], "dot"), task_of(held[order], seen[order]), KS, **ABOUT
    )
    for name, interval in whole.metrics.items():
        assert moved.metrics[name].value == pytest.approx(interval.value, abs=1e-12), name


def collapsed(size: int, k: int) -> tuple[float, float]:
    """Recall over chance, and AUC, of a model that gives everyone the same score, on a catalogue sorted by popularity."""
    random = np.random.default_rng(size)
    share = np.arange(size, 0, -1.0)  # the first candidates are the most popular
    held = np.zeros((200, size), bool)
    for row in held:
        row[random.choice(size, 5, replace=False, p=share / share.sum())] = True
    task = task_of(held, np.zeros_like(held))
    vectors = np.full((201, 16), 0.3), np.full((size, 16), 0.7)
    values = ranking_values(VectorRanker(*vectors, "cosine"), task, [k], auc=True)
    return float(values[f"recall@{k}"].mean() / (k / size)), float(values["auc"].mean())


SIZES = (60, 97, 150, 233, 400, 611)


def test_a_collapsed_model_scores_at_chance() -> None:
    found = [collapsed(size, 20) for size in SIZES]
    ratios = np.array([ratio for ratio, _ in found])
    assert abs(ratios.mean() - 1) < 2 * ratios.std(ddof=1) / math.sqrt(len(ratios)) + 0.05, ratios
    assert [auc for _, auc in found] == [0.5] * len(SIZES)


def test_with_ties_in_the_order_of_the_catalogue_it_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranker_module, "candidate_tie_order", np.arange)
    ratios = [collapsed(size, 20)[0] for size in SIZES]
    assert min(ratios) > 1.4, "a catalogue sorted by popularity would make it look good"


def test_pairs_of_grade_zero_are_nobodys_right_answer() -> None:
    held = np.array([[True, True, True], [True, False, False], [False, True, False]])
    grades = np.array([[0.0, 2.0, 1.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    task = task_of(held, np.zeros_like(held), grades)
    assert task.keys.to_pylist() == ["q0", "q2"] and task.not_asked == 1
    assert task.positives.toarray().tolist() == [[0.0, 2.0, 1.0], [0.0, 3.0, 0.0]]
    table = np.vstack([np.zeros(3), [3, 1, 2], [0, 0, 0], [0, 9, 0]])
    evaluation = evaluate_ranking(TableRanker(table), task, [3], gain="exponential", **ABOUT)
    assert evaluation.protocol["gain"] == "exponential" and evaluation.protocol["queries_without_positive"] == 1
    d2, d3 = 1 / math.log2(3), 1 / math.log2(4)
    wanted = [(1 * d2 + 3 * d3) / (3 + 1 * d2), 1.0]
    assert evaluation.details["ranking"].column("ndcg@3").to_pylist() == pytest.approx(wanted)
    with pytest.raises(DataError, match=r"0 of 5 were seen in training, 5 have the grade 0"):
        task_of(held, np.zeros_like(held), np.zeros_like(grades))


@pytest.mark.parametrize("grade", [-1.0, math.nan, math.inf])
def test_a_grade_that_is_none_is_named(grade: float) -> None:
    held = np.array([[True, True]])
    with pytest.raises(DataError, match=f"pair 2 has {grade}"):
        task_of(held, ~held, np.array([[1.0, grade]]))


def test_of_a_pair_judged_twice_the_larger_grade_counts() -> None:
    queries, items = catalogue("q", 1), catalogue("c", 2)
    keys = pa.array(["q0"] * 3), pa.array(["c1", "c0", "c1"])
    task = ranking_task(queries, items, csr_array((2, 3), dtype=np.float32), *keys, grades=[0, 1, 2])
    assert task.positives.toarray().tolist() == [[1.0, 2.0]] and task.graded


def test_seen_pairs_may_be_answered_where_the_spec_says_so() -> None:
    held = np.array([[True, True, False]])
    seen = np.array([[True, False, True]])
    table = TableRanker(np.array([[0, 0, 0], [3, 1, 2]]))
    out = evaluate_ranking(table, task_of(held, seen), [1], **ABOUT)
    kept = evaluate_ranking(table, task_of(held, seen, exclude_seen=False), [1], **ABOUT)
    assert (out.metrics["hit_rate@1"].value, kept.metrics["hit_rate@1"].value) == (1.0, 1.0)
    assert (out.protocol["positives"], kept.protocol["positives"]) == (1, 2)
    assert (out.protocol["repeats_left_out"], kept.protocol["repeats_left_out"]) == (1, 0)
    assert (out.metrics["auc"].value, kept.metrics["auc"].value) == (0.5, 0.5)
    assert out.protocol["seen"] == "training pairs removed"
    assert kept.protocol["seen"] == "training pairs may be answered"


def test_figures_of_all_lists_together_have_no_interval() -> None:
    random = np.random.default_rng(0)
    held, seen = random.random((30, 12)) < 0.2, random.random((30, 12)) < 0.2
    matrix = csr_array(np.vstack([np.zeros(12), seen]).astype(np.float32))
    found = evaluate_ranking(Popularity(matrix), task_of(held, seen), [3], **ABOUT).metrics
    for name in ("coverage@3", "gini@3"):
        assert math.isnan(found[name].low) and math.isnan(found[name].high) and found[name].n == found["auc"].n
        assert found[name].as_dict()["low"] is None
    assert found["serendipity@3"].value == 0.0, "popularity does not surprise itself"
    assert found["novelty@3"].low < found["novelty@3"].value < found["novelty@3"].high

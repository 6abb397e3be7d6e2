"""Ranking metrics: what their values mean, and where they agree with other libraries.

Pinned here:
- hand-worked values of every metric at several depths;
- ranx and ir_measures (trec_eval, and MS MARCO for MRR) agree to 1e-9; both divide average precision by all
  positives, ours by ``min(k, positives)``, and the test converts;
- the same for graded NDCG, of linear gain (ranx, trec_eval) and exponential gain (ranx); grades of 1 are the binary case, and
  other metrics do not look at grades; gains that do not belong to the hits are refused;
- all metrics at all k in one call equal the single functions;
- values lie in [0, 1]; 1 for an ideal ranking, 0 without hits; one more hit, or a hit moved up, never lowers one;
- a query's values depend neither on the other queries nor on their order, nor on ranks after k;
- random rankings score at chance level;
- impossible input is refused, with the received values in the message.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Success, nDCG
from numpy.typing import NDArray

from towerkit.core.errors import DataError, ShapeError, SpecError
from towerkit.core.random import generator
from towerkit.metrics import ranking
from towerkit.metrics.gains import Gain, Gains, gains_of, ideal_gains
from towerkit.metrics.ranking import RANKING_METRICS, ranking_metrics

SINGLE: dict[str, Callable[..., NDArray[np.float64]]] = {
    "precision": ranking.precision,
    "recall": ranking.recall,
    "f1": ranking.f1,
    "hit_rate": ranking.hit_rate,
    "ndcg": ranking.ndcg,
    "mrr": ranking.mrr,
    "map": ranking.average_precision,
}
KS = [1, 2, 3, 5, 8]
Case = tuple[NDArray[np.bool_], NDArray[np.int64]]


@st.composite
def rankings(draw: st.DrawFn) -> Case:
    """Up to 6 queries of depth 8, each with up to 8 hits and some positives that were not reached."""
    rows = draw(st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=6))
    hits = np.array(rows)
    missed = draw(st.lists(st.integers(0, 12), min_size=len(rows), max_size=len(rows)))
    return hits, np.maximum(hits.sum(axis=1) + np.array(missed), 1)


# ---------------------------------------------------------------- hand-worked values


def test_hand_worked_values() -> None:
    # One query with 4 positives; hits at ranks 2, 3 and 5 of 5.
    hits, positives = np.array([[False, True, True, False, True]]), np.array([4])
    values = {name: float(value[0]) for name, value in ranking_metrics(hits, positives, [1, 3, 5]).items()}
    d2, d3, d4, d5 = (1 / math.log2(rank + 1) for rank in (2, 3, 4, 5))
    expected = {
        "precision@1": 0 / 1,
        "precision@3": 2 / 3,
        "precision@5": 3 / 5,
        "recall@1": 0 / 4,
        "recall@3": 2 / 4,
        "recall@5": 3 / 4,
        "f1@1": 0.0,
        "f1@3": 4 / 7,  # 2 * (2/3 * 1/2) / (2/3 + 1/2) = (2/3) / (7/6)
        "f1@5": 2 / 3,  # 2 * (3/5 * 3/4) / (3/5 + 3/4) = (9/10) / (27/20)
        "hit_rate@1": 0.0,
        "hit_rate@3": 1.0,
        "hit_rate@5": 1.0,
        "ndcg@1": 0.0,
        "ndcg@3": (d2 + d3) / (1 + d2 + d3),  # min(3, 4) = 3 ideal hits
        "ndcg@5": (d2 + d3 + d5) / (1 + d2 + d3 + d4),  # min(5, 4) = 4 ideal hits
        "mrr@1": 0.0,
        "mrr@3": 1 / 2,
        "mrr@5": 1 / 2,
        "map@1": 0.0,
        "map@3": (1 / 2 + 2 / 3) / 3,
        "map@5": (1 / 2 + 2 / 3 + 3 / 5) / 4,
    }
    assert values == pytest.approx(expected, abs=1e-12)


def test_precision_divides_by_k_even_with_fewer_positives() -> None:
    hits, positives = np.array([[True, False, False, False]]), np.array([1])
    assert ranking.precision(hits, positives, 4).tolist() == [0.25]  # not 1 / min(4, 1)


def test_unreachable_positives_cost_recall() -> None:
    hits = np.array([[True, True], [True, True]])
    assert ranking.recall(hits, np.array([2, 8]), 2).tolist() == [1.0, 0.25]


@given(case=rankings(), depth=st.integers(1, 7))
def test_behind_the_last_candidate_there_is_nothing_to_hit(case: Case, depth: int) -> None:
    hits, num_positives = case
    short, padded = hits[:, :depth], hits & (np.arange(8) < depth)
    whole = ranking_metrics(short, num_positives, KS, whole_ranking=True)
    for name, values in ranking_metrics(padded, num_positives, KS).items():
        np.testing.assert_array_equal(whole[name], values, err_msg=name)
    with pytest.raises(SpecError, match=f"with depth {depth}"):
        ranking_metrics(short, num_positives, KS)


def test_names_and_order() -> None:
    values = ranking_metrics(np.array([[True, False]]), np.array([1]), [2, 1])
    assert RANKING_METRICS == ("precision", "recall", "f1", "hit_rate", "ndcg", "mrr", "map") == tuple(SINGLE)
    assert list(values) == [f"{name}@{k}" for name in RANKING_METRICS for k in (2, 1)]
    assert all(value.dtype == np.float64 and value.shape == (1,) for value in values.values())


# ---------------------------------------------------------------- other libraries


def interpreted(function: Any) -> Callable[..., float]:
    """ranx's own code without Numba: compiling its seven metrics takes longer than all tests of this file."""
    source = getattr(function, "py_func", function)
    called = {name: source.__globals__[name] for name in source.__code__.co_names if name in source.__globals__}
    scope = {name: interpreted(part) if hasattr(part, "py_func") else part for name, part in called.items()}
    return FunctionType(source.__code__, {"__builtins__": __builtins__, **scope}, source.__name__)


@pytest.fixture(scope="module")
def ranx_metrics() -> dict[str, Callable[..., float]]:
    """``name -> function(positives, ranked, k, smallest relevance)``; ids in column 0, relevance or score in 1."""
    from ranx.metrics import average_precision, f1, hit_rate, ndcg, precision, recall, reciprocal_rank

    # The public functions only add a loop over queries; what they compute is in the private one beside each.
    modules = {
        "precision": (precision, "_precision"),
        "recall": (recall, "_recall"),
        "f1": (f1, "_f1"),
        "hit_rate": (hit_rate, "_hit_rate"),
        "mrr": (reciprocal_rank, "_reciprocal_rank"),
        "map": (average_precision, "_average_precision"),
    }
    found = {name: interpreted(owner.__globals__[inner]) for name, (owner, inner) in modules.items()}
    of_ndcg = interpreted(ndcg.__globals__["_ndcg"])
    found["ndcg"] = lambda positives, ranked, k, level: of_ndcg(positives, ranked, k, level, True)
    return found


@given(case=rankings())
def test_ranx_agrees(case: Case, ranx_metrics: dict[str, Callable[..., float]]) -> None:
    hits, num_positives = case
    ours = ranking_metrics(hits, num_positives, KS)
    for row in range(len(hits)):
        ranked_ids = np.arange(1, 9)
        # ranx takes the ids; the positives that were not reached have ids beyond the ranked ones.
        positive_ids = np.concatenate([ranked_ids[hits[row]], 100 + np.arange(num_positives[row] - hits[row].sum())])
        positives = np.stack([positive_ids, np.ones_like(positive_ids)], axis=1).astype(np.float64)
        ranked = np.stack([ranked_ids, 1 / ranked_ids], axis=1)
        for k in KS:
            for name in RANKING_METRICS:
                theirs = ranx_metrics[name](positives, ranked, k, 1)
                if name == "map":  # ranx divides by all positives
                    theirs *= num_positives[row] / min(k, num_positives[row])
                assert ours[f"{name}@{k}"][row] == pytest.approx(theirs, abs=1e-9), f"{name}@{k}"


@given(case=rankings())
def test_trec_eval_agrees(case: Case) -> None:
    hits, num_positives = case
    ours = ranking_metrics(hits, num_positives, KS)
    qrels = {
        f"q{row}": {
            **{f"d{rank}": 1 for rank in np.flatnonzero(hits[row])},
            **{f"missed{i}": 1 for i in range(num_positives[row] - hits[row].sum())},
        }
        for row in range(len(hits))
    }
    run = {f"q{row}": {f"d{rank}": 1.0 - rank / 10 for rank in range(8)} for row in range(len(hits))}
    measures = {"precision": P, "recall": R, "hit_rate": Success, "ndcg": nDCG, "mrr": RR, "map": AP}
    names = {measure @ k: f"{name}@{k}" for name, measure in measures.items() for k in KS}
    # trec_eval's reciprocal rank knows no cut-off, so that of MS MARCO stands in.
    of_trec_eval, of_msmarco = [m for m in names if m.NAME != "RR"], [m for m in names if m.NAME == "RR"]
    results = [
        *ir_measures.pytrec_eval.iter_calc(of_trec_eval, qrels, run),
        *ir_measures.msmarco.iter_calc(of_msmarco, qrels, run),
    ]
    for theirs in results:
        row, name = int(theirs.query_id[1:]), names[theirs.measure]
        k = theirs.measure["cutoff"]
        # trec_eval divides average precision by all positives.
        change = num_positives[row] / min(k, num_positives[row]) if name.startswith("map") else 1.0
        assert ours[name][row] == pytest.approx(theirs.value * change, abs=1e-9), name
    assert len(results) == len(names) * len(hits)


Graded = tuple[NDArray[np.float64], list[list[float]]]


@st.composite
def graded_rankings(draw: st.DrawFn) -> Graded:
    """Up to 5 queries: the grade at each of 8 ranks (0 is no hit), and the grades of positives that were not reached."""
    grade = st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.0, 3.0])
    rows = draw(st.lists(st.lists(grade, min_size=8, max_size=8), min_size=1, max_size=5))
    missed = st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=1, max_size=6)
    return np.array(rows), draw(st.lists(missed, min_size=len(rows), max_size=len(rows)))


def graded_ndcg(case: Graded, gain: Gain) -> dict[str, NDArray[np.float64]]:
    """Ours, from grades."""
    found, missed = case
    owner = np.nonzero(found)[0]
    owner = np.concatenate([owner, np.repeat(np.arange(len(found)), [len(each) for each in missed])])
    grades = np.concatenate([found[found > 0], *map(np.array, missed)])
    gains = Gains(gains_of(found, gain), ideal_gains(owner, gains_of(grades, gain), len(found), max(KS)))
    values = ranking_metrics(found > 0, np.bincount(owner), KS, gains=gains)
    for k in KS:
        assert np.array_equal(values[f"ndcg@{k}"], ranking.ndcg(found > 0, np.bincount(owner), k, gains=gains))
    binary = ranking_metrics(found > 0, np.bincount(owner), KS)
    for name in values:
        assert name.startswith("ndcg@") or np.array_equal(values[name], binary[name]), f"{name} looks at grades"
    return values


@given(case=graded_rankings())
def test_graded_ndcg_agrees_with_ranx_and_trec_eval(case: Graded) -> None:
    from ranx.metrics import ndcg

    theirs = interpreted(ndcg.__globals__["_ndcg"])
    found, missed = case
    ids = np.arange(1.0, 9.0)
    ranked = np.stack([ids, 1 / ids], axis=1)
    gains: tuple[Gain, ...] = ("linear", "exponential")
    for gain in gains:
        ours = graded_ndcg(case, gain)
        for row, others in enumerate(missed):
            positive_ids = np.concatenate([ids[found[row] > 0], 100.0 + np.arange(len(others))])
            grades = np.concatenate([found[row][found[row] > 0], others])
            order = np.argsort(-grades, kind="stable")
            positives = np.stack([positive_ids, grades], axis=1)[order]
            for k in KS:
                wanted = theirs(positives, ranked, k, 1, gain == "linear")
                assert ours[f"ndcg@{k}"][row] == pytest.approx(wanted, abs=1e-9), f"{gain} ndcg@{k}"
    qrels = {
        f"q{row}": {f"d{rank}": int(grade) for rank, grade in enumerate(found[row])}
        | {f"missed{place}": int(grade) for place, grade in enumerate(others)}
        for row, others in enumerate(missed)
    }
    run = {f"q{row}": {f"d{rank}": 1.0 - rank / 10 for rank in range(8)} for row in range(len(found))}
    ours = graded_ndcg(case, "linear")
    results = list(ir_measures.pytrec_eval.iter_calc([nDCG @ k for k in KS], qrels, run))
    for one in results:
        name = f"ndcg@{one.measure['cutoff']}"
        assert ours[name][int(one.query_id[1:])] == pytest.approx(one.value, abs=1e-9), name
    assert len(results) == len(KS) * len(found)


@given(case=rankings(), gain=st.sampled_from(["linear", "exponential"]))
def test_grades_of_one_are_the_binary_case(case: Case, gain: Gain) -> None:
    hits, num_positives = case
    owner = np.repeat(np.arange(len(hits)), num_positives)
    ideal = ideal_gains(owner, gains_of(np.ones(len(owner)), gain), len(hits), max(KS))
    graded = ranking_metrics(hits, num_positives, KS, gains=Gains(gains_of(hits.astype(float), gain), ideal))
    for name, values in ranking_metrics(hits, num_positives, KS).items():
        np.testing.assert_allclose(graded[name], values, rtol=1e-15, err_msg=name)


@given(case=graded_rankings(), gain=st.sampled_from(["linear", "exponential"]))
def test_graded_ndcg_is_one_for_the_ideal_order_and_never_more(case: Graded, gain: Gain) -> None:
    found, missed = case
    for values in graded_ndcg(case, gain).values():
        assert (values <= 1 + 1e-12).all()
    every = [sorted([*row[row > 0], *others], reverse=True) for row, others in zip(found, missed, strict=True)]
    ideal = np.array([[*grades, *[0.0] * 8][:8] for grades in every])
    rest = [[*grades[8:], 1.0] for grades in every]  # one more of the least grade changes no ideal of eight full ranks
    full = [row for row, grades in enumerate(every) if len(grades) >= 8]
    if full:
        best = graded_ndcg((ideal[full], [rest[row] for row in full]), gain)
        for k in KS:
            np.testing.assert_allclose(best[f"ndcg@{k}"], 1.0, rtol=1e-12)


def test_the_gain_decides_how_much_more_a_grade_of_three_is_worth() -> None:
    case = np.array([[1.0, 0.0, 3.0]]), [[1.0]]
    d3 = 1 / math.log2(4)
    linear = (1 + 3 * d3) / (3 + 1 / math.log2(3) + d3)
    exponential = (1 + 7 * d3) / (7 + 1 / math.log2(3) + d3)
    for gain, wanted in (("linear", linear), ("exponential", exponential)):
        hits, ideal = case[0] > 0, gains_of(np.array([[3.0, 1.0, 1.0]]), gain)  # type: ignore[arg-type]
        gains = Gains(gains_of(case[0], gain), ideal)  # type: ignore[arg-type]
        assert ranking.ndcg(hits, np.array([3]), 3, gains=gains)[0] == pytest.approx(wanted, abs=1e-12)


# ---------------------------------------------------------------- properties


@given(case=rankings())
def test_one_pass_equals_the_single_functions(case: Case) -> None:
    together = ranking_metrics(*case, KS)
    for name, function in SINGLE.items():
        for k in KS:
            assert np.array_equal(together[f"{name}@{k}"], function(*case, k)), f"{name}@{k}"


@given(case=rankings())
def test_values_lie_between_zero_and_one(case: Case) -> None:
    for name, values in ranking_metrics(*case, KS).items():
        assert ((values >= 0) & (values <= 1)).all(), name


@given(positives=st.integers(1, 12), k=st.sampled_from(KS))
def test_an_ideal_ranking_scores_one_and_no_hits_score_zero(positives: int, k: int) -> None:
    ideal = np.arange(8)[None] < positives
    counts = np.array([positives])
    for name in ("ndcg", "map", "mrr", "hit_rate"):
        assert SINGLE[name](ideal, counts, k).tolist() == [1.0], name
    assert ranking.precision(ideal, counts, k)[0] == min(k, positives) / k
    assert ranking.recall(ideal, counts, k)[0] == min(k, positives) / positives
    nothing = ranking_metrics(np.zeros((1, 8), dtype=bool), counts, KS)
    assert {float(value[0]) for value in nothing.values()} == {0.0}


@given(case=rankings(), rank=st.integers(0, 7))
def test_one_more_hit_never_lowers_a_metric(case: Case, rank: int) -> None:
    hits, num_positives = case
    more = hits.copy()
    more[:, rank] = True
    room = num_positives + 1  # so that the added hit is one of the positives
    before, after = ranking_metrics(hits, room, KS), ranking_metrics(more, room, KS)
    for name in before:
        assert (after[name] >= before[name] - 1e-12).all(), name


@given(case=rankings(), rank=st.integers(1, 7))
def test_a_hit_moved_up_never_lowers_a_metric(case: Case, rank: int) -> None:
    hits, num_positives = case
    better = hits.copy()
    better[:, rank - 1 : rank + 1] = -np.sort(-hits[:, rank - 1 : rank + 1].astype(int), axis=1) > 0
    before, after = ranking_metrics(hits, num_positives, KS), ranking_metrics(better, num_positives, KS)
    for name in before:
        assert (after[name] >= before[name] - 1e-12).all(), name


@given(case=rankings(), data=st.data())
def test_queries_do_not_touch_each_other(case: Case, data: st.DataObject) -> None:
    hits, num_positives = case
    order = np.array(data.draw(st.permutations(range(len(hits)))))
    shuffled = ranking_metrics(hits[order], num_positives[order], KS)
    alone = ranking_metrics(hits[:1], num_positives[:1], KS)
    for name, values in ranking_metrics(hits, num_positives, KS).items():
        assert np.array_equal(values[order], shuffled[name]), name
        assert values[0] == alone[name][0], name


@given(case=rankings(), k=st.sampled_from(KS[:-1]))
def test_ranks_after_k_do_not_matter(case: Case, k: int) -> None:
    hits, num_positives = case
    cut = hits & (np.arange(8) < k)
    for name, function in SINGLE.items():
        assert np.array_equal(function(hits, num_positives, k), function(cut, num_positives, k)), name


def test_a_random_order_scores_at_chance() -> None:
    # 10 positives among 100 candidates, 4,000 queries. Standard errors are below 0.0015 for all but mrr (about 0.004).
    keys = generator(0, "test", "chance").random((4_000, 100))
    hits, positives = keys.argsort(axis=1) < 10, np.full(4_000, 10)
    means = {name: values.mean() for name, values in ranking_metrics(hits, positives, [20]).items()}
    # First hit at rank r with probability C(100 - r, 9) / C(100, 10).
    chance_mrr = sum(math.comb(100 - rank, 9) / math.comb(100, 10) / rank for rank in range(1, 21))
    discounts = [1 / math.log2(rank + 1) for rank in range(1, 21)]
    assert means["precision@20"] == pytest.approx(0.1, abs=0.005)
    assert means["recall@20"] == pytest.approx(0.2, abs=0.01)
    assert means["hit_rate@20"] == pytest.approx(1 - math.comb(80, 10) / math.comb(100, 10), abs=0.02)
    assert means["ndcg@20"] == pytest.approx(0.1 * sum(discounts) / sum(discounts[:10]), abs=0.01)
    assert means["mrr@20"] == pytest.approx(chance_mrr, abs=0.02)


# ---------------------------------------------------------------- refusals

HITS, POSITIVES = np.array([[True, False, False], [False, True, True]]), np.array([2, 2])


def test_k_beyond_the_depth_states_both() -> None:
    with pytest.raises(SpecError, match=r"k=10 with depth 3"):
        ranking_metrics(HITS, POSITIVES, [1, 10])
    with pytest.raises(SpecError, match=r"k=4 with depth 3"):
        ranking.ndcg(HITS, POSITIVES, 4)


@pytest.mark.parametrize("k", [0, -2, 2.0, True, "5"])
def test_k_must_be_a_positive_integer(k: Any) -> None:
    with pytest.raises(SpecError, match=f"positive integer, got {k!r}"):
        ranking_metrics(HITS, POSITIVES, [k])


def test_no_k_at_all() -> None:
    with pytest.raises(SpecError, match="at least one k"):
        ranking_metrics(HITS, POSITIVES, [])


@pytest.mark.parametrize("name", RANKING_METRICS)
def test_a_query_without_positives_is_named(name: str) -> None:
    none = np.zeros((3, 3), dtype=bool)
    with pytest.raises(DataError, match=r"query row 1 has 0 positives and 0 hits \(2 such of 3 queries\)"):
        SINGLE[name](none, np.array([1, 0, 0]), 2)


def test_more_hits_than_positives_is_refused() -> None:
    with pytest.raises(DataError, match="query row 1 has 1 positives and 2 hits"):
        ranking_metrics(HITS, np.array([1, 1]), [1])


def test_no_queries_is_refused() -> None:
    with pytest.raises(DataError, match="at least one query, got 0"):
        ranking_metrics(np.zeros((0, 3), dtype=bool), np.zeros(0, dtype=np.int64), [1])


@pytest.mark.parametrize(
    ("hits", "positives", "shapes"),
    [
        (HITS[0], POSITIVES, r"\(3,\) and \(2,\)"),
        (HITS, POSITIVES[:1], r"\(2, 3\) and \(1,\)"),
        (HITS, POSITIVES[:, None], r"\(2, 3\) and \(2, 1\)"),
    ],
)
def test_shapes_that_do_not_fit(hits: Any, positives: Any, shapes: str) -> None:
    with pytest.raises(ShapeError, match=shapes):
        ranking_metrics(hits, positives, [1])


def test_scores_are_not_hits() -> None:
    with pytest.raises(DataError, match="got float64 and int64"):
        ranking_metrics(HITS * 0.5, POSITIVES, [1])


@pytest.mark.parametrize(
    ("found", "ideal", "message"),
    [
        (
            [[1.0, 1.0]],
            [[1.0, 1.0]],
            r"a hit has a gain above 0.*query row 0 has gains \[1\.0, 1\.0\] with hits \[True, False\]",
        ),
        ([[1.0, 0.0]], [[0.0, 0.0]], r"begin with a gain above 0.*ideal gains \[0\.0, 0\.0\]"),
        ([[1.0, 0.0]], [[1.0, 2.0]], r"never rise.*ideal gains \[1\.0, 2\.0\]"),
        ([[math.inf, 0.0]], [[1.0, 0.0]], r"gains must be finite.*\[inf, 0\.0\]"),
    ],
)
def test_gains_that_are_none(found: Any, ideal: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ranking.ndcg(np.array([[True, False]]), np.array([2]), 2, gains=Gains(np.array(found), np.array(ideal)))


@pytest.mark.parametrize(
    "shapes", [((2, 2), (1, 2)), ((1, 3), (1, 2)), ((1, 2), (2, 2)), ((1, 2), (1, 0)), ((1, 2), (1, 1))]
)
def test_gains_of_another_shape(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    gains = Gains(np.ones(shapes[0]), np.ones(shapes[1]))
    found, ideal = (str(shape).replace("(", r"\(").replace(")", r"\)") for shape in shapes)
    with pytest.raises(ShapeError, match=rf"gains\.ideal \[queries, 2 or more\], got {found} and {ideal}"):
        ranking.ndcg(np.array([[True, False]]), np.array([2]), 2, gains=gains)


@pytest.mark.parametrize("grade", [-1.0, math.nan, math.inf, 1001.0])
def test_grades_that_are_none(grade: float) -> None:
    rule = r"a finite number of 0 or more and at most 1,000 for the exponential gain"
    with pytest.raises(DataError, match=rf"{rule}; received {grade} \(1 such grades\)"):
        gains_of(np.array([1.0, grade]), "exponential")
    if not grade > 1000 or math.isinf(grade):
        with pytest.raises(DataError, match=f"a finite number of 0 or more; received {grade}"):
            gains_of(np.array([1.0, grade]), "linear")
    if grade > 1000 and math.isfinite(grade):
        assert gains_of(np.array([grade]), "linear").tolist() == [grade]

"""Comparison of two evaluations.

Pinned: the same against itself differs by 0 with p = 1; a planted difference is found, with the sign of "second minus
first", whatever the order of the queries; two protocols are refused and the message names what differs with both
values; baselines, which keep figures only, are refused in words. Many rows leave as many draws to a p-value as few.
With several Runs and segments each pair is compared as alone, and p-values are corrected over all of them, and people
are told where no difference could be clear; what cannot be paired within a segment is told, not dropped in silence, and
a segment of candidates is paired only where it holds the same right answers. Classes with and without an order are
compared by what both have; other kinds of tasks are not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from towerkit.console import comparison_line
from towerkit.core.errors import RunError, SpecError
from towerkit.evaluation import paired
from towerkit.evaluation.compare import compare, compare_runs
from towerkit.evaluation.prediction import evaluate_tasks
from towerkit.evaluation.result import Evaluation
from towerkit.features.labels import Labels, TaskKind
from towerkit.heads.decision import Decision
from towerkit.metrics.intervals import mean_intervals
from towerkit.metrics.significance import holm

SPLIT = {"kind": "random", "test": 0.5, "seed": 0}


def ranking(recall: Any, **protocol: Any) -> Evaluation:
    """A ranking evaluation with these recalls per query."""
    values = np.asarray(recall, np.float64)
    table = pa.table({"query": [f"q{n}" for n in range(len(values))], "recall@5": values})
    about = {
        "kind": "ranking", "part": "test", "split": SPLIT, "candidates": 9, "seen": "training pairs removed",
        "positives": 40, "cold_candidates": 0, "exact": True, "k": [5], **protocol,
    }  # fmt: skip
    return Evaluation(about, mean_intervals({"recall@5": values}, resamples=100, seed=0), {"ranking": table})


def prediction(
    positive: Any, truth: Any, *, column: str = "liked", classes: tuple[str, ...] = ("0", "1"), **about: Any
) -> Evaluation:
    """A prediction evaluation of one binary task."""
    p = np.asarray(positive, np.float64)
    label = Labels(column, "binary", classes)
    return evaluate_tasks(
        {"liked": np.stack([1 - p, p], axis=1)},
        {"liked": np.asarray(truth)},
        {"liked": label},
        **{"part": "test", "split": SPLIT, **about},
    )


DRAW = np.random.default_rng(0)
TRUTH = DRAW.integers(0, 2, 120)
GOOD, BAD = np.clip(TRUTH * 0.5 + DRAW.random(120) * 0.5, 0, 1), DRAW.random(120)


def test_identical_rankings_differ_by_nothing() -> None:
    found = compare(ranking(DRAW.random(50)), ranking(DRAW.random(50)))["recall@5"]
    assert found.difference != 0.0
    values = DRAW.random(50)
    same = compare(ranking(values), ranking(values))["recall@5"]
    assert same.difference == same.low == same.high == 0.0 and same.p_value == 1.0 and not same.is_clear


def test_grades_of_other_worth_are_another_protocol() -> None:
    values = DRAW.random(20)
    with pytest.raises(RunError, match="gain: binary against exponential"):
        compare(ranking(values), ranking(values, gain="exponential"))


def test_a_column_without_values_is_not_compared() -> None:
    one = ranking(DRAW.random(20))
    table = one.details["ranking"].append_column("novelty@5", pa.nulls(20, pa.float64()))
    assert list(compare(*(replace(one, details={"ranking": table}),) * 2)) == ["recall@5"]


def test_a_planted_difference_is_found_whatever_the_order_of_queries() -> None:
    low = DRAW.random(60) * 0.5
    first, second = ranking(low), ranking(low + 0.25)
    shuffled = replace(second, details={"ranking": second.details["ranking"].take(DRAW.permutation(60))})
    found, again, back = compare(first, second), compare(first, shuffled), compare(second, first)
    assert found["recall@5"].difference == pytest.approx(0.25) and found["recall@5"].is_clear
    assert found["recall@5"].p_value is not None and found["recall@5"].p_value < 0.01
    assert again == found
    assert back["recall@5"].difference == pytest.approx(-0.25)
    assert found["recall@5"].as_dict()["clear"] is True


def test_identical_predictions_differ_by_nothing_and_better_ones_clearly() -> None:
    for metric, same in compare(prediction(GOOD, TRUTH), prediction(GOOD, TRUTH)).items():
        assert same.difference == same.low == same.high == 0.0 and not same.is_clear, metric
    found = compare(prediction(BAD, TRUTH), prediction(GOOD, TRUTH))
    assert found["accuracy"].difference > 0.2 and found["accuracy"].is_clear
    assert found["log_loss"].difference < 0 and found["log_loss"].is_clear
    assert found["accuracy"].second - found["accuracy"].first == pytest.approx(found["accuracy"].difference)


def test_many_rows_take_resamples_from_the_bootstrap_and_no_draws_from_the_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A p-value of 200 draws is never below 0.005: of eleven metrics corrected together none could be clear."""
    monkeypatch.setattr(paired, "default_resamples", lambda rows: 40)
    found = compare(prediction(BAD, TRUTH), prediction(GOOD, TRUTH))
    assert {pair.draws for pair in found.values()} == {1_000}
    assert found["accuracy"].p_value == pytest.approx(1 / 1_001)


def classes(kind: TaskKind, sure: float, count: int = 3) -> Evaluation:
    """A prediction evaluation of one task of several classes."""
    codes = np.arange(60) % count
    table = np.eye(count)[codes] * sure + np.random.default_rng(3).random((60, count))
    label = Labels("stars", kind, tuple(str(n) for n in range(count)))
    found = {"stars": table / table.sum(axis=1, keepdims=True)}
    return evaluate_tasks(found, {"stars": codes}, {"stars": label}, part="test", split=SPLIT)


def test_classes_with_and_without_an_order_are_compared_by_what_both_have() -> None:
    ordered, plain = classes("ordinal", 0.1), classes("multiclass", 0.6)
    for first, second in ((ordered, plain), (plain, ordered)):
        found = compare(first, second)
        assert list(found) == list(plain.metrics), "mae and kappa are of an order"
        for name, pair in found.items():
            assert (pair.first, pair.second) == pytest.approx((first.metrics[name].value, second.metrics[name].value))


def test_kinds_whose_figures_mean_different_things_are_refused() -> None:
    for first, second in (("binary", "multiclass"), ("multiclass", "binary")):
        with pytest.raises(RunError, match=f"kind: {first} against {second}"):
            compare(classes(first, 0.1, 2), classes(second, 0.6, 2))


def test_each_model_keeps_its_own_threshold() -> None:
    half, high = (prediction(GOOD, TRUTH, decisions=made) for made in ({}, {"liked": Decision(thresholds=(0.9,))}))
    found = compare(half, high)
    assert found["recall"].difference == pytest.approx(high.metrics["recall"].value - half.metrics["recall"].value)
    assert found["recall"].difference < -0.5 and found["recall"].p_value < 0.01
    assert found["auc"].difference == found["log_loss"].difference == 0.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"candidates": 8}, "candidates: 9 against 8"),
        ({"positives": 41}, "positives: 40 against 41"),
        ({"cold_candidates": 3}, "cold_candidates: 0 against 3"),
        ({"exact": False}, "exact: True against False"),
        ({"part": "validation"}, "part: test against validation"),
        ({"split": {**SPLIT, "seed": 1}}, "'seed': 0} against .*'seed': 1}"),
        ({"seen": "kept"}, "seen: training pairs removed against kept"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_protocol_is_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        compare(ranking([0.5, 1.0]), ranking([0.5, 1.0], **changed))


def test_a_seed_that_drew_none_of_the_measured_rows_may_differ() -> None:
    """Else two seeds of one model could never be compared."""
    by_time = [{"kind": "time", "test": 0.1, "seed": seed} for seed in (0, 1)]
    given = [
        {"kind": "per_query", "validation": share, "test": "given", "seed": seed}
        for seed, share in ((0, 0.1), (1, 0.2))
    ]
    for one, other in (by_time, given):
        assert (
            compare(ranking([0.5, 1.0], split=one), ranking([0.25, 1.0], split=other))["recall@5"].difference == -0.125
        )
    with pytest.raises(RunError, match="'test': 0.1} against {'kind': 'time', 'test': 0.2}"):
        compare(ranking([0.5], split=by_time[0]), ranking([0.5], split={**by_time[1], "test": 0.2}))
    with pytest.raises(RunError, match="'validation': 0.1, .*'seed': 0} against"):
        compare(*(ranking([0.5], split=split, part="validation") for split in given))


def test_other_queries_rows_labels_classes_and_kinds_are_refused() -> None:
    with pytest.raises(RunError, match="different queries"):
        compare(ranking([0.5, 1.0]), ranking([0.5, 1.0, 0.0]))
    numbered = ranking([0.5, 1.0])
    numbers = numbered.details["ranking"].set_column(0, "query", pa.array([0, 1]))
    with pytest.raises(RunError, match="different queries"):
        compare(ranking([0.5, 1.0]), replace(numbered, details={"ranking": numbers}))
    with pytest.raises(RunError, match="rows: 120 against 119"):
        compare(prediction(GOOD, TRUTH), prediction(GOOD[1:], TRUTH[1:]))
    with pytest.raises(RunError, match="'liked' was evaluated on different rows or labels"):
        compare(prediction(GOOD, TRUTH), prediction(GOOD, 1 - TRUTH))
    with pytest.raises(RunError, match=r"classes: \['0', '1'\] against \['no', 'yes'\]"):
        compare(prediction(GOOD, TRUTH), prediction(GOOD, TRUTH, classes=("no", "yes")))
    with pytest.raises(RunError, match="column: liked against bought"):
        compare(prediction(GOOD, TRUTH), prediction(GOOD, TRUTH, column="bought"))
    with pytest.raises(RunError, match="kind: ranking against prediction"):
        compare(ranking([0.5]), prediction(GOOD, TRUTH))


def test_nothing_in_common_is_refused() -> None:
    other = ranking([0.5, 1.0], k=[7])
    table = other.details["ranking"].rename_columns(["query", "recall@7"])
    with pytest.raises(RunError, match=r"no metric in common: one has k \[5\], the other \[7\]"):
        compare(ranking([0.5, 1.0]), replace(other, details={"ranking": table}))
    second = prediction(GOOD, TRUTH)
    with pytest.raises(RunError, match=r"one predicts \['liked'\], the other \['other'\]"):
        compare(prediction(GOOD, TRUTH), replace(second, details={"other": second.details["liked"]}))


def test_figures_without_rows_are_refused() -> None:
    for evaluation in (ranking([0.5, 1.0]), prediction(GOOD, TRUTH)):
        with pytest.raises(RunError, match="keeps figures only, as a Run's baselines do"):
            compare(replace(evaluation, details={}), evaluation)


def test_models_that_learn_from_other_rows_are_comparable_on_the_same_held_out_rows() -> None:
    chosen = {**SPLIT, "learned": {"duplicates": "count", "removed": {"duplicates": 3}}, "warnings": ["careful"]}
    assert compare(ranking([0.5] * 9), ranking([0.5] * 9, split=chosen))["recall@5"].difference == 0.0
    for key in ("positive", "events", "left_out"):
        with pytest.raises(RunError, match=f"split: .* against .*{key}"):
            compare(ranking([0.5] * 9), ranking([0.5] * 9, split={**SPLIT, key: "another"}))
    given = {"kind": "time", "test": "given", "validation": 0.1}
    other = {"kind": "random", "test": "given", "validation": 0.2, "left_out": {"not_positive": 2}}
    assert compare(ranking([0.5] * 9, split=given), ranking([0.5] * 9, split=other))["recall@5"].p_value == 1.0
    for key, value in (("positive", "x > 1"), ("relevance", "grade"), ("grades", {"1": 4.0})):
        with pytest.raises(RunError, match=f"'{key}': "):
            compare(ranking([0.5] * 9, split=given), ranking([0.5] * 9, split={**other, key: value}))


def by_city(evaluation: Evaluation, cities: list[str], only: slice = slice(None)) -> Evaluation:
    """A ranking evaluation with its values per query in a segment as well."""
    whole = evaluation.details["ranking"]
    table = whole.append_column("segment", pa.array(["user.city"] * len(whole)))
    table = table.append_column("value", pa.array([cities[n % len(cities)] for n in range(len(whole))]))
    rows = table.take(pa.array(np.arange(len(table))[only]))
    return replace(evaluation, details={**evaluation.details, "segments": rows})


def test_several_runs_are_compared_with_the_first_and_corrected_together() -> None:
    values = DRAW.random(60) * 0.5
    others = {"better": ranking(values + 0.25 * DRAW.random(60)), "noise": ranking(DRAW.random(60) * 0.5)}
    found = compare_runs(ranking(values), others)
    pairs = [one.metrics["recall@5"] for one in found.values()]
    alone = [compare(ranking(values), other)["recall@5"] for other in others.values()]
    assert [pair.p_value for pair in pairs] == [pair.p_value for pair in alone]
    assert [pair.p_holm for pair in pairs] == holm([pair.p_value for pair in alone]) != [p.p_holm for p in alone]
    assert [pair.is_clear for pair in pairs] == [True, False]


def test_a_difference_within_one_segment_only_is_found_there() -> None:
    first = DRAW.random(80) * 0.5
    second = first + np.where(np.arange(80) % 2, 0.2, 0.0) * DRAW.random(80)
    shuffled = by_city(ranking(second), ["Rome", "Oslo"])
    order = DRAW.permutation(80)
    shuffled = replace(shuffled, details={name: table.take(order) for name, table in shuffled.details.items()})
    (found,) = compare_runs(by_city(ranking(first), ["Rome", "Oslo"]), {"second": shuffled}).values()
    rome, oslo = (found.segments["user.city"][city]["recall@5"] for city in ("Rome", "Oslo"))
    assert rome.n == oslo.n == 40 and rome.difference == 0.0 and oslo.is_clear and not rome.is_clear
    assert oslo.difference == pytest.approx((second - first)[1::2].mean())
    p = [found.metrics["recall@5"].p_value, rome.p_value, oslo.p_value]
    assert sorted(holm(p)) == sorted([found.metrics["recall@5"].p_holm, rome.p_holm, oslo.p_holm])
    assert found.as_dict()["segments"]["user.city"]["Oslo"]["recall@5"]["clear"] is True


def test_what_cannot_be_paired_within_a_segment_is_told() -> None:
    values = DRAW.random(20)
    first, second = by_city(ranking(values), ["Rome", "Oslo"]), by_city(ranking(values), ["Rome", "Oslo"], slice(1, 20))
    (found,) = compare_runs(first, {"second": second}).values()
    assert set(found.segments["user.city"]) == {"Oslo"} and "different queries" in found.left_out["user.city: Rome"]
    (other,) = compare_runs(first, {"third": by_city(ranking(values), ["Rome", "Lima"])}).values()
    only = "only one of the two Runs has it"
    assert other.left_out == {"user.city: Oslo": only, "user.city: Lima": only}
    assert other.as_dict()["left_out"] == other.left_out
    (plain,) = compare_runs(first, {"without": ranking(values)}).values()
    assert not plain.segments and not plain.left_out


def test_a_segment_of_candidates_with_other_right_answers_is_told() -> None:
    """Two Runs that learned from other rows agree on the queries, and not on which of their answers are cold."""
    values = DRAW.random(4)
    counts = {"first": [1, 2, 1, 3, 2, 2], "second": [1, 2, 1, 4, 2, 2]}
    runs = {}
    for name, positives in counts.items():
        one = ranking(values)
        long = {
            "segment": ["cold_candidate"] * 4 + ["user.city"] * 2,
            "value": ["warm"] * 4 + ["Rome"] * 2,
            "query": ["q0", "q1", "q2", "q3", "q0", "q1"],
            "positives": pa.array([*positives[:4], None, None], pa.int64()),
            "recall@5": [*values, *values[:2]],
        }
        runs[name] = replace(one, details={**one.details, "segments": pa.table(long)})
    (apart,) = compare_runs(runs["first"], {"second": runs["second"]}).values()
    (same,) = compare_runs(runs["first"], {"first": runs["first"]}).values()
    told = "it holds other right answers in each of the two Runs, for 1 of its 4 queries"
    assert apart.left_out == {"cold_candidate: warm": told} and list(apart.segments) == ["user.city"]
    assert list(same.segments["cold_candidate"]["warm"]) == ["recall@5"], "the number of positives is no metric"


def test_segments_of_predictions() -> None:
    old = np.where(np.arange(120) < 60, GOOD, BAD)  # the second model is better on the second half only
    rows = pa.table({"row": np.arange(120), "segment": ["half"] * 120, "value": ["one"] * 60 + ["two"] * 60})
    first, second = (
        replace(each, details={**each.details, "segments": rows})
        for each in (prediction(old, TRUTH), prediction(GOOD, TRUTH))
    )
    (found,) = compare_runs(first, {"second": second}).values()
    assert found.segments["half"]["one"]["auc"].difference == 0.0
    assert found.segments["half"]["two"]["auc"].is_clear and found.segments["half"]["two"]["auc"].n == 60
    shifted = rows.set_column(0, "row", pa.array(np.arange(120)[::-1]))
    (apart,) = compare_runs(first, {"s": replace(second, details={**second.details, "segments": shifted})}).values()
    assert set(apart.left_out) == {"half: one", "half: two"} and not apart.segments


def test_people_are_told_where_no_difference_can_be_clear() -> None:
    values = DRAW.random(40) * 0.5
    cities = [f"c{n:02d}" for n in range(40)]
    first, second = (by_city(ranking(each), cities) for each in (values, values + 0.5))
    few = comparison_line(compare_runs(first, {"second": second}))
    assert "for all 41 tests above and in --json" in few and "none can come below" not in few
    many = comparison_line(compare_runs(first, {f"r{n}": second for n in range(13)}))
    assert "for all 533 tests above and in --json, of which none can come below 0.0533: name the metrics" in many


def test_a_metric_that_was_decided_on_costs_less_correction() -> None:
    first, second = prediction(BAD, TRUTH), prediction(GOOD, TRUTH)
    (whole,) = compare_runs(first, {"second": second}).values()
    (chosen,) = compare_runs(first, {"second": second}, metrics=["auc"]).values()
    assert list(chosen.metrics) == ["auc"] and len(whole.metrics) > 5
    assert chosen.metrics["auc"].p_holm == chosen.metrics["auc"].p_value < whole.metrics["auc"].p_holm
    with pytest.raises(SpecError, match=r"no metric 'acu' that both Runs have; did you mean 'auc'\?"):
        compare_runs(first, {"second": second}, metrics=["acu"])

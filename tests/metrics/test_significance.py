"""Paired differences, randomization tests and Holm's correction.

Pinned here:
- sign flips and exchanges give the exact p-values of small data, and those of SciPy's paired permutation test;
- p-values are roughly uniform where models do not differ (negative control: unpaired flips of a shared trend are not), and
  small where they do; identical models differ by 0 with p = 1;
- the unit of a number does not change the p-value of its errors;
- the least that the correction can leave is told;
- exchanging the models changes the sign and nothing else; all metrics and any block size give what each alone gives;
- the effect of a mean is Cohen's d for pairs; that of a statistic which is a mean comes close to it;
- Holm's p-values are those of its definition, keep order, and hold the chance of any false claim below the level where
  uncorrected ones do not;
- what is undefined is nan, None in JSON, and never called clear; impossible input is refused.
"""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import permutation_test

from towerkit.core.errors import DataError, ShapeError, SpecError
from towerkit.core.random import generator
from towerkit.metrics import intervals
from towerkit.metrics.areas import roc_auc
from towerkit.metrics.classification import ClassificationRows
from towerkit.metrics.regression import RegressionRows
from towerkit.metrics.significance import (
    ALPHA,
    Difference,
    corrected,
    holm,
    lowest_corrected,
    mean_differences,
    statistic_differences,
)

Floats = NDArray[np.float64]


def differing(first: Any, second: Any, **settings: Any) -> Difference:
    """The difference of one metric."""
    return mean_differences({"m": np.asarray(first)}, {"m": np.asarray(second)}, **settings)["m"]


def binary(truth: Any, positive: Floats) -> ClassificationRows:
    """The rows of a binary task."""
    return ClassificationRows(truth, np.stack([1 - positive, positive], axis=1), kind="binary")


def predicting(truth: Any, first: Floats, second: Floats, **settings: Any) -> dict[str, Difference]:
    """The differences of a binary task."""
    both = binary(np.concatenate([truth, truth]), np.concatenate([first, second]))
    return statistic_differences(binary(truth, first), binary(truth, second), both, **settings)


# ---------------------------------------------------------------- means


def test_identical_models_do_not_differ() -> None:
    values = generator(0, "test", "identical").random(50)
    same = differing(values, values)
    mean = float(values.mean())
    assert same == Difference(mean, mean, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 50, 10_000) and not same.is_clear


def test_the_p_value_is_that_of_all_sign_flips() -> None:
    # Sums of the 2**6 flips of (1 2 3 4 5 -1): those with |sum| >= 14 can be counted.
    first, second = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 0.0])
    sums = [abs(np.dot(signs, second - first)) for signs in itertools.product([-1, 1], repeat=6)]
    exact = np.mean(np.array(sums) >= 14)
    assert exact == 6 / 64  # all six of one sign; only the first 1, or only the -1, the other way; each doubled
    found = differing(first, second, flips=20_000)
    assert found.p_value == pytest.approx(exact, abs=0.01)  # standard error 0.002
    assert found.difference == pytest.approx(14 / 6)


def test_the_p_value_is_scipys() -> None:
    random = generator(0, "test", "scipy")
    first, second = random.random(10), random.random(10) + 0.2
    exact = permutation_test(
        (second, first), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=2_000
    )
    assert differing(first, second, flips=20_000).p_value == pytest.approx(exact.pvalue, abs=0.02)  # error 0.003


def test_a_clear_difference_has_the_smallest_p_value() -> None:
    random = generator(0, "test", "clear")
    first = random.random(300)
    found = differing(first, first + 0.1 + 0.01 * random.random(300), flips=999)
    assert found.p_value == 1 / 1_000 and found.is_clear
    assert 0.1 < found.low < found.difference < found.high < 0.11


def test_p_values_are_uniform_where_models_do_not_differ() -> None:
    noise = generator(0, "test", "null").normal(size=(300, 2, 40))
    p = np.array([differing(a, b, flips=199, resamples=2, seed=seed).p_value for seed, (a, b) in enumerate(noise)])
    # Standard errors: 0.013 at 5 %, 0.029 at 50 %.
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.04)
    assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.09)


def test_pairing_removes_what_the_models_share() -> None:
    random = generator(0, "test", "pairing")
    shared = random.random(200)
    better = shared + 0.02 + 0.01 * random.random(200)
    paired, unpaired = differing(shared, better), differing(random.permutation(shared), better)
    assert paired.high - paired.low < 0.1 * (unpaired.high - unpaired.low)
    assert paired.is_clear and not unpaired.is_clear
    assert paired.effect > 5 > 0.5 > unpaired.effect


@given(values=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=15))
@settings(max_examples=40, deadline=None)
def test_exchanging_the_models_changes_the_sign(values: list[tuple[int, int]]) -> None:
    first, second = np.array(values, dtype=np.float64).T
    one, other = (
        differing(first, second, resamples=50, flips=50),
        differing(second, first, resamples=50, flips=50),
    )
    assert one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-12)
    assert one.p_value == other.p_value
    assert one.effect == pytest.approx(-other.effect, nan_ok=True)
    assert 1 / 51 <= one.p_value <= 1


def test_each_metric_is_what_it_is_alone_whatever_the_size_of_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = generator(0, "test", "blocks")
    first = {name: random.random(37) for name in "abc"}
    second = {name: random.random(37) for name in "abc"}
    truth = random.integers(0, 2, 37)
    together, rows = (
        mean_differences(first, second),
        predicting(truth, first["a"], second["a"], resamples=50, exchanges=50),
    )
    for name in "abc":
        alone = mean_differences({name: first[name]}, {name: second[name]})[name]
        # Flipped sums of columns side by side may round otherwise; nothing else may differ.
        assert vars(together[name]) == pytest.approx(vars(alone), abs=1e-12)
    monkeypatch.setattr(intervals, "_CHUNK_CELLS", 100)
    in_pieces = mean_differences(first, second)
    assert all(vars(in_pieces[name]) == pytest.approx(vars(together[name]), abs=1e-12) for name in "abc")
    again = predicting(truth, first["a"], second["a"], resamples=50, exchanges=50)
    assert all(vars(again[name]) == pytest.approx(vars(rows[name]), abs=1e-12) for name in rows)


def test_the_seed_decides() -> None:
    random = generator(0, "test", "seed")
    first, second = random.random(40), random.random(40)
    assert differing(first, second, seed=3) == differing(first, second, seed=3) != differing(first, second, seed=4)


def test_the_effect_of_a_mean_is_cohens_d_for_pairs() -> None:
    first, second = np.array([0.0, 0.0, 0.0, 0.0]), np.array([1.0, 2.0, 3.0, 2.0])
    assert differing(first, second).effect == pytest.approx(2.0 / np.std([1, 2, 3, 2], ddof=1))
    assert math.isnan(differing(first, first + 0.3).effect)  # the same everywhere: no spread to compare with
    assert math.isnan(differing([0.25], [0.5]).effect)


def test_two_queries_have_a_spread() -> None:
    assert differing([0.0, 0.0], [1.0, 3.0]).effect == pytest.approx(2.0 / math.sqrt(2.0))


def test_every_query_has_a_coin_of_its_own() -> None:
    """Coins come in blocks of 64; only the last queries differ here, and with one coin for both, or none, all flips reach."""
    first, second = np.zeros(130), np.where(np.arange(130) >= 128, 1.0, 0.0)
    assert differing(first, second, flips=2_000).p_value == pytest.approx(0.5, abs=0.06)  # standard error 0.011


def test_what_is_not_asked_for_is_as_documented() -> None:
    random = generator(0, "test", "defaults")
    first, second, truth = random.random(30), random.random(30), np.arange(30) % 2
    assert differing(first, second) == differing(first, second, resamples=1_000, flips=10_000, level=0.95, seed=0)
    accuracy = predicting(truth, first, second)["accuracy"]
    assert accuracy.draws == 1_000 and differing(first, second).draws == 10_000
    assert (
        accuracy == predicting(truth, first, second, resamples=1_000, exchanges=1_000, level=0.95, seed=0)["accuracy"]
    )
    wide = predicting(truth, first, second, level=0.99)["accuracy"]
    assert wide.high - wide.low > accuracy.high - accuracy.low


def made(low: float, high: float, p_holm: float) -> Difference:
    return Difference(0.0, 0.0, (low + high) / 2, low, high, 0.001, p_holm, 0.0, 9, 999)


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "clear"),
    [
        (0.1, 0.2, 0.049, True),
        (-0.2, -0.1, 0.049, True),
        (0.1, 0.2, 0.05, False),
        (0.1, 0.2, 0.9, False),
        (-0.1, 0.2, 0.001, False),
        (0.0, 0.2, 0.001, False),
        (-0.2, 0.0, 0.001, False),
        (math.nan, math.nan, 0.001, False),
        (0.1, 0.2, math.nan, False),
    ],
)
def test_a_difference_is_clear_by_its_interval_and_its_corrected_p_value(
    low: float, high: float, p_holm: float, clear: bool
) -> None:
    assert made(low, high, p_holm).is_clear is clear
    assert made(low, high, p_holm).as_dict()["clear"] is clear


# ---------------------------------------------------------------- statistics


def test_exchanges_give_the_exact_p_value_of_auc() -> None:
    random = generator(0, "test", "exact auc")
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    first, second = random.random(8), np.where(truth, 0.6, 0.3) + 0.3 * random.random(8)

    def difference(swap: NDArray[np.bool_]) -> float:
        return roc_auc(truth, np.where(swap, first, second)) - roc_auc(truth, np.where(swap, second, first))

    whole = difference(np.zeros(8, bool))
    every = [difference(np.array(swap)) for swap in itertools.product([False, True], repeat=8)]
    exact = np.mean([abs(each) >= abs(whole) - 1e-12 for each in every])
    assert 0.02 < exact < 0.5
    found = predicting(truth, first, second, exchanges=4_000)["auc"]
    assert found.difference == pytest.approx(whole)
    assert found.p_value == pytest.approx(exact, abs=0.04)  # standard error 0.008


def test_statistics_that_are_means_agree_with_means() -> None:
    random = generator(0, "test", "agree")
    truth = random.integers(0, 2, 400)
    first, second = random.random(400), np.clip(0.3 * truth + 0.7 * random.random(400), 0, 1)
    right = [((each >= 0.5) == truth).astype(np.float64) for each in (first, second)]
    mean, statistic = differing(*right), predicting(truth, first, second)["accuracy"]
    assert (statistic.first, statistic.second) == pytest.approx((mean.first, mean.second))
    assert (statistic.low, statistic.high) == pytest.approx((mean.low, mean.high))  # the same resamples
    assert statistic.p_value == pytest.approx(mean.p_value, abs=0.01)
    assert statistic.effect == pytest.approx(mean.effect, rel=0.1)


@pytest.mark.parametrize("seed", [7, 9, 10])
def test_the_unit_of_a_number_does_not_change_a_p_value(seed: int) -> None:
    """Sums in another order round otherwise: exchanges that go exactly as far as the models do must count, whatever the unit."""
    random = generator(seed, "test", "unit")
    truth = 1e3 * random.random(9)
    first, second = truth + random.normal(size=9), truth + np.abs(30 * random.normal(size=9))

    def p_values(unit: float) -> dict[str, float]:
        rows = [RegressionRows(unit * truth, unit * each) for each in (first, second)]
        both = RegressionRows(unit * np.concatenate([truth, truth]), unit * np.concatenate([first, second]))
        found = statistic_differences(*rows, both, resamples=9, exchanges=4_000)
        return {name: pair.p_value for name, pair in found.items()}

    assert p_values(1e9) == p_values(1e-3)
    assert p_values(1e9)["rmse"] > 0.002, "of 512 exchanges that of all nine rows goes as far"


def test_predictions_that_do_not_differ_are_rarely_called_different() -> None:
    random = generator(0, "test", "null auc")
    truth = np.arange(40) % 2
    p = np.array(
        [
            predicting(truth, random.random(40), random.random(40), resamples=9, exchanges=99, seed=seed)["auc"].p_value
            for seed in range(200)
        ]
    )
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.05)  # standard error 0.015
    assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.12)  # 0.035


def test_identical_predictions_and_undefined_ones() -> None:
    scores = generator(0, "test", "same").random(20)
    for metric, same in predicting(np.arange(20) % 2, scores, scores, resamples=50, exchanges=50).items():
        assert same.difference == same.low == same.high == same.effect == 0.0, metric
        assert same.p_value == 1.0 and not same.is_clear, metric
    undefined = predicting(np.ones(20, int), scores, scores[::-1], resamples=50, exchanges=50)["auc"]
    assert math.isnan(undefined.difference) and math.isnan(undefined.p_value) and not undefined.is_clear
    told = json.loads(json.dumps(undefined.as_dict(), allow_nan=False))
    assert told["p_value"] is None and told["clear"] is False and told["n"] == 20


# ---------------------------------------------------------------- Holm


def by_definition(p_values: list[float]) -> list[float]:
    """The smallest level at which Holm's step-down procedure rejects each, by trying."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    found = [0.0] * len(p_values)
    for step, place in enumerate(order):
        found[place] = max(min(1.0, (len(p_values) - s) * p_values[order[s]]) for s in range(step + 1))
    return found


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_holm_is_its_definition(p_values: list[float]) -> None:
    found = holm(p_values)
    assert found == pytest.approx(by_definition(p_values))
    assert all(p <= each <= 1.0 for p, each in zip(p_values, found, strict=True))
    assert holm(p_values[::-1]) == pytest.approx(found[::-1])


def test_holm_counts_only_tests_that_were_made() -> None:
    assert holm([0.01, math.nan, 0.2])[0] == 0.02
    assert math.isnan(holm([0.01, math.nan])[1])
    assert holm([]) == []


def test_holm_holds_the_level_and_uncorrected_p_values_do_not() -> None:
    p = generator(0, "test", "holm").random((1_000, 10))  # ten true nulls each
    wrong = np.mean([min(holm(list(each))) < ALPHA for each in p])
    uncorrected = np.mean(p.min(axis=1) < ALPHA)
    assert wrong <= ALPHA + 0.02 and uncorrected > 0.3


def test_the_correction_runs_over_all_that_is_given() -> None:
    one = differing(np.zeros(50), np.ones(50) + 0.1 * generator(0, "test", "c").random(50), flips=999)
    assert one.p_holm == one.p_value == 0.001 and one.is_clear
    families = [{f"m{n}": one for n in range(30)}, {f"m{n}": one for n in range(30)}]
    done = corrected(families)
    assert [list(each) for each in done] == [list(each) for each in families]
    assert all(each.p_holm == pytest.approx(0.06) and not each.is_clear for family in done for each in family.values())
    assert all(each.p_value == one.p_value for family in done for each in family.values())
    assert lowest_corrected([one] * 60) == pytest.approx(0.06) and lowest_corrected([]) == 0.0
    assert lowest_corrected([one] * 2_000) == 1.0


# ---------------------------------------------------------------- refusals

VALUES = np.array([0.1, 0.2, 0.3])


def test_impossible_input_is_refused() -> None:
    with pytest.raises(ShapeError, match="the same queries, got 3 and 2"):
        differing(VALUES, VALUES[:2])
    with pytest.raises(ShapeError, match=r"the same metrics, got \['a'\] and \['b'\]"):
        mean_differences({"a": VALUES}, {"b": VALUES})
    with pytest.raises(DataError, match=r"'m' must be finite, got inf in row 1 \(1 such rows\)"):
        differing(VALUES, [0.1, np.inf, 0.3])
    with pytest.raises(DataError, match="at least one row, got 0"):
        differing(VALUES[:0], VALUES[:0])
    with pytest.raises(SpecError, match="resamples must be a positive integer, got 0"):
        differing(VALUES, VALUES, flips=0)
    rows = binary(np.array([0, 1]), np.array([0.2, 0.7]))
    with pytest.raises(SpecError, match="resamples must be a positive integer, got 0"):
        differing(VALUES, VALUES, resamples=0)
    with pytest.raises(SpecError, match="resamples must be a positive integer, got 0"):
        predicting(np.array([0, 1]), np.array([0.2, 0.7]), np.array([0.2, 0.7]), resamples=0)
    with pytest.raises(SpecError, match="resamples must be a positive integer, got 0"):
        predicting(np.array([0, 1]), np.array([0.2, 0.7]), np.array([0.2, 0.7]), exchanges=0)
    with pytest.raises(ShapeError, match="the same rows, got 2 and 2, and 2 together"):
        statistic_differences(rows, rows, rows)
    three, four = (binary(np.array([0, 1, 1, 0][:n]), np.full(n, 0.3)) for n in (3, 4))
    with pytest.raises(ShapeError, match="the same rows, got 2 and 3, and 4 together"):
        statistic_differences(rows, three, four)
    assert mean_differences({}, {}) == {}

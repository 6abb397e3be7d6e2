"""Bootstrap intervals.

Pinned here:
- the resample counts are those of drawing ``n`` of ``n`` rows: they sum to ``n`` with the multinomial's mean and variance;
- intervals cover the truth about as often as they claim, and have the width that theory gives;
- the three ways to an interval (mean, statistic, classification) agree where they overlap, for one seed;
- the size of the blocks changes memory, never an answer; the same seed gives the same answer, another seed another;
- bounds enclose a mean's resamples; a wider level gives a wider interval; a constant has no width;
- undefined statistics are nan with nan bounds, and None in JSON; undefined resamples are left out of the bounds;
- impossible input is refused, with the received values in the message.

Not claimed: that an interval stays the same when the rows change places. Resamples are tied to positions.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from towerkit.core.errors import DataError, ShapeError, SpecError
from towerkit.core.random import generator
from towerkit.metrics import intervals
from towerkit.metrics.areas import roc_auc
from towerkit.metrics.checks import Kind
from towerkit.metrics.intervals import (
    Interval,
    bootstrap_task,
    default_resamples,
    mean_intervals,
    statistic_intervals,
)
from towerkit.metrics.tasks import WITHOUT_INTERVAL, task_metrics, task_rows

Floats = NDArray[np.float64]


def made_up(rows: int, classes: int) -> tuple[NDArray[np.int64], Floats]:
    random = generator(0, "test", rows, classes)
    table = random.dirichlet(np.ones(classes), rows)
    return (table.cumsum(axis=1) < random.random(rows)[:, None]).sum(axis=1).clip(0, classes - 1), table


# ---------------------------------------------------------------- resamples


def test_counts_are_multinomial() -> None:
    seen: list[Floats] = []

    def keep(weight: Floats) -> dict[str, float]:
        seen.append(weight)
        return {"any": 0.0}

    statistic_intervals(keep, 50, resamples=2_000)
    assert (seen[0] == 1).all()
    counts = np.stack(seen[1:])
    assert counts.shape == (2_000, 50)
    assert (counts.sum(axis=1) == 50).all()
    assert (counts == np.round(counts)).all()
    # Multinomial of 50 draws with probability 1/50: mean 1, variance 1 - 1/50, and rows that repel each other.
    assert counts.mean(axis=0) == pytest.approx(np.ones(50), abs=0.1)
    assert counts.var(axis=0).mean() == pytest.approx(0.98, abs=0.03)
    assert np.cov(counts.T)[np.triu_indices(50, 1)].mean() == pytest.approx(-1 / 50, abs=0.002)
    assert len({row.tobytes() for row in counts}) == 2_000


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = generator(0, "test", "blocks").random(37)
    truth, table = made_up(37, 3)

    def answers() -> tuple[Any, ...]:
        return (
            mean_intervals({"m": values}, resamples=50),
            bootstrap_task(task_rows("ordinal", truth, table), resamples=50),
        )

    whole = answers()
    for cells in (1, 37 * 7, 37 * 49 + 1):
        monkeypatch.setattr(intervals, "_CHUNK_CELLS", cells)
        for part, other in zip(answers(), whole, strict=True):
            assert json.dumps(as_plain(part)) == json.dumps(as_plain(other))


def as_plain(result: Any) -> Any:
    """Nested numbers, rounded to 12 digits: products of blocks may add in another order."""
    if isinstance(result, dict):
        return {name: as_plain(part) for name, part in result.items()}
    return {name: value if value is None else round(value, 12) for name, value in result.as_dict().items()}


def test_a_seed_is_all_that_matters() -> None:
    values = {"m": generator(0, "test", "seed").random(40)}
    truth, table = made_up(40, 2)
    assert mean_intervals(values, seed=3) == mean_intervals(values, seed=3) != mean_intervals(values, seed=4)
    first, again = (bootstrap_task(task_rows("binary", truth, table), resamples=100, seed=3) for _ in range(2))
    assert first == again != bootstrap_task(task_rows("binary", truth, table), resamples=100, seed=4)


def test_what_is_not_asked_for_is_as_documented() -> None:
    values, told = generator(0, "test", "defaults").random(30), {"resamples": 1_000, "level": 0.95, "seed": 0}
    assert mean_intervals({"m": values}) == mean_intervals({"m": values}, **told)  # type: ignore[arg-type]

    def statistic(weight: Floats) -> dict[str, float]:
        return {"m": float(weight @ values)}

    assert statistic_intervals(statistic, 30) == statistic_intervals(statistic, 30, **told)  # type: ignore[arg-type]
    truth, table = made_up(30, 2)
    found, same = (
        {name: each for name, each in intervals.items() if name not in WITHOUT_INTERVAL}
        for intervals in (
            bootstrap_task(task_rows("binary", truth, table)),
            bootstrap_task(task_rows("binary", truth, table), **told),  # type: ignore[arg-type]
        )
    )
    assert found == same


# ---------------------------------------------------------------- intervals of means


def test_width_is_that_of_theory() -> None:
    values = generator(0, "test", "width").normal(5.0, 2.0, 2_000)
    interval = mean_intervals({"m": values}, resamples=2_000)["m"]
    half = 1.96 * values.std() / math.sqrt(2_000)
    assert interval.value == pytest.approx(values.mean(), abs=1e-12)
    assert interval.high - interval.value == pytest.approx(half, rel=0.1)
    assert interval.value - interval.low == pytest.approx(half, rel=0.1)
    assert interval.n == 2_000


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals_cover_as_often_as_they_claim(level: float) -> None:
    # 400 tests of 150 queries with hit rate 0.3: the share of intervals around 0.3 has a standard error of 0.02 or less.
    samples = generator(0, "test", "coverage").random((400, 150)) < 0.3
    found = [
        mean_intervals({"m": sample.astype(np.float64)}, resamples=300, level=level, seed=seed)["m"]
        for seed, sample in enumerate(samples)
    ]
    covered = np.mean([interval.low <= 0.3 <= interval.high for interval in found])
    assert covered == pytest.approx(level, abs=0.05)


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
@settings(max_examples=40)
def test_bounds_are_ordered_and_inside_the_values(values: list[float]) -> None:
    column = np.array(values)
    narrow = mean_intervals({"m": column}, resamples=40, level=0.5)["m"]
    wide = mean_intervals({"m": column}, resamples=40, level=0.9)["m"]
    slack = 1e-9 * (1 + np.abs(column).max())
    assert column.min() - slack <= wide.low <= narrow.low <= narrow.high <= wide.high <= column.max() + slack
    assert narrow.value == wide.value == pytest.approx(column.mean(), abs=slack)


def test_metrics_share_their_resamples() -> None:
    values = generator(0, "test", "shared").random(60)
    together = mean_intervals({"a": values, "b": 1 - values, "c": 2 * values})
    alone = mean_intervals({"b": 1 - values})["b"]
    assert together["b"].low == pytest.approx(alone.low, abs=1e-12)
    assert together["b"].low == pytest.approx(1 - together["a"].high, abs=1e-12)
    assert together["c"].low == pytest.approx(2 * together["a"].low, abs=1e-12)
    assert list(together) == ["a", "b", "c"]
    assert mean_intervals({}) == {}


def test_one_query_is_enough() -> None:
    assert mean_intervals({"m": np.array([0.5])}, resamples=1)["m"] == Interval(value=0.5, low=0.5, high=0.5, n=1)


def test_a_constant_has_no_width() -> None:
    assert mean_intervals({"m": np.full(30, 0.25)})["m"] == Interval(value=0.25, low=0.25, high=0.25, n=30)


# ---------------------------------------------------------------- intervals of statistics


def test_a_statistic_that_is_a_mean_has_the_interval_of_the_mean() -> None:
    values = generator(0, "test", "statistic").random(80)
    direct = mean_intervals({"m": values}, resamples=200, level=0.9, seed=5)["m"]
    statistic = statistic_intervals(lambda w: {"m": float(w @ values / w.sum())}, 80, resamples=200, level=0.9, seed=5)
    assert statistic["m"].as_dict() == pytest.approx(direct.as_dict(), abs=1e-12)


@pytest.mark.parametrize(("kind", "classes"), [("binary", 2), ("multiclass", 3), ("ordinal", 5)])
def test_classification_equals_the_statistic(kind: Kind, classes: int) -> None:
    truth, table = made_up(60, classes)
    fast = bootstrap_task(task_rows(kind, truth, table), resamples=100, level=0.9, seed=2)
    slow = statistic_intervals(
        lambda weight: task_metrics(truth, table, kind=kind, weight=weight),
        60,
        resamples=100,
        level=0.9,
        seed=2,
    )
    assert list(fast) == list(slow)
    for name, interval in fast.items():
        if name in WITHOUT_INTERVAL:
            assert interval.value == slow[name].value and math.isnan(interval.low) and math.isnan(interval.high)
            continue
        assert interval.as_dict() == pytest.approx(slow[name].as_dict(), abs=1e-12), name
        assert interval.low < interval.value < interval.high, name


def test_classification_equals_repeating_the_rows() -> None:
    # The counts of one resample, made into rows: the definition of the bootstrap.
    truth, table = made_up(40, 3)
    drawn: list[dict[str, float]] = []

    def repeated(weight: Floats) -> dict[str, float]:
        rows = np.repeat(np.arange(40), weight.astype(int))
        drawn.append(task_metrics(truth[rows], table[rows], kind="ordinal"))
        return drawn[-1]

    slow = statistic_intervals(repeated, 40, resamples=60)
    fast = bootstrap_task(task_rows("ordinal", truth, table), resamples=60)
    for name in set(fast) - set(WITHOUT_INTERVAL):
        assert fast[name].as_dict() == pytest.approx(slow[name].as_dict(), abs=1e-12), name
    assert len({row["auc"] for row in drawn}) > 30  # the resamples do differ


def test_the_threshold_reaches_every_resample() -> None:
    truth, table = made_up(50, 2)
    high = bootstrap_task(task_rows("binary", truth, table, threshold=0.99), resamples=50)
    assert high["recall"].high < bootstrap_task(task_rows("binary", truth, table), resamples=50)["recall"].low


def test_an_undefined_metric_is_nan_with_nan_bounds() -> None:
    table = np.array([[0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    found = bootstrap_task(task_rows("binary", [1, 1, 1], table), resamples=30)
    assert all(math.isnan(bound) for bound in (found["auc"].value, found["auc"].low, found["auc"].high))
    assert found["auc"].as_dict() == {"value": None, "low": None, "high": None, "n": 3}
    assert found["accuracy"].value == pytest.approx(2 / 3)
    assert not math.isnan(found["accuracy"].low)


def test_without_a_value_or_without_a_defined_resample_there_are_no_bounds() -> None:
    def statistic(weight: Floats) -> dict[str, float]:
        whole = bool((weight == 1).all())
        return {"never on the rows": math.nan if whole else 0.5, "only on the rows": 0.5 if whole else math.nan}

    found = statistic_intervals(statistic, 20, resamples=30)
    assert math.isnan(found["never on the rows"].value) and found["only on the rows"].value == 0.5
    assert all(math.isnan(bound) for each in found.values() for bound in (each.low, each.high))


def test_undefined_resamples_are_left_out() -> None:
    # One positive in 6 rows: a third of the resamples hold no positive and have no AUC.
    truth, scores = np.array([0, 0, 0, 0, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.5])
    drawn: list[float] = []

    def statistic(weight: Floats) -> dict[str, float]:
        drawn.append(roc_auc(truth, scores, weight))
        return {"auc": drawn[-1]}

    interval = statistic_intervals(statistic, 6, resamples=200)["auc"]
    resampled = np.array(drawn[1:])
    defined = resampled[~np.isnan(resampled)]
    assert 100 < len(defined) < 180
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(defined, [0.025, 0.975])))


def test_results_are_json() -> None:
    interval = mean_intervals({"m": np.array([0.0, 1.0])}, resamples=10)["m"]
    told = json.loads(json.dumps(interval.as_dict(), allow_nan=False))
    assert told == {"value": 0.5, "low": interval.low, "high": interval.high, "n": 2} and told["low"] < told["high"]
    half = Interval(value=0.25, low=math.nan, high=math.inf, n=3).as_dict()
    assert half == {"value": 0.25, "low": None, "high": None, "n": 3}
    undefined = Interval(value=math.nan, low=math.nan, high=math.nan, n=2)
    assert json.loads(json.dumps(undefined.as_dict(), allow_nan=False))["low"] is None


def test_large_tests_draw_fewer_resamples() -> None:
    truth, table = made_up(20_001, 2)
    default = bootstrap_task(task_rows("binary", truth, table))
    assert default == bootstrap_task(task_rows("binary", truth, table), resamples=default_resamples(20_001))
    assert default != bootstrap_task(task_rows("binary", truth, table), resamples=100)
    assert (default_resamples(20_000), default_resamples(20_001)) == (1_000, 200)


# ---------------------------------------------------------------- refusals

VALUES = np.array([0.1, 0.2, 0.3])


def test_values_of_different_length() -> None:
    with pytest.raises(ShapeError, match=r"'x' has shape \(3, 1\), 'x' has \(3, 1\)"):
        mean_intervals({"x": VALUES[:, None]})
    with pytest.raises(ShapeError, match=r"'m' has shape \(3,\), 'x' has \(2,\)"):
        mean_intervals({"m": VALUES, "x": VALUES[:2]})


def test_values_that_are_not_finite() -> None:
    with pytest.raises(DataError, match=r"'x' must be finite, got nan in row 1 \(1 such rows\)"):
        mean_intervals({"m": VALUES, "x": np.array([0.1, np.nan, 0.2])})
    with pytest.raises(DataError, match=r"'m' must be finite, got inf in row 0 \(2 such rows\)"):
        mean_intervals({"m": np.array([np.inf, 0.1, -np.inf])})


def test_no_rows() -> None:
    for call in (
        lambda: mean_intervals({"m": VALUES[:0]}),
        lambda: statistic_intervals(lambda weight: {"m": 0.0}, 0),
    ):
        with pytest.raises(DataError, match="at least one row, got 0"):
            call()
    with pytest.raises(DataError, match="at least one row"):
        bootstrap_task(task_rows("binary", np.zeros(0, dtype=int), np.zeros((0, 2))))


@pytest.mark.parametrize("resamples", [0, -5, 2.5, True])
def test_an_impossible_number_of_resamples(resamples: Any) -> None:
    with pytest.raises(SpecError, match=f"positive integer, got {resamples!r}"):
        mean_intervals({"m": VALUES}, resamples=resamples)
    with pytest.raises(SpecError, match=f"positive integer, got {resamples!r}"):
        statistic_intervals(lambda weight: {"m": 0.0}, 3, resamples=resamples)
    with pytest.raises(SpecError, match=f"positive integer, got {resamples!r}"):
        bootstrap_task(task_rows("binary", [0, 1], [[0.9, 0.1], [0.2, 0.8]]), resamples=resamples)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, math.nan])
def test_an_impossible_level(level: float) -> None:
    with pytest.raises(SpecError, match=f"between 0 and 1, got {level}"):
        mean_intervals({"m": VALUES}, level=level)


def test_bad_probabilities_name_the_row() -> None:
    with pytest.raises(DataError, match=r"\[0\.5, nan\] in row 1"):
        bootstrap_task(task_rows("binary", [0, 1], [[0.9, 0.1], [0.5, np.nan]]))

"""Is the second model better than the first, or was it chance? Paired differences, randomization tests, Holm's correction.

Both models answered the same queries or rows, so what they share (a hard query is hard for both) cancels. Three figures
say different things about one difference: the interval how far it would vary with other test rows, the p-value how often
chance alone would go as far, and the effect how large it is beside its spread from row to row, whatever their number.
None knows anything of other training runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import ShapeError
from towerkit.core.random import generator
from towerkit.metrics.intervals import (
    Floats,
    Interval,
    check_plan,
    checked_values,
    chunk_sizes,
    intervals_of,
    resample_counts,
)

ALPHA = 0.05
"""A difference is called clear below this p-value, corrected by Holm's method."""
FLIPS, EXCHANGES = 10_000, 1_000
"""Draws of the two randomization tests: no p-value is below one over one more, so few draws leave nothing to correct."""


@dataclass(frozen=True)
class Difference:
    """``second - first`` of one metric on the same queries or rows; what is undefined is nan."""

    first: float
    second: float
    difference: float
    low: float
    """Lower end of the 95 % paired bootstrap interval of the difference."""
    high: float
    p_value: float
    """Of the two-sided randomization test: how often exchanging the models' answers goes as far."""
    p_holm: float
    """The p-value corrected for all tests of the comparison; the p-value itself until :func:`corrected` is asked."""
    effect: float
    """The difference in standard deviations of the differences of single queries or rows (Cohen's d for pairs)."""
    n: int
    draws: int
    """Of the randomization test."""

    @property
    def is_clear(self) -> bool:
        """The interval does not contain zero, and the corrected p-value is below :data:`ALPHA`."""
        return (self.low > 0.0 or self.high < 0.0) and self.p_holm < ALPHA

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no nan: an undefined number is None."""
        numbers = {name: None if value != value else value for name, value in vars(self).items()}
        return {**numbers, "clear": self.is_clear}


class WeightedRows(Protocol):
    """Rows of predictions whose metrics can be asked under many weightings, as :class:`ClassificationRows` are."""

    @property
    def num_rows(self) -> int:
        """How many there are."""

    def metrics(self, weights: Floats) -> dict[str, Floats]:
        """``[weightings, rows]`` to ``{metric: [weightings]}``."""


def mean_differences(
    first: Mapping[str, Floats],
    second: Mapping[str, Floats],
    *,
    resamples: int = 1_000,
    flips: int = FLIPS,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Difference]:
    """Paired differences of metrics that are means over queries.

    The interval is the paired bootstrap of ``mean(second - first)``. The p-value is from sign flips: if the models did not
    differ, each query's difference might as well have had the other sign. It is ``(count + 1) / (flips + 1)`` where
    ``count`` flips have a mean at least as far from zero, and is never zero. All metrics share resamples and flips.

    Args:
        first: ``{metric: [n]}``, one value per query.
        second: The same metrics of the same queries in the same order.
        resamples: Of the bootstrap.
        flips: Of the randomization test.
        level: Share of the resampled differences that the interval covers.
        seed: Of the resamples and the flips.

    Returns:
        ``{metric: Difference}`` in the order of ``first``, not corrected for their number.

    Raises:
        DataError: If there are no values, or one is not finite.
        ShapeError: If the metrics or the numbers of values differ.
        SpecError: If a setting is not possible.

    Example:
        >>> mean_differences({"recall@5": np.zeros(4)}, {"recall@5": np.zeros(4)})["recall@5"].p_value
        1.0

    Reference: Smucker, Allan and Carterette, CIKM 2007 (randomization test for retrieval).
    """
    if first.keys() != second.keys():
        raise ShapeError(
            f"Both models need the same metrics, got {sorted(first)} and {sorted(second)}; keep those in common."
        )
    if not first:
        return {}
    a, b = (np.stack(checked_values({name: one[name] for name in first}), axis=1) for one in (first, second))
    if a.shape != b.shape:
        raise ShapeError(f"Both models need the same queries, got {len(a)} and {len(b)}; pair them first.")
    deltas = b - a  # [n, metrics]
    n = len(deltas)
    check_plan(n, resamples, level)
    check_plan(n, flips, level)
    draws = np.concatenate([counts @ deltas / n for counts in resample_counts(n, resamples, seed)])
    spread = deltas.std(axis=0, ddof=1) if n > 1 else np.zeros(deltas.shape[1])
    p_values = _sign_flip_p_values(deltas, flips, seed)
    values = dict(zip(first, deltas.mean(axis=0), strict=True))
    found = intervals_of(values, draws, level, n)
    figures = zip(a.mean(axis=0), b.mean(axis=0), p_values, spread, strict=True)
    return {
        name: _difference(interval, float(old), float(new), float(p), float(sd), flips)
        for (name, interval), (old, new, p, sd) in zip(found.items(), figures, strict=True)
    }


def statistic_differences(
    first: WeightedRows,
    second: WeightedRows,
    both: WeightedRows,
    *,
    resamples: int = 1_000,
    exchanges: int = EXCHANGES,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Difference]:
    """Paired differences of metrics that are no means over rows, such as AUC and F1.

    The p-value is from exchanges: if the models did not differ, each row's two answers might as well have changed places.
    The effect is ``difference / (sqrt(n) * standard error)`` with the bootstrap's standard error, which is Cohen's d where
    the metric is a mean.

    Args:
        first: The first model's rows, ``n`` of them.
        second: The second model's answers to the same rows.
        both: The rows of the first model, and behind them those of the second; its weights choose who answers a row.
        resamples: Of the bootstrap.
        exchanges: Of the randomization test.
        level: Share of the resampled differences that the interval covers.
        seed: Of the resamples and the exchanges.

    Returns:
        ``{metric: Difference}``, not corrected for their number.

    Raises:
        ShapeError: If the rows do not belong together.
        SpecError: If a setting is not possible.
    """
    n = first.num_rows
    if second.num_rows != n or both.num_rows != 2 * n:
        raise ShapeError(
            f"Both models must answer the same rows, got {n} and {second.num_rows}, and {both.num_rows} together."
        )
    check_plan(n, resamples, level)
    check_plan(n, exchanges, level)
    ones = np.ones((1, n))
    old, new = first.metrics(ones), second.metrics(ones)
    values = {name: float(new[name][0] - old[name][0]) for name in old}
    draws = np.concatenate(
        [_stacked(second.metrics(counts), first.metrics(counts)) for counts in resample_counts(n, resamples, seed)]
    )
    p_values = _exchange_p_values(both, values, _rounding(old, new), exchanges, seed)
    found = intervals_of(values, draws, level, n)
    spread = math.sqrt(n) * np.array([_spread(column) for column in draws.T])
    return {
        name: _difference(interval, float(old[name][0]), float(new[name][0]), float(p), float(sd), exchanges)
        for (name, interval), p, sd in zip(found.items(), p_values, spread, strict=True)
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: with it, the chance that any of the tests is wrongly called clear stays below the level.

    The smallest of ``m`` p-values is multiplied by ``m``, the next by ``m - 1`` and so on, none below the one before it and
    none above 1. It needs no assumption about how the tests depend on each other.

    Args:
        p_values: One for each test; nan for one that could not be made, which counts for nothing.

    Returns:
        The corrected ones, in the same order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Reference: Holm, Scandinavian Journal of Statistics 1979.
    """
    made = [place for place, p in enumerate(p_values) if p == p]
    found, reached = [math.nan] * len(p_values), 0.0
    for step, place in enumerate(sorted(made, key=lambda place: p_values[place])):
        reached = max(reached, min(1.0, (len(made) - step) * p_values[place]))
        found[place] = reached
    return found


def lowest_corrected(pairs: Sequence[Difference]) -> float:
    """The smallest p-value that Holm's correction can leave, whatever the data: the draws of the tests are not endless.

    Args:
        pairs: All that are corrected together.

    Example:
        >>> same = mean_differences({"m": np.zeros(4)}, {"m": np.zeros(4)}, flips=999)["m"]
        >>> lowest_corrected([same] * 60)
        0.06
    """
    made = [pair for pair in pairs if pair.p_value == pair.p_value]
    return min(1.0, len(made) / (1 + max((pair.draws for pair in made), default=0)))


def corrected(families: Sequence[Mapping[str, Difference]]) -> list[dict[str, Difference]]:
    """The same differences with ``p_holm`` corrected over all tests in all of the given mappings.

    Args:
        families: ``{metric: Difference}``, for example of each Run and each segment.
    """
    adjusted = iter(holm([each.p_value for family in families for each in family.values()]))
    return [{name: replace(each, p_holm=next(adjusted)) for name, each in family.items()} for family in families]


def _difference(
    interval: Interval, first: float, second: float, p_value: float, spread: float, draws: int
) -> Difference:
    tiny = 1e-12 * (abs(first) + abs(second))  # what rounding leaves of equal differences is no spread
    effect = interval.value / spread if spread > tiny else (0.0 if interval.value == 0.0 else math.nan)
    bounds = interval.low, interval.high
    return Difference(first, second, interval.value, *bounds, p_value, p_value, effect, interval.n, draws)


def _spread(draws: Floats) -> float:
    defined = draws[~np.isnan(draws)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else 0.0


def _stacked(second: Mapping[str, Floats], first: Mapping[str, Floats]) -> Floats:
    """``[weightings, metrics]`` differences."""
    return np.stack([second[name] - first[name] for name in first], axis=1)


def _sign_flip_p_values(deltas: Floats, flips: int, seed: int) -> Floats:
    """``[n, metrics]`` differences to ``[metrics]`` p-values."""
    random, total = generator(seed, "metrics", "sign flips"), deltas.sum(axis=0)
    # Sums of the same numbers in another order differ in their last bits; those must count as equal.
    reach = np.abs(total) - 1e-12 * np.abs(deltas).sum(axis=0)
    count = np.zeros(deltas.shape[1], np.int64)
    for size in chunk_sizes(flips, len(deltas)):
        flipped = _coins(random, size, len(deltas)) @ deltas
        count += (np.abs(total - 2 * flipped) >= reach).sum(axis=0)
    return np.asarray((count + 1) / (flips + 1))


def _rounding(first: Mapping[str, Floats], second: Mapping[str, Floats]) -> Floats:
    """``[metrics]`` how far equal differences may lie apart: an error of a million euros is rounded coarser than a share."""
    sizes = [max(1.0, abs(float(first[name][0])), abs(float(second[name][0]))) for name in first]
    return 1e-12 * np.array(sizes)


def _exchange_p_values(
    both: WeightedRows, differences: Mapping[str, float], rounding: Floats, exchanges: int, seed: int
) -> Floats:
    """``[metrics]`` p-values; nan where the difference is undefined."""
    n, values = both.num_rows // 2, np.array(list(differences.values()))
    reach = np.abs(values) - rounding
    count = np.zeros(len(values), np.int64)
    for swap in _exchanges(n, exchanges, seed):
        second = both.metrics(np.concatenate([swap, 1 - swap], axis=1))
        first = both.metrics(np.concatenate([1 - swap, swap], axis=1))
        count += (~(np.abs(_stacked(second, first)) < reach)).sum(axis=0)  # an undefined one counts as reached
    return np.where(np.isnan(values), np.nan, (count + 1) / (exchanges + 1))


def _exchanges(n: int, number: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Blocks ``[chunk, n]``: 1 where the answers of a row change places."""
    random = generator(seed, "metrics", "exchanges")
    for size in chunk_sizes(number, 2 * n):
        yield _coins(random, size, n)


def _coins(random: np.random.Generator, lines: int, n: int) -> Floats:
    """``[lines, n]`` zeros and ones, 64 of one draw; whole draws a line, so that blocks of any size give the same."""
    bits = random.integers(0, 1 << 64, size=(lines, -(-n // 64)), dtype=np.uint64, endpoint=False)
    return np.unpackbits(bits.view(np.uint8), axis=1, count=n).astype(np.float64)

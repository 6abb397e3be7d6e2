"""How sure a metric is: bootstrap intervals over rows or queries.

A resample draws ``n`` of the ``n`` rows with replacement; how often each row was drawn is a vector of counts that sum
to ``n``. A metric on the resample is the metric with these counts as weights, so one set of counts serves all
metrics, and no data is copied. The interval runs between two percentiles of the resampled metric. It says how
the metric would vary with other test rows; it knows nothing of other training runs.

Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentile intervals).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import DataError, ShapeError, SpecError
from towerkit.core.random import generator
from towerkit.metrics.tasks import WITHOUT_INTERVAL, TaskRows

Floats = NDArray[np.float64]
T = TypeVar("T")

_CHUNK_CELLS = 1 << 20  # resamples x rows held at a time: 8 MiB of float64, whatever the size of the test


@dataclass(frozen=True)
class Interval:
    """A metric with its interval; a metric that is undefined is nan, and so are its bounds."""

    value: float
    low: float
    high: float
    n: int
    """Rows or queries that the metric was computed from."""

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON, which has no nan: an undefined number is None.

        Example:
            >>> Interval(value=0.5, low=0.25, high=math.nan, n=4).as_dict()
            {'value': 0.5, 'low': 0.25, 'high': None, 'n': 4}
        """
        return {"value": _number(self.value), "low": _number(self.low), "high": _number(self.high), "n": self.n}


def default_resamples(rows: int) -> int:
    """Resamples of :func:`bootstrap_task` when none are asked for: 1,000 up to 20,000 rows, 200 above.

    Intervals of large tests are narrow; 200 resamples place their ends well enough in a fifth of the time.

    Example:
        >>> default_resamples(20_000), default_resamples(20_001)
        (1000, 200)
    """
    return 1_000 if rows <= 20_000 else 200


def mean_intervals(
    values: Mapping[str, NDArray[np.float64]], *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """The mean of each metric's values per query, with an interval; all metrics share their resamples.

    Args:
        values: ``{metric: [n]}``, one value per query, as from :func:`towerkit.metrics.ranking.ranking_metrics`.
        resamples: Number of resamples.
        level: Share of the resampled means that the interval covers.
        seed: Seed of the resamples; the same seed and ``n`` give the same ones.

    Returns:
        ``{metric: Interval}`` in the order of ``values``.

    Raises:
        DataError: If there are no values, or one is not finite.
        ShapeError: If the arrays differ in length.
        SpecError: If ``resamples`` or ``level`` is not possible.

    Example:
        >>> mean_intervals({"recall@20": np.ones(8)})["recall@20"]
        Interval(value=1.0, low=1.0, high=1.0, n=8)
    """
    if not values:
        return {}
    table = np.stack(checked_values(values), axis=1)  # [n, metrics]
    n = len(table)
    check_plan(n, resamples, level)
    means = [counts @ table / n for counts in resample_counts(n, resamples, seed)]
    return intervals_of(dict(zip(values, table.mean(axis=0), strict=True)), np.concatenate(means), level, n)


def statistic_intervals(
    statistic: Callable[[Floats], Mapping[str, float]],
    n: int,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Statistics of weighted rows, with intervals: for what is not a mean of values per row.

    A statistic that is nan on the rows themselves stays nan with nan bounds. One that is nan on some resamples
    only (AUC, where a resample holds one class) has its bounds from the other resamples.

    Args:
        statistic: From weights ``[n]`` to ``{name: value}``; called once with ones, then once per resample with the
            counts, which sum to ``n``.
        n: Number of rows.
        resamples: Number of resamples.
        level: Share of the resampled statistics that the interval covers.
        seed: Seed of the resamples; the same seed and ``n`` give the same ones.

    Returns:
        ``{name: Interval}`` in the order of the statistic.

    Raises:
        DataError: If ``n`` is below 1.
        SpecError: If ``resamples`` or ``level`` is not possible.

    Example:
        >>> ages = np.array([20.0, 30.0, 40.0])
        >>> statistic_intervals(lambda weight: {"sum": float(weight @ ages)}, 3, resamples=10)["sum"].value
        90.0
    """
    check_plan(n, resamples, level)
    values = dict(statistic(np.ones(n)))
    draws = [
        [drawn[name] for name in values]
        for counts in resample_counts(n, resamples, seed)
        for drawn in map(statistic, counts)
    ]
    return intervals_of(values, np.array(draws, dtype=np.float64), level, n)


def bootstrap_task(
    rows: TaskRows, *, resamples: int | None = None, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Every metric of a task's predictions, with an interval.

    Rows are sorted once; each block of resamples reuses the order. Undefined values are treated as in
    :func:`statistic_intervals`. The bounds of :data:`towerkit.metrics.tasks.WITHOUT_INTERVAL` are nan.

    Args:
        rows: Checked predictions, from :func:`towerkit.metrics.tasks.task_rows`.
        resamples: Number of resamples; :func:`default_resamples` if not given, thus fewer above 20,000 rows.
        level: Share of the resampled metrics that the interval covers.
        seed: Seed of the resamples; the same seed and number of rows give the same ones.

    Returns:
        ``{metric: Interval}``.

    Raises:
        SpecError: If ``resamples`` or ``level`` is not possible.

    Example:
        >>> from towerkit.metrics.tasks import task_rows
        >>> bootstrap_task(task_rows("binary", [0, 1], [[0.9, 0.1], [0.2, 0.8]]), resamples=20)["accuracy"]
        Interval(value=1.0, low=1.0, high=1.0, n=2)
    """
    n = rows.num_rows
    number = default_resamples(n) if resamples is None else resamples
    check_plan(n, number, level)
    values = {name: float(value[0]) for name, value in rows.metrics(np.ones((1, n))).items()}
    draws = [
        np.stack(list(rows.metrics(counts).values()), axis=1)  # [chunk, metrics]
        for counts in resample_counts(n, number, seed)
    ]
    found = intervals_of(values, np.concatenate(draws), level, n)
    bare = {name: replace(found[name], low=math.nan, high=math.nan) for name in WITHOUT_INTERVAL if name in found}
    return found | bare


def resample_counts(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Blocks ``[chunk, n]`` of how often each resample drew each row."""
    random = generator(seed, "metrics", "bootstrap")

    def draw(size: int) -> NDArray[np.int64]:
        return random.integers(0, n, size=(size, n))

    for drawn in _made_ahead([partial(draw, size) for size in chunk_sizes(resamples, n)]):
        counts = np.empty(drawn.shape)
        for row, positions in enumerate(drawn):  # one at a time stays in the cache
            counts[row] = np.bincount(positions, minlength=n)
        yield counts


def _made_ahead(makers: Sequence[Callable[[], T]]) -> Iterator[T]:
    """What each of some functions returns, in order; the next one is called in a thread while a result is looked at."""
    if len(makers) < 2:
        yield from (make() for make in makers)
        return
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(makers[0])
        for make in makers[1:]:
            result, coming = coming.result(), ahead.submit(make)
            yield result
        yield coming.result()


def chunk_sizes(resamples: int, n: int) -> Iterator[int]:
    """Sizes of blocks of ``n`` cells a line that add up to ``resamples`` lines, each of bounded memory where that is possible."""
    size = max(1, _CHUNK_CELLS // n)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def intervals_of(values: Mapping[str, float], draws: Floats, level: float, n: int) -> dict[str, Interval]:
    """Percentile intervals from ``[resamples, metrics]`` draws."""
    result = {}
    for (name, value), column in zip(values.items(), draws.T, strict=True):
        defined = column[~np.isnan(column)]
        low, high = math.nan, math.nan
        if not math.isnan(value) and len(defined):
            low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]).tolist()
        result[name] = Interval(value=float(value), low=low, high=high, n=n)
    return result


def check_plan(n: int, resamples: int, level: float) -> None:
    """Refuse what no interval can be made of.

    Raises:
        DataError: If there are no rows.
        SpecError: If ``resamples`` or ``level`` is not possible.
    """
    if n < 1:
        raise DataError(f"An interval needs at least one row, got {n}; check the filters before the evaluation.")
    if isinstance(resamples, bool) or not isinstance(resamples, int | np.integer) or resamples < 1:
        raise SpecError(f"resamples must be a positive integer, got {resamples!r}; give for example resamples=1000.")
    if not 0 < level < 1:
        raise SpecError(f"level must lie between 0 and 1, got {level}; give for example level=0.95.")


def checked_values(values: Mapping[str, NDArray[np.float64]]) -> list[Floats]:
    """The values of each metric, one per query, all finite.

    Raises:
        DataError: If a value is not finite.
        ShapeError: If the arrays differ in length.
    """
    arrays = {name: np.asarray(column, dtype=np.float64) for name, column in values.items()}
    first, *_ = arrays
    for name, column in arrays.items():
        if column.ndim != 1 or len(column) != len(arrays[first]):
            raise ShapeError(
                f"Each metric needs one value per query, the same queries for all: '{first}' has shape "
                f"{arrays[first].shape}, '{name}' has {column.shape}."
            )
        bad = ~np.isfinite(column)
        if bad.any():
            row = int(bad.argmax())
            raise DataError(f"'{name}' must be finite, got {column[row]} in row {row} ({bad.sum()} such rows).")
    return list(arrays.values())


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None

"""Answers to held-out queries or rows as samples that can be weighed: what paired intervals and averages are made of.

A sample is made of blocks, one for each ranking and each task. A block gives its metrics under many weightings of its queries or
rows; so one set of resamples serves two models, the mean of several answers, and anything linear in them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.evaluation.prediction import SEGMENTS
from towerkit.evaluation.result import Evaluation
from towerkit.evaluation.task_details import stored_rows, task_details
from towerkit.features.labels import Labels, Truth, is_known
from towerkit.heads.decision import UNTOUCHED, Decision
from towerkit.metrics.intervals import default_resamples, resample_counts
from towerkit.metrics.significance import EXCHANGES, Difference, mean_differences, statistic_differences
from towerkit.metrics.tasks import TaskRows
from towerkit.metrics.weighted import ratio

Floats = NDArray[np.float64]

_MOST_RESAMPLES = 1_000
_FEW_RESAMPLES = 400
_LEAST_EXCHANGES, _PER_TEST = 199, 25
"""One over 25 times the tests, times the tests, is below 0.05."""


class Block(Protocol):
    """One ranking or one task: its figures under many weightings."""

    @property
    def num_rows(self) -> int:
        """Queries or rows."""

    def metrics(self, weights: Floats) -> dict[str, Floats]:
        """``[weightings, rows]`` to ``{metric: [weightings]}``."""

    def before(self, other: Any) -> Block:
        """Its rows, and behind them those of another block of the same kind."""


@dataclass(frozen=True, eq=False)
class Means:
    """Metrics that are means of one value per query."""

    values: Mapping[str, Floats]
    """Metric -> ``[queries]``."""

    @property
    def num_rows(self) -> int:
        """Queries."""
        return len(next(iter(self.values.values())))

    def metrics(self, weights: Floats) -> dict[str, Floats]:
        """Weighted means; nan where nothing has weight."""
        total = weights.sum(axis=1)
        return {name: ratio(weights @ column, total, np.nan) for name, column in self.values.items()}

    def before(self, other: Means) -> Means:
        """Queries of both, one behind the other."""
        return Means({name: np.concatenate([own, other.values[name]]) for name, own in self.values.items()})


@dataclass(frozen=True, eq=False)
class Stored:
    """The rows of a task, as an evaluation keeps them."""

    about: tuple[Mapping[str, Any], ...]
    """The task in the protocol, of each table."""
    tables: tuple[pa.Table, ...]
    prefix: str = ""
    """What the names of its metrics begin with."""
    only: frozenset[str] | None = None
    """The metrics that are asked for, by their whole names; all when not given."""

    @cached_property
    def rows(self) -> TaskRows:
        """Checked and sorted once."""
        return stored_rows(self.about, self.tables)

    @property
    def num_rows(self) -> int:
        """Rows with a label."""
        return sum(table.num_rows for table in self.tables)

    def metrics(self, weights: Floats) -> dict[str, Floats]:
        """The metrics that fit the task."""
        found = {f"{self.prefix}{name}": values for name, values in self.rows.metrics(weights).items()}
        return found if self.only is None else {name: each for name, each in found.items() if name in self.only}

    def before(self, other: Stored) -> Stored:
        """Rows of both, one behind the other."""
        return Stored((*self.about, *other.about), (*self.tables, *other.tables), self.prefix, self.only)


@dataclass(frozen=True, eq=False)
class Averaged:
    """The mean of what several blocks of the same rows give: of repeated shuffles, of several seeds."""

    blocks: tuple[Block, ...]

    @property
    def num_rows(self) -> int:
        """Of each of them."""
        return self.blocks[0].num_rows

    def metrics(self, weights: Floats) -> dict[str, Floats]:
        """Means of their metrics."""
        each = [block.metrics(weights) for block in self.blocks]
        return {name: np.mean([one[name] for one in each], axis=0) for name in each[0]}

    def before(self, other: Averaged) -> Averaged:
        """Each with its counterpart."""
        pairs = zip(self.blocks, other.blocks, strict=True)
        return Averaged(tuple(one.before(two) for one, two in pairs))


Sample: TypeAlias = Mapping[str, Block]
"""Name of a ranking or a task (the empty one where there is but one) -> its block."""


def averaged(samples: Sequence[Sample]) -> Sample:
    """The mean of several samples of the same queries and rows; values of queries are averaged query by query.

    Args:
        samples: At least one.
    """
    first = samples[0]
    if len(samples) == 1:
        return first
    found: dict[str, Block] = {}
    for name, block in first.items():
        each = [sample[name] for sample in samples]
        if isinstance(block, Means):
            own = [one.values for one in each if isinstance(one, Means)]
            found[name] = Means({metric: np.mean([one[metric] for one in own], axis=0) for metric in block.values})
        else:
            found[name] = Averaged(tuple(each))
    return found


def values_of_sample(sample: Sample) -> dict[str, float]:
    """Metric -> its value."""
    found: dict[str, float] = {}
    for block in sample.values():
        found |= {name: float(value[0]) for name, value in block.metrics(np.ones((1, block.num_rows))).items()}
    return found


def draws_of_sample(sample: Sample, *, seed: int = 0, most: int = _MOST_RESAMPLES) -> dict[str, Floats]:
    """Metric -> ``[1 + resamples]``: its value, then its value in each bootstrap resample.

    The resamples of two samples of the same queries or rows are the same, so anything linear in several samples has its paired
    interval from these draws.

    Args:
        sample: The answers.
        seed: Of the resamples.
        most: Resamples at most; fewer where there are many rows.
    """
    found: dict[str, Floats] = {}
    for block in sample.values():
        n = block.num_rows
        chunks = [block.metrics(np.ones((1, n)))]
        chunks += [block.metrics(counts) for counts in resample_counts(n, min(most, default_resamples(n)), seed)]
        found |= {name: np.concatenate([each[name] for each in chunks]) for name in chunks[0]}
    return found


def sample_differences(
    first: Sample, second: Sample, *, tests: int | None = None, seed: int = 0
) -> dict[str, Difference]:
    """Every metric of two samples of the same queries and rows: ``second - first`` with interval, test and effect.

    Args:
        first: The baseline.
        second: What is compared with it; the mean of several where it is :class:`Averaged`.
        tests: How many will be corrected together: so many exchanges are drawn that each of them could come out clear. Where they
            are not given, as many as a comparison of two Runs draws.
        seed: Of the resamples and the randomization.
    """
    found: dict[str, Difference] = {}
    for name, one in first.items():
        two = second[name]
        if isinstance(one, Means) and isinstance(two, Means):
            found |= mean_differences(one.values, two.values, seed=seed)
            continue
        if isinstance(two, Averaged) != isinstance(one, Averaged):
            count = len(two.blocks if isinstance(two, Averaged) else getattr(one, "blocks", ()))
            one, two = (each if isinstance(each, Averaged) else Averaged((each,) * count) for each in (one, two))
        resamples = default_resamples(one.num_rows) if tests is None else _FEW_RESAMPLES
        exchanges = EXCHANGES if tests is None else min(EXCHANGES, max(_LEAST_EXCHANGES, _PER_TEST * tests))
        found |= statistic_differences(one, two, one.before(two), resamples=resamples, exchanges=exchanges, seed=seed)
    return found


def sample_of(evaluation: Evaluation, metrics: Collection[str]) -> Sample:
    """A stored evaluation as a sample.

    Args:
        evaluation: With its details.
        metrics: Names of the metrics that are asked for.
    """
    if evaluation.protocol["kind"] == "joint":
        found: dict[str, Block] = {}
        for name in evaluation.protocol["rankings"]:
            own = evaluation.of(name).details["ranking"]
            found[name] = _means(own, [metric for metric in metrics if metric.startswith(f"{name}/")], f"{name}/")
        return {name: block for name, block in found.items() if getattr(block, "values", None)}
    found = {}
    ranks = evaluation.protocol["kind"] == "ranking"
    if ranks:
        means = _means(evaluation.details["ranking"], metrics, "")
        found |= {"": means} if means.values else {}
    tasks = {n: t for n, t in evaluation.details.items() if n not in ((SEGMENTS, "ranking") if ranks else (SEGMENTS,))}
    several = ranks or any("/" in name for name in evaluation.metrics)
    for task, table in tasks.items():
        found |= task_block(task, evaluation.protocol["tasks"][task], table, metrics, several=several)
    return found


def task_block(
    task: str, about: Mapping[str, Any], table: pa.Table, metrics: Collection[str], *, several: bool
) -> dict[str, Block]:
    """The block of a task, under its name; nothing where none of its metrics is asked for.

    Args:
        task: Its name.
        about: The task in a protocol.
        table: Its table in the details.
        metrics: Those that are asked for, by their whole names.
        several: Whether these names begin with the task.
    """
    prefix = f"{task}/" if several else ""
    own = frozenset(name for name in metrics if name.rpartition("/")[0] == prefix.rstrip("/"))
    return {task: Stored((about,), (table,), prefix, own)} if own else {}


def answered_tasks(
    predictions: Mapping[str, Floats],
    truth: Mapping[str, Truth],
    labels: Mapping[str, Labels],
    decisions: Mapping[str, Decision],
    metrics: Collection[str],
    *,
    several: bool,
) -> Sample:
    """What was predicted of labelled rows as a sample.

    Args:
        predictions: Task -> ``[rows, classes]``.
        truth: Task -> the labels of the rows.
        labels: Task -> its classes.
        decisions: Task -> its thresholds.
        metrics: Those that are asked for.
        several: Whether their names begin with the task.
    """
    found: dict[str, Block] = {}
    for task, label in labels.items():
        known = is_known(truth[task])
        table = task_details(label.kind, known, truth[task][known], predictions[task][known])
        thresholds = decisions.get(task, UNTOUCHED).thresholds
        about = {"kind": label.kind, "threshold": list(thresholds) if len(thresholds) > 1 else thresholds[0]}
        found |= task_block(task, about, table, metrics, several=several)
    return found


def _means(table: pa.Table, metrics: Collection[str], prefix: str) -> Means:
    own = [name for name in table.column_names if f"{prefix}{name}" in metrics]
    return Means({f"{prefix}{name}": table.column(name).to_numpy() for name in own})

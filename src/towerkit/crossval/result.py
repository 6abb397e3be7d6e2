"""What cross-validation found: the figures of each fold, their mean with an interval, and how far folds and seeds spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.evaluation.prediction import SEGMENTS
from towerkit.evaluation.result import Evaluation
from towerkit.evaluation.samples import Block, Means, Stored, sample_of
from towerkit.metrics.intervals import Interval, default_resamples, intervals_of, resample_counts
from towerkit.metrics.ranking import RANKING_METRICS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One fold under one seed."""

    name: str
    seed: int
    evaluation: Evaluation
    sizes: Mapping[str, int]
    """Rows of each part."""
    held_out: NDArray[np.int64]
    """The example rows behind its figures."""
    baselines: Mapping[str, Mapping[str, float]]
    """Baseline -> metric -> value."""
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        metrics = {name: each.as_dict() for name, each in self.evaluation.metrics.items()}
        about = {"fold": self.name, "seed": self.seed, "rows": dict(self.sizes), "seconds": round(self.seconds, 2)}
        return {**about, "metrics": metrics, "baselines": {name: dict(own) for name, own in self.baselines.items()}}


@dataclass(frozen=True)
class Spread:
    """How far the folds, or the seeds, lie apart."""

    mean: float
    deviation: float
    """Of the single ones; nan where there is but one."""
    least: float
    most: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: None if value != value else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class CrossValidation:
    """Every fold and what they say together."""

    plan: Mapping[str, Any]
    seeds: Sequence[int]
    folds: Sequence[Measured]
    pooled: Mapping[str, Interval]
    """Metric -> the mean over folds, with its bootstrap interval over the held-out queries or rows of all folds."""
    spread: Mapping[str, Spread]
    """Metric -> over all folds."""
    by_seed: Mapping[str, Spread]
    """Metric -> over the means of each seed."""
    notes: Sequence[str] = ()

    @property
    def baselines(self) -> dict[str, dict[str, float]]:
        """Baseline -> metric -> mean over the folds."""
        names = dict.fromkeys(name for fold in self.folds for name in fold.baselines)
        found: dict[str, dict[str, float]] = {}
        for name in names:
            own = [fold.baselines[name] for fold in self.folds if name in fold.baselines]
            metrics = dict.fromkeys(metric for each in own for metric in each)
            found[name] = {m: float(np.mean([each[m] for each in own if m in each])) for m in metrics}
        return found

    def as_dict(self) -> dict[str, Any]:
        """The shape that ``crossval --json`` promises."""
        return {
            "kind": "crossval",
            "plan": dict(self.plan),
            "seeds": list(self.seeds),
            "protocol": {
                "interval": "95 % percentile bootstrap over the held-out queries or rows of all folds together"
            },
            "metrics": {name: each.as_dict() for name, each in self.pooled.items()},
            "spread": {name: each.as_dict() for name, each in self.spread.items()},
            "by_seed": {name: each.as_dict() for name, each in self.by_seed.items()},
            "baselines": self.baselines,
            "folds": [each.as_dict() for each in self.folds],
            "notes": list(self.notes),
        }


def together(
    plan: Mapping[str, Any], seeds: Sequence[int], folds: Sequence[Measured], notes: Sequence[str]
) -> CrossValidation:
    """What all folds say.

    Args:
        plan: In plain data.
        seeds: Of the repetitions.
        folds: Of every seed.
        notes: What should be known.
    """
    values = {name: [f.evaluation.metrics[name].value for f in folds] for name in folds[0].evaluation.metrics
              if all(name in fold.evaluation.metrics for fold in folds)}  # fmt: skip
    per_seed = {
        name: [float(np.mean([v for v, fold in zip(own, folds, strict=True) if fold.seed == seed])) for seed in seeds]
        for name, own in values.items()
    }
    pooled = pooled_intervals(folds)
    return CrossValidation(
        plan,
        seeds,
        folds,
        {name: pooled[name] for name in values if name in pooled},
        {name: _spread(own) for name, own in values.items()},
        {name: _spread(own) for name, own in per_seed.items()},
        notes,
    )


def _spread(values: Sequence[float]) -> Spread:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return Spread(float(np.mean(values)), deviation, min(values), max(values))


def pooled_intervals(folds: Sequence[Measured], *, seed: int = 0) -> dict[str, Interval]:
    """The mean over folds of every figure of single queries or rows, with an interval.

    One resample draws queries (of a ranking) or rows (of a task) for all folds together: a query that is asked in several folds, or
    a row that is held out under several seeds, is drawn for all of them.

    Args:
        folds: With their evaluations.
        seed: Of the resamples.
    """
    blocks: dict[str, list[tuple[Block, pa.Array]]] = {}
    for fold in folds:
        for name, block in sample_of(fold.evaluation, _of_single(fold.evaluation)).items():
            blocks.setdefault(name, []).append((block, _units(name, block, fold)))
    found: dict[str, Interval] = {}
    for own in blocks.values():
        found |= _resampled(own, seed)
    return found


def _of_single(evaluation: Evaluation) -> list[str]:
    """The figures that are of single queries or rows, and not of all lists together."""
    ranks = evaluation.protocol["kind"] in ("ranking", "joint")
    tasks = evaluation.protocol.get("tasks", {})
    return [
        name
        for name in evaluation.metrics
        if not ranks
        or name.rpartition("/")[0] in tasks
        or (plain := name.rpartition("/")[2]) == "auc"
        or plain.partition("@")[0] in RANKING_METRICS
    ]


def _units(name: str, block: Block, fold: Measured) -> pa.Array:
    """What each line of a block is: a query's key, or the number of an example row."""
    if isinstance(block, Means):
        protocol = fold.evaluation.protocol
        table = (
            fold.evaluation.of(name).details["ranking"]
            if protocol["kind"] == "joint"
            else fold.evaluation.details["ranking"]
        )
        return table.column("query").combine_chunks()
    assert isinstance(block, Stored)
    assert name != SEGMENTS
    return pa.array(fold.held_out[block.tables[0].column("row").to_numpy()])


def _resampled(own: Sequence[tuple[Block, pa.Array]], seed: int) -> dict[str, Interval]:
    every = pa.chunked_array([units for _, units in own]).combine_chunks()
    coded = every.dictionary_encode()
    codes, count = coded.indices.to_numpy(zero_copy_only=False), len(coded.dictionary)
    places = np.split(codes, np.cumsum([len(units) for _, units in own])[:-1])
    parts = [(block, place) for (block, _), place in zip(own, places, strict=True)]
    values = _mean_over(parts, np.ones((1, count)))
    chunks = [_mean_over(parts, counts) for counts in resample_counts(count, default_resamples(count), seed)]
    draws = np.stack([np.concatenate([chunk[name] for chunk in chunks]) for name in values], axis=1)
    return intervals_of({name: float(each[0]) for name, each in values.items()}, draws, 0.95, count)


def _mean_over(parts: Sequence[tuple[Block, NDArray[np.int64]]], counts: Floats) -> dict[str, Floats]:
    """Metric -> ``[weightings]`` the mean over folds; nan where a fold got no unit at all."""
    each = []
    for block, place in parts:
        weights = counts[:, place]
        empty = weights.sum(axis=1) == 0
        figures = block.metrics(np.where(empty[:, None], 1.0, weights))
        each.append({name: np.where(empty, np.nan, value) for name, value in figures.items()})
    names = [name for name in each[0] if all(name in one for one in each)]
    return {name: np.mean([one[name] for one in each], axis=0) for name in names}

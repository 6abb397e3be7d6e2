"""A kept cross-validation: the figures of each fold, and of all held-out rows together."""

from __future__ import annotations

from collections.abc import Sequence

from towerkit.metrics.intervals import Interval
from towerkit.metrics.shown import at_largest_k, column_order, figure, headlines, metric_order
from towerkit.reporting.blocks import Block, Figures, Folded, Part, Section, Words
from towerkit.reporting.chart import Chart, Grid
from towerkit.reporting.charts import Row, intervals
from towerkit.reporting.kept.reading import Content, interval_of, number

_MOST_DRAWN = 30


def crossval_section(content: Content, anchor: str) -> Section:
    """Folds and pooled figures.

    Args:
        content: What ``towerkit crossval --out`` wrote.
        anchor: The name of the section.
    """
    folds, pooled = list(content["folds"]), content.get("metrics") or {}
    metrics = sorted({name for fold in folds for name in fold["metrics"]} | set(pooled), key=metric_order)
    charts = tuple(_chart(metric, content, f"{anchor}-{n}") for n, metric in enumerate(headlines(metrics)))
    how = ", ".join(
        f"{key} {value}" for key, value in (content.get("plan") or {}).items() if value not in (None, [], {})
    )
    words = [Words(f"{len(folds):,} folds{f': {how}' if how else ''}.")]
    notes = [Words(str(note), is_note=True) for note in content.get("notes") or ()]
    few = at_largest_k(metrics)
    rest = [Folded("Every figure of every fold", _folds(metrics, folds))]
    blocks: list[Block] = [*words, *notes, Figures(charts), _pooled(few, content), *rest]
    return Section(anchor, "Cross-validation", (Part("", tuple(blocks)),))


def _name(fold: Content, place: int) -> str:
    seed = f", seed {fold['seed']}" if "seed" in fold else ""
    return f"{fold.get('fold', place + 1)}{seed}"


def _chart(metric: str, content: Content, name: str) -> Chart:
    """Of the pooled figure, of each baseline and of each fold a row."""
    pooled, folds = (content.get("metrics") or {}).get(metric), content["folds"]
    rows = [Row("all folds", (interval_of(pooled),), 1)] if pooled else []
    baselines = content.get("baselines") or {}
    for baseline in sorted(baselines, key=column_order, reverse=True):
        value = baselines[baseline].get(metric)
        if value is not None:
            rows.append(Row(baseline, (Interval(float(value), float("nan"), float("nan"), 0),), 5))
    for place, fold in enumerate(folds[:_MOST_DRAWN]):
        rows.append(Row(_name(fold, place), (interval_of(fold["metrics"].get(metric)),), 0))
    about = "The figure of each fold on the rows that it held out, with its interval; on top that of all of them together, and "
    about += "the mean of each baseline over the folds."
    return intervals(f"{metric} over folds", rows, about=about, unit=metric, name=name)


def _pooled(metrics: Sequence[str], content: Content) -> Grid:
    pooled, spread, baselines = (content.get(key) or {} for key in ("metrics", "spread", "baselines"))
    names = sorted(baselines, key=column_order)
    rows = []
    for metric in metrics:
        own = spread.get(metric) or {}
        ends = f"{number(own.get('least'))} to {number(own.get('most'))}" if own else ""
        others = (number(baselines[name].get(metric)) for name in names)
        rows.append((metric, figure(interval_of(pooled.get(metric))), number(own.get("deviation")), ends, *others))
    return Grid(("metric", "all folds", "deviation of folds", "folds lie", *names), tuple(rows))


def _folds(metrics: Sequence[str], folds: Sequence[Content]) -> Grid:
    names = [_name(fold, place) for place, fold in enumerate(folds)]
    rows = tuple((metric, *(figure(interval_of(fold["metrics"].get(metric))) for fold in folds)) for metric in metrics)
    return Grid(("metric", *names), rows)

"""A kept cross-validation: the figures of each fold, and of all held-out rows together."""

from __future__ import annotations

from collections.abc import Sequence

from towerkit.metrics.shown import figure, headlines, metric_order
from towerkit.reporting.blocks import Block, Figures, Part, Section, Words
from towerkit.reporting.chart import Chart, Grid
from towerkit.reporting.charts import Row, intervals
from towerkit.reporting.kept.reading import Content, interval_of

_MOST_DRAWN = 30


def crossval_section(content: Content, anchor: str) -> Section:
    """Folds and pooled figures.

    Args:
        content: What ``towerkit crossval --out`` wrote.
        anchor: The name of the section.
    """
    folds, pooled = list(content["folds"]), content.get("pooled") or {}
    metrics = sorted({name for fold in folds for name in fold["metrics"]} | set(pooled), key=metric_order)
    charts = tuple(
        _chart(metric, folds, pooled, f"{anchor}-{place}") for place, metric in enumerate(headlines(metrics))
    )
    words = Words(f"{len(folds):,} folds{f', {_how(content)}' if _how(content) else ''}.")
    blocks: list[Block] = [words, Figures(charts), _table(metrics, folds, pooled)]
    return Section(anchor, "Cross-validation", (Part("", tuple(blocks)),))


def _how(content: Content) -> str:
    found = content.get("scheme") or content.get("how") or content.get("split")
    if isinstance(found, dict):
        return ", ".join(f"{key} {value}" for key, value in found.items() if value not in (None, [], {}, ""))
    return str(found or "")


def _name(fold: Content, place: int) -> str:
    seed = f", seed {fold['seed']}" if "seed" in fold else ""
    return str(fold.get("name") or f"fold {fold.get('fold', place + 1)}{seed}")


def _chart(metric: str, folds: Sequence[Content], pooled: Content, name: str) -> Chart:
    rows = [Row("all folds", (interval_of(pooled.get(metric)),), 1)] if metric in pooled else []
    rows += [
        Row(_name(fold, place), (interval_of(fold["metrics"].get(metric)),), 0)
        for place, fold in enumerate(folds[:_MOST_DRAWN])
    ]
    about = (
        "The figure of each fold on the rows that it held out, with its interval; on top that of all of them together."
    )
    return intervals(f"{metric} over folds", rows, about=about, unit=metric, name=name)


def _table(metrics: Sequence[str], folds: Sequence[Content], pooled: Content) -> Grid:
    names = [_name(fold, place) for place, fold in enumerate(folds)]
    rows = tuple(
        (
            metric,
            figure(interval_of(pooled.get(metric))),
            *(figure(interval_of(fold["metrics"].get(metric))) for fold in folds),
        )
        for metric in metrics
    )
    return Grid(("metric", "all folds", *names), rows, "Every figure")

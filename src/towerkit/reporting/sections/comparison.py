"""Several Runs beside each other: their figures, their cost, and what differs by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from towerkit.core.errors import RunError
from towerkit.evaluation.compare import Comparison, compare_runs
from towerkit.metrics.intervals import Interval
from towerkit.metrics.shown import at_largest_k, between, figure, headlines, metric_order
from towerkit.metrics.significance import Difference
from towerkit.reporting.blocks import Block, Figures, Folded, Part, Section, Words
from towerkit.reporting.chart import Grid, slug
from towerkit.reporting.charts import Row, intervals
from towerkit.reporting.sections.cost import size_rows
from towerkit.reporting.subject import Subject


def comparison_section(subjects: Sequence[Subject]) -> Section:
    """Every Run beside the first one.

    Args:
        subjects: Two or more.
    """
    first, *others = subjects
    metrics = dict.fromkeys(name for each in subjects for name in each.run.evaluation.metrics)
    names = sorted(metrics, key=metric_order)
    few = at_largest_k(names)
    rest = [Folded("Every figure, at every k", _side_by_side(subjects, names))] if len(few) < len(names) else []
    parts = [Part("Side by side", (_side_by_side(subjects, few), *rest, _costs(subjects)))]
    for other in others:
        title = f"{other.name} against {first.name}"
        try:
            found = compare_runs(first.run.evaluation, {other.name: other.run.evaluation})[other.name]
        except RunError as error:
            parts.append(Part(title, (Words(f"Not compared: {error}", is_note=True),)))
            continue
        parts.append(Part(title, tuple(_differences(found, first.name, other.name))))
    return Section("comparison", "Comparison", tuple(parts))


def _side_by_side(subjects: Sequence[Subject], metrics: Sequence[str]) -> Grid:
    rows = tuple(
        (metric, *(figure(each.run.evaluation.metrics.get(metric)) for each in subjects)) for metric in metrics
    )
    return Grid(("metric", *(each.name for each in subjects)), rows, "Figures of each Run, on its own held-out part")


def _costs(subjects: Sequence[Subject]) -> Grid:
    columns = [dict(size_rows(each)) for each in subjects]
    rows = (
        ("kind", *(each.run.kind for each in subjects)),
        *((name, *(each[name] for each in columns)) for name in columns[0]),
    )
    return Grid(("cost", *(each.name for each in subjects)), tuple(rows), "Cost of each Run")


def _differences(found: Comparison, first: str, second: str) -> list[Block]:
    shown = headlines(found.metrics)
    rows = [
        Row(metric, (as_interval(found.metrics[metric]),), 0 if found.metrics[metric].is_clear else 5)
        for metric in shown
    ]
    for segment, values in found.segments.items():
        for metric in shown:
            rows += [
                Row(f"{segment} {value}: {metric}", (as_interval(pairs[metric]),), 0 if pairs[metric].is_clear else 5)
                for value, pairs in values.items()
                if metric in pairs
            ]
    about = f"How much {second} has more than {first}, with paired bootstrap intervals. A round mark is a clear "
    about += "difference, a square one is within chance after correction for the number of tests."
    title = f"{second} minus {first}"
    chart = intervals(title, rows, about=about, unit="difference", zero=True, name=f"comparison-{slug(second)}")
    return [Figures((chart,)), _table(found.metrics)]


def as_interval(pair: Difference) -> Interval:
    """A difference as a figure that can be drawn."""
    return Interval(pair.difference, pair.low, pair.high, pair.n)


def _table(pairs: Mapping[str, Difference]) -> Grid:
    head = ("metric", "n", "first", "second", "difference", "effect", "p", "p (Holm)", "verdict")
    rows = []
    for metric in sorted(pairs, key=metric_order):
        pair = pairs[metric]
        difference = f"{pair.difference:+.4f} {between(pair.low, pair.high)}"
        rows.append(
            (
                metric,
                f"{pair.n:,}",
                *map(_number, (pair.first, pair.second)),
                difference if pair.difference == pair.difference else "undefined",
                f"{pair.effect:+.3f}" if pair.effect == pair.effect else "undefined",
                *map(_number, (pair.p_value, pair.p_holm)),
                "clear" if pair.is_clear else "within chance",
            )
        )
    return Grid(head, tuple(rows), "Paired differences")


def _number(value: float) -> str:
    return f"{value:.4f}" if value == value else "undefined"

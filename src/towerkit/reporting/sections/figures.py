"""What was measured: figures with intervals beside the baselines, over all rows and within segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from towerkit.evaluation.result import Evaluation
from towerkit.metrics.shown import at_largest_k, column_order, figure, headlines, metric_order, value_place
from towerkit.metrics.tasks import higher_is_better
from towerkit.reporting.blocks import Block, Figures, Folded, Part, Section, Words
from towerkit.reporting.chart import Chart, Grid
from towerkit.reporting.charts import Row, intervals
from towerkit.reporting.subject import Subject

_MOST_VALUES = 16
"""Values of a segment that are drawn; all stand in the table."""


def figures_section(subject: Subject) -> Section:
    """The headline figures as a drawing, all of them as a table."""
    columns = models_of(subject)
    evaluation = subject.run.evaluation
    charts = tuple(_against(subject, metric, columns) for metric in headlines(evaluation.metrics))
    names = sorted(evaluation.metrics, key=metric_order)
    words = Words(f"In brackets: {evaluation.protocol.get('interval', 'the interval')}.")
    few = at_largest_k(names)
    rest = [Folded("Every figure, at every k", _table(names, columns, evaluation))] if len(few) < len(names) else []
    blocks: list[Block] = [Figures(charts), words, _table(few, columns, evaluation), *rest]
    return Section(subject.anchor("figures"), subject.title("Figures"), (Part("", tuple(blocks)), *_fusions(subject)))


def _table(names: Sequence[str], columns: Mapping[str, Evaluation], evaluation: Evaluation) -> Grid:
    rows = tuple(
        (metric, f"{evaluation.metrics[metric].n:,}", *(figure(each.metrics.get(metric)) for each in columns.values()))
        for metric in names
    )
    return Grid(("metric", "n", *columns), rows)


def models_of(subject: Subject) -> dict[str, Evaluation]:
    """Baselines and members from the simplest on, and the model behind them."""
    others = subject.run.baselines
    return {
        **{name: others[name] for name in sorted(others, key=column_order)},
        subject.run.kind: subject.run.evaluation,
    }


def _against(subject: Subject, metric: str, columns: Mapping[str, Evaluation]) -> Chart:
    model = subject.run.kind
    rows = [
        Row(name, (each.metrics[metric],), 0 if name == model else 5)
        for name, each in reversed(list(columns.items()))
        if metric in each.metrics
    ]
    about = "The model (first) and its baselines on the same rows, each with its interval."
    return intervals(metric, rows, about=about, unit=metric, name=subject.anchor(f"figure {metric}"))


def _fusions(subject: Subject) -> list[Part]:
    found = subject.run.fusions
    if found is None:
        return []
    head, cells = found.lines()
    grid = Grid(tuple(head), tuple(map(tuple, cells)))
    return [Part("How the fusion was chosen", (Words(found.sentence()), grid))]


def segments_section(subject: Subject) -> Section | None:
    """A drawing for each segment and headline figure; None where nothing was measured apart."""
    evaluation, columns = subject.run.evaluation, models_of(subject)
    parts = []
    for segment, values in evaluation.segments.items():
        blocks: list[Block] = []
        charts = []
        for metric in headlines(evaluation.metrics):
            order = sorted((value for value in values if metric in values[value]), key=value_place)
            charts.append(_segment(subject, segment, metric, order, columns))
            rows = tuple(
                (
                    value,
                    f"{values[value][metric].n:,}",
                    *(_cell(each, segment, value, metric) for each in columns.values()),
                )
                for value in order
            )
            blocks.append(Folded(f"{metric} by {segment}, every model", Grid((segment, "n", *columns), rows)))
        parts.append(Part(f"By {segment}", (Figures(tuple(charts)), *blocks)))
    if not parts:
        return None
    return Section(subject.anchor("segments"), subject.title("Segments"), tuple(parts))


def _cell(evaluation: Evaluation, segment: str, value: str, metric: str) -> str:
    return figure(evaluation.segments.get(segment, {}).get(value, {}).get(metric))


def _segment(subject: Subject, segment: str, metric: str, order: list[str], columns: Mapping[str, Evaluation]) -> Chart:
    """The model beside the baseline that is best over all rows."""
    model = subject.run.evaluation
    rival = best_baseline(subject, metric)
    shown = [model] if rival is None else [model, columns[rival]]
    rows = [
        Row(value, tuple(each.segments.get(segment, {}).get(value, {}).get(metric) for each in shown))
        for value in order[:_MOST_VALUES]
    ]
    names = (subject.run.kind, rival) if rival is not None else ()
    about = "The model within each value of the segment" + (f", beside the best baseline, {rival}." if rival else ".")
    title = f"{metric} by {segment}"
    return intervals(title, rows, about=about, series=names, unit=metric, name=subject.anchor(title))


def best_baseline(subject: Subject, metric: str) -> str | None:
    """The name of the baseline that is best by one figure; None where none was measured."""
    found = {
        name: each.metrics[metric].value
        for name, each in subject.run.baselines.items()
        if metric in each.metrics and each.metrics[metric].value == each.metrics[metric].value
    }
    if not found:
        return None
    return (max if higher_is_better(metric) else min)(found, key=lambda name: found[name])

"""What people see: tables on standard output, progress on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from towerkit.grid import Grid
from towerkit.metrics.shown import between, column_order, figure, headlines, metric_order, value_place
from towerkit.metrics.significance import ALPHA, lowest_corrected
from towerkit.training.progress import Silent

if TYPE_CHECKING:
    import pyarrow as pa

    from towerkit.data.dataset import Dataset
    from towerkit.data.schema import Schema
    from towerkit.data.stream.log import Log
    from towerkit.evaluation.compare import Comparison
    from towerkit.evaluation.result import Evaluation
    from towerkit.evaluation.robustness import Curve
    from towerkit.index.trials import Trial
    from towerkit.metrics.significance import Difference
    from towerkit.presets.fusion_table import FusionTable

_WIDTH = None if sys.stdout.isatty() else 160
"""Tables in files and pipes are not squeezed into 80 columns."""
out = Console(highlight=False, width=_WIDTH)
err = Console(stderr=True, highlight=False, width=_WIDTH)

_MOST_OF_A_LIST = 4
"""Elements of a list that a cell shows: a vector has hundreds."""
_EVERY_S = 2.0
"""Seconds between two progress lines where there is no terminal to redraw."""


class _Live:
    """A line that is drawn again on a terminal, and printed every two seconds elsewhere; on standard error.

    Args:
        text: What the line says until it is told otherwise.
        quiet: Print nothing.
    """

    def __init__(self, text: str, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.printed = time.perf_counter()
        self._status = err.status(text) if err.is_terminal and not quiet else None

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()

    def draw(self, line: str, *, is_last: bool = False) -> None:
        """Show the line: at once on a terminal, elsewhere if it is time, or the last one."""
        if self._status:
            self._status.update(escape(line))
        elif not self.quiet and (is_last or time.perf_counter() - self.printed >= _EVERY_S):
            self.printed = time.perf_counter()
            note(line)


class ConsoleProgress(_Live, Silent):
    """A live line per training on a terminal, a plain line every two seconds elsewhere.

    Args:
        quiet: Print nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__("training", quiet=quiet)
        self.started = time.perf_counter()
        self.printed = -_EVERY_S  # the first epoch is told at once
        self.best = ""

    def waits(self, what: str) -> None:
        """Say why nothing moves."""
        self.draw(what, is_last=True)

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """Show one epoch."""
        if self.quiet:
            return
        if record["epoch"] == 1:
            self.best = ""
        figures = [
            (name.removeprefix("validation/"), value)
            for name, value in record.items()
            if name.startswith("validation/")
        ]
        shown = " · ".join(f"{name} {value:.4f}" for name, value in _headline(figures))
        if is_best:
            self.best = f" · best epoch {record['epoch']}"
        has_loss = record["loss"] == record["loss"]  # a closed form has none
        line = f"{stage} epoch {record['epoch']}/{epochs} · " + (
            f"loss {record['loss']:.4f}" if has_loss else "no loss"
        )
        line += f" · validation {shown}" if shown else ""
        line += f"{self.best} · {time.perf_counter() - self.started:.0f} s"
        self.draw(line)


class Counter(_Live):
    """How many of all are done: a live line on a terminal, a plain line every two seconds elsewhere; on standard error.

    Args:
        what: What is counted.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def tell(self, done: int, total: int) -> None:
        """Show the count."""
        self.draw(f"{done:,} of {total:,} {self.what}", is_last=done == total)


def _headline(figures: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """The one or two figures worth a line: NDCG and recall at the largest k, or the losses."""
    chosen = [pair for pair in figures if pair[0].startswith(("ndcg@", "recall@"))]
    if not chosen:
        return [pair for pair in figures if pair[0] == "loss" or len(figures) > 2]
    deepest = max(int(name.partition("@")[2]) for name, _ in chosen)
    return [pair for pair in chosen if pair[0].endswith(f"@{deepest}")]


def say(text: str = "") -> None:
    """A line on standard output, as it is."""
    out.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """A line on standard error, as it is."""
    err.print(text, markup=False, soft_wrap=True)


def heading(text: str) -> None:
    """A heading on standard output."""
    out.print()
    out.print(Text(text, style="bold"))


def show_schema(name: str, schema: Schema, *, console: Console = out) -> None:
    """The columns of a table."""
    console.print(name, markup=False, soft_wrap=True)
    table = Grid(["column", "role", "type", "missing", "distinct", "example"])
    for row in schema.rows():
        table.add(*row)
    table.show(console)


def show_dataset(dataset: Dataset | Log, *, console: Console = err) -> None:
    """Every table's columns, and the sizes of the parts."""
    from towerkit.data.schema import Schema
    from towerkit.data.stream.log import Log

    if isinstance(dataset, Log):
        title = f"example: {dataset.name}, {dataset.num_rows:,} rows, streamed from {dataset.folder}"
        show_schema(title, Schema(dataset.columns), console=console)
        _show_split(dataset, console)
        return
    for name, schema in dataset.schemas.items():
        source = dataset.examples if name == "example" else dataset.entities[name].table
        show_schema(f"{name}: {source.name}, {source.data.num_rows:,} rows", schema, console=console)
        for text in source.notes:
            console.print(f"note: {text}", markup=False, soft_wrap=True)
    _show_split(dataset, console)


def _show_split(dataset: Dataset | Log, console: Console) -> None:
    sizes = dataset.parts.sizes()
    settings = {key: value for key, value in dataset.split.items() if key not in _TOLD_APART}
    split = ", ".join(f"{key} {value}" for key, value in settings.items())
    parts = " · ".join(f"{part} {size:,}" for part, size in sizes.items())
    console.print(f"split: {split} -> {parts}", markup=False, soft_wrap=True)
    for key, what in _TOLD_APART.items():
        told = dataset.split.get(key)
        for line in told if isinstance(told, list) else [_listed(told)] if told else []:
            console.print(f"{what}: {line}", markup=False, soft_wrap=True)


_TOLD_APART = {"left_out": "rows left out", "learned": "training rows", "warnings": "warning"}
"""Keys of a split that have a line of their own -> what it begins with."""


def _listed(told: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in told.items())


def show_metrics(
    model: Evaluation, others: Mapping[str, Evaluation], *, name: str = "model", only: Sequence[str] = ()
) -> None:
    """A row per metric, a column per model, each figure with its interval.

    Args:
        model: The model's evaluation; its column is the last one.
        others: Baselines and members, measured on the same rows.
        name: What to call the model.
        only: Show these metrics; all when empty.
    """
    columns = {**{other: others[other] for other in sorted(others, key=column_order)}, name: model}
    table = Grid(["metric", *columns])
    for metric in only or sorted(model.metrics, key=metric_order):
        cells = (evaluation.metrics.get(metric) for evaluation in columns.values())
        table.add(metric, *(figure(cell) for cell in cells))
    table.show(out)


def show_segments(model: Evaluation, others: Mapping[str, Evaluation], *, name: str = "model") -> None:
    """A table per segment and task: a row per value, with the headline figure of each model; the others are in the JSON.

    Args:
        model: The model's evaluation; its column is the last one.
        others: Baselines and members, measured on the same rows.
        name: What to call the model.
    """
    columns = {**{other: others[other] for other in sorted(others, key=column_order)}, name: model}
    for segment, values in model.segments.items():
        for metric in headlines(model.metrics):
            table = Grid([segment, "n", *columns])
            for value in sorted((value for value in values if metric in values[value]), key=value_place):
                cells = (each.segments.get(segment, {}).get(value, {}).get(metric) for each in columns.values())
                table.add(value, f"{values[value][metric].n:,}", *(figure(cell) for cell in cells))
            say(f"{metric} by {segment}")
            table.show(out)


def show_robustness(curves: Mapping[str, Curve]) -> None:
    """A table per headline figure: a row per group, a column per share of the rows that lose it.

    Args:
        curves: Group -> its curve.
    """
    first = next(iter(curves.values()))
    for metric in headlines(first.metrics[0]):
        table = Grid(["without", *(f"{share:.0%}" for share in first.shares)])
        for name, curve in curves.items():
            table.add(name, *(figure(metrics.get(metric)) for metrics in curve.metrics))
        say(
            f"{metric}, by the share of rows whose columns are {'gone' if first.loss == 'blank' else 'those of other rows'}"
        )
        table.show(out)


def show_fusions(found: FusionTable) -> None:
    """Print what a fusion was chosen from."""
    head, cells = found.lines()
    table = Grid(head)
    for row in cells:
        table.add(*row)
    table.show(out)
    say(found.sentence())


def show_trials(trials: Sequence[Trial], picked: int, k: int, queries: int) -> None:
    """How much each index finds, how fast, and in how much memory.

    Args:
        trials: What was measured.
        picked: The place of the one that was taken.
        k: Hits that recall looks at.
        queries: How many were asked.
    """
    table = Grid(
        ["", "index", "width", "numbers", "effort", f"recall@{k}", "one query", "p99", "of 64, each", "MiB", "built in"]
    )
    for place, trial in enumerate(trials):
        table.add(
            ">" if place == picked else "",
            trial.factory or trial.kind,
            str(trial.dim),
            trial.dtype,
            "" if trial.effort is None else str(trial.effort),
            f"{trial.recall:.4f}",
            *(f"{seconds * 1e3:.3f} ms" for seconds in (trial.single_s, trial.p99_s, trial.batch_s)),
            f"{trial.bytes / 2**20:,.1f}",
            f"{trial.build_s:,.1f} s",
        )
    table.show(out)
    say(f"recall against exact search, with {queries:,} known queries; > was taken")


def show_estimates(estimates: Mapping[str, Mapping[str, Any]]) -> None:
    """What a training will need, a table for each."""
    for name, found in estimates.items():
        table = Grid([name, ""])
        for part, number in found["parameters"].items():
            table.add(f"parameters of {part}", f"{number:,}")
        table.add("parameters", f"{sum(found['parameters'].values()):,}")
        for key in ("weight_bytes", "optimizer_bytes", "batch_bytes", "peak_memory_bytes"):
            if found[key] is not None:
                table.add(key.removesuffix("_bytes").replace("_", " "), f"{found[key] / 2**20:,.1f} MiB")
        table.add("steps", f"{found['steps_per_epoch']:,} per epoch, at most {found['epochs']:,} epochs")
        table.add("reading and building", f"{found['prepare_s']:,.1f} s")
        table.add("a step", f"{found['step_s'] * 1000:,.1f} ms (median of a few)")
        table.add("an epoch", f"{found['epoch_s']:,.1f} s, and its validation")
        table.add("all epochs", f"{found['total_s']:,.0f} s without early stopping; a refit takes about as long again")
        table.show(out)


def show_tasks(evaluation: Evaluation) -> None:
    """What stands behind the figures of each task: its confusion matrix and its calibration."""
    for task, matrix in evaluation.confusion.items():
        show_confusion(task, matrix, evaluation.protocol["tasks"][task]["classes"])
    for task, bins in evaluation.calibration.items():
        show_calibration(task, bins)


def show_confusion(task: str, matrix: Sequence[Any], classes: Sequence[str]) -> None:
    """True classes as rows, predicted ones as columns; of labels that may stand together a row for each.

    Args:
        task: Its name.
        matrix: ``[classes, classes]``, or ``[labels, 2, 2]``.
        classes: Their names.
    """
    say(f"{task}: confusion")
    if matrix and isinstance(matrix[0][0], Sequence):
        table = Grid(["label", "has it", "predicted", "both", "precision", "recall"])
        for name, ((_, wrong), (missed, both)) in zip(classes, matrix, strict=True):
            counts = (f"{count:,}" for count in (missed + both, wrong + both, both))
            table.add(name, *counts, _share(both, wrong + both), _share(both, missed + both))
    else:
        table = Grid(["true \\ predicted", *classes])
        for name, row in zip(classes, matrix, strict=True):
            table.add(name, *(f"{count:,}" for count in row))
    table.show(out)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.4f}" if whole else "undefined"


def show_calibration(task: str, bins: Sequence[Mapping[str, float]]) -> None:
    """A row per bin of probability: what was said, what came true, and of how many statements."""
    say(f"{task}: calibration")
    table = Grid(["probability", "said", "came true", "n"])
    for each in bins:
        band = f"{each['low']:.1f} to {each['high']:.1f}"
        table.add(band, f"{each['predicted']:.4f}", f"{each['observed']:.4f}", f"{each['n']:,}")
    table.show(out)


def show_comparison(comparison: Comparison, first: str, second: str) -> None:
    """A row per metric, then the headline metric within each segment."""
    metrics = sorted(comparison.metrics, key=metric_order)
    say(f"first: {first} · second: {second}")
    _show_differences("metric", {name: comparison.metrics[name] for name in metrics})
    for segment, values in comparison.segments.items():
        for metric in _headline_of(metrics):
            rows = {value: pairs[metric] for value, pairs in values.items() if metric in pairs}
            _show_differences(f"{metric} by {segment}", rows)
    for place, reason in comparison.left_out.items():
        note(f"not compared within {place}: {reason}")


def _headline_of(metrics: Sequence[str]) -> list[str]:
    """The first figure of each task, at its largest k: what a segment's table shows."""
    found: dict[str, str] = {}
    for metric in metrics:
        task, _, plain = metric.rpartition("/")
        if task not in found or plain.partition("@")[0] == found[task].rpartition("/")[2].partition("@")[0]:
            found[task] = metric
    return list(found.values())


def _show_differences(what: str, differences: Mapping[str, Difference]) -> None:
    """Both figures, their difference with its interval, and whether it is more than chance."""
    table = Grid([what, "n", "first", "second", "difference", "effect", "p", "p (Holm)", "verdict"])
    for name, pair in differences.items():
        table.add(
            name,
            f"{pair.n:,}",
            _number(pair.first),
            _number(pair.second),
            f"{pair.difference:+.4f} {between(pair.low, pair.high)}"
            if pair.difference == pair.difference
            else "undefined",
            _number(pair.effect, "+.3f"),
            _number(pair.p_value),
            _number(pair.p_holm),
            "clear" if pair.is_clear else "within chance",
        )
    table.show(out)


def _number(value: float, form: str = ".4f") -> str:
    return f"{value:{form}}" if value == value else "undefined"


def comparison_line(found: Mapping[str, Comparison]) -> str:
    """How the tests were made, as one line for people."""
    pairs = [pair for each in found.values() for pair in each.pairs()]
    corrected = (
        "one test, nothing to correct" if len(pairs) == 1 else f"p (Holm): corrected for all {len(pairs):,} tests above"
    )
    hidden = " and in --json" if any(each.segments for each in found.values()) else ""
    least = lowest_corrected(pairs)
    if least >= ALPHA:
        hidden += f", of which none can come below {least:.3g}: name the metrics that count with --metric"
    return (
        f"difference: with its paired bootstrap interval · effect: in standard deviations of single differences · p: paired "
        f"randomization · {corrected}{hidden} · clear: the interval is off zero and p (Holm) below {ALPHA}"
    )


def show_table(data: pa.Table, *, limit: int = 50) -> None:
    """The first rows of an answer."""
    table = Grid(data.column_names)
    for row in data.slice(0, limit).to_pylist():
        table.add(*map(_cell, row.values()))
    table.show(out)
    if data.num_rows > limit:
        out.print(f"… {data.num_rows - limit:,} more rows; --out FILE writes all of them, --json prints them")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        shown = ", ".join(_cell(one) for one in value[:_MOST_OF_A_LIST])
        return f"[{shown}, … {len(value):,} in all]" if len(value) > _MOST_OF_A_LIST else f"[{shown}]"
    return f"{value:.4f}" if isinstance(value, float) else str(value)

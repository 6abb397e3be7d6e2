"""What a model costs: to train, to keep, and to ask."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median

import torch

from towerkit.data.table import Table
from towerkit.ensembles.late import LateFusion
from towerkit.golden import sample_rows
from towerkit.models.answer import TaskPredictor
from towerkit.reporting.blocks import Part, Section, Words
from towerkit.reporting.chart import Grid
from towerkit.reporting.sections.embedding_map import held_out_table
from towerkit.reporting.sections.learning import history_of
from towerkit.reporting.subject import Subject
from towerkit.run_writer import num_parameters

_ONE_BY_ONE, _AT_ONCE, _REPEATS = 20, 1000, 5


def cost_section(subject: Subject, asked: Mapping[str, Sequence[float]], *, measure: bool) -> Section:
    """Training seconds, parameters, bytes and, measured now, the time of an answer.

    Args:
        subject: Any Run.
        asked: What was asked for the examples -> seconds of each answer.
        measure: Whether times of answers are told.
    """
    rows = [*size_rows(subject), *_stages(subject)]
    parts = [Part("", (Grid(("cost", ""), tuple(rows)),))]
    threads = torch.get_num_threads()
    if measure:
        timed = _answers(asked) + _predictions(subject)
        words = f"Measured while this report was written: on {platform.machine()} with {threads} thread{'s' * (threads > 1)}, "
        words += "in this process, model loaded, first call left out; other work on the machine counts too."
        parts.append(
            Part("Time of an answer", (Words(words), Grid(("asked", "median", "slowest", "calls"), tuple(timed))))
        )
    return Section(subject.anchor("cost"), subject.title("Cost"), tuple(parts))


def size_rows(subject: Subject) -> list[tuple[str, str]]:
    """Seconds of the training, learned numbers, and bytes."""
    files = subject.run.manifest.files
    model = sum(entry.bytes for name, entry in files.items() if name.startswith("model/"))
    seconds = subject.run.manifest.extra.get("seconds")
    return [
        ("trained and evaluated in", "unknown" if seconds is None else f"{seconds:,.1f} s"),
        ("learned numbers", f"{num_parameters(subject.run.model):,}"),
        ("files of the model", _bytes(model)),
        ("files of the Run", _bytes(sum(entry.bytes for entry in files.values()))),
    ]


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def _stages(subject: Subject) -> list[tuple[str, str]]:
    """Epochs of each stage and what they took; a record says what its stage has taken so far."""
    found: dict[str, dict[str, float]] = {}
    epochs: dict[str, int] = {}
    for record in history_of(subject):
        stage = str(record["stage"])
        whose, colon, last = stage.rpartition(": ")
        name = f"{whose.partition(', ')[0]}, folds: {last}" if colon and ", fold " in whose else stage
        found.setdefault(name, {})[stage] = float(record.get("seconds") or 0.0)
        epochs[name] = epochs.get(name, 0) + 1
    return [(f"epochs of {name}", f"{epochs[name]:,} in {sum(each.values()):,.1f} s") for name, each in found.items()]


def _answers(asked: Mapping[str, Sequence[float]]) -> list[tuple[str, ...]]:
    return [
        _row(f"{what}, one known query, 10 answers", seconds[1:], 1)
        for what, seconds in asked.items()
        if len(seconds) > 1
    ]


def _predictions(subject: Subject) -> list[tuple[str, ...]]:
    model = subject.run.model
    if not isinstance(model, TaskPredictor | LateFusion):
        return []
    if subject.data is not None:
        table, what = held_out_table(subject.data), "held-out"
    else:
        table, what = Table(sample_rows(model), "made-up rows", 0), "made-up"
    one = replace(table, data=table.data.slice(0, 1), first_row=0)
    many = replace(table, data=table.data.slice(0, _AT_ONCE), first_row=0)
    found = [_row(f"predict, one {what} row", _timed(lambda: model.predict(one), _ONE_BY_ONE), 1)]
    count = many.data.num_rows
    if count > 1:
        found.append(
            _row(
                f"predict, {count:,} {what} rows at once, per row", _timed(lambda: model.predict(many), _REPEATS), count
            )
        )
    return found


def _timed(call: Callable[[], object], times: int) -> list[float]:
    """Seconds of each call; the first one is not counted."""
    found = []
    for _ in range(times + 1):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found[1:]


def _row(what: str, seconds: Sequence[float], rows: int) -> tuple[str, ...]:
    return what, f"{1e3 * median(seconds) / rows:.3f} ms", f"{1e3 * max(seconds) / rows:.3f} ms", f"{len(seconds):,}"

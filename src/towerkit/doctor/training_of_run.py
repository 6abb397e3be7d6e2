"""Did the training of a Run go well, and is what was measured likely to be true? From its history and its metrics alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from towerkit.doctor.finding import Finding
from towerkit.evaluation.prediction import SEGMENTS
from towerkit.evaluation.result import Evaluation
from towerkit.metrics.shown import headlines
from towerkit.metrics.tasks import higher_is_better
from towerkit.storage.hashes import read_json

Records = Sequence[Mapping[str, Any]]
_MOST_LOST, _MOST_GAP, _MOST_CONFLICT = 0.1, 1.5, 0.5
_TOO_GOOD, _REPEATS, _ONE_CLASS = 0.995, 0.01, 0.02


def history_findings(path: Path) -> list[Finding]:
    """Over-fitting and conflicts of gradients, from what was recorded after each epoch.

    Args:
        path: The Run's folder.
    """
    file = path / "history.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    records = [json.loads(line) for line in lines if line.strip()]
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        stages.setdefault(str(record.get("stage", "train")), []).append(record)
    found = []
    for stage, own in stages.items():
        where = "" if stage == "train" else f" ({stage})"
        found += [*_over_fitting(own, where), *_gap(own, where), *_conflicts(own, where)]
    return found


def _over_fitting(records: Records, where: str) -> list[Finding]:
    """How much of the best validation figure was gone at the last epoch, and whether the best was the first or the last."""
    metric = next(
        (n for n in ("validation/loss", *sorted(records[0], reverse=True)) if n.startswith("validation/") and n in records[-1]
         and ("ndcg@" in n or n == "validation/loss")), None)  # fmt: skip
    values = [record[metric] for record in records if metric is not None and record.get(metric) is not None]
    if metric is None or len(values) < 2:
        return []
    sign = -1.0 if metric.endswith("loss") else 1.0
    best = int(np.argmax([sign * value for value in values]))
    lost = sign * (values[best] - values[-1]) / max(abs(values[best]), 1e-12)
    step = ""
    if lost > _MOST_LOST:
        step = "it forgot what it knew: the best epoch was kept, but dropout, weight decay or a smaller dim would go further"
    elif best == 0 and len(values) > 2:
        step = "the first epoch was the best: lower the learning rate"
    elif best == len(values) - 1 and len(values) > 2:
        step = "it was still getting better at the end: give it more epochs (training.epochs)"
    told = f"({values[best]:.4f}), {max(lost, 0.0):.1%} was lost after it"
    measured = f"{metric} was best in epoch {best + 1} of {len(values)} {told}"
    normal = f"best somewhere in the middle, at most {_MOST_LOST:.0%} lost"
    return [Finding(f"over-fitting{where}", measured, normal, step, {"best_epoch": best + 1.0, "lost": float(lost)})]


def _gap(records: Records, where: str) -> list[Finding]:
    """The loss of validation rows beside that of training rows, at the best epoch; of rankings the two are no like."""
    if records[-1].get("validation/loss") is None or records[-1].get("loss") is None:
        return []
    best = min((r for r in records if r.get("validation/loss") is not None), key=lambda r: float(r["validation/loss"]))
    if (
        not best.get("loss") or best["loss"] <= 0 or best["validation/loss"] <= 0
    ):  # weighed by uncertainty, losses may be negative
        return []
    ratio = best["validation/loss"] / best["loss"]
    step = (
        "the model knows its training rows by heart: fewer weights, dropout, or more rows" if ratio > _MOST_GAP else ""
    )
    measured = f"validation loss {best['validation/loss']:.4f} beside {best['loss']:.4f} in training, {ratio:.2f} times"
    return [Finding(f"gap{where}", measured, f"below {_MOST_GAP:g} times", step, {"ratio": float(ratio)})]


def _conflicts(records: Records, where: str) -> list[Finding]:
    """How often the gradients of two tasks point against each other, where that was recorded."""
    found = []
    names = sorted({name for record in records for name in record if name.startswith("gradient_conflict/")})
    for name in names:
        pair = name.partition("/")[2]
        share = float(np.mean([r[name] for r in records if r.get(name) is not None]))
        cosine = float(
            np.mean([r[f"gradient_cosine/{pair}"] for r in records if r.get(f"gradient_cosine/{pair}") is not None])
        )
        step = ""
        if share > _MOST_CONFLICT:
            step = "the two tasks pull apart: balance: {kind: pcgrad} or cagrad, a backbone of experts (mmoe, ple), or two models"
        measured = f"the gradients of {pair.replace('.', ' and ')} conflict in {share:.0%} of the steps, mean cosine {cosine:+.2f}"
        values = {"share": share, "cosine": cosine}
        found.append(Finding(f"gradient conflict{where}", measured, f"at most {_MOST_CONFLICT:.0%}", step, values))
    return found


def measured_findings(path: Path, evaluation: Evaluation, baselines: Mapping[str, Evaluation]) -> list[Finding]:
    """Leakage, one answer for all rows, and whether the model beats its baselines, from what was measured.

    Args:
        path: The Run's folder.
        evaluation: Of the model.
        baselines: On the same rows.
    """
    found = [_too_good(evaluation), *_repeats(evaluation), *_split(path), *_beaten(evaluation, baselines)]
    about = evaluation.protocol.get("tasks", {})
    for task, table in evaluation.details.items():
        if task in about and task != SEGMENTS and about[task]["kind"] in ("binary", "multiclass", "ordinal"):
            found.append(_one_answer(task, table))
    return found


def _too_good(evaluation: Evaluation) -> Finding:
    good = {name: each.value for name, each in evaluation.metrics.items() if _bounded(name) and each.value > _TOO_GOOD}
    step = ""
    if good:
        step = "a column may know the answer: towerkit ablate --columns says which one, and what is only known afterwards must go"
    told = ", ".join(f"{name} {value:.4f}" for name, value in good.items()) or "no figure is nearly perfect"
    return Finding("leakage: too good", told, f"auc, accuracy and ndcg below {_TOO_GOOD}", step, good)


def _bounded(metric: str) -> bool:
    return metric.rpartition("/")[2].partition("@")[0] in ("auc", "accuracy", "ndcg")


def _repeats(evaluation: Evaluation) -> list[Finding]:
    repeats, rows = evaluation.protocol.get("repeats"), evaluation.protocol.get("rows")
    if repeats is None or not rows:
        return []
    share = repeats / rows
    step = (
        "the same rows are on both sides: split by what they belong to (split: {kind: grouped}), or remove copies"
        if share > _REPEATS
        else ""
    )
    measured = (
        f"{repeats:,} of {rows:,} held-out rows ({share:.1%}) equal a training row in all that is read and predicted"
    )
    return [Finding("leakage: repeats", measured, f"at most {_REPEATS:.0%}", step, {"share": share})]


def _split(path: Path) -> list[Finding]:
    data = read_json(path / "data.json")
    kind, has_time = data.get("split", {}).get("kind"), (data.get("roles") or {}).get("time") is not None
    if not has_time:
        return []
    mixes = kind in ("random", "per_query", "grouped", "leave_last") and data["split"].get("test") != "given"
    step = (
        "the model learned from rows that are later than those it was asked for: measure it with split: {kind: time}, too"
        if mixes
        else ""
    )
    return [Finding("leakage: split", f"there is a time, and the split is {kind}", "time, or given", step, {})]


def _beaten(evaluation: Evaluation, baselines: Mapping[str, Evaluation]) -> list[Finding]:
    found = []
    for metric in headlines(evaluation.metrics):
        others = {
            n: e.metrics[metric].value
            for n, e in baselines.items()
            if metric in e.metrics and not n.startswith("member ")
        }
        others = {name: value for name, value in others.items() if value == value}
        own = evaluation.metrics[metric].value
        if not others or own != own:
            continue
        sign = 1.0 if higher_is_better(metric) else -1.0
        best = max(others, key=lambda name: sign * others[name])
        step = (
            ""
            if sign * own > sign * others[best]
            else "the plain model is as good: look at the features and the training before the towers"
        )
        measured = f"{metric} {own:.4f}, {best} {others[best]:.4f}"
        found.append(
            Finding("baselines", measured, "better than every baseline", step, {"model": own, "baseline": others[best]})
        )
    return found


def _one_answer(task: str, table: pa.Table) -> Finding:
    names = [name for name in table.column_names if name.startswith("p")]
    chances = np.stack([table.column(name).to_numpy() for name in names], axis=1)
    spread = float(chances.std(axis=0).max())
    step = (
        "it says nearly the same of every row: train longer, or check that the towers' columns hold something"
        if spread < _ONE_CLASS
        else ""
    )
    measured = f"the probabilities of '{task}' spread by {spread:.3f} over {len(table):,} rows"
    return Finding("collapse", measured, f"at least {_ONE_CLASS}", step, {"spread": spread})

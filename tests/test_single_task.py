"""Models of each task alone beside the model of all tasks.

Invariants:
- with ``evaluation.single_task`` each task is trained alone, by the same towers, and measured on the same rows: the figures
  are those of a spec with that head only;
- it is refused where there are no several tasks to compare, with the kind of model; without it nothing more is trained;
- labels: a task with one class, or none, is refused with its column before training; a class with one row trains.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import towerkit as tk
from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import read_dataset
from towerkit.experiment import train_and_evaluate
from towerkit.spec import ExperimentSpec
from towerkit.training.progress import Silent

HEADS: dict[str, Any] = {
    "stars": {"kind": "ordinal", "column": "rating"},
    "liked": {"kind": "binary", "column": "recommended", "class_weights": "balanced"},
}
SPEC: dict[str, Any] = {
    "data": {"examples": {"path": "builtin:shop-small/reviews"}},
    "model": {
        "kind": "tower_model",
        "towers": {"table": {"kind": "table", "columns": ["age", "category"], "layers": [], "dim": 4}},
        "backbone": {"kind": "mmoe", "dim": 4, "experts": 2},
        "heads": HEADS,
    },
    "balance": {"kind": "gradnorm"},
    "training": {"epochs": 1, "batch_size": 300, "optimizer": {"kind": "adam", "lr": 0.02}},
    "evaluation": {"single_task": True},
}


def figures(evaluation: Any) -> dict[str, float | None]:
    return {name: metric.value for name, metric in evaluation.metrics.items()}


def test_each_task_is_trained_and_measured_alone() -> None:
    spec = parse(ExperimentSpec, SPEC)
    dataset = read_dataset(spec.data, seed=0)
    outcome = train_and_evaluate(spec, dataset, Silent())
    assert {f"task_weight/{task}" for task in HEADS} <= outcome.history.records[0].keys()
    told = figures(outcome.baselines["single_task"])
    for task, head in HEADS.items():
        changed = {"model": {**SPEC["model"], "heads": {task: head}}, "balance": {"kind": "fixed"}, "evaluation": {}}
        alone = train_and_evaluate(parse(ExperimentSpec, {**SPEC, **changed}), dataset, Silent())
        for name, value in figures(alone.evaluation).items():
            assert told[f"{task}/{name}"] == pytest.approx(value, abs=1e-9, nan_ok=True), name
    without = train_and_evaluate(parse(ExperimentSpec, {**SPEC, "evaluation": {}}), dataset, Silent())
    assert "single_task" not in without.baselines
    assert figures(without.evaluation) == figures(outcome.evaluation)


def test_it_is_refused_where_there_is_one_task() -> None:
    one = {**SPEC, "model": {**SPEC["model"], "heads": {"liked": HEADS["liked"]}}}
    with pytest.raises(SpecError, match=r"'evaluation\.single_task' compares.*the model is a tower_model of one task"):
        parse(ExperimentSpec, one)
    ids = {"kind": "two_tower", "query": {"kind": "id"}, "candidate": {"kind": "id"}}
    with pytest.raises(SpecError, match=r"the model is a two_tower\. Remove it"):
        parse(ExperimentSpec, {**SPEC, "model": ids, "balance": {"kind": "fixed"}})


def table(**columns: Any) -> pa.Table:
    draw = np.random.default_rng(0)
    return pa.table({"age": draw.normal(size=60), "liked": ["yes", "no"] * 30, **columns})


def fitted(examples: pa.Table, **head: Any) -> Any:
    model = {
        "kind": "tower_model",
        "towers": {"table": {"kind": "table", "columns": ["age"], "dim": 4}},
        "heads": {"liked": {"kind": "binary", "column": "liked"}, "other": {"column": "other", **head}},
    }
    dataset = tk.read(examples, split={"kind": "random", "validation": 0.1, "test": 0.2})
    return tk.fit({"model": model, "training": {"epochs": 1}}, dataset)


@pytest.mark.parametrize(
    ("values", "head", "message"),
    [
        (["a"] * 60, {"kind": "multiclass"}, "'other' holds one class only \\('a'\\)"),
        ([None] * 60, {"kind": "multiclass"}, "'other'.*empty"),
        ([3] * 60, {"kind": "count"}, "'other' holds one value only \\(3\\)"),
        ([1, -2] * 30, {"kind": "count"}, "'other' is a count.*row 2 has -2"),
        (["a", "b"] * 30, {"kind": "multiclass", "class_weights": {"c": 2}}, "name 'c', which is no class.*'a', 'b'"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(values: Any, head: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fitted(table(other=pa.array(values)), **head)


def test_a_class_with_one_row_trains() -> None:
    values = ["a", "b"] * 29 + ["b", "rare"]
    run = fitted(table(other=values), kind="multiclass", class_weights="balanced", focal=1.0)
    answers = run.predict(table())
    assert np.isfinite(answers.column("other=a").to_numpy()).all()

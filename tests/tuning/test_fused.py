"""Late fusions in a search.

Pinned: ranges within members and the combiner are searched; a trial learns nothing of the validation rows, and is measured on
them: its figure is that of a fusion trained by hand on the cut parts; test rows are not read; the best trial's Run has its spec.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towerkit.api import read
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.presets.nested import nested
from towerkit.spec import ModelingSpec
from towerkit.training.progress import Silent
from towerkit.tuning.fused import LOSS, fused_selection, measure_fused
from towerkit.tuning.tune import tune

UP = {"kind": "binary", "column": "up"}


def data(seed: int = 0) -> Dataset:
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=(2, 200))
    return read(
        {"a": a, "b": b, "up": (a + b > 0).astype(int)}, split={"kind": "random", "validation": 0.2, "test": 0.2}
    )


def fusion(neighbors: Any, weight: Any = 1.0) -> dict[str, Any]:
    def member(column: str) -> dict[str, Any]:
        return {
            "kind": "sklearn",
            "estimator": {"kind": "knn", "n_neighbors": neighbors},
            "columns": [column],
            "task": UP,
        }

    members = {"one": member("a"), "two": {**member("b"), "estimator": {"kind": "knn", "n_neighbors": 9}}}
    return {
        "model": {
            "kind": "late_fusion",
            "members": members,
            "combine": {"kind": "weighted", "weights": {"one": weight, "two": 1.0}},
        }
    }


def test_ranges_within_members_are_searched(tmp_path: Path) -> None:
    space = fusion({"choice": [9, 1, 75]}, {"choice": [1.0, 0.25]})
    found = tune(space, data(), out=tmp_path / "study", sampler="grid", trials=6)
    report = found.report
    assert report["search"]["complete"] == 6 and report["metric"] == f"validation/{LOSS}"
    values = [each["value"] for each in report["trials"]]
    assert report["best"]["value"] == min(values) < max(values)
    assert report["best"]["reproduced"] is None
    best = found.best.spec["model"]["members"]["one"]["estimator"]["n_neighbors"]
    assert best in (9, 75)  # one neighbor knows least


def test_a_trial_is_measured_on_validation_rows_that_it_never_saw() -> None:
    spec, dataset = parse(ModelingSpec, fusion(9), "test"), data()
    assert fused_selection(spec).metric == LOSS
    value, outcome = measure_fused(spec, dataset, Silent())
    cut = nested(dataset, spec.training.seed)
    assert not set(cut.parts.train.tolist()) & set(dataset.parts.validation.tolist())
    rows = dataset.examples.data.take(dataset.parts.validation)
    said = outcome.model.predict(replace(dataset.examples, data=rows))["up"][:, 1]  # type: ignore[union-attr]
    truth = np.array(rows.column("up"))
    share = float(np.array(dataset.examples.data.column("up"))[cut.parts.train].mean())

    def loss(chance: Any) -> float:
        return float(
            -np.mean(truth * np.log(np.clip(chance, 1e-15, 1)) + (1 - truth) * np.log(np.clip(1 - chance, 1e-15, 1)))
        )

    assert value == pytest.approx(loss(said) / loss(np.full(len(truth), share)), rel=1e-6)
    other = dataset.examples.data.column("up").to_numpy().copy()
    other[dataset.parts.test] = 1 - other[dataset.parts.test]
    place = dataset.examples.data.column_names.index("up")
    changed = replace(
        dataset, examples=replace(dataset.examples, data=dataset.examples.data.set_column(place, "up", [other]))
    )
    assert measure_fused(spec, changed, Silent())[0] == value

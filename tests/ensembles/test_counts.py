"""Counts in late fusion: a tower model, trees and linear models of scikit-learn and XGBoost, combined.

Pinned here:
- each combiner that is for numbers takes members of every family, answers rates above 0, and is nearer to the planted rates than
  the mean is; its figure is the deviance of a Poisson, beside those of its members;
- what a member answers for a row that no tree or line expects anything of is above 0 too, so that the deviance is finite;
- the saved fusion answers as the fitted one; a vote is refused with the column, and so is an estimator of classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import towerkit as tk
from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.run import Run
from towerkit.spec import ModelingSpec

VISITS = {"kind": "count", "column": "visits"}
TABLE = {"kind": "table", "columns": ["a", "b"], "layers": [8], "dim": 4}
TOWERS = {"kind": "tower_model", "towers": {"table": TABLE}, "heads": {"visits": VISITS}}
XGBOOST = {"kind": "xgboost", "columns": ["a", "b"], "task": VISITS, "rounds": 40, "depth": 3}


def estimator(kind: str) -> dict[str, Any]:
    return {"kind": "sklearn", "estimator": {"kind": kind}, "columns": ["a", "b"], "task": VISITS}


MEMBERS = {
    "towers": TOWERS,
    "trees": XGBOOST,
    "line": estimator("ridge"),
    "boosted": estimator("hist_gradient_boosting"),
    "forest": estimator("random_forest"),
}


def rows(count: int = 600, seed: int = 0) -> dict[str, list[Any]]:
    """How often somebody came: the logarithm of the rate is a sum over two columns."""
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=count), draw.normal(size=count)
    return {"a": a.tolist(), "b": b.tolist(), "visits": draw.poisson(np.exp(0.2 + 0.8 * a - 0.5 * b)).tolist()}


def spec(combine: dict[str, Any]) -> dict[str, Any]:
    model = {"kind": "late_fusion", "members": MEMBERS, "combine": combine}
    return {"model": model, "training": {"epochs": 8, "batch_size": 64, "optimizer": {"kind": "adam", "lr": 0.02}}}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return tk.read(rows())


COMBINERS: list[dict[str, Any]] = [{"kind": "average"}, {"kind": "weighted"}, {"kind": "stack", "folds": 2}]


@pytest.mark.parametrize("combine", COMBINERS, ids=lambda combine: str(combine["kind"]))
def test_members_of_every_family_are_combined(combine: dict[str, Any], data: Dataset, tmp_path: Path) -> None:
    run = tk.fit(spec(combine), data, run=tmp_path / "run")
    mean = run.baselines["mean"].metrics["deviance"].value
    assert run.evaluation.metrics["deviance"].value < 0.75 * mean
    members = {name: each for name, each in run.baselines.items() if name.startswith("member ")}
    assert set(members) == {f"member {name}" for name in MEMBERS}
    assert all(np.isfinite(each.metrics["deviance"].value) for each in members.values())
    asked = {"a": [-9.0, 0.0, None], "b": [9.0, 0.0, None]}  # the line expects less than nothing of the first
    told = run.predict(asked).column("visits").to_pylist()
    assert all(rate > 0 for rate in told)
    assert Run.load(run.path).predict(asked).column("visits").to_pylist() == told


def test_votes_and_estimators_of_classes_are_refused() -> None:
    with pytest.raises(SpecError, match=r"vote is for classes, and 'visits' are numbers"):
        parse(ModelingSpec, spec({"kind": "vote"}))
    members = {**MEMBERS, "line": estimator("logistic_regression")}
    with pytest.raises(SpecError, match=r"the task of 'visits' is count; use ridge"):
        parse(ModelingSpec, {"model": {"kind": "late_fusion", "members": members}})

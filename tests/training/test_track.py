"""Trackers.

Invariants:
- each epoch's figures, each step's loss and step size, and the held-out figures arrive under names of the stage;
- figures that are no numbers are left out; a resumed training tells its epochs again;
- a missing package is named with its extra, before training;
- TensorBoard is checked with its own reader, MLflow with a store in a file; where a package is missing, with a stand-in.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import towerkit as tk
from towerkit.core.errors import MissingExtraError
from towerkit.testing.faults import CASES
from towerkit.training.progress import Step
from towerkit.training.track import Mlflow, TensorBoard

SPEC = {key: value for key, value in CASES["tower_model, uncertainty"].items() if key != "data"}


class Client:
    """Stands in for MLflow's client."""

    def __init__(self, tracking_uri: str | None = None) -> None:
        self.told: list[tuple[Any, ...]] = [("uri", tracking_uri)]

    def get_experiment_by_name(self, name: str) -> None:
        self.told.append(("experiment", name))

    def create_experiment(self, name: str) -> str:
        return "7"

    def create_run(self, place: str) -> SimpleNamespace:
        return SimpleNamespace(info=SimpleNamespace(run_id=f"run in {place}"))

    def log_param(self, *told: Any) -> None:
        self.told.append(("param", *told))

    def log_dict(self, run: str, content: Any, name: str) -> None:
        self.told.append(("dict", run, sorted(content), name))

    def log_metric(self, run: str, name: str, value: float, step: int | None = None) -> None:
        self.told.append(("metric", name, value, step))

    def set_terminated(self, run: str) -> None:
        self.told.append(("end", run))


def test_what_mlflow_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("mlflow")
    fake.MlflowClient = Client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    tracker = Mlflow("shop", "file:/somewhere", {"model": {"kind": "two_tower"}, "training": {}})
    tracker.step(Step("train", 1, 0.5, 0.1))
    record = {"stage": "train", "epoch": 2, "loss": 0.5, "validation/ndcg@5": 0.25, "validation/x": float("nan")}
    tracker.epoch(record, stage="member text, fold 1/2: train", epochs=3, is_best=True)
    tracker.end({"auc": 0.75})
    assert tracker.client.told == [
        ("uri", "file:/somewhere"),
        ("experiment", "shop"),
        ("param", "run in 7", "model", "two_tower"),
        ("dict", "run in 7", ["model", "training"], "spec.json"),
        ("metric", "member_text/fold_1/2/train/loss", 0.5, 2),
        ("metric", "member_text/fold_1/2/train/validation/ndcg_at_5", 0.25, 2),
        ("metric", "held_out/auc", 0.75, None),
        ("end", "run in 7"),
    ]


@pytest.mark.parametrize(
    ("track", "package"),
    [({"kind": "tensorboard", "folder": "x"}, "tensorboard"), ({"kind": "mlflow"}, "mlflow")],
)
def test_a_missing_package_is_named(
    track: dict[str, str], package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    spec = {**SPEC, "training": {**SPEC["training"], "track": [track]}}
    data = tk.read("builtin:shop-small/reviews")
    with pytest.raises(MissingExtraError, match=rf"'{package}'.*pip install 'towerkit\[track\]'"):
        tk.fit(spec, data)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs towerkit[track]: tensorboard")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside tensorboard and protobuf
def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "events"
    spec = {**SPEC, "training": {**SPEC["training"], "track": [{"kind": "tensorboard", "folder": str(folder)}]}}
    run = tk.fit(spec, tk.read("builtin:shop-small/reviews"), run=tmp_path / "run")
    found = EventAccumulator(str(folder)).Reload()
    history = [line for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines() if '"train"' in line]
    losses = [event.value for event in found.Scalars("train/loss")]
    assert len(losses) == len(history) == 2
    assert f'"loss": {losses[0]:.4f}'[:10] in history[0]
    assert [event.step for event in found.Scalars("train/step/loss")] == list(range(1, 1 + 2 * 4))
    assert {event.value for event in found.Scalars("train/step/lr")} == {np.float32(0.02)}
    metric = run.evaluate().metrics["recommended/auc"].value
    assert found.Scalars("held_out/recommended/auc")[0].value == pytest.approx(metric, rel=1e-6)
    assert isinstance(TensorBoard, type)


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs towerkit[track]: mlflow")
@pytest.mark.filterwarnings("ignore")  # inside mlflow
def test_mlflow_keeps_what_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = random.getstate()  # MLflow draws from it, for the name of a run among others
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "store").as_uri()
    spec = {**SPEC, "training": {**SPEC["training"], "track": [{"kind": "mlflow", "experiment": "shop", "uri": uri}]}}
    tk.fit(spec, tk.read("builtin:shop-small/reviews"), run=tmp_path / "run")
    random.setstate(before)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (found,) = client.search_runs([client.get_experiment_by_name("shop").experiment_id])
    assert found.info.status == "FINISHED" and found.data.params["model"] == "tower_model"
    assert [point.step for point in client.get_metric_history(found.info.run_id, "train/loss")] == [1, 2]
    assert "held_out/recommended/auc" in found.data.metrics

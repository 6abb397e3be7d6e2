"""Thresholds and temperatures in a Run.

Invariants: a Run answers raw rows by the thresholds and the temperature that it was measured with, also after it was loaded, and
measures new rows with them; a Run that is silent about them has none; impossible ones are refused, also where the hashes agree;
columns that a segment names are kept, so that new rows are measured by it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import towerkit as tk
from towerkit.artifact.models import load_predictor
from towerkit.core.errors import RunError
from towerkit.evaluation.result import protocol_line
from towerkit.heads.decision import Decision
from towerkit.models.answer import TaskPredictor

HEADS: dict[str, Any] = {
    "liked": {"kind": "binary", "column": "liked", "threshold": {"choose": "f1"}, "calibration": "temperature"},
    "tags": {"kind": "multilabel", "column": "tags", "missing": "none", "threshold": {"choose": "f1"}},
}


def rows(count: int = 240) -> pa.Table:
    random = np.random.default_rng(3)
    signal = random.normal(size=count)
    first, second = (signal + random.normal(size=count) > 1.0, signal + random.normal(size=count) < -0.8)
    return pa.table(
        {
            "user": [f"u{n % 12}" for n in range(count)],
            "age": signal.tolist(),
            "liked": [bool(v) for v in signal + random.normal(size=count) > 1.0],
            "tags": ["|".join(["new"] * int(a) + ["red"] * int(b)) for a, b in zip(first, second, strict=True)],
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tk.Run:
    users = pa.table({"user": [f"u{n}" for n in range(12)], "city": ["Oslo", "Rome", "Wien"] * 4, "secret": range(12)})
    data = tk.read(rows(), entities={"user": users}, split={"kind": "random", "validation": 0.3, "test": 0.3})
    towers = {
        "table": {"kind": "table", "columns": ["age"], "layers": [8], "dim": 4},
        "user": {"kind": "id", "entity": "user", "dim": 2},
    }
    spec = {
        "model": {"kind": "tower_model", "towers": towers, "heads": HEADS},
        "training": {"epochs": 3, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.05}},
        "evaluation": {"segments": ["age", "user.city"]},
    }
    return tk.fit(spec, data, run=tmp_path_factory.mktemp("decisions") / "run")


def predictor(run: tk.Run) -> TaskPredictor:
    assert isinstance(run.model, TaskPredictor)
    return run.model


def test_answers_go_by_the_stored_thresholds(run: tk.Run) -> None:
    decisions = predictor(run).decisions
    threshold, each = decisions["liked"].thresholds[0], decisions["tags"].thresholds
    assert threshold != 0.5 and len(each) == 2 and decisions["liked"].temperature != 1.0
    answers = tk.load(run.path).predict(rows())
    said = answers.column("liked=1").to_numpy()
    assert [name == "1" for name in answers.column("liked").to_pylist()] == (said >= threshold).tolist()
    assert ((said >= threshold) != (said >= 0.5)).any(), "a half would answer otherwise"
    for label, own in zip(("new", "red"), each, strict=True):
        has = [label in found for found in answers.column("tags").to_pylist()]
        assert has == (answers.column(f"tags={label}").to_numpy() >= own).tolist()


def test_the_figures_are_those_of_the_answers(run: tk.Run) -> None:
    details, matrix = run.evaluation.details["liked"], run.evaluation.confusion["liked"]
    threshold = run.evaluation.protocol["tasks"]["liked"]["threshold"]
    assert threshold == predictor(run).decisions["liked"].thresholds[0]
    truth, predicted = details.column("truth").to_numpy(), details.column("p1").to_numpy() >= threshold
    assert matrix == [[int(((truth == t) & (predicted == p)).sum()) for p in (0, 1)] for t in (0, 1)]
    fresh = run.evaluate(rows())
    assert fresh.protocol["tasks"]["liked"]["threshold"] == threshold
    answered = run.predict(rows()).column("liked").to_pylist()
    right = np.mean([(name == "1") == liked for name, liked in zip(answered, rows()["liked"].to_pylist(), strict=True)])
    assert fresh.metrics["liked/accuracy"].value == pytest.approx(right)
    line = protocol_line(run.evaluation.protocol)
    assert f"threshold {threshold:.4g} (best f1), temperature" in line
    assert (
        "of 72 validation rows, before the refit" in line
        and "of 72 validation rows" in (run.path / "card.md").read_text()
    )


def test_new_rows_are_measured_by_the_segments_that_they_have(run: tk.Run) -> None:
    assert set(run.evaluation.segments) == {"age", "user.city"} == set(run.evaluate(rows()).segments)
    assert set(run.evaluation.segments["user.city"]) == {"Oslo", "Rome", "Wien"}
    kept = predictor(tk.load(run.path)).entities["user"].table.data.column_names
    assert kept == ["user", "city"], "and nothing else about a user"
    stored = tk.load(run.path).evaluation.as_dict()
    assert stored == run.evaluation.as_dict() and set(stored["calibration"]) == {"liked", "tags"}


def edited(run: tk.Run, folder: Path, decisions: Any) -> Path:
    shutil.copytree(run.path / "model", folder)
    content = json.loads((folder / "model.json").read_text())
    if decisions is None:
        del content["decisions"]
    else:
        content["decisions"]["tags"] |= decisions
    (folder / "model.json").write_text(json.dumps(content))
    return folder


def test_a_model_that_is_silent_has_none(run: tk.Run, tmp_path: Path) -> None:
    assert load_predictor(edited(run, tmp_path / "model", None)).decisions == {}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"temperature": 0}, r"'tags' cannot be used \(a temperature is above 0, got 0\)"),
        ({"temperature": "1"}, r"'tags' cannot be used"),
        ({"thresholds": [0.5, 7]}, r"a threshold lies in 0 to 1, got \[0.5, 7\]"),
        ({"thresholds": [0.5] * 3}, "the task 'tags' has 2 outputs and 3 thresholds"),
        ({"thresholds": 0.5}, r"'tags' cannot be used"),
        ({"code": "x"}, r"'tags' cannot be used"),
        ({"rows": "many"}, r"'tags' cannot be used \(rows are counted, got 'many'"),
        ({"rows": -1}, "rows are counted, got -1"),
        ({"before_refit": None}, "rows are counted, got .* and before_refit None"),
        ({"calibration": ["none"]}, "it is read off in a known way"),
        ({"chosen_by": "magic"}, "it is read off in a known way, got .*magic"),
    ],
)
def test_impossible_ones_are_refused(run: tk.Run, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        load_predictor(edited(run, tmp_path / "model", changed))


def test_the_scaled_probabilities_are_the_answer(run: tk.Run) -> None:
    model = predictor(run)
    table = tk.read(rows()).examples
    own = model.decisions["liked"].temperature
    log_odds = [
        np.log(p[:, 1] / p[:, 0]) for p in (model.predict(table)["liked"], unscaled(model).predict(table)["liked"])
    ]
    assert log_odds[0] == pytest.approx(log_odds[1] / own, rel=1e-6)


def unscaled(model: TaskPredictor) -> TaskPredictor:
    return TaskPredictor(model.spec, model.encoder, model.model, model.entities, {"liked": Decision()})

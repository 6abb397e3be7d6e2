"""Cross-validation from one end to the other.

- Each fold is what a training by hand on the same parts gives; the pooled figure is the mean of the folds, with its interval.
- Two workers give the figures of one. A call that is killed keeps the folds that were done, and trains the others only.
- The command shows a table, prints one object, keeps ``crossval.json``; wrong words are messages.
- A worker that dies is a message that says where what is done is kept.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towerkit.cli import main
from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.crossval import study
from towerkit.crossval.folds import folds_of
from towerkit.crossval.result import Measured
from towerkit.crossval.study import crossval, plan_of
from towerkit.data.dataset import read_dataset
from towerkit.experiment import train_and_evaluate
from towerkit.spec import ExperimentSpec
from towerkit.training.progress import Silent

ADAM = {"kind": "adam", "lr": 0.01}
TASK: dict[str, Any] = {
    "data": {"examples": {"path": "builtin:shop-small/reviews"}},
    "model": {
        "kind": "tower_model",
        "towers": {"table": {"kind": "table", "columns": ["age", "category"], "dim": 4}},
        "heads": {"recommended": {"kind": "binary", "column": "recommended"}},
    },
    "training": {"epochs": 2, "batch_size": 256, "optimizer": ADAM},
}
RANKING: dict[str, Any] = {
    "data": {"examples": {"path": "builtin:shop-small/purchases", "query": "user_id", "candidate": "product_id"}},
    "model": {"kind": "two_tower", "query": {"kind": "id", "dim": 4}, "candidate": {"kind": "id", "dim": 4}},
    "training": {"epochs": 2, "batch_size": 512, "optimizer": ADAM, "refit": False},
    "evaluation": {"k": [10], "baselines": ["popularity"]},
}


def spec_of(spec: dict[str, Any]) -> ExperimentSpec:
    return parse(ExperimentSpec, spec, "the test")


def told(folds: Sequence[Measured]) -> list[dict[str, Any]]:
    """The figures in plain data, in which what is undefined is equal to itself."""
    return [fold.evaluation.as_dict()["metrics"] for fold in folds]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crossval")


def test_folds_are_trainings_by_hand_and_workers_change_nothing(folder: Path) -> None:
    spec, plan = spec_of(TASK), plan_of("stratified", folds=3, column="recommended")
    found = crossval(spec, plan=plan, seeds=[0, 1])
    assert [fold.seed for fold in found.folds] == [0, 0, 0, 1, 1, 1]
    dataset = read_dataset(spec.data)
    for number, fold in enumerate(folds_of(plan, spec, dataset, 0)):
        by_hand = train_and_evaluate(spec, fold.dataset, Silent()).evaluation
        assert found.folds[number].evaluation.as_dict()["metrics"] == by_hand.as_dict()["metrics"]
    aucs = [fold.evaluation.metrics["auc"].value for fold in found.folds]
    pooled, spread = found.pooled["auc"], found.spread["auc"]
    assert pooled.value == pytest.approx(np.mean(aucs))
    assert pooled.low < pooled.value < pooled.high
    assert pooled.n == sum(fold.evaluation.metrics["auc"].n for fold in found.folds[:3])  # each labelled row once
    assert (spread.least, spread.most) == (min(aucs), max(aucs))
    assert spread.deviation == pytest.approx(np.std(aucs, ddof=1))
    assert found.by_seed["auc"].mean == pytest.approx(spread.mean)
    assert found.baselines["majority"]["auc"] == 0.5
    side_by_side = crossval(spec, plan=plan, workers=2, kept=folder / "workers")
    assert told(side_by_side.folds) == told(found.folds[:3])
    assert len(list((folder / "workers").iterdir())) == 3


def test_queries_of_a_ranking_are_drawn_for_all_folds_together() -> None:
    found = crossval(spec_of(RANKING), plan=plan_of("stratified", folds=2))
    assert found.plan["column"] == "user_id"
    queries = {key for fold in found.folds for key in fold.evaluation.details["ranking"].column("query").to_pylist()}
    assert found.pooled["ndcg@10"].n == len(queries)
    each = [fold.evaluation.metrics["ndcg@10"] for fold in found.folds]
    assert found.pooled["ndcg@10"].value == pytest.approx(np.mean([one.value for one in each]))
    assert "coverage@10" in found.spread
    assert "coverage@10" not in found.pooled
    content = found.as_dict()
    assert json.loads(json.dumps(content)) == content
    assert content["kind"] == "crossval"
    assert content["baselines"]["popularity"]["ndcg@10"] > 0.0


def test_windows_and_cold_items() -> None:
    data = {**RANKING["data"], "examples": {**RANKING["data"]["examples"], "time": "time"}}
    timed = spec_of({**RANKING, "data": data})
    found = crossval(timed, plan=plan_of("time", folds=2))
    assert found.notes == []
    assert found.folds[0].sizes["train"] < found.folds[1].sizes["train"]
    data = {**data, "entities": {"product_id": {"path": "builtin:shop-small/products"}}}
    brand = {"kind": "table", "columns": ["brand", "category"], "dim": 4}
    model = {**RANKING["model"], "candidate": brand}
    cold = crossval(spec_of({**RANKING, "data": data, "model": model}), plan=plan_of("cold", folds=2))
    assert "learn from rows that are later" in cold.notes[0]
    for fold in cold.folds:
        assert fold.evaluation.protocol["cold_candidates"] == 0  # what the table knows is ranked, bought or not
        assert fold.baselines["popularity"]["recall@10"] < 0.2


def test_a_call_that_is_killed_goes_on_where_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = folder / "spec.yaml", folder / "out"
    slow = {**TASK, "training": {**TASK["training"], "epochs": 6, "patience": 6}}
    path.write_text(json.dumps(slow))
    words = [
        sys.executable,
        "-m",
        "towerkit",
        "crossval",
        str(path),
        "--by",
        "random",
        "--folds",
        "4",
        "--out",
        str(out),
    ]
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while len(list(out.glob("folds/*.json"))) < 2 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    done = {each.name: each.read_bytes() for each in out.glob("folds/*.json")}
    assert len(done) >= 2
    assert not (out / "crossval.json").exists() or len(done) == 4
    trainings: list[int] = []

    def counted(*given: Any, **named: Any) -> Any:
        trainings.append(1)
        return train_and_evaluate(*given, **named)

    monkeypatch.setattr(study, "train_and_evaluate", counted)
    found = crossval(spec_of(slow), plan=plan_of("random", folds=4), kept=out / "folds")
    assert len(trainings) == 4 - len(done)
    assert all((out / "folds" / name).read_bytes() == content for name, content in done.items())
    whole = crossval(spec_of(slow), plan=plan_of("random", folds=4))
    assert told(found.folds) == told(whole.folds)
    assert found.as_dict()["metrics"] == whole.as_dict()["metrics"]


def call(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["towerkit", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = folder / "small.yaml", folder / "command"
    path.write_text(json.dumps(TASK))
    words = ["crossval", path, "--folds", "2", "--out", out]
    assert call(monkeypatch, *words) == 0
    told = capsys.readouterr()
    for part in (
        "mean of the folds",
        "majority",
        "2 trainings (kind stratified, folds 2, column recommended; seeds 0)",
    ):
        assert part in told.out
    kept = json.loads((out / "crossval.json").read_text())
    assert call(monkeypatch, *words, "--json") == 0
    assert json.loads(capsys.readouterr().out) == kept
    assert kept["folds"][1]["fold"] == "fold 2 of 2"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "month"], "'month'"),
        (["--folds", "1"], "received 1"),
        (["--by", "time"], "Windows of time need a time column"),
        (["--seeds", "a"], "--seeds are whole numbers"),
    ],
)
def test_wrong_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    path = folder / "wrong.yaml"
    path.write_text(json.dumps(TASK))
    assert call(monkeypatch, "crossval", path, *words, "--json") == 1
    assert message in json.loads(capsys.readouterr().out)["error"]["message"]


def test_streams_and_workers_are_checked() -> None:
    examples = {**RANKING["data"]["examples"], "path": "log.parquet", "stream": True}
    with pytest.raises(SpecError, match=r"data\.examples\.stream never has them there together"):
        crossval(spec_of({**RANKING, "data": {"examples": examples}}))
    with pytest.raises(SpecError, match="workers must be at least 1; received 0"):
        crossval(spec_of(TASK), workers=0)

"""`towerkit tune` and `towerkit.tune` (`towerkit.tuning`), from a space to Runs, on a small world.

Pinned here:
- the best trial is an ordinary spec file and an ordinary Run: spec and training curve of both are those of the trial, bit for bit,
  and training the file in the ordinary way gives the same weights;
- trials do not read test rows; test is measured for the default and the best, and compared in pairs;
- the same call again trains nothing; more trials go on; other ranges, other data or another sampler are refused by name;
- a trial that fails, with an error or with figures that are no numbers, says why, and the study goes on; where all fail, that is an
  error;
- where no trial beats the default, the default is the best;
- killing the command loses at most the trial under way; two processes that open an interrupted study share it;
- the report has every trial, the shares of importance sum to one, and the best figure never gets worse.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("optuna", reason="needs towerkit[tune]")

import towerkit as tk
from towerkit.core.errors import RunError, SpecError, TrainingError
from towerkit.data.dataset import Dataset
from towerkit.run import Run
from towerkit.storage.hashes import content_hash, read_json
from towerkit.tuning import objective, search
from towerkit.tuning.tune import Tuned, tune


def weights(run: Run) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in run.model.model.state_dict().items()}


def with_training(small: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
    found = deepcopy(dict(small))
    found["training"] |= settings
    return found


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def tuned(world: Dataset, small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, told: list[str]) -> Tuned:
    folder = tmp_path_factory.mktemp("tuned") / "study"
    return tune(with_training(small, refit=False), world, out=folder, trials=8, say=told.append)


def test_the_best_trial_is_an_ordinary_spec_and_an_ordinary_run(tuned: Tuned, world: Dataset, tmp_path: Path):
    best = tuned.report["best"]
    trial = tuned.report["trials"][best["trial"]]
    assert best["spec_sha256"] == trial["spec"] == content_hash(tuned.best.spec)
    assert best["reproduced"] is True and tuned.report["default"]["reproduced"] is True
    spec = yaml.safe_load((tuned.folder / "best.yaml").read_text())
    assert spec["model"]["query"]["dim"] == spec["model"]["candidate"]["dim"] == trial["values"]["model.query.dim"]
    ordinary = tk.fit(spec, world, run=tmp_path / "run")
    assert content_hash(ordinary.spec) == trial["spec"]
    theirs, ours = weights(ordinary), weights(tuned.best)
    assert theirs.keys() == ours.keys() and all(np.array_equal(theirs[name], ours[name]) for name in ours)


def test_the_default_is_trial_0_and_is_compared_with_the_best(tuned: Tuned):
    report = tuned.report
    assert report["trials"][0]["default"] and report["trials"][0]["values"]["training.optimizer.lr"] == 0.0005
    assert report["best"]["value"] > report["default"]["value"]
    pair = report["comparison"]["metrics"]["ndcg@5"]
    assert pair["first"] == pytest.approx(report["default"]["metrics"]["ndcg@5"]["value"])
    assert pair["second"] == pytest.approx(report["best"]["metrics"]["ndcg@5"]["value"])
    assert pair["low"] <= pair["difference"] <= pair["high"]


def test_the_report_has_every_trial(tuned: Tuned, told: list[str]):
    report = read_json(tuned.folder / "tuning.json")
    assert report == json.loads(json.dumps(tuned.report)) and report["kind"] == "tuning"
    assert [each["number"] for each in report["trials"]] == list(range(8))
    assert {each["state"] for each in report["trials"]} <= {"complete", "pruned"}
    assert all(each["curve"] and each["value"] == each["curve"][-1][1] for each in report["trials"])
    assert sum(report["importance"]["parameters"].values()) == pytest.approx(1.0)
    assert set(report["importance"]["parts"]) == {"query", "training"}
    grown = [each["best"] for each in report["growth"]]
    assert grown == sorted(grown) and grown[-1] == report["best"]["value"]
    assert len([line for line in told if line.startswith("trial ")]) == 8
    assert report["space"]["model.candidate.dim"] == {"same_as": "model.query.dim", "part": "candidate"}


def test_the_same_call_again_trains_nothing_and_more_trials_go_on(tuned: Tuned, world: Dataset, small: dict[str, Any]):
    space, said = with_training(small, refit=False), list[str]()
    before = (tuned.best.path / "manifest.json").stat().st_mtime_ns
    again = tune(space, world, out=tuned.folder, trials=8, say=said.append)
    assert said == [] and again.report["trials"] == tuned.report["trials"]
    assert (again.best.path / "manifest.json").stat().st_mtime_ns == before
    more = tune(space, world, out=tuned.folder, trials=9, say=said.append)
    assert len(more.report["trials"]) == 9 and len([line for line in said if line.startswith("trial 8")]) == 1


def test_another_study_in_the_folder_is_refused_by_name(tuned: Tuned, world: Dataset, small: dict[str, Any]):
    with pytest.raises(RunError, match=r"another study: .*training\.epochs was 6 and is 7"):
        tune(with_training(small, refit=False, epochs=7), world, out=tuned.folder)
    with pytest.raises(RunError, match=r"search\.sampler was \"tpe\" and is \"random\""):
        tune(with_training(small, refit=False), world, out=tuned.folder, sampler="random")
    parts = world.parts
    fewer = world.with_parts(replace(parts, train=parts.train[1:]))
    with pytest.raises(RunError, match=r"the train part of the split"):
        tune(with_training(small, refit=False), fewer, out=tuned.folder)


def test_trials_do_not_read_test_rows(tuned: Tuned, world: Dataset, small: dict[str, Any], tmp_path: Path):
    parts = world.parts
    other = world.with_parts(replace(parts, test=parts.test[::2]))
    found = tune(with_training(small, refit=False), other, out=tmp_path / "s", trials=2)
    for mine, theirs in zip(found.report["trials"], tuned.report["trials"], strict=False):
        assert mine["curve"] == theirs["curve"] and mine["history"] == theirs["history"]


def test_a_trial_that_fails_says_why_and_the_study_goes_on(
    world: Dataset, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    true, calls = objective.measure, list[int]()

    def measure(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError("no room for 9 GiB")
        return true(*arguments)

    monkeypatch.setattr(search, "measure", measure)
    found = tune(with_training(small, refit=False, epochs=2), world, out=tmp_path / "s", trials=3, pruner="none")
    states = [each["state"] for each in found.report["trials"]]
    assert states == ["complete", "failed", "complete"]
    assert found.report["trials"][1]["reason"] == "no room for 9 GiB"


def test_a_figure_that_is_no_number_fails_its_trial(world: Dataset, small: dict[str, Any], tmp_path: Path):
    space = with_training(small, refit=False, epochs=2)
    space["training"]["optimizer"] = {"kind": "sgd", "lr": {"choice": [0.1, 1e6]}}
    found = tune(space, world, out=tmp_path / "s", sampler="grid")
    failed = [each for each in found.report["trials"] if each["state"] == "failed"]
    assert failed and all(each["values"]["training.optimizer.lr"] == 1e6 for each in failed)
    assert all(each["reason"] for each in failed)
    assert found.report["best"]["value"] > 0


def test_where_every_trial_fails_that_is_an_error(world: Dataset, small: dict[str, Any], tmp_path: Path):
    space = with_training(small, refit=False, epochs=2)
    space["objective"] = {"negatives": [{"kind": "uniform", "count": {"choice": [9_000, 9_500]}}]}
    with pytest.raises(TrainingError, match=r"Every trial that ended has failed, 2 with: .*9,?000"):
        tune(space, world, out=tmp_path / "s", trials=2)


def test_where_nothing_beats_the_default_it_is_the_best(world: Dataset, small: dict[str, Any], tmp_path: Path):
    space = with_training(small, refit=False, epochs=2)
    space["training"]["optimizer"]["lr"] = {"choice": [0.05, 1e-9]}
    space["model"]["query"]["dim"] = space["model"]["candidate"]["dim"] = 8
    found = tune(space, world, out=tmp_path / "s", sampler="grid")
    assert found.default is not None and found.best.path == found.default.path and "comparison" not in found.report


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, r"one trial or more; received 0"),
        ({"budget_s": -1.0}, r"above 0; received -1 s"),
    ],
)
def test_a_study_without_trials_or_time_is_refused(
    world: Dataset, small: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
):
    with pytest.raises(SpecError, match=message):
        tune(small, world, out=tmp_path / "s", **change)
    assert not (tmp_path / "s").exists()


def test_without_validation_rows_nothing_can_be_compared(world: Dataset, small: dict[str, Any], tmp_path: Path):
    parts = world.parts
    without = world.with_parts(replace(parts, validation=parts.validation[:0]))
    with pytest.raises(SpecError, match=r"the split holds none out"):
        tune(small, without, out=tmp_path / "s")


def test_a_budget_that_is_over_before_a_trial_ends_is_told(world: Dataset, small: dict[str, Any], tmp_path: Path):
    with pytest.raises(TrainingError, match=r"No trial of .* is complete: the budget ended before"):
        tune(small, world, out=tmp_path / "s", budget_s=1e-9)


@pytest.fixture(scope="module")
def spec_file(pairs: dict[str, list[str]], small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file beside its data, by a relative path."""
    folder = tmp_path_factory.mktemp("files")
    rows = zip(pairs["user"], pairs["item"], strict=True)
    (folder / "pairs.csv").write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in rows))
    data = {
        "examples": {"path": "pairs.csv", "query": "user", "candidate": "item"},
        "split": {"kind": "per_query", "validation": 0.2, "test": 0.2},
        "duplicates": "first",
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump({"data": data, **with_training(small, epochs=8)}))
    return folder / "spec.yaml"


def command(spec_file: Path, out: Path, trials: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "towerkit",
        "tune",
        str(spec_file),
        "--out",
        str(out),
        "--trials",
        str(trials),
        "--json",
    ]


def test_killing_the_command_loses_the_trial_under_way_and_two_processes_share_the_rest(
    spec_file: Path, tmp_path: Path
):
    out = tmp_path / "study"
    first = subprocess.Popen(command(spec_file, out, 6), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal, deadline = out / "journal.jsonl", time.monotonic() + 240
    while time.monotonic() < deadline and not (journal.is_file() and '"values":[' in journal.read_text()):
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    done = journal.read_text().count('"values":[')
    beside = subprocess.Popen(command(spec_file, out, 6), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    one = tune(spec_file, out=out, trials=6).report
    answer, errors = beside.communicate(timeout=280)
    assert beside.returncode == 0, errors
    other = json.loads(answer)
    states = [each["state"] for each in one["trials"]]
    assert done >= 1 and states.count("died") <= 1
    assert len(states) - states.count("died") == 6
    assert one["trials"] == other["trials"] and one["best"]["spec_sha256"] == other["best"]["spec_sha256"]
    best = yaml.safe_load((out / "best.yaml").read_text())
    assert (out / best["data"]["examples"]["path"]).resolve() == spec_file.parent / "pairs.csv"


@pytest.mark.long
def test_a_helper_that_is_killed_loses_its_trial_and_the_command_makes_the_rest(spec_file: Path, tmp_path: Path):
    out = tmp_path / "study"
    words = [*command(spec_file, out, 8), "--workers", "2"]
    main = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log, journal, deadline = out / "workers" / "helper-1.log", out / "journal.jsonl", time.monotonic() + 240
    while time.monotonic() < deadline and not (
        log.exists() and journal.is_file() and '"values":[' in journal.read_text()
    ):
        time.sleep(0.05)
    children = Path(f"/proc/{main.pid}/task/{main.pid}/children").read_text().split()
    assert len(children) == 1, "two workers are this process and one helper"
    os.kill(int(children[0]), signal.SIGKILL)
    answer, errors = main.communicate(timeout=300)
    assert main.returncode == 0, errors
    assert "Helper 1 ended with status -9" in errors
    trials = [each["state"] for each in json.loads(answer)["trials"]]
    assert trials.count("died") <= 1 and len(trials) - trials.count("died") == 8

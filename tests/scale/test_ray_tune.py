"""Trials on Ray; needs the extras ``ray`` and ``tune``. Long: a cluster takes seconds to start.

Invariants:
- trials on two workers, one of which is killed in the middle: the study goes on, at most that trial is lost, and it is made again;
- the journal is that of any study: the command without ``--on`` goes on with it, and finds the same winner;
- a driver that is killed takes its workers along, and the command without ``--on`` goes on;
- what a study refuses on purpose reaches the driver with its own message.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

pytest.importorskip("optuna", reason="needs towerkit[tune]")

from towerkit.core.errors import RunError, TowerkitError
from towerkit.storage.lock import holder_of, writer_of
from towerkit.tuning.problem import problem_of
from towerkit.tuning.tune import tune

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs towerkit[ray]"),
    pytest.mark.filterwarnings("default"),  # Ray's own
    pytest.mark.timeout(900),
]

SPEC = {
    "data": {
        "examples": {"path": "pairs.csv", "query": "user", "candidate": "item"},
        "split": {"kind": "per_query", "validation": 0.2, "test": 0.2},
    },
    "model": {
        "kind": "two_tower",
        "query": {"kind": "id", "dim": {"choice": [4, 8, 16]}},
        "candidate": {"kind": "id", "dim": {"same_as": "model.query.dim"}},
    },
    "training": {
        "engine": "torch",
        "epochs": 40,  # a trial takes long enough to be killed in
        "batch_size": 128,
        "optimizer": {"kind": "adam", "lr": {"float": [0.0003, 0.1], "log": True, "default": 0.0005}},
    },
    "evaluation": {"k": [5], "baselines": ["popularity"]},
}


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    """A space and its pairs: sixty people, each of whom likes the things of one sort."""
    pairs = [
        (f"u{user}", f"i{(7 * user + 6 * step * step) % 20 * 2 + user % 2}") for user in range(60) for step in range(8)
    ]
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("user", "item"), *sorted(set(pairs))])
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    return tmp_path / "spec.yaml"


def makers(out: Path) -> list[str]:
    """Which worker began each trial, in the order of the journal."""
    whole = (out / "journal.jsonl").read_text().rpartition("\n")[0]
    told = [json.loads(line).get("user_attr", {}) for line in whole.splitlines()]
    return [each["worker"] for each in told if "worker" in each]


def kill_one(out: Path, killed: list[str], over: threading.Event) -> None:
    """Once two trials were begun, kill the worker that began the last one."""
    while not over.wait(0.02):
        began = makers(out) if (out / "journal.jsonl").is_file() else []
        holder = holder_of(out / "workers" / began[-1]) if len(began) > 1 else None
        if holder is not None:
            os.kill(holder.pid, signal.SIGKILL)
            killed.append(began[-1])
            return


def test_a_worker_that_is_killed_loses_at_most_its_trial(spec_file: Path, tmp_path: Path) -> None:
    from towerkit.scale.ray_tune import tune_on

    out, said, killed = tmp_path / "study", list[str](), list[str]()
    over = threading.Event()
    killer = threading.Thread(target=kill_one, args=(out, killed, over), daemon=True)
    killer.start()
    found = tune_on("local", 2, spec_file, out=out, trials=12, say=said.append)
    over.set()
    assert killed, "nobody was killed"
    assert any("A worker died" in text and "is started again" in text for text in said), said
    states = [each["state"] for each in found.report["trials"]]
    assert states.count("died") <= 1
    assert len(states) - states.count("died") == 12
    assert len([text for text in said if text.startswith("trial ")]) == len(states)
    assert set(makers(out)) - set(killed), "the rest was made by others"

    again = tune(spec_file, out=out, trials=12)
    assert again.report["trials"] == found.report["trials"]
    assert again.report["best"] == found.report["best"]
    with pytest.raises(RunError, match=r"search\.sampler was \"tpe\" and is \"random\""):
        tune_on("local", 2, spec_file, out=out, sampler="random")


def test_a_driver_that_is_killed_takes_its_workers_along(spec_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    words = ["tune", str(spec_file), "--out", str(out), "--trials", "8", "--on", "local", "--workers", "2"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "towerkit", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    journal, deadline = out / "journal.jsonl", time.monotonic() + 300
    while time.monotonic() < deadline and not (journal.is_file() and '"values":[' in journal.read_text()):
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    workers, deadline = out / "workers", time.monotonic() + 60
    while any(writer_of(workers / each.name[1:-5]) for each in workers.glob(".*.lock")) and time.monotonic() < deadline:
        time.sleep(0.05)  # Ray ends them; one that is not gone yet still writes
    states = [each["state"] for each in tune(spec_file, out=out, trials=8).report["trials"]]
    assert states.count("died") <= 2, "what two workers had begun"
    assert len(states) - states.count("died") == 8


def test_what_a_worker_refuses_reaches_the_driver(
    spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from towerkit.scale import ray_tune

    there = problem_of(spec_file, None)
    monkeypatch.setattr(ray_tune, "problem_of", lambda *_: there)  # in this process, and in no worker
    with pytest.raises(TowerkitError, match=r"gone\.yaml"):
        ray_tune.tune_on("local", 2, tmp_path / "gone.yaml", out=tmp_path / "study", trials=2)

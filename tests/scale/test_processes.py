"""Two real processes, connected by gloo over the loopback interface.

Invariants:
- sums, largest, rows for all and for the first, texts: as a world says they are, and counted;
- the Run that two processes write has the weights and figures of the one that a single process writes, and is an ordinary Run;
- a process that vanishes in the middle of a step ends the other; one process alone goes on from the newest checkpoint, to
  the same end;
- with the candidates' table in shards the same is written, also where three processes go on with what two have saved;
- what several workers cannot train is refused with the key and the reason; errors on purpose reach the driver as what they are,
  errors of code with what raised them and where, and what a lost process causes in the others is no error.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from towerkit.core.errors import DataError, MissingExtraError, SpecError, TowerkitError, TrainingError
from towerkit.core.world import LostProcessError
from towerkit.run import Run
from towerkit.scale.job import Job, check_shareable, error_of
from towerkit.scale.processes import connected
from towerkit.scale.ray_train import _bury, _reason
from towerkit.scale.telling import as_told, from_told
from towerkit.storage.lock import folder_lock, holder_of, lock_path
from towerkit.testing.by_workers import furthest, spec_of, train_alone
from towerkit.training.checkpoint import Checkpoints
from towerkit.training.signals import TrainingStopped
from towerkit.training.state import LossError


def started(folder: Path, run: Path, *, size: int = 2, ends: str | None = None, **training: Any) -> list[int]:
    """Train by several processes, of which the second may ``die`` or ``fail`` in its sixth step; their exit codes."""
    folder.mkdir()
    job = Job.of(spec_of(**training), Path(), run, overwrite=True, workers=size)
    (folder / "job.json").write_text(json.dumps(job.as_dict()))
    script, environment = str(Path(__file__).with_name("one_worker.py")), os.environ | {"OMP_NUM_THREADS": "1"}
    each = [
        subprocess.Popen(
            [sys.executable, script, str(rank), str(size), str(folder), *([ends, "5"] if ends and rank == 1 else [])],
            env=environment,
            stderr=subprocess.DEVNULL if ends else None,
        )
        for rank in range(size)
    ]
    return [process.wait(timeout=300) for process in each]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_alone(tmp_path_factory.mktemp("alone") / "run")


def assert_same(found: Run, right: Run) -> None:
    """The same training within the rounding of float32."""
    off = furthest(found, right)
    assert off["weight"] < 1e-5, off
    assert off["figure"] < 1e-6, off


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "workers"
    assert started(folder, folder.parent / "run") == [0, 0]
    return folder


def told(folder: Path, name: str) -> list[Mapping[str, Any]]:
    return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]


def test_a_world_of_two(two: Path) -> None:
    first, second = told(two, "exchanged")
    for each in (first, second):
        assert each["sum"] == [1.0, 3.0]
        assert each["largest"] == [1.0, 2.0]
        assert each["all"] == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
        assert each["told"] == "first: é"
    assert first["exchange"] == [0, 10]
    assert second["exchange"] == [1, 2, 11]
    assert first["at_first"] == [[0, [[0.0, 0.0]]], [1, [[1.0, 1.0], [1.0, 1.0]]]]
    assert second["at_first"] == []
    assert (first["sent"]["sum"], first["sent"]["all"], second["sent"]["at_first"]) == (16, 16, 16)


def test_two_write_the_run_of_one(two: Path, alone: Run) -> None:
    assert_same(Run.load(two.parent / "run"), alone)
    assert (two.parent / "run" / "manifest.json").exists()
    assert not two.parent.joinpath("run.checkpoint").exists()
    assert min(sent["all"] for sent in told(two, "sent")) > 10_000  # gradients went between them


def test_one_goes_on_where_two_were_stopped(tmp_path: Path, alone: Run) -> None:
    codes = started(tmp_path / "workers", tmp_path / "run", ends="die")
    assert codes[1] == 9
    assert codes[0] != 0
    (newest,) = sorted((tmp_path / "run.checkpoint").glob("*/state.json"))
    assert json.loads(newest.read_text())["steps"] == 3
    assert error_of(tmp_path / "run") is None, "a death is no error: it is tried again"
    assert_same(train_alone(tmp_path / "run", resume=True), alone)


def test_an_error_of_code_is_that_of_the_worker_that_met_it(tmp_path: Path, alone: Run) -> None:
    assert 0 not in started(tmp_path / "workers", tmp_path / "run", ends="fail")
    assert [path.name for path in (tmp_path / "run.checkpoint").glob("error-*.json")] == ["error-0-1.json"]
    found = error_of(tmp_path / "run")
    assert type(found) is TrainingError
    assert re.match(r"Worker 1 failed with KeyError: 'colour' \(one_worker\.py, line \d+, in fail\)\. ", str(found))
    assert "--resume" in str(found)
    assert_same(train_alone(tmp_path / "run", resume=True), alone)


def test_tables_in_shards_write_the_run_of_one(tmp_path: Path, alone: Run) -> None:
    assert started(tmp_path / "workers", tmp_path / "run", tables="sharded") == [0, 0]
    assert_same(Run.load(tmp_path / "run"), alone)
    assert min(sent["exchange"] for sent in told(tmp_path / "workers", "sent")) > 10_000  # rows went between them


def test_tables_are_cut_anew_for_another_number_of_processes(tmp_path: Path, alone: Run) -> None:
    assert started(tmp_path / "two", tmp_path / "run", ends="die", tables="sharded")[1] == 9
    assert (tmp_path / "run.checkpoint").exists()
    assert started(tmp_path / "three", tmp_path / "run", size=3, tables="sharded") == [0, 0, 0]
    assert_same(Run.load(tmp_path / "run"), alone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": {"engine": "compiled"}}, "engine: compiled belongs to one process, and --workers asks for 2"),
        ({"model": {"kind": "late_fusion", "members": {}}}, "received late_fusion"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    spec = spec_of()
    if "model" in change:
        spec = spec.model_copy(update={"model": type("Late", (), {"kind": "late_fusion"})()})
    else:
        spec = spec.model_copy(update={"training": spec.training.model_copy(update=change["training"])})
    with pytest.raises(SpecError, match=message):
        check_shareable(spec, 2)


def test_errors_on_purpose_reach_the_driver(tmp_path: Path) -> None:
    assert error_of(tmp_path / "run") is None
    folder = tmp_path / "run.checkpoint"
    folder.mkdir()
    for rank in range(2):
        told = as_told(TrainingStopped(f"worker {rank}: stopped", 15))
        (folder / f"error-1-{rank}.json").write_text(json.dumps(told))
    (folder / "error-0-0.json").write_text(json.dumps(as_told(TrainingError("of an earlier attempt, told late"))))
    found = error_of(tmp_path / "run", attempt=1)
    assert type(found) is TrainingStopped
    assert (str(found), found.status, found.page) == ("worker 0: stopped", 143, "training")
    assert error_of(tmp_path / "run", attempt=1) is None
    assert not folder.exists()


def test_a_group_that_was_taken_away_is_a_lost_process(tmp_path: Path) -> None:
    with connected(0, 1, tmp_path / "meeting") as world:
        assert world.sum(torch.ones(2)).tolist() == [1.0, 1.0]
    rows = torch.ones(1, 2)
    exchanges: dict[str, Callable[[], object]] = {
        "sum": lambda: world.sum(rows),
        "largest": lambda: world.largest(rows),
        "all": lambda: world.all(rows, [1]),
        "exchange": lambda: world.exchange(rows, [1], [1]),
        "told": lambda: world.told("text"),
    }
    for name, exchange in exchanges.items():
        with pytest.raises(LostProcessError):
            pytest.fail(f"{name}: {exchange()}")
    world.rank = 1
    with pytest.raises(LostProcessError):
        world.at_first(rows, [1, 1], lambda rank, rows: None)


@pytest.mark.parametrize("where", ["here", "elsewhere", "a stranger"])
def test_the_locks_of_a_first_worker_that_is_gone(tmp_path: Path, where: str) -> None:
    run, folder = tmp_path / "run", tmp_path / "run.checkpoint"
    (folder / "part").mkdir(parents=True)
    targets = [folder, run, folder / "part" / "000000003"]
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for target in targets:
        host = platform.node() if where == "here" else "another-machine"
        pid = gone.pid + (where == "a stranger" and target == run)
        lock_path(target).write_text(json.dumps({"pid": pid, "host": host, "token": "0a"}))
    _bury(run, Checkpoints(folder, {}))
    left = {target for target in targets if holder_of(target)}
    assert left == {"here": set(targets), "elsewhere": set(), "a stranger": {run}}[where]
    if where != "a stranger":
        for target in targets:
            with folder_lock(target):
                pass


def test_an_error_is_of_the_narrowest_kind_that_the_driver_knows() -> None:
    assert type(from_told(as_told(LossError("NaN")))) is LossError
    assert str(from_told(as_told(MissingExtraError("install it")))) == "install it"
    of_a_plugin = from_told({"kinds": ["ProbeError", "DataError", "TowerkitError"], "message": "row 3", "status": 1})
    assert type(of_a_plugin) is DataError
    of_an_older_version = from_told({"message": "NaN", "status": 1})
    assert type(of_an_older_version) is TowerkitError


class _Failed(Exception):
    """As Ray tells that workers failed."""

    def __init__(self, failures: dict[int, Exception]) -> None:
        super().__init__("Training failed due to worker errors:\nmuch more")
        self.worker_failures = failures


def test_what_workers_ended_with_is_told_of_the_one_that_died() -> None:
    lost, checked = LostProcessError("closed by peer"), RuntimeError("A worker health check failed.")
    checked.health_check_failure = OSError("The actor died.\n\tclass_name: Worker")  # type: ignore[attr-defined]
    assert _reason(_Failed({0: lost, 1: OSError("no such disk")})) == "OSError: no such disk"
    assert _reason(_Failed({0: lost, 1: checked})) == "OSError: The actor died."
    assert _reason(_Failed({0: lost})) == "LostProcessError: closed by peer"
    assert _reason(RuntimeError("Training failed due to controller error:\nno such thing\n")) == "no such thing"
    assert _reason(RuntimeError()) == "RuntimeError"

"""Work on Ray, with this process in Ray's place: fast twins of `test_ray_tune.py` and `test_ray_pieces.py`.

Invariants:
- trials are made under names of their own, told once, and one study with those of the command without ``--on``;
- a worker that dies is buried, also where nobody can ask about its machine: its trial is made again, and it is started again so
  often and no more; what a worker stops with on purpose is raised;
- results of pieces come in order, few wait at a time, and errors on purpose are those of the function.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("optuna", reason="needs towerkit[tune]")

from tests.scale.pretended import PretendedRay, WorkerCrashedError

from towerkit.core.errors import DataError, TrainingError
from towerkit.scale.pieces import on_workers
from towerkit.scale.ray_tune import tune_on
from towerkit.storage.lock import folder_lock, lock_path
from towerkit.tuning.problem import problem_of, searching
from towerkit.tuning.search import opened
from towerkit.tuning.tune import tune

SPEC = {
    "data": {
        "examples": {"path": "pairs.csv", "query": "user", "candidate": "item"},
        "split": {"kind": "per_query", "validation": 0.2, "test": 0.2},
    },
    "model": {
        "kind": "two_tower",
        "query": {"kind": "id", "dim": {"choice": [4, 8]}},
        "candidate": {"kind": "id", "dim": {"same_as": "model.query.dim"}},
    },
    "training": {"engine": "torch", "epochs": 1, "batch_size": 512, "refit": False},
    "evaluation": {"k": [5], "baselines": ["popularity"]},
}


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    """A small space, and the pairs of sixty people."""
    pairs = {(f"u{user}", f"i{(7 * user + step * step) % 20}") for user in range(60) for step in range(8)}
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("user", "item"), *sorted(pairs)])
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    return tmp_path / "spec.yaml"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "GLOO_SOCKET_IFNAME", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "x")


def test_trials_of_workers(spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", PretendedRay())
    out, said = tmp_path / "study", list[str]()
    found = tune_on("local", 2, spec_file, out=out, trials=3, say=said.append)
    assert [each["state"] for each in found.report["trials"]] == ["complete"] * 3
    assert [text.split(":")[0] for text in said] == ["trial 0", "trial 1", "trial 2"]
    names = {
        json.loads(line).get("user_attr", {}).get("worker") for line in (out / "journal.jsonl").read_text().splitlines()
    } - {None}
    assert {name.partition(".")[2] for name in names} == {"1"}, "the first made them all before the second was asked"
    assert "trial 2" in (out / "workers" / "helper-1.log").read_text()
    assert not list((out / "workers").glob(".*.lock"))
    assert tune(spec_file, out=out, trials=3).report["trials"] == found.report["trials"]


def test_a_worker_that_dies_on_another_machine(
    spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, said = tmp_path / "study", list[str]()

    def dies(number: int) -> None:
        if number > 1:
            return
        (driver,) = (path.name[1 : -len(".lock")] for path in (out / "workers").glob(".*.lock"))
        problem = problem_of(spec_file, None)
        victim = opened(out, problem, searching(problem, "tpe", "halving"), f"{driver}.1")
        assert victim.claim(3) is not None
        for target in (out / "workers" / victim.name, out / "journal.jsonl"):
            lock_path(target).write_text(json.dumps({"pid": 17, "host": "another-machine", "token": "00"}))
        raise WorkerCrashedError("The worker died unexpectedly.\nmore")

    monkeypatch.setitem(sys.modules, "ray", PretendedRay(dies))
    found = tune_on("local", 1, spec_file, out=out, trials=2, say=said.append)
    assert [each["state"] for each in found.report["trials"]] == ["died", "complete", "complete"]
    assert found.report["trials"][1]["default"], "the configuration that was lost, again"
    assert said[:2] == [
        "A worker died (The worker died unexpectedly.); its trial is made again, and it is started again.",
        "trial 0: died: its process ended",
    ]
    with folder_lock(out / "journal.jsonl"):
        pass


def test_workers_that_die_too_often(spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(number: int) -> None:
        raise WorkerCrashedError("no memory")

    ray = PretendedRay(dies)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(
        TrainingError, match=r"Every worker died, .*the last time: no memory\. The same command goes on"
    ):
        tune_on("local", 2, spec_file, out=tmp_path / "study", trials=2, restarts=2)
    assert ray.tasks == 2 + 2 * 2


def test_what_a_worker_stops_with_on_purpose(spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", PretendedRay(lambda number: (tmp_path / "pairs.csv").unlink()))
    with pytest.raises(DataError, match=r"there is no file .pairs\.csv"):
        tune_on("local", 1, spec_file, out=tmp_path / "study", trials=2)


def test_pieces_come_in_order_and_few_wait() -> None:
    def refuses(piece: int) -> int:
        if piece == 7:
            raise DataError("piece 7 is too large")
        return piece * piece

    ray = PretendedRay()
    each = on_workers(ray, 2)
    assert list(each(lambda piece: piece * piece, range(50))) == [n * n for n in range(50)]
    assert ray.most_waiting == 4
    found = each(refuses, range(50))
    assert [next(found) for _ in range(7)] == [n * n for n in range(7)]
    with pytest.raises(DataError, match="^piece 7 is too large$"):
        next(found)

    def dies(number: int) -> None:
        raise WorkerCrashedError("no memory")

    with pytest.raises(TrainingError, match=r"died 4 times \(no memory\)"):
        list(on_workers(PretendedRay(dies), 2)(refuses, [1]))

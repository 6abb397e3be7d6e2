"""Shared studies and their journal (`towerkit.tuning.study`, `towerkit.tuning.journal`).

Pinned here:
- trial 0 is the default configuration, and no pruner gives it up;
- the configurations of a study are a function of its seed: one that was interrupted proposes what one that never was does;
- the trial of a process that is gone is failed, and its configuration tried again and not counted twice; that of a living one is
  left alone, and one that ends its trial and goes while another looks has not died;
- a trial that was given back is tried again;
- a grid is tried whole, each point once; successive halving gives up what lags;
- a journal whose last line was broken off by a kill is read and written on; several writers lose nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="needs towerkit[tune]")

from towerkit.core.errors import RunError
from towerkit.storage.lock import patiently
from towerkit.tuning.journal import Journal
from towerkit.tuning.space import space_of
from towerkit.tuning.study import Claimed, Searching, SharedStudy

SPACE = space_of({"a": {"int": [1, 64], "log": True}, "b": {"choice": [[1], [2, 3], None]}, "c": {"float": [0.0, 1.0]}})


def worth(values: dict[str, Any]) -> float:
    return 1.0 - abs(float(values["c"]) - 0.3) - abs(values["a"] - 20) / 100


def make(study: SharedStudy, claimed: Claimed, epochs: int = 0) -> str:
    """A trial whose figure rises to its worth."""
    for epoch in range(1, epochs + 1):
        if study.report(claimed, epoch, worth(dict(claimed.values)) - 1 / epoch):
            study.end(claimed, "pruned")
            return "pruned"
    study.end(claimed, "complete", worth(dict(claimed.values)))
    return "complete"


def run(study: SharedStudy, limit: int | None, most: int = 1000, epochs: int = 0) -> list[Claimed]:
    found: list[Claimed] = []
    with study.working():
        while len(found) < most and (claimed := study.claim(limit)) is not None:
            make(study, claimed, epochs)
            found.append(claimed)
    return found


def test_the_default_configuration_is_trial_0(tmp_path: Path):
    first, second = run(SharedStudy(tmp_path / "s", SPACE, Searching()), 2)
    assert first.number == 0 and first.is_default and dict(first.values) == SPACE.start()
    assert not second.is_default and dict(second.values) != SPACE.start()


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_study_that_goes_on_proposes_what_an_uninterrupted_one_does(tmp_path: Path, sampler: Any):
    how = Searching(sampler=sampler, seed=3)
    whole = run(SharedStudy(tmp_path / "whole", SPACE, how), 14)
    parts = run(SharedStudy(tmp_path / "parts", SPACE, how), 14, most=5)
    parts += run(SharedStudy(tmp_path / "parts", SPACE, how), 14)
    assert [each.values for each in parts] == [each.values for each in whole]
    assert len({str(each.values) for each in whole}) > 10
    other = run(SharedStudy(tmp_path / "other", SPACE, Searching(sampler=sampler, seed=4)), 3)
    assert other[1].values != whole[1].values


def test_a_grid_is_tried_whole(tmp_path: Path):
    space = space_of({"a": {"choice": [1, 2]}, "b": {"int": [1, 3]}})
    found: list[Claimed] = []
    study = SharedStudy(tmp_path / "g", space, Searching(sampler="grid"))
    with study.working():
        while (claimed := study.claim(None)) is not None:
            study.end(claimed, "complete", 1.0)
            found.append(claimed)
    values = [tuple(each.values.values()) for each in found]
    assert values[0] == (1, 2) and found[0].is_default
    assert sorted(values) == [(a, b) for a in (1, 2) for b in (1, 2, 3)]


def test_a_process_that_ends_its_trial_and_goes_is_not_one_that_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ours, theirs = (SharedStudy(tmp_path / "s", SPACE, Searching(), name) for name in ("ours", "theirs"))
    claimed = theirs.claim(1)
    assert claimed is not None

    ending = threading.Thread(target=theirs.end, args=(claimed, "complete", 0.5))

    def lives_until_it_has_told(name: str | None) -> bool:
        """Asked between the look at the trials and what is done about them."""
        ending.start()
        ending.join(timeout=1)
        return ending.is_alive()

    monkeypatch.setattr(ours, "_lives", lives_until_it_has_told)
    with ours.working():
        assert ours.claim(1) is None
    ending.join()
    assert [(each.state.name, each.value) for each in ours.trials()] == [("COMPLETE", 0.5)]


def test_successive_halving_gives_up_what_lags_but_never_the_default(tmp_path: Path):
    study = SharedStudy(tmp_path / "s", SPACE, Searching(sampler="random", epochs=27))
    with study.working():
        states = []
        while (claimed := study.claim(15)) is not None:
            states.append(make(study, claimed, epochs=27))
    assert states[0] == "complete"
    assert states.count("pruned") >= 5
    lengths = {max(each.intermediate_values) for each in study.trials() if each.state.name == "PRUNED"}
    assert lengths <= {3, 9, 27}


def _die_in_a_trial(folder: Path) -> None:
    study = SharedStudy(folder, SPACE, Searching())
    with study.working():
        assert study.claim(4) is not None
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_trial_of_a_killed_process_is_tried_again(tmp_path: Path):
    folder = tmp_path / "s"
    first = run(SharedStudy(folder, SPACE, Searching()), 4, most=1)
    victim = multiprocessing.get_context("spawn").Process(target=_die_in_a_trial, args=(folder,))
    victim.start()
    victim.join(60)
    assert victim.exitcode == -9
    study = SharedStudy(folder, SPACE, Searching())
    rest = run(study, 4)
    trials = study.trials()
    assert trials[1].state.name == "FAIL" and trials[1].user_attrs["reason"] == "its process ended"
    assert dict(rest[0].values) == SPACE.values_of(trials[1].params), "the same configuration again"
    assert trials[2].user_attrs["again"] == 1
    assert len(first) + len(rest) == 4, "the trial that died is not counted"
    assert not study.is_busy()


def test_the_trial_of_a_living_process_is_left_alone(tmp_path: Path):
    one, other = (SharedStudy(tmp_path / "s", SPACE, Searching()) for _ in range(2))
    with one.working(), other.working():
        claimed = one.claim(2)
        second = other.claim(2)
        assert claimed is not None and second is not None and second.number == 1
        assert other.claim(2) is None and other.is_busy()
        make(one, claimed)
        make(other, second)
    assert not one.is_busy()


def test_a_trial_that_was_given_back_is_tried_again(tmp_path: Path):
    study = SharedStudy(tmp_path / "s", SPACE, Searching())
    with study.working():
        claimed = study.claim(1)
        assert claimed is not None
        study.give_back(claimed)
        again = study.claim(1)
        assert again is not None and again.values == claimed.values and again.is_default
        make(study, again)
        assert study.claim(1) is None


LINE = {"op_code": 9, "n": 0}


def test_a_journal_goes_on_behind_a_line_that_was_broken_off(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    first = Journal(path)
    first.append_logs([LINE | {"n": 1}, LINE | {"n": 2}])
    with path.open("ab") as file:
        file.write(b'{"op_code": 9, "n": ')  # the process was killed here
    assert [log["n"] for log in first.read_logs(0)] == [1, 2]
    second = Journal(path)
    second.append_logs([LINE | {"n": 3}])
    for journal in (first, second, Journal(path)):
        assert [log["n"] for log in journal.read_logs(0)] == [1, 2, 3]
        assert [log["n"] for log in journal.read_logs(2)] == [3]
        assert list(journal.read_logs(3)) == []


def test_a_study_goes_on_behind_a_line_that_was_broken_off(tmp_path: Path):
    folder = tmp_path / "s"
    run(SharedStudy(folder, SPACE, Searching()), 2)
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"x","trial')
    assert [each.number for each in run(SharedStudy(folder, SPACE, Searching()), 4)] == [2, 3]


def _write(path: Path, number: int) -> None:
    journal = Journal(path)
    for n in range(20):
        journal.append_logs([LINE | {"writer": number, "n": n}])


def test_several_writers_lose_nothing(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: _write(path, number), range(3)))
    logs = list(Journal(path).read_logs(0))
    assert sorted((log["writer"], log["n"]) for log in logs) == [(w, n) for w in range(3) for n in range(20)]


def test_a_lock_that_another_holds_is_waited_for(tmp_path: Path):
    with (
        patiently(tmp_path / "x"),
        pytest.raises(RunError, match="is being written by process"),
        patiently(tmp_path / "x", seconds=0.05),
    ):
        pass

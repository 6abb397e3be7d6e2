"""Which processes of a study live (`towerkit.tuning.alive`), also on machines that cannot be asked.

Pinned here:
- a process lives as long as it holds its lock; one that another started ends with its starter;
- a process on another machine counts as living until its starter buries it, which frees the locks that it held and no others;
- a study goes on with the trial of a buried process, and writes its journal;
- a configuration that costs three processes is not tried again; one that was interrupted is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="needs towerkit[tune]")

from towerkit.storage.lock import Holder, folder_lock, holder_of, lock_path
from towerkit.tuning.alive import bury, bury_orphans, lives, living
from towerkit.tuning.space import space_of
from towerkit.tuning.study import DEATHS, Searching, SharedStudy

SPACE = space_of({"a": {"int": [1, 64], "log": True}})
GONE = 2**22 + 7
"""No process number: Linux gives none so high."""


def elsewhere(target: Path, pid: int = 17) -> None:
    """Let a process of another machine hold the lock of a target."""
    lock_path(target).write_text(json.dumps({"pid": pid, "host": "another-machine", "token": f"00{pid}"}))


def dead_here(target: Path) -> None:
    elsewhere(target)
    text = json.loads(lock_path(target).read_text()) | {"pid": GONE, "host": os.uname().nodename}
    lock_path(target).write_text(json.dumps(text))


def test_a_process_lives_as_long_as_it_holds_its_lock(tmp_path: Path) -> None:
    assert not lives(tmp_path, "a")
    with living(tmp_path, "a"):
        assert lives(tmp_path, "a")
    assert not lives(tmp_path, "a")


def test_a_process_ends_with_its_starter(tmp_path: Path) -> None:
    with living(tmp_path, "a"), living(tmp_path, "a.1"):
        assert lives(tmp_path, "a.1")
    with living(tmp_path, "b.1"):
        assert not lives(tmp_path, "b.1")


def test_only_its_starter_can_bury_a_process_of_another_machine(tmp_path: Path) -> None:
    with living(tmp_path, "a"):
        elsewhere(tmp_path / "workers" / "a.1")
        elsewhere(tmp_path / "journal.jsonl")
        elsewhere(tmp_path / "study", pid=18)
        bury_orphans(tmp_path)
        assert lives(tmp_path, "a.1")
        assert holder_of(tmp_path / "journal.jsonl") == Holder("another-machine", 17)
        bury(tmp_path, "a.1")
        assert not lives(tmp_path, "a.1")
        assert holder_of(tmp_path / "journal.jsonl") is None
        assert holder_of(tmp_path / "study") == Holder("another-machine", 18), "somebody else's"
        bury(tmp_path, "a.1")


def test_orphans_of_a_starter_that_died_here_are_buried(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    dead_here(tmp_path / "workers" / "a")
    elsewhere(tmp_path / "workers" / "a.1")
    elsewhere(tmp_path / "study")
    elsewhere(tmp_path / "workers" / "b", pid=19)
    elsewhere(tmp_path / "workers" / "b.1", pid=18)
    bury_orphans(tmp_path)
    assert holder_of(tmp_path / "workers" / "a.1") is None
    assert holder_of(tmp_path / "study") is None
    assert holder_of(tmp_path / "workers" / "b.1") == Holder("another-machine", 18), "its starter may live"


def test_a_study_goes_on_with_the_trial_of_a_buried_process(tmp_path: Path) -> None:
    driver, helper = (SharedStudy(tmp_path, SPACE, Searching(), name) for name in ("a", "a.1"))
    with driver.working():
        assert helper.claim(1) is not None
        elsewhere(tmp_path / "workers" / "a.1")
        elsewhere(tmp_path / "journal.jsonl")  # it died while it wrote
        bury(tmp_path, "a.1")
        again = driver.claim(1)
        assert again is not None
        assert again.is_default
        driver.end(again, "complete", 1.0)
    assert [each.state.name for each in driver.trials()] == ["FAIL", "COMPLETE"]


def test_a_configuration_that_costs_three_processes_is_not_tried_again(tmp_path: Path) -> None:
    study = SharedStudy(tmp_path, SPACE, Searching(), "a")
    with study.working():
        for number in range(DEATHS):
            helper = SharedStudy(tmp_path, SPACE, Searching(), f"a.{number}")  # dead as soon as it has a trial
            claimed = helper.claim(2)
            assert claimed is not None
            assert claimed.is_default
            if number == 1:
                helper.give_back(claimed)
                claimed = helper.claim(2)
        other = study.claim(2)
        assert other is not None
        assert not other.is_default
        study.end(other, "complete", 1.0)
        assert study.claim(2) is None, "the one that was given up counts as a trial"
    trials = study.trials()
    assert [each.state.name for each in trials] == ["FAIL"] * 4 + ["COMPLETE"]
    assert ["died" in each.user_attrs for each in trials] == [True, True, True, False, False]
    assert "is there too little memory" in trials[3].user_attrs["reason"]
    with folder_lock(tmp_path / "study"):
        pass

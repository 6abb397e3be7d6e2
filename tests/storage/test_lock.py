"""Invariants of the lock of a folder:

- one holder at a time, between processes and between threads of one process; the refusal names the process;
- the lock is gone after the block, also after an error;
- a lock of a dead process is taken over, and by exactly one of several writers that find it; so is what a process left
  that died while it took over; the clock has no say in it;
- a lock that we cannot judge (another machine) is never taken over, unless somebody says whose it is, and that this one is gone;
- who is patient gets it when it is free, and is refused when the time is over.
"""

from __future__ import annotations

import json
import os
import platform
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from towerkit.core.errors import RunError
from towerkit.storage import lock
from towerkit.storage.lock import (
    Holder,
    folder_lock,
    holder_of,
    lock_path,
    patiently,
    process_is_alive,
    take_from,
    writer_of,
)

HOLD = """
import sys
from towerkit.storage.lock import folder_lock
with folder_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""

COUNT = """
import sys, time
from towerkit.core.errors import RunError
from towerkit.storage.lock import folder_lock
start = float(sys.argv[2])
time.sleep(max(0.0, start - time.time()))
try:
    with folder_lock(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.readline()  # until all have answered
except RunError:
    print("refused", flush=True)
"""


def dead_pid() -> int:
    """The number of a process that has just ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def write_lock(target: Path, pid: int, host: str | None = None, token: str = "0123456789abcdef") -> Path:
    path = lock_path(target)
    path.write_text(json.dumps({"pid": pid, "host": host or platform.node(), "token": token}))
    return path


def test_lock_is_there_inside_and_gone_after(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "run") as path:
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert os.listdir(tmp_path) == []


def test_nothing_of_a_lock_is_left_in_the_process(tmp_path: Path) -> None:
    def lowest_free_descriptor() -> int:
        descriptor = os.open(os.devnull, os.O_RDONLY)
        os.close(descriptor)
        return descriptor

    before, held = lowest_free_descriptor(), set(lock._HELD)
    with folder_lock(tmp_path / "run") as path:
        assert lowest_free_descriptor() == before
        assert len(lock._HELD) == len(held) + 1
        assert stat.S_IMODE(path.stat().st_mode) & 0o111 == 0  # a text, not a program
        with pytest.raises(RunError, match="being written"), folder_lock(tmp_path / "run"):
            pass
        assert len(lock._HELD) == len(held) + 1
    assert held == lock._HELD
    assert lowest_free_descriptor() == before


def test_lock_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path / "run"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_second_process_is_refused_and_told_the_number(tmp_path: Path) -> None:
    target = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunError, match=rf"folder 'run' is being written by process {holder.pid} \(lock: .*\.run\.lock"):
        folder_lock(target).__enter__()
    holder.communicate("\n")
    with folder_lock(target):
        pass


def test_same_process_is_refused_too(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "run"):
        with pytest.raises(RunError, match=f"written by process {os.getpid()} "), folder_lock(tmp_path / "run"):
            pass
        assert lock_path(tmp_path / "run").exists()  # the refused one did not remove it
        with folder_lock(tmp_path / "other"):
            pass


@pytest.mark.parametrize("whose", ["dead", "an earlier process with our number"])
def test_stale_lock_is_taken_over(tmp_path: Path, whose: str) -> None:
    write_lock(tmp_path / "run", dead_pid() if whose == "dead" else os.getpid())
    with folder_lock(tmp_path / "run") as path:
        assert json.loads(path.read_text())["token"] != "0123456789abcdef"
    assert os.listdir(tmp_path) == []


def test_who_writes_a_folder_is_told_of_living_processes_of_this_machine(tmp_path: Path) -> None:
    target = tmp_path / "run"
    assert writer_of(target) is None
    with folder_lock(target):
        assert writer_of(target) == os.getpid()
    for pid, host in ((dead_pid(), None), (os.getpid(), "another machine"), (0, None)):
        write_lock(target, pid, host)
        assert writer_of(target) is None


def test_who_holds_a_folder_is_told_of_any_machine(tmp_path: Path) -> None:
    target = tmp_path / "run"
    assert holder_of(target) is None
    with folder_lock(target):
        assert holder_of(target) == Holder(platform.node(), os.getpid())
    write_lock(target, 17, host="elsewhere")
    assert holder_of(target) == Holder("elsewhere", 17)
    write_lock(target, 0)
    assert holder_of(target) is None


def test_a_lock_is_taken_from_who_is_gone_and_from_nobody_else(tmp_path: Path) -> None:
    target = tmp_path / "run"
    take_from(target, Holder("elsewhere", 17))  # there is none
    path = write_lock(target, 17, host="elsewhere")
    for other in (Holder("elsewhere", 18), Holder("nowhere", 17)):
        take_from(target, other)
        assert path.exists()
    take_from(target, Holder("elsewhere", 17))
    assert os.listdir(tmp_path) == []


def test_who_is_patient_gets_a_lock_that_becomes_free(tmp_path: Path) -> None:
    target, held, seen = tmp_path / "run", threading.Event(), []

    def hold() -> None:
        with folder_lock(target):
            held.set()
            time.sleep(0.3)
            seen.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    with patiently(target):
        seen.append("second")
        assert holder_of(target) == Holder(platform.node(), os.getpid())
    thread.join()
    assert seen == ["first", "second"]
    assert os.listdir(tmp_path) == []


def test_patience_ends_and_a_block_that_fails_lets_go(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with folder_lock(target), pytest.raises(RunError), patiently(target, seconds=0.02):
        pytest.fail("two have it")
    with pytest.raises(KeyError, match="inside"), patiently(target):
        raise KeyError("inside")
    assert os.listdir(tmp_path) == []


def test_lock_of_another_machine_is_kept(tmp_path: Path) -> None:
    path = write_lock(tmp_path / "run", dead_pid(), host="elsewhere")
    with pytest.raises(RunError, match="on the machine 'elsewhere'"), folder_lock(tmp_path / "run"):
        pass
    assert path.exists()


@pytest.mark.parametrize("days", [-1000, 0, 1000])
def test_a_lock_that_never_got_its_number_is_taken_over_after_a_second(
    tmp_path: Path, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lock_path(tmp_path / "run")
    clock = [0.0]
    monkeypatch.setattr(lock.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: clock.append(clock.pop() + seconds))
    assert 0.01 <= lock._PAUSE_S <= 0.1
    monkeypatch.setattr(lock, "_PAUSE_S", 0.25)
    path.write_text("")
    os.utime(path, (time.time() + days * 86_400,) * 2)  # a clock that was put forward or back says nothing
    with folder_lock(tmp_path / "run"):
        assert clock[0] == 1.25  # not yet at 1.0
    assert os.listdir(tmp_path) == []


def test_a_lock_that_never_got_its_number_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its writer may be slow; without the wait it would lose its lock."""
    path = lock_path(tmp_path / "run")
    path.write_text("")
    monkeypatch.setattr(lock, "_PAUSE_S", 0.0)
    with pytest.raises(RunError, match=r"\.run\.lock did not become free in 40 attempts; .* delete that file"):
        folder_lock(tmp_path / "run").__enter__()
    assert path.exists()


def test_a_token_that_is_no_name_is_taken_over_without_leaving_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    remove = lock._remove

    def noted(path: Path) -> None:
        removed.append(path.name)
        remove(path)

    monkeypatch.setattr(lock, "_remove", noted)
    write_lock(tmp_path / "run", dead_pid(), token="../../a-b:" + "c" * 300)
    with folder_lock(tmp_path / "run"):
        pass
    assert removed == [".run.lock", ".run.lock.claim-a-b" + "c" * 45, ".run.lock"]
    assert os.listdir(tmp_path) == []


CLAIMS = {
    "a claim": {"0123456789abcdef": "one"},
    "a claim on a claim": {"0123456789abcdef": "one", "one": "two"},
    "a claim without its number": {"0123456789abcdef": ""},
    "a claim on a lock that is gone": {"other": "one"},
}


@pytest.mark.parametrize("claims", CLAIMS.values(), ids=list(CLAIMS))
def test_what_died_while_it_took_over_is_taken_over(tmp_path: Path, claims: dict[str, str]) -> None:
    gone = dead_pid()
    path = write_lock(tmp_path / "run", gone)
    for on, token in claims.items():
        claim = path.with_name(f".run.lock.claim-{on}")
        claim.write_text(json.dumps({"pid": gone, "host": platform.node(), "token": token}) if token else "")
    with folder_lock(tmp_path / "run"):
        assert os.listdir(tmp_path) == [".run.lock"]
    assert os.listdir(tmp_path) == []


def test_a_claim_of_a_living_process_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lock(tmp_path / "run", dead_pid())
    claim = path.with_name(".run.lock.claim-0123456789abcdef")
    claim.write_text(json.dumps({"pid": os.getppid(), "host": platform.node(), "token": "x"}))
    monkeypatch.setattr(lock, "_PAUSE_S", 0.0)
    with pytest.raises(RunError, match=r"did not become free in 40 attempts"):
        folder_lock(tmp_path / "run").__enter__()
    assert path.exists() and claim.exists()


def test_a_slow_writer_does_not_remove_the_lock_of_a_faster_one(tmp_path: Path) -> None:
    """It read a stale lock, slept, and another writer has taken over since: the claim makes it look again."""
    path = write_lock(tmp_path / "run", dead_pid())
    stale = lock._read(path)
    assert stale is not None
    with folder_lock(tmp_path / "run"):
        taken_over = path.read_bytes()
        lock._remove_stale(path, stale, lock._Holder(os.getpid(), platform.node(), "slow"), {})
        assert path.read_bytes() == taken_over
    assert os.listdir(tmp_path) == []


def test_of_several_writers_that_find_a_stale_lock_one_wins(tmp_path: Path) -> None:
    write_lock(tmp_path / "run", dead_pid())
    start = str(time.time() + 0.5)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT, str(tmp_path / "run"), start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    answers = sorted(racer.stdout.readline().strip() for racer in racers if racer.stdout)
    for racer in racers:
        racer.communicate("\n")
    assert answers == ["held", "refused", "refused", "refused", "refused"]
    assert os.listdir(tmp_path) == []


def test_missing_parent_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"Cannot create the lock .*\.run\.lock \(No such file"):
        folder_lock(tmp_path / "no" / "run").__enter__()


def test_liveness() -> None:
    assert process_is_alive(os.getpid()) is True
    assert process_is_alive(dead_pid()) is False
    assert process_is_alive(0) is False
    assert process_is_alive(-1) is False
    assert process_is_alive(10**30) is False
    assert process_is_alive(1)  # belongs to someone else, or to us


@pytest.mark.skipif(os.name == "nt", reason="Windows is asked in another way")
def test_asking_whether_a_process_lives_sends_it_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    assert process_is_alive(1) is process_is_alive(77) is True
    assert sent == [(1, 0), (77, 0)]


def test_a_lock_that_cannot_be_read_or_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_path(tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match=r"Cannot read the lock .*\.folder\.lock \(Is a directory\); delete it"):
        folder_lock(tmp_path / "folder").__enter__()

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RunError, match=r"Cannot write the lock .*\.run\.lock \(No space left on device\); free some"):
        folder_lock(tmp_path / "run").__enter__()
    assert os.listdir(tmp_path) == [".folder.lock"]

    def full_and_removed(descriptor: int, data: bytes) -> int:
        lock_path(tmp_path / "run").unlink()  # by someone who took us for dead
        return full(descriptor, data)

    monkeypatch.setattr(os, "write", full_and_removed)
    with pytest.raises(RunError, match=r"Cannot write the lock .*\.run\.lock \(No space left on device\); free some"):
        folder_lock(tmp_path / "run").__enter__()


def test_a_lock_released_between_two_looks_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create, answers = lock._create, iter([False, True])
    monkeypatch.setattr(lock, "_create", lambda path, me: next(answers) and create(path, me))
    with folder_lock(tmp_path / "run") as path:
        assert path.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_release_the_lock_of_its_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom towerkit.storage.lock import folder_lock\n"
        "with folder_lock(sys.argv[1]) as path:\n"
        "    if os.fork():\n"
        "        status = os.wait()[1]\n"
        "        print(status, path.exists())\n"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
    assert answer.stdout == "0 True\n", answer.stderr
    assert os.listdir(tmp_path) == []


def test_a_lock_that_another_took_over_is_not_released(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "run") as path:
        other = write_lock(tmp_path / "run", os.getppid())
    assert path == other and path.exists()
    path.write_text("")
    path.unlink()
    with folder_lock(tmp_path / "run") as path:
        path.unlink()
        path.mkdir()  # cannot be read any more: not our affair at the end
    assert path.is_dir()


def test_someone_elses_process_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refused)
    assert process_is_alive(10)


def test_a_parent_that_cannot_be_listed_is_locked_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> list[str]:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", refused)
        with folder_lock(tmp_path / "run") as path:
            assert path.exists()
    assert os.listdir(tmp_path) == []

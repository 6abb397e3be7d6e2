"""Invariants of atomic files and folders:

- a target is absent, wholly old or wholly new: after an error, a failed system call, or a kill at any of them;
- in the moment between two renames both versions are complete, readers say so, and the next writer finishes;
- the check that shows this catches a writer without the mechanism (the negative control);
- what is not a Run is never overwritten; a second writer is refused; nothing is left beside the target.
"""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from towerkit.core.errors import RunError
from towerkit.storage import atomic
from towerkit.storage.atomic import (
    atomic_file,
    atomic_folder,
    atomic_write_bytes,
    check_target,
    is_run,
    recover,
    why_missing,
)
from towerkit.storage.manifest import read_manifest, verify, write_manifest

posix_only = pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")
WINDOW = "between two renames"

# Stops a writer at its n-th system call, for n = 1, 2, … until it gets through; each in its own folder. The parent
# forks, so a writer costs milliseconds. Audit events come before the call that they announce.
SWEEP = """
import errno, os, shutil, signal, sys
from pathlib import Path
from towerkit.core.errors import RunError
from towerkit.storage.atomic import atomic_folder
from towerkit.storage.manifest import write_manifest

EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.listdir", "os.scandir"}
os.fsync = lambda descriptor: None  # a killed process loses nothing that it wrote; only a power cut needs the flush
root, how, mode, has_old = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "old"

def fill(folder, kind):
    (folder / "part").mkdir()
    (folder / "weights.bin").write_bytes(kind.encode() * 5000)
    (folder / "part" / "words.txt").write_text(kind)
    write_manifest(folder, kind=kind)

def write(target, kind):
    if how == "atomic":
        with atomic_folder(target, overwrite=has_old) as folder:
            fill(folder, kind)
    else:
        if target.exists():
            shutil.rmtree(target)
        target.mkdir()
        fill(target, kind)

def stop_at(n):
    count = 0
    def hook(event, args):
        nonlocal count
        if event in EVENTS:
            count += 1
            if count == n and mode == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if count == n:
                raise OSError(errno.ENOSPC, "No space left on device")
    sys.addaudithook(hook)
    return lambda: count < n

for n in range(1, 200):
    target = root / str(n) / "run"
    target.parent.mkdir(parents=True)
    if has_old:
        with atomic_folder(target) as folder:
            fill(folder, "old")
    child = os.fork()
    if child == 0:
        got_through = stop_at(n)
        try:
            write(target, "new")
        except (OSError, RunError):
            os._exit(1)
        except BaseException as error:
            print(n, repr(error), flush=True)
            os._exit(3)
        os._exit(0 if got_through() else 1)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
        break
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 3:
        sys.exit(3)
print(n)
"""

LOOP = """
import sys
from pathlib import Path
from towerkit.storage.atomic import atomic_folder
from towerkit.storage.manifest import write_manifest
while True:
    with atomic_folder(sys.argv[1], overwrite=True) as folder:
        for number in range(20):
            (folder / f"{number}.bin").write_bytes(bytes([number]) * 20_000)
        write_manifest(folder, kind="new")
    print("written", flush=True)
"""


@pytest.fixture(autouse=True)
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Spare the disk: note which files are flushed, and which folders renamed when, instead of flushing."""
    events: list[object] = []
    rename = os.rename

    def noted_rename(source: Path, target: Path) -> None:
        events.append((Path(source).name, Path(target).name))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", lambda descriptor: events.append(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(os, "rename", noted_rename)
    return events


def make_run(target: Path, kind: str, *, overwrite: bool = False) -> None:
    with atomic_folder(target, overwrite=overwrite) as folder:
        (folder / "weights.bin").write_bytes(kind.encode() * 100)
        write_manifest(folder, kind=kind)


def kind_after_stop(target: Path, *, had_old: bool) -> str:
    """Which version is there after a writer was stopped; an error if it is neither, or if nothing says what to do."""
    if target.exists():
        return verify(target).kind
    if not had_old:
        return "absent"
    with pytest.raises(RunError, match=WINDOW):
        read_manifest(target)
    assert recover(target)
    assert verify(target).kind == "new"
    return WINDOW


def sweep(root: Path, how: str, mode: str, old: bool) -> list[Path]:
    """Run the writer once per stopping point; the targets in order, the last of them written without a stop."""
    command = [sys.executable, "-c", SWEEP, str(root), how, mode, "old" if old else "fresh"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return [root / str(number) / "run" for number in range(1, int(answer.stdout) + 1)]


@posix_only
@pytest.mark.parametrize("old", [False, True], ids=["fresh", "overwrite"])
def test_killed_at_any_call_the_target_is_old_new_or_absent(tmp_path: Path, old: bool) -> None:
    targets = sweep(tmp_path, "atomic", "kill", old)
    found = [kind_after_stop(target, had_old=old) for target in targets]
    assert len(targets) > 15  # the sweep did stop it in many places
    assert set(found) == ({"old", WINDOW, "new"} if old else {"absent", "new"})
    order = ["absent", "old", WINDOW, "new"]
    assert [order.index(kind) for kind in found] == sorted(order.index(kind) for kind in found)
    for target in targets:  # the next writer is not disturbed by what is left, and removes it
        make_run(target, "next", overwrite=True)
        assert verify(target).kind == "next"
        assert os.listdir(target.parent) == ["run"]


@posix_only
@pytest.mark.parametrize("old", [False, True], ids=["fresh", "overwrite"])
def test_when_any_call_fails_the_target_is_old_new_or_absent(tmp_path: Path, old: bool) -> None:
    targets = sweep(tmp_path, "atomic", "fail", old)
    found = [kind_after_stop(target, had_old=old) for target in targets]
    assert len(targets) > 15
    assert set(found) == ({"old", "new"} if old else {"absent", "new"})  # a living writer leaves no gap
    for target in targets:
        make_run(target, "next", overwrite=True)
        assert os.listdir(target.parent) == ["run"]


@posix_only
@pytest.mark.parametrize("old", [False, True], ids=["fresh", "overwrite"])
def test_negative_control_direct_writing_is_caught(tmp_path: Path, old: bool) -> None:
    caught = 0
    for target in sweep(tmp_path, "direct", "kill", old):
        try:
            kind_after_stop(target, had_old=old)
        except (RunError, AssertionError, pytest.fail.Exception):
            caught += 1
    assert caught >= 3


@posix_only
def test_killed_at_random_times_the_target_is_whole(tmp_path: Path) -> None:
    target, draw = tmp_path / "run", random.Random(7)
    make_run(target, "old")
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", LOOP, str(target)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        time.sleep(draw.uniform(0.0, 0.1))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert kind_after_stop(target, had_old=True) in ("new", WINDOW)
    make_run(target, "next", overwrite=True)
    assert os.listdir(tmp_path) == ["run"]


def test_a_parent_that_is_a_file_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file is a file, so no folder 'run' can be made in it"):
        check_target(tmp_path / "file" / "run")
    with pytest.raises(RunError, match=r"file is a file, so no folder 'deep' can be made in it"):
        check_target(tmp_path / "file" / "deep" / "run")
    with pytest.raises(RunError, match=r"file is a file, so no folder 'run' can be made in it"):
        atomic_folder(tmp_path / "file" / "run").__enter__()


def test_a_run_that_another_wrote_while_we_came_to_the_lock_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "first", "first")
    take = atomic.folder_lock

    def late(target: Path) -> Any:
        (tmp_path / "first").rename(target)
        return take(target)

    monkeypatch.setattr(atomic, "folder_lock", late)
    with pytest.raises(RunError, match="run already exists; choose another"), atomic_folder(tmp_path / "run"):
        pytest.fail("the block must not start")
    assert verify(tmp_path / "run").kind == "first"


def test_what_claims_to_be_a_run(tmp_path: Path) -> None:
    assert is_run(tmp_path / "absent") is False
    manifest = tmp_path / "manifest.json"
    manifest.mkdir()
    assert is_run(tmp_path) is False
    manifest.rmdir()
    content = b'{"format": 9, "towerkit": "9", "files": {}, "more": 1}'
    cap = 4 << 20  # as large as a manifest may be
    for size, expected in {len(content): True, cap: True, cap + 1: False}.items():
        manifest.write_bytes(b" " * (size - len(content)) + content)
        assert is_run(tmp_path) is expected, size
    manifest.write_text('{"format": 1, "towerkit": "0.1", "files": {}}')
    assert is_run(tmp_path) is True
    for damaged in (b"[" * 100_000, b"\xff", content.replace(b"files", b"file"), b"7"):
        manifest.write_bytes(damaged)
        assert is_run(tmp_path) is False


def test_folder_appears_whole_with_missing_parents(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "run"
    with atomic_folder(target) as folder:
        assert folder.parent == target.parent
        assert folder.name.startswith(f".run.tmp-{os.getpid()}-")
        (folder / "x").write_text("1")
        assert not target.exists()
    assert (target / "x").read_text() == "1"
    assert os.listdir(target.parent) == ["run"]


@posix_only
def test_everything_is_flushed_before_the_first_rename_and_the_parent_after(
    tmp_path: Path, flushed: list[object]
) -> None:
    with atomic_folder(tmp_path / "run") as folder:
        (folder / "part").mkdir()
        (folder / "part" / "x").write_text("1")
        (folder / "y").write_text("2")
        leaf, part, other, top = (
            path.stat().st_ino for path in (folder / "part" / "x", folder / "part", folder / "y", folder)
        )
    renamed = flushed.index((folder.name, "run"))
    assert sorted(flushed[:renamed], key=str) == sorted([leaf, part, other, top], key=str)
    assert flushed.index(leaf) < flushed.index(part) < renamed - 1 and flushed[renamed - 1] == top  # the leaves first
    assert flushed[renamed + 1 :] == [tmp_path.stat().st_ino]


@posix_only
def test_an_overwrite_is_flushed_between_its_renames_too(tmp_path: Path, flushed: list[object]) -> None:
    make_run(tmp_path / "run", "old")
    flushed.clear()
    make_run(tmp_path / "run", "new", overwrite=True)
    parent = tmp_path.stat().st_ino
    renames = [place for place, event in enumerate(flushed) if isinstance(event, tuple)]
    aside, into, away = renames[-3:]
    assert [flushed[aside][0], flushed[into][1]] == ["run", "run"]  # type: ignore[index]
    assert flushed[aside][1] == flushed[away][0]  # type: ignore[index]
    assert flushed[aside + 1 : into] == flushed[into + 1 : away] == [parent]


@posix_only
def test_a_file_is_flushed_and_then_its_folder(tmp_path: Path, flushed: list[object]) -> None:
    with atomic_file(tmp_path / "file") as temporary:
        temporary.write_bytes(b"x")
        inode = temporary.stat().st_ino
    assert flushed == [inode, tmp_path.stat().st_ino]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    def lowest_free() -> int:
        descriptor = os.open(os.devnull, os.O_RDONLY)
        os.close(descriptor)
        return descriptor

    before = lowest_free()
    atomic_write_bytes(tmp_path / "file", b"x")
    assert lowest_free() == before
    make_run(tmp_path / "run", "new")
    assert lowest_free() == before


def test_error_in_the_block_keeps_the_old_run(tmp_path: Path) -> None:
    make_run(tmp_path / "run", "old")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "run", overwrite=True) as folder:
        (folder / "x").write_text(str(1 / 0))
    assert verify(tmp_path / "run").kind == "old"
    assert os.listdir(tmp_path) == ["run"]


def test_overwrite_replaces_a_run(tmp_path: Path) -> None:
    make_run(tmp_path / "run", "old")
    make_run(tmp_path / "run", "new", overwrite=True)
    assert verify(tmp_path / "run").kind == "new"
    assert os.listdir(tmp_path) == ["run"]


def test_failed_second_rename_puts_the_old_run_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run", "old")
    rename = os.rename

    def no_new(source: Path, target: Path) -> None:
        if ".tmp-" in str(source):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", no_new)
    with pytest.raises(RunError, match=r"Cannot put .*run in place: Permission denied"):
        make_run(tmp_path / "run", "new", overwrite=True)
    assert verify(tmp_path / "run").kind == "old"
    assert os.listdir(tmp_path) == ["run"]


def test_failed_first_rename_leaves_the_old_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run", "old")
    monkeypatch.setattr(os, "rename", refusing(OSError(5, "Input/output error")))
    with pytest.raises(RunError, match=r"Cannot put .*run in place: Input/output error; check the free space"):
        make_run(tmp_path / "run", "new", overwrite=True)
    assert verify(tmp_path / "run").kind == "old"
    assert os.listdir(tmp_path) == ["run"]


def test_a_stranger_in_the_gap_between_the_renames_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "run", "old")
    rename = os.rename

    def someone_is_there(source: Path, target: Path) -> None:
        if ".tmp-" in str(source):
            (target / "theirs").mkdir(parents=True)
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", someone_is_there)
    with pytest.raises(RunError, match=r"Cannot put .*run in place: Permission denied"):
        make_run(tmp_path / "run", "new", overwrite=True)
    assert os.listdir(tmp_path / "run") == ["theirs"]
    [aside] = tmp_path.glob(".run.old-*")
    assert verify(aside).kind == "old"


def test_what_cannot_be_put_back_is_kept_in_both_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run", "old")
    rename = os.rename

    def only_aside(source: Path, target: Path) -> None:
        if ".old-" not in str(target):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", only_aside)
        with pytest.raises(RunError, match=r"Cannot put .*run in place: Permission denied"):
            make_run(tmp_path / "run", "new", overwrite=True)
    kinds = {verify(path).kind for path in tmp_path.iterdir()}
    assert kinds == {"old", "new"}
    assert recover(tmp_path / "run")
    assert verify(tmp_path / "run").kind == "new"
    assert os.listdir(tmp_path) == ["run"]
    assert not recover(tmp_path / "run")


def test_what_cannot_be_removed_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run", "old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", refusing(PermissionError(13, "Permission denied")))
        make_run(tmp_path / "run", "new", overwrite=True)
        assert recover(tmp_path / "run") is False
    assert verify(tmp_path / "run").kind == "new"
    assert len(list(tmp_path.glob(".run.tmp-*"))) == 1  # no reader takes it for a version
    make_run(tmp_path / "run", "next", overwrite=True)
    assert os.listdir(tmp_path) == ["run"]


def test_an_error_of_the_system_inside_the_block_is_a_run_error(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match=r"Cannot write .*run: No space left; check the free space"),
        atomic_folder(tmp_path / "run"),
    ):
        raise OSError(28, "No space left")
    with pytest.raises(RunError, match=r"Cannot write .*x: No space left"), atomic_file(tmp_path / "x"):
        raise OSError(28, "No space left")
    with pytest.raises(RunError, match=r"Cannot write .*x: without a number"), atomic_file(tmp_path / "x"):
        raise OSError("without a number")
    assert os.listdir(tmp_path) == []


def refusing(error: OSError) -> Callable[..., Any]:
    """A system call that fails."""

    def refuse(*arguments: object, **named: object) -> Any:
        raise error

    return refuse


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run", "old")
    monkeypatch.setattr(os, "listdir", refusing(PermissionError(13, "Permission denied")))
    assert why_missing(tmp_path / "other") is None  # the reader's own error says more
    with pytest.raises(RunError, match=rf"Cannot list the folder {tmp_path}: Permission denied"):
        check_target(tmp_path / "other")
    with pytest.raises(RunError, match=r"Cannot clean up what an interrupted writer left beside .*run: Permission"):
        recover(tmp_path / "run")
    atomic_write_bytes(tmp_path / "file", b"x")  # needs no list
    assert (tmp_path / "file").read_bytes() == b"x"


def test_killed_writers_of_files_leave_nothing_for_long(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here, elsewhere = atomic._machine(), "0" * 8
    kept = {f".x.tmp-{os.getppid()}-{here}00000000", f".x.tmp-{gone.pid}-{elsewhere}00000000"}
    for name in [*kept, f".x.tmp-{gone.pid}-{here}00000000"]:
        (tmp_path / name).write_text("half")
    atomic_write_bytes(tmp_path / "x", b"whole")
    assert set(os.listdir(tmp_path)) == {*kept, "x"}
    assert len(here) == 8 and atomic._new_token().startswith(here) and len(atomic._new_token()) == 16


def test_disks_that_cannot_flush_a_folder_are_used_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, is_fine in {errno.EINVAL: True, errno.ENOTSUP: True, errno.EIO: False}.items():

        def flush(descriptor: int, number: int = number) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", flush)
        if is_fine:
            atomic_write_bytes(tmp_path / str(number), b"x")
        else:
            with pytest.raises(RunError, match=r"Cannot write .*: Input/output error"):
                atomic_write_bytes(tmp_path / str(number), b"x")


@posix_only
def test_a_link_in_the_folder_is_not_followed(tmp_path: Path, flushed: list[object]) -> None:
    (tmp_path / "outside").write_text("x")
    with atomic_folder(tmp_path / "run") as folder:
        (folder / "link").symlink_to(tmp_path / "outside")
        (folder / "dangling").symlink_to(tmp_path / "nowhere")
    assert (tmp_path / "outside").stat().st_ino not in flushed


def test_a_living_writer_between_its_renames_is_named(tmp_path: Path) -> None:
    token = "0123456789abcdef"
    for role in ("old", "tmp"):
        make_run(tmp_path / role, role)
    for role in ("old", "tmp"):
        (tmp_path / role).rename(tmp_path / f".run.{role}-{os.getppid()}-{token}")
    assert why_missing(tmp_path / "run") == f"process {os.getppid()} is replacing it at this moment; try again."
    assert recover(tmp_path / "run") is False
    assert len(os.listdir(tmp_path)) == 2
    (tmp_path / f".run.tmp-{os.getppid()}-{token}").rename(tmp_path / "elsewhere")
    assert why_missing(tmp_path / "run") == f"process {os.getppid()} is replacing it at this moment; try again."


def test_existing_target_is_refused_before_any_work(tmp_path: Path) -> None:
    make_run(tmp_path / "run", "old")
    message = r"run already exists; choose another folder or pass --overwrite"
    with pytest.raises(RunError, match=message):
        check_target(tmp_path / "run")
    with pytest.raises(RunError, match=message), atomic_folder(tmp_path / "run"):
        pytest.fail("the block must not start")
    check_target(tmp_path / "run", overwrite=True)
    check_target(tmp_path / "absent" / "run")
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("content", [None, "", "{}", '{"manifest_version": 3, "name": "a browser extension"}', "[1]"])
def test_what_is_not_a_run_is_never_overwritten(tmp_path: Path, content: str | None) -> None:
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "chapter1.txt").write_text("years of work")
    if content is not None:
        (target / "manifest.json").write_text(content)
    with pytest.raises(RunError, match=r"thesis exists and is not a Run \(it has no manifest.json written by towerkit"):
        make_run(target, "new", overwrite=True)
    assert (target / "chapter1.txt").read_text() == "years of work"


def test_files_links_roots_and_null_characters_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "run", "old")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    cases = {"file": "is a file", "link": "is a symbolic link", "dangling": "is a symbolic link"}
    for name, message in cases.items():
        with pytest.raises(RunError, match=f"{name} {message}, not a Run, and is never overwritten"):
            check_target(tmp_path / name, overwrite=True)
    with pytest.raises(RunError, match="is the root of a disk"):
        check_target(tmp_path.anchor, overwrite=True)
    with pytest.raises(RunError, match="holds a null character"):
        check_target(tmp_path / "a\0b")


def test_second_writer_is_refused_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "run") as folder:
        code = "import sys; from towerkit.storage.atomic import *\nwith atomic_folder(sys.argv[1]): pass"
        second = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
        assert f"RunError: The folder 'run' is being written by process {os.getpid()} " in second.stderr
        with pytest.raises(RunError, match=f"is being written by process {os.getpid()} "):
            make_run(tmp_path / "run", "other")
        write_manifest(folder, kind="first")
    assert verify(tmp_path / "run").kind == "first"
    assert os.listdir(tmp_path) == ["run"]


def test_stop_between_renames_is_told_refused_and_recovered(tmp_path: Path) -> None:
    """By hand, the state that the sweep finds: the old version aside, the new one complete under its temporary name."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    new, old = (f".run.{role}-{ended.pid}-0123456789abcdef" for role in ("tmp", "old"))
    make_run(tmp_path / new, "new")
    make_run(tmp_path / old, "old")
    told = rf"process {ended.pid} was stopped .* beside it are '{new}' \(new\) and '{old}' \(old\)"
    with pytest.raises(RunError, match=told):
        read_manifest(tmp_path / "run")
    with pytest.raises(RunError, match="run already exists: " + told):
        check_target(tmp_path / "run")
    check_target(tmp_path / "run", overwrite=True)
    assert recover(tmp_path / "run")
    assert verify(tmp_path / "run").kind == "new"
    assert os.listdir(tmp_path) == ["run"]
    assert not recover(tmp_path / "run")


def test_old_version_alone_comes_back(tmp_path: Path, flushed: list[object]) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    make_run(tmp_path / f".run.old-{ended.pid}-0123456789abcdef", "old")
    flushed.clear()
    told = (
        rf"process {ended.pid} was stopped .* versions beside it are '.run.old-{ended.pid}-0123456789abcdef' \(old\)\."
    )
    assert re.match(told, why_missing(tmp_path / "run") or "")
    assert recover(tmp_path / "run") is True
    assert flushed == [(f".run.old-{ended.pid}-0123456789abcdef", "run"), tmp_path.stat().st_ino]
    assert verify(tmp_path / "run").kind == "old"


def test_leftovers_of_living_writers_and_strangers_files_stay(tmp_path: Path) -> None:
    parent = os.getppid()  # a process that lives and is not ours
    kept = [f".run.tmp-{parent}-0123456789abcdef", ".run.tmp-notes", ".run2.tmp-1-0123456789abcdef", "run.tmp-1"]
    for name in kept:
        (tmp_path / name).mkdir()
    make_run(tmp_path / "run", "new")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "run"])
    assert why_missing(tmp_path / "run") is None


def test_atomic_file_replaces_or_keeps(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "x.bin"
    atomic_write_bytes(path, b"one")
    atomic_write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_bytes(b"x" * (temporary.write_bytes(b"half") // 0))
    assert path.read_bytes() == b"two"
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match=r"Cannot write .*folder: "):
        atomic_write_bytes(tmp_path / "folder", b"x")
    assert os.listdir(path.parent) == ["x.bin"]
    assert sorted(os.listdir(tmp_path)) == ["deep", "folder"]

"""A disk that is full, a folder that is read-only, a clock that goes back, two processes, locks of the dead: for real.

    python tests/faults/bad_disk.py [--case full] [--broken "bare errors"]

The full disk and the read-only one are file systems of their own, mounted where only the child process sees them; without
the right to mount, a limit on the size of files stands in for the first, and the second is skipped. Prints a row per case.
With ``--broken`` a mechanism is taken away, and the script ends well only if that is noticed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import platform
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from worlds import BROKEN, MEMORY, broken, outcome, seed_of, world, write

from towerkit.experiment import checkpoints_of
from towerkit.run_writer import train_run
from towerkit.storage.lock import lock_path
from towerkit.training.checkpoint import checkpoint_folder
from towerkit.training.progress import Silent, Step

NEW_MOUNTS, NEW_USERS, READ_ONLY, REMOUNT = 0x20000, 0x10000000, 1, 32


class Skipped(Exception):
    """This machine does not let us."""


class Counted(Silent):
    """Counts steps."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self, step: Step) -> None:
        """One more."""
        self.steps += 1


def forked(work: Callable[[], Any]) -> Any:
    """What ``work`` gives in a child process, through JSON; raises what it raised, by name."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            told: dict[str, Any] = {"result": work()}
        except Skipped as error:
            told = {"skipped": str(error)}
        except BaseException as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(writing, "w") as pipe:
            json.dump(told, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    found = json.loads(text or '{"error": "the child said nothing"}')
    if "skipped" in found:
        raise Skipped(found["skipped"])
    if "error" in found:
        raise RuntimeError(found["error"])
    return found["result"]


def mounted(folder: Path, size: str) -> None:
    """Put an empty file system in memory on a folder; only this process sees it, and it ends with the process."""
    system = ctypes.CDLL(None, use_errno=True)
    if system.unshare(NEW_MOUNTS) and system.unshare(NEW_USERS | NEW_MOUNTS):
        raise Skipped(f"no namespace of mounts: {os.strerror(ctypes.get_errno())}")
    system.mount(b"none", b"/", None, 0x4000 | 1 << 18, None)  # MS_REC | MS_PRIVATE: nobody else sees it
    if system.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={size}".encode()):
        raise Skipped(f"may not mount: {os.strerror(ctypes.get_errno())}")


def attempt(act: Callable[[], object]) -> str | None:
    """The class and message of what an act raises."""
    try:
        act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def is_whole(target: Path, allowed: set[str]) -> list[str]:
    """What is wrong with the Run that is there."""
    try:
        state = seed_of(target)
    except Exception as error:
        return [f"unreadable: {type(error).__name__}: {error}"]
    return [] if state in allowed else [f"the state is {state}, not one of {sorted(allowed)}"]


def typed(said: str | None, *words: str) -> list[str]:
    """What is wrong with an error: it must be there, be ours, and say these words."""
    if said is None:
        return ["no error was raised"]
    missing = [word for word in words if word not in said]
    return [f"not a RunError that says {missing}: {said}"] if missing or not said.startswith("RunError") else []


def full_disk(root: Path, filled: Callable[[int], Callable[[], None]], sizes: list[int]) -> list[str]:
    """Write a Run, in turn a new one and over an old one, with so many kilobytes left, then with enough."""
    bad: list[str] = []
    refused = 0
    for kilobytes in sizes:
        for old in (False, True):
            if old:
                write(root / "run", 1)
            empty_again = filled(kilobytes)
            said = attempt(lambda: write(root / "run", 2, overwrite=True))
            place = f"{kilobytes} kB left{', replacing' if old else ''}"
            bad += [
                f"{place}: {problem}"
                for problem in is_whole(root / "run", {"1" if old else "absent"} if said else {"2"})
            ]
            if said is not None:
                refused += 1
                bad += [f"{place}: {problem}" for problem in typed(said, "space")]
            empty_again()
            bad += [f"{place}: {problem}" for problem in again(root)]
            shutil.rmtree(root / "run", ignore_errors=True)
    return bad if 0 < refused < 2 * len(sizes) else [*bad, f"{refused} of {2 * len(sizes)} were refused"]


def again(root: Path) -> list[str]:
    """A later write must succeed and leave nothing."""
    said = attempt(lambda: write(root / "run", 1, overwrite=True))
    left = sorted(os.listdir(root))
    return [f"a later write fails: {said}"] if said else [] if left == ["run"] else [f"left: {left}"]


def case_full(root: Path) -> list[str]:
    """A file system of its own, with all but a little taken."""

    def work() -> list[str]:
        mounted(root, "2m")
        (root / "runs").mkdir()

        def filled(kilobytes: int) -> Callable[[], None]:
            filler = root / "filler"
            with filler.open("wb") as file:
                free = os.statvfs(root).f_bavail * os.statvfs(root).f_frsize
                file.write(bytes(max(0, free - 1024 * kilobytes)))
            return filler.unlink

        return full_disk(root / "runs", filled, [0, 4, 8, 16, 32, 48, 64, 80, 96, 128, 192, 256, 1024])

    found: list[str] = forked(work)
    return found


def case_limit(root: Path) -> list[str]:
    """No file may grow beyond a limit: what a quota does; needs no right."""

    def work() -> list[str]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        def limited(kilobytes: int) -> Callable[[], None]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kilobytes, resource.RLIM_INFINITY))
            return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

        return full_disk(root, limited, [0, 1, 2, 4, 8, 16, 32, 64, 1024])

    found: list[str] = forked(work)
    return found


def case_read_only(root: Path) -> list[str]:
    """A training into a folder that cannot be written is refused before its first step, and so is a Run."""

    def work() -> list[str]:
        mounted(root, "2m")
        write(root / "run", 1)
        system = ctypes.CDLL(None, use_errno=True)
        if system.mount(b"none", bytes(root), None, READ_ONLY | REMOUNT, None):
            raise Skipped(f"may not mount again: {os.strerror(ctypes.get_errno())}")
        bad = []
        for name in ("run", "new", "deep/new"):
            steps = Counted()
            said = attempt(lambda: train_run(root / name, *world(0), steps, overwrite=True))  # noqa: B023
            bad += [f"{name}: {problem}" for problem in typed(said, "Read-only file system", str(root))]
            bad += [f"{name}: {steps.steps} steps were trained first"] if steps.steps else []
        return bad + is_whole(root / "run", {"1"})

    found: list[str] = forked(work)
    return found


def case_clock(root: Path) -> list[str]:
    """The clock goes back a year after each step, and the files with it: the newest checkpoint is the last one all the same."""
    spec, data = world(0)
    bad: list[str] = []
    years = [0]

    class Back(Silent):
        def step(self, step: Step) -> None:
            years[0] += 1
            for path in checkpoint_folder(root / "run").glob("0*"):  # newer generations get older times
                age = int(path.name) * 86_400 * 365
                os.utime(path, (time.time() - age, time.time() - age))
            if years[0] == 10:
                raise KeyboardInterrupt

    now = time.time
    with mock.patch("time.time", side_effect=lambda: now() - years[0] * 365 * 86_400):
        with contextlib.suppress(KeyboardInterrupt):
            train_run(root / "run", spec, data, Back())
        for path in checkpoint_folder(root / "run").glob("0*"):
            age = int(path.name) * 86_400 * 365
            os.utime(path, (now() - age, now() - age))
        saved = checkpoints_of(root / "run", spec, data).load()
        newest = max(path.name for path in checkpoint_folder(root / "run").glob("0*"))
        if saved is None or saved.folder.name != newest:
            bad.append(f"went on from {None if saved is None else saved.folder.name}, and the newest is {newest}")
        steps = Counted()
        said = attempt(lambda: train_run(root / "run", spec, data, steps, resume=True))
        bad += [f"going on fails: {said}"] if said else is_whole(root / "run", {"0"})
    if steps.steps > 4:
        bad.append(f"{steps.steps} of 12 steps were taken again after 10")
    return bad


def case_two_writers(root: Path) -> list[str]:
    """While one process trains, another begins in the same folder: it is told who does, before its first step."""
    started, go_on = os.pipe(), os.pipe()

    class Waits(Counted):
        """Waits after its first step until the other has had its answer."""

        def step(self, step: Step) -> None:
            super().step(step)
            if self.steps == 1:
                os.write(started[1], b"x")
                os.read(go_on[0], 1)

    def work(steps: Counted) -> list[Any]:
        return [attempt(lambda: train_run(root / "run", *world(0), steps)), steps.steps]

    reading, writing = os.pipe()
    first = os.fork()
    if first == 0:
        with os.fdopen(writing, "w") as pipe:
            json.dump(work(Waits()), pipe)
        os._exit(0)
    os.close(writing)
    os.read(started[0], 1)
    said, steps = forked(lambda: work(Counted()))
    os.write(go_on[1], b"x")
    with os.fdopen(reading) as pipe:
        first_said, _ = json.load(pipe)
    os.waitpid(first, 0)
    bad = typed(said, f"being written by process {first}", ".lock")
    bad += [f"the refused one trained {steps} steps first"] if steps else []
    bad += [f"the first one: {first_said}"] if first_said else is_whole(root / "run", {"0"})
    return bad + ([] if os.listdir(root) == ["run"] else [f"left: {sorted(os.listdir(root))}"])


def case_stale_locks(root: Path) -> list[str]:
    """Processes that were killed while they held every lock of a training stop nobody."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    text = json.dumps({"pid": child, "host": platform.node(), "token": "0123456789abcdef"})
    for target in (root / "run", checkpoint_folder(root / "run")):
        lock_path(target).write_text(text)
    said = attempt(lambda: train_run(root / "run", *world(0), Silent()))
    bad = [f"is refused: {said}"] if said else is_whole(root / "run", {"0"})
    return bad + ([] if os.listdir(root) == ["run"] else [f"left: {sorted(os.listdir(root))}"])


CASES: dict[str, Callable[[Path], list[str]]] = {
    "full": case_full,
    "limit": case_limit,
    "read-only": case_read_only,
    "clock": case_clock,
    "two writers": case_two_writers,
    "stale locks": case_stale_locks,
}


def main() -> None:
    """Check each case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--broken", choices=list(BROKEN))
    chosen = parser.parse_args()
    number = 0
    outcome(1), outcome(2), world(0)
    print(f"{'case':14}{'wrong':>7}{'seconds':>9}", flush=True)
    for name in chosen.case:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder, broken(chosen.broken):
            try:
                wrong = CASES[name](Path(folder))
            except Skipped as error:
                print(f"{name:14}SKIPPED: {error}", flush=True)
                continue
            except Exception as error:
                wrong = [f"{type(error).__name__}: {error}"]
        print(f"{name:14}{len(wrong):>7}{time.perf_counter() - started:>9.1f}", flush=True)
        for line in wrong[:5]:
            print(f"    {line}", flush=True)
        number += len(wrong)
    if chosen.broken:
        print(f"without its mechanism ({chosen.broken}): {number} faults were noticed")
    sys.exit(int((number > 0) != (chosen.broken is not None)))


if __name__ == "__main__":
    main()

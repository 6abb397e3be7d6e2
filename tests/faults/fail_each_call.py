"""Fail the n-th system call of every writer, for n = 1, 2, … until it gets through; or kill the writer there.

    python tests/faults/fail_each_call.py [--how once stays killed] [--stride 1] [--work run …] [--broken "in place"]

``once``: the n-th call gives EIO, ENOSPC or EACCES (in turn), the later ones work. ``stays``: the later ones fail too.
``killed``: the process ends there. Each time the target must be the old or the new version, whole; a failure must be a
RunError; a later write must succeed, and leave nothing beside the target. Prints a row per writer and mode. With
``--broken`` a mechanism is taken away, and the script ends well only if that is noticed.
"""

from __future__ import annotations

import argparse
import errno
import functools
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worlds import BROKEN, MEMORY, broken, outcome, seed_of, world, write

from towerkit.core.errors import RunError
from towerkit.core.random import stream
from towerkit.experiment import checkpoints_of, recipe_of
from towerkit.storage.atomic import atomic_write_bytes, recover
from towerkit.storage.lock import folder_lock, lock_path
from towerkit.testing.syscalls import Ending, Stopped, fail_at, kill_at, watched
from towerkit.training.checkpoint import Checkpoints, checkpoint_folder
from towerkit.training.loop import Stretch
from towerkit.training.state import TrainState, seeded_torch

ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES)


@dataclass(frozen=True)
class Work:
    """A writer: what is there before, what it does, and what may be there afterwards.

    Args:
        prepare: Given an empty folder, makes what is there before.
        act: What is stopped.
        state: Tells what is there; raises RunError if it cannot be read.
        old: The state before.
        new: The state after.
        again: What must succeed later, whatever happened.
        names: What is in the folder after that.
    """

    prepare: Callable[[Path], None]
    act: Callable[[Path], None]
    state: Callable[[Path], str]
    old: str
    new: str
    again: Callable[[Path], None]
    names: tuple[str, ...] = ("run",)


def nothing(root: Path) -> None:
    """There is nothing before."""


def file_state(root: Path) -> str:
    """The content of the file, which is one letter many times."""
    path = root / "run"
    if not path.exists():
        return "absent"
    content = path.read_bytes()
    if len(content) != 5000 or len(set(content)) != 1:
        raise RunError(f"{path} holds {len(content)} bytes of {sorted(set(content))}; it is not whole.")
    return chr(content[0])


def put_file(letter: str) -> Callable[[Path], None]:
    """Write that letter many times."""
    return lambda root: atomic_write_bytes(root / "run", letter.encode() * 5000)


def run_state(root: Path) -> str:
    """Which Run is there."""
    return seed_of(root / "run")


def put_run(seed: int, overwrite: bool = True) -> Callable[[Path], None]:
    """Write the Run of that seed."""
    return lambda root: write(root / "run", seed, overwrite=overwrite)


def stopped_between(root: Path) -> None:
    """What a writer leaves that was killed between its two renames; process 999999999 cannot be."""
    for seed, role in ((1, "old"), (2, "tmp")):
        write(root / role, seed)
    for role in ("old", "tmp"):
        (root / role).rename(root / f".run.{role}-999999999-0123456789abcdef")


def stale_lock(root: Path) -> None:
    """An old file, and the lock of a writer that is no more."""
    put_file("1")(root)
    lock_path(root / "run").write_text(f'{{"pid": 999999999, "host": "{os.uname()[1]}", "token": "0123456789abcdef"}}')


def put_locked(letter: str) -> Callable[[Path], None]:
    """Take the lock and write that letter many times."""

    def put(root: Path) -> None:
        with folder_lock(root / "run"):
            put_file(letter)(root)

    return put


def checkpoints(root: Path) -> Checkpoints:
    """Those of the small training."""
    return checkpoints_of(root / "run", *world(1))


@functools.cache
def prepared_state() -> TrainState:
    """A training at its start."""
    spec, data = world(1)
    with seeded_torch(stream(0, "faults")):
        return recipe_of(spec, data).prepare(data, data.parts.train, spec.training).state


def save_steps(*steps: int) -> Callable[[Path], None]:
    """Save a checkpoint that says it is of that step, for each."""

    def save(root: Path) -> None:
        with checkpoints(root).held(), seeded_torch(stream(0, "faults")):
            for step in steps:
                state = prepared_state()
                state.step = step
                checkpoints(root).save(state, Stretch())

    return save


def newest_step(root: Path) -> str:
    """The step of the checkpoint that would be gone on from; none of the whole ones may be missing."""
    told: list[str] = []
    spec, data = world(1)
    if not checkpoint_folder(root / "run").exists():
        return "absent"
    saved = checkpoints_of(root / "run", spec, data, say=told.append).load()
    if told:
        raise RunError(" ".join(told))
    return "absent" if saved is None else str(int(saved.tensors["torch.step"]))


WORKS: dict[str, Work] = {
    "file": Work(nothing, put_file("2"), file_state, "absent", "2", put_file("3")),
    "file, replaced": Work(put_file("1"), put_file("2"), file_state, "1", "2", put_file("3")),
    "run": Work(nothing, put_run(2, overwrite=False), run_state, "absent", "2", put_run(1)),
    "run, replaced": Work(put_run(1), put_run(2), run_state, "1", "2", put_run(1)),
    "recover": Work(stopped_between, lambda root: recover(root / "run"), run_state, "between", "2", put_run(1)),
    "stale lock": Work(stale_lock, put_locked("2"), file_state, "1", "2", put_locked("3")),
    "checkpoint": Work(save_steps(1, 2), save_steps(3), newest_step, "2", "3", save_steps(4), ("run.checkpoint",)),
}


@dataclass
class Found:
    """What a sweep saw."""

    calls: int
    states: Counter[str]
    wrong: list[str]


def sweep(work: Work, how: str, stride: int, folder: Path) -> Found:
    """Stop the work at every ``stride``-th call, each time from the same beginning."""
    template = folder / "template"
    template.mkdir()
    work.prepare(template)
    found = Found(0, Counter(), [])
    number = 1
    while True:
        root = folder / str(number)
        shutil.copytree(template, root)
        error = ERRORS[number // stride % len(ERRORS)]
        answer = kill_at(number) if how == "killed" else fail_at(number, error, stays=how == "stays")
        ending = watched(lambda: work.act(root), root, answer)  # noqa: B023 - called at once
        if len(ending.calls) < number:
            found.calls = len(ending.calls)
            return found
        place = f"call {number}, {ending.calls[number - 1].kind} {os.path.relpath(ending.calls[number - 1].path, root)}"
        if how != "killed":
            place += f", {errno.errorcode[error]}"
        found.wrong += [f"{place}: {problem}" for problem in problems(work, how, root, ending, found.states)]
        shutil.rmtree(root)
        number += stride


def where_of(trace: str) -> str:
    """The last lines of a traceback that are ours."""
    ours = [line.strip() for line in trace.splitlines() if "towerkit/" in line and "testing" not in line]
    return f" at {ours[-1]}" if ours else ""


def problems(work: Work, how: str, root: Path, ending: Ending, states: Counter[str]) -> list[str]:
    """What is not as it must be after a writer was stopped."""
    bad = []
    if ending.error is not None and ending.error[0] != "RunError":
        bad.append(f"not a RunError: {': '.join(ending.error)}{where_of(ending.trace)}")
    if ending.was_killed != (how == "killed"):
        bad.append(f"was killed: {ending.was_killed}")
    may_be = {work.old, work.new} if how == "once" else {work.old, work.new, "between"}
    try:
        state = work.state(root)
    except Exception as error:
        state = "unreadable"
        bad.append(f"unreadable: {type(error).__name__}: {error}")
    states[state] += 1
    if state != "unreadable" and state not in may_be:
        bad.append(f"the state is {state}, and may be one of {sorted(may_be)}")
    if ending.error is None and not ending.was_killed and state != work.new:
        bad.append(f"it said that it was done, and the state is {state}")
    try:
        work.again(root)
    except Exception as error:
        return [*bad, f"a later write fails: {type(error).__name__}: {error}"]
    left = [str(path.relative_to(root)) for path in root.rglob(".*")]
    names = sorted(os.listdir(root))
    if left or names != sorted(work.names):
        bad.append(f"left after a later write: {left or names}")
    return bad


def main() -> None:
    """Sweep and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--how", nargs="+", default=["once", "stays", "killed"])
    parser.add_argument("--work", nargs="+", default=list(WORKS), choices=list(WORKS))
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--show", type=int, default=5, help="how many faults to print in full")
    parser.add_argument("--broken", choices=list(BROKEN))
    chosen = parser.parse_args()
    number = 0
    prepared_state(), outcome(1), outcome(2)
    print(f"{'writer':16}{'stopped':>9}{'calls':>7}{'tried':>7}{'wrong':>7}{'seconds':>9}  states", flush=True)
    for name in chosen.work:
        for how in chosen.how:
            started = time.perf_counter()
            with tempfile.TemporaryDirectory(dir=MEMORY) as folder, broken(chosen.broken):
                found = sweep(WORKS[name], how, chosen.stride, Path(folder))
            tried = sum(found.states.values())
            states = ", ".join(f"{state} {count}" for state, count in sorted(found.states.items()))
            seconds = time.perf_counter() - started
            print(
                f"{name:16}{how:>9}{found.calls:>7}{tried:>7}{len(found.wrong):>7}{seconds:>9.1f}  {states}", flush=True
            )
            for line in found.wrong[: chosen.show]:
                print(f"    {line}", flush=True)
            number += len(found.wrong)
    if chosen.broken:
        print(f"without its mechanism ({chosen.broken}): {number} faults were noticed")
    sys.exit(int((number > 0) != (chosen.broken is not None)))


if __name__ == "__main__":
    try:
        main()
    except Stopped as error:
        print(f"SKIPPED: {error}")

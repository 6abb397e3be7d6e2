"""Kill a training with SIGKILL at random, while it trains, saves checkpoints or writes its Run; go on; compare.

    python tests/faults/kill_at_random.py [--kills 200] [--seed 0] [--broken "in place"]

Half of the kills come at a random moment, half before a random system call on the Run's files, which meets the writing
that a moment mostly misses. Half of the trainings replace an older Run. After each kill: the Run is absent, the older or
the new one, whole; the training goes on from a checkpoint that lost at most one interval of steps; and it ends with the
very files of a training that nobody killed. Prints a row per way; with ``--broken`` a mechanism is taken away, and the
script ends well only if that is noticed.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from worlds import BROKEN, MEMORY, broken, seed_of, world, write

from towerkit.run_writer import train_run
from towerkit.storage.atomic import recover
from towerkit.storage.manifest import verify
from towerkit.testing.syscalls import Ending, Stopped, kill_at, watched
from towerkit.training.progress import Silent, Step

SECONDS = {"card.md", "history.jsonl"}
"""Files that tell how long the training took."""


class Steps(Silent):
    """Keeps, in memory that the parent shares, the first and the last step that this process did, over both stretches.

    Args:
        memory: 16 bytes: the first and the last.
        refit: Steps before the refit begins.
    """

    def __init__(self, memory: mmap.mmap, refit: int) -> None:
        self.memory, self.refit = memory, refit

    def step(self, step: Step) -> None:
        """Note it."""
        number = step.number + (self.refit if step.stage == "refit" else 0)
        first, _ = struct.unpack("qq", self.memory[:])
        self.memory[:] = struct.pack("qq", first or number, number)


@dataclass
class Way:
    """What came of one way to kill.

    Args:
        kills: How many were killed; the others were done before.
        states: What was there afterwards.
        lost: Steps that were taken again.
        wrong: What was not as it must be.
    """

    kills: int = 0
    states: Counter[str] = field(default_factory=Counter)
    lost: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Killer:
    """Trains, kills and compares.

    Args:
        folder: Where.
        every: Steps from one checkpoint to the next.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every, self.memory = folder, every, mmap.mmap(-1, 16)
        self.refit = self.steps = 0
        whole = folder / "whole"
        self.refit = self._steps_before_refit(folder / "probe")
        ending, self.seconds = self.train(whole, lambda call: 0)
        if ending.error:
            raise SystemExit(f"the training that nobody kills fails: {ending.error}\n{ending.trace}")
        self.steps, self.calls = self.noted()[1], len(ending.calls)
        self.files = self.files_of(whole / "run")
        write(folder / "old", 1)

    def _steps_before_refit(self, root: Path) -> int:
        """Of the first stretch: its last step, before the one of the refit begins at 1 again."""
        last = mmap.mmap(-1, 8)

        class Last(Silent):
            def step(self, step: Step) -> None:
                if step.stage != "refit":
                    last[:] = struct.pack("q", step.number)

        root.mkdir()
        watched(lambda: self._work(root, Last()), root, lambda call: 0)
        return int(struct.unpack("q", last[:])[0])

    def _work(self, root: Path, progress: Silent) -> None:
        spec, data = world(0)
        train_run(root / "run", spec, data, progress, overwrite=True, resume=True)

    def train(self, root: Path, answer: Callable[..., int], after: float | None = None) -> tuple[Ending, float]:
        """Train in a child process, which may be killed; what became of it, and the seconds it took."""
        root.mkdir(exist_ok=True)
        self.memory[:] = struct.pack("qq", 0, 0)
        started = time.perf_counter()
        ending = watched(lambda: self._work(root, Steps(self.memory, self.refit)), root, answer, kill_after_s=after)
        return ending, time.perf_counter() - started

    def noted(self) -> tuple[int, int]:
        """The first and the last step of the training before; 0 where it took none."""
        first, last = struct.unpack("qq", self.memory[:])
        return first, last

    def files_of(self, run: Path) -> dict[str, str]:
        """File -> SHA-256, of all that does not depend on the time."""
        return {name: entry.sha256 for name, entry in verify(run).files.items() if name not in SECONDS}

    def kill(self, way: Way, how: str, draw: random.Random, number: int) -> None:
        """Kill one training, look, and go on with it."""
        root = self.folder / f"{how}-{number}"
        root.mkdir()
        if number % 2:
            shutil.copytree(self.folder / "old", root / "run")
        if how == "moment":
            place = f"after {draw.uniform(0.0, self.seconds):.4f} s"
            ending, took = self.train(root, lambda call: 0, float(place.split()[1]))
            if not ending.was_killed:  # the one that nobody killed was slow: later moments would all miss
                self.seconds = min(self.seconds, took)
        else:
            at = draw.randint(1, self.calls)
            ending, _ = self.train(root, kill_at(at))
            place = f"before call {at}"
        reached = self.noted()[1]
        if not ending.was_killed and ending.error is None:  # it was faster
            shutil.rmtree(root)
            return
        way.kills += 1
        bad = [f"error: {ending.error}"] if ending.error else []
        bad += self.look(way, root, had_old=bool(number % 2))
        bad += self.go_on(way, root, reached)
        way.wrong += [f"{place}: {problem}" for problem in bad]
        shutil.rmtree(root)

    def look(self, way: Way, root: Path, *, had_old: bool) -> list[str]:
        """What is there after the kill."""
        try:
            state = seed_of(root / "run")
        except Exception as error:
            way.states["unreadable"] += 1
            return [f"unreadable: {type(error).__name__}: {error}"]
        way.states[{"1": "old", "0": "new"}.get(state, state)] += 1
        if state not in ({"1", "0", "between"} if had_old else {"absent", "0"}):
            return [f"the state is {state}"]
        if state == "between" and not recover(root / "run"):
            return ["what was between two renames cannot be recovered"]
        return []

    def is_done(self, run: Path) -> bool:
        """Whether the Run of this training is there."""
        try:
            return seed_of(run) == "0"
        except Exception:  # unreadable, which was told
            return False

    def go_on(self, way: Way, root: Path, reached: int) -> list[str]:
        """Resume to the end and compare."""
        is_done = self.is_done(root / "run")
        ending, _ = self.train(root, lambda call: 0)
        if ending.error is not None or ending.was_killed:
            return [f"going on fails: {ending.error}"]
        first, last = self.noted()
        bad = []
        if not is_done:  # else nothing is lost: its checkpoints are in the way of nobody, whole or half removed
            lost = reached - (first - 1) if first else 0  # it began anew where nothing was saved
            way.lost.append(lost)
            if lost > self.every or (last and last != self.steps):
                bad.append(f"{lost} of {reached} steps were lost, and the interval is {self.every}; it ended at {last}")
        if self.files_of(root / "run") != self.files:
            bad.append("the Run is not the one of a training that nobody killed")
        names = os.listdir(root)
        if names != ["run"]:
            bad.append(f"left beside it: {sorted(names)}")
        return bad


def main() -> None:
    """Kill, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--broken", choices=list(BROKEN))
    chosen = parser.parse_args()
    wrong, kills = 0, 0
    print(f"{'killed at':12}{'kills':>7}{'most lost':>11}{'wrong':>7}{'seconds':>9}  states", flush=True)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        killer = Killer(Path(folder), every=2)
        for how in ("moment", "call"):
            way, draw, started, number = Way(), random.Random(f"{chosen.seed} {how}"), time.perf_counter(), 0
            with broken(chosen.broken):
                while way.kills < chosen.kills // 2 and number < 4 * chosen.kills:
                    killer.kill(way, how, draw, number)
                    number += 1
            states = ", ".join(f"{state} {count}" for state, count in sorted(way.states.items()))
            took = time.perf_counter() - started
            most = max(way.lost, default=0)
            print(f"{how:12}{way.kills:>7}{most:>11}{len(way.wrong):>7}{took:>9.1f}  {states}", flush=True)
            for line in way.wrong[:5]:
                print(f"    {line}", flush=True)
            wrong, kills = wrong + len(way.wrong), kills + way.kills
        print(
            f"{kills} kills of a training of {killer.steps} steps and {killer.calls} calls on its files, a checkpoint every 2"
        )
    if chosen.broken:
        print(f"without its mechanism ({chosen.broken}): {wrong} faults were noticed")
    sys.exit(int((wrong > 0) != (chosen.broken is not None) or kills < chosen.kills // 2))


if __name__ == "__main__":
    try:
        main()
    except Stopped as error:
        print(f"SKIPPED: {error}")

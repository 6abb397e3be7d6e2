"""Kill a training after each of its steps, go on, and compare every bit with a training that was never killed.

    python tests/faults/kill_each_step.py [--threads 1 2] [--every 1 3]

Each training is a process of its own, ended by SIGKILL from within after step 1, 2, … of the whole training (both
stretches of the refit); another process then resumes it from ``RUN.checkpoint``. Prints a row per case and number of
threads, and ends with status 1 if any resumed training ends in other bits.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two threads on a busy machine wait without burning its cores

import torch

from towerkit.data.dataset import Dataset
from towerkit.spec import ExperimentSpec
from towerkit.testing.faults import CASES, digests, kill_after, read_case, train_case

MEMORY = next((folder for folder in ["/dev/shm"] if os.access(folder, os.W_OK)), None)  # noqa: S108
"""A killed process loses nothing that it handed to the system, so the disk need not be waited for."""


def forked(work: Callable[[], Any], answer: Path) -> int:
    """Run in a child process, which writes what ``work`` gives as JSON; returns the child's wait status.

    Nothing of torch has run in this process, so the child inherits no threads.
    """
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        answer.write_text(json.dumps(work()))
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)


def finished(spec: ExperimentSpec, data: Dataset, run: Path, threads: int, every: int | str) -> dict[str, Any]:
    """Train to the end in a child process; the digests, and how many steps this process took."""

    def work() -> dict[str, Any]:
        torch.set_num_threads(threads)
        steps: list[int] = []
        trained = train_case(spec, data, run, every=every, each=steps.append)
        return {"digests": digests(trained), "steps": len(steps)}

    answer = run.with_name(f"{run.name}.json")
    status = forked(work, answer)
    if status != 0:
        raise SystemExit(f"the training {run} ended with wait status {status}")
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def killed(spec: ExperimentSpec, data: Dataset, run: Path, threads: int, every: int | str, step: int) -> None:
    """Train in a child process that is killed after a step."""

    def work() -> None:
        torch.set_num_threads(threads)
        train_case(spec, data, run, every=every, each=kill_after(step))

    status = forked(work, run.with_name(f"{run.name}.json"))
    if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        raise SystemExit(f"the training {run} was to be killed after step {step}; its wait status is {status}")


def check(name: str, threads: int, every: int | str, folder: Path) -> tuple[int, list[str]]:
    """Kill one case after each step; returns the number of steps and where the bits differ."""
    spec, data = read_case(CASES[name])
    whole = finished(spec, data, folder / "whole", threads, 0)
    wrong = []
    for step in range(1, whole["steps"] + 1):
        run = folder / f"killed-{step}"
        killed(spec, data, run, threads, every, step)
        again = finished(spec, data, run, threads, every)
        if every == 1 and step > 1 and again["steps"] != whole["steps"] - step + 1:
            wrong.append(f"step {step}: {again['steps']} steps were taken again, so it did not go on where it was")
        parts = [part for part, digest in whole["digests"].items() if again["digests"][part] != digest]
        if parts:
            wrong.append(f"step {step}: {', '.join(parts)}")
    return whole["steps"], wrong


def main() -> None:
    """Check every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--every", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--case", nargs="+", default=list(CASES))
    chosen = parser.parse_args()
    bad = False
    print(f"{'case':32}{'threads':>8}{'every':>7}{'kills':>7}{'same bits':>11}{'seconds':>9}", flush=True)
    for name in chosen.case:
        for threads in chosen.threads:
            for every in chosen.every:
                started = time.perf_counter()
                with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
                    steps, wrong = check(name, threads, every, Path(folder))
                seconds = time.perf_counter() - started
                good = steps - len(wrong)
                print(f"{name:32}{threads:>8}{every:>7}{steps:>7}{f'{good}/{steps}':>11}{seconds:>9.1f}", flush=True)
                for line in wrong:
                    print(f"    {line}", flush=True)
                bad = bad or bool(wrong)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

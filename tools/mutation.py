"""Change the code in one place at a time and see whether the tests notice: the share of changes that they catch.

    python tools/mutation.py [--sample 200] [--seed 0] [--module storage/lock.py …] [--workers 2]

The changes (mutants) are made by ``tools/mutants.py``. The changed module is put into a tree of links beside the other
modules, so that the processes that tests start see it too. The parent has imported the heavy packages and forks a child per
mutant, which runs only the tests of that module, the quick ones first, and stops at the first that fails. A test that takes
five times as long as all of them took on the unchanged module has noticed the change; the row counts those apart, since a
machine that is too busy looks the same. Prints the survivors and a row per module; ends with status 1 below ``--least``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mutants import PACKAGE, Mutant, is_elsewhere, mutants_of

ROOT = Path(__file__).resolve().parents[1]
TESTS: dict[str, str] = {
    "storage/hashes.py": "hashes",
    "storage/lock.py": "lock",
    "storage/atomic.py": "atomic",
    "storage/manifest.py": "manifest",
    "storage/tensors.py": "tensors",
    "storage/documents.py": "documents",
    "storage/migrations.py": "migrations",
    "training/checkpoint.py": "checkpoint_folder",
    "training/snapshot.py": "checkpoint_folder",
    "training/history_file.py": "history_file",
    "metrics/areas.py": "classification",
    "metrics/averages.py": "classification multilabel",
    "metrics/beyond.py": "beyond",
    "metrics/calibration.py": "calibration classification",
    "metrics/checks.py": "checks regression calibration multilabel classification",
    "metrics/classification.py": "classification",
    "metrics/confusion.py": "classification",
    "metrics/gains.py": "ranking",
    "metrics/intervals.py": "intervals",
    "metrics/multilabel.py": "multilabel",
    "metrics/ranking.py": "ranking",
    "metrics/regression.py": "regression",
    "metrics/scoring.py": "classification",
    "metrics/shown.py": "shown",
    "metrics/significance.py": "significance",
    "metrics/tasks.py": "regression classification multilabel",
    "metrics/weighted.py": "weighted regression multilabel classification",
    "artifact/arrow.py": "models",
    "artifact/card.py": "card",
    "artifact/events.py": "events",
    "artifact/layout.py": "layout",
    "artifact/markdown.py": "markdown card",
    "artifact/models.py": "models events decisions space",
    "artifact/space.py": "space",
}
"""Module -> the tests that must notice a change in it: ``test_NAME.py`` in the folder of tests of the same name."""

Outcome = Literal["killed", "timed out", "survived"]


def link_tree(mutant: Mutant, folder: Path) -> None:
    """The package as links, but for the changed module."""
    here, there = folder / "towerkit", PACKAGE
    for part in Path(mutant.module).parts:
        here.mkdir()
        for entry in there.iterdir():
            if entry.name not in (part, "__pycache__"):
                (here / entry.name).symlink_to(entry)
        here, there = here / part, there / part
    here.write_text(mutant.text)


@dataclass
class Child:
    """A process that runs the tests of a module on a tree of links.

    Args:
        mutant: What is changed.
        limit_s: For all of its tests.
        order: The tests that are known, the quick ones first.
    """

    mutant: Mutant
    limit_s: float
    order: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        link_tree(self.mutant, self.folder)
        self.started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            run_tests(self.mutant.module, self.folder, self.order)

    def outcome(self) -> Outcome | None:
        """How it ended; None while it runs."""
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if not ended and time.monotonic() < self.started + self.limit_s:
            return None
        if not ended:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        shutil.rmtree(self.folder, ignore_errors=True)
        return "timed out" if not ended else "killed" if status else "survived"


class Timer:
    """A plugin of pytest: runs known tests in a given order, and writes down the order from quick to slow."""

    def __init__(self, path: Path, order: list[str]) -> None:
        self.path = path
        self.place = {name: number for number, name in enumerate(order)}
        self.seconds: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Called by pytest with the tests that it found."""
        items.sort(key=lambda item: self.place.get(item.nodeid, len(self.place)))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Called by pytest after each phase of a test."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        """Called by pytest at the end."""
        self.path.write_text(json.dumps(sorted(self.seconds, key=lambda name: self.seconds[name])))


def run_tests(module: str, folder: Path, order: list[str]) -> None:
    """In a child: the tests of a module on the tree of links; ends the process."""
    import pytest

    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    os.environ |= {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "HYPOTHESIS_PROFILE": "mutant",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    sys.dont_write_bytecode = True
    options = ["-x", "-q", "-p", "pytest_timeout", "-p", "no:cacheprovider", "--assert=plain"]
    options += ["--basetemp", str(folder / "tmp"), "-c", str(ROOT / "pytest.ini")]
    status = 1
    try:
        parent = (ROOT / "tests" / module).parent
        tests = [str(parent / f"test_{name}.py") for name in TESTS[module].split()]
        status = int(pytest.main([*options, *tests], [Timer(folder.with_suffix(".order"), order)]))
    finally:
        os._exit(status)


def unchanged(module: str) -> tuple[list[str], float]:
    """The tests of a module from quick to slow, and the limit in seconds for a mutant; they must pass."""
    child = Child(Mutant(module, 0, "unchanged", (PACKAGE / module).read_text()), 600.0)
    while (outcome := child.outcome()) is None:
        time.sleep(0.02)
    if outcome != "survived":
        raise SystemExit(f"the tests of {module} fail without any change, or take longer than ten minutes")
    path = child.folder.with_suffix(".order")
    order = json.loads(path.read_text())
    path.unlink()
    return order, 10.0 + 5.0 * (time.monotonic() - child.started)


def judged(sample: list[Mutant], workers: int) -> Iterator[tuple[Mutant, Outcome]]:
    """Each mutant with what became of it, as they end; all forks are made by this one thread."""
    known = {module: unchanged(module) for module in sorted({mutant.module for mutant in sample})}
    waiting, running = list(reversed(sample)), list[Child]()
    while waiting or running:
        while waiting and len(running) < workers:
            mutant = waiting.pop()
            order, limit_s = known[mutant.module]
            running.append(Child(mutant, limit_s, order))
        time.sleep(0.02)
        for child in list(running):
            if (outcome := child.outcome()) is not None:
                child.folder.with_suffix(".order").unlink(missing_ok=True)
                running.remove(child)
                yield child.mutant, outcome


def prepare() -> None:
    """Import once what every child needs; and no child looks for the smallest example that fails."""
    heavy_ones = "torch pyarrow.ipc hypothesis.extra.numpy safetensors.numpy pydantic scipy.sparse scipy.stats pytest"
    for heavy in (*heavy_ones.split(), "sklearn.metrics", "rich.console"):
        __import__(heavy)
    from hypothesis import Phase, settings

    # The lock asks by os.kill(pid, 0) whether a process lives; a mutant of it sends 1, and we may be that process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    once = (Phase.explicit, Phase.generate)
    settings.register_profile("mutant", deadline=None, max_examples=60, derandomize=True, database=None, phases=once)


def row(name: str, outcomes: list[Outcome]) -> str:
    """What became of the mutants of a module."""
    number, alive, late = len(outcomes), outcomes.count("survived"), outcomes.count("timed out")
    share = 1 - alive / number if number else 1.0
    return f"{name:28}{number:>6} mutants {number - alive:>6} killed ({late} by time) {alive:>5} survived {share:>8.1%}"


def main() -> None:
    """Sample, run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=200, help="0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--module", nargs="+", default=list(TESTS), choices=list(TESTS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--least", type=float, default=0.9, help="share that must be killed")
    chosen = parser.parse_args()
    prepare()
    every = [one for module in chosen.module for one in mutants_of(module) if not is_elsewhere(one)]
    sample = every
    if 0 < chosen.sample < len(every):
        sample = random.Random(chosen.seed).sample(every, chosen.sample)  # noqa: S311 - a sample of places in the code
    print(f"{len(sample)} of {len(every)} mutants", flush=True)
    outcomes: dict[str, list[Outcome]] = {module: [] for module in chosen.module}
    for mutant, outcome in judged(sample, chosen.workers):
        outcomes[mutant.module].append(outcome)
        judged_so_far = [one for found in outcomes.values() for one in found]
        if len(judged_so_far) % 50 == 0:
            print(f"{len(judged_so_far)} judged, {judged_so_far.count('survived')} survived so far", flush=True)
        if outcome != "killed":
            print(f"    {outcome}: {mutant.module}:{mutant.line}: {mutant.what}", flush=True)
    for module, found in outcomes.items():
        print(row(module, found))
    total = [outcome for found in outcomes.values() for outcome in found]
    print(row("all", total))
    sys.exit(int(total.count("survived") > (1 - chosen.least) * len(total)))


if __name__ == "__main__":
    main()

"""Faults on purpose, by scripts of their own, since a child that is forked must not have torch's threads.

Invariants:
- whatever system call of a writer fails, and wherever it is killed, the target is the old or the new version, whole; the
  error is a RunError; a later write succeeds and leaves nothing;
- a training that is killed at random loses at most one interval of steps and ends with the same files;
- a full or read-only disk, a clock that goes back, a second process and the locks of the dead do no harm;
- without its mechanism each of these is noticed: the scripts can fail.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")

HERE = Path(__file__).parent
CONTROLS = [
    ("fail_each_call.py", "in place", "--work run 'run, replaced' checkpoint --stride 23"),
    ("fail_each_call.py", "bare errors", "--work 'run, replaced' checkpoint --how once --stride 17"),
    ("fail_each_call.py", "no cleaning", "--work recover --how killed --stride 5"),
    ("kill_at_random.py", "in place", "--kills 24"),
    ("kill_at_random.py", "no checkpoints", "--kills 24"),
    ("kill_at_random.py", "no moments", "--kills 24"),
    ("bad_disk.py", "in place", "--case full"),
    ("bad_disk.py", "bare errors", "--case limit"),
    ("bad_disk.py", "no look ahead", "--case read-only"),
    ("bad_disk.py", "order by time", "--case clock"),
    ("bad_disk.py", "no lock", "--case 'two writers'"),
    ("bad_disk.py", "nobody is dead", "--case 'stale locks'"),
]


def ran(script: str, *options: str) -> str:
    """What a script printed; it must end well."""
    command = [sys.executable, str(HERE / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if "SKIPPED" in done.stdout and script != "bad_disk.py":
        pytest.skip(done.stdout.strip())
    return done.stdout


def test_any_call_may_fail_or_be_the_last() -> None:
    printed = ran("fail_each_call.py", "--stride", "37")
    rows = [line for line in printed.splitlines()[1:] if not line.startswith(" ")]
    assert len(rows) == 7 * 3, printed


def test_bad_disks_clocks_and_neighbors() -> None:
    printed = ran("bad_disk.py")
    assert len(printed.splitlines()) == 1 + 6, printed


@pytest.mark.long
def test_killed_at_random() -> None:
    assert "20 kills of a training" in ran("kill_at_random.py", "--kills", "20")


@pytest.mark.long
@pytest.mark.parametrize(("script", "mechanism", "options"), CONTROLS, ids=lambda value: str(value))
def test_without_its_mechanism_it_is_noticed(script: str, mechanism: str, options: str) -> None:
    printed = ran(script, "--broken", mechanism, *shlex.split(options))
    assert f"without its mechanism ({mechanism})" in printed


@pytest.mark.soak
def test_every_call_and_two_hundred_kills() -> None:
    ran("fail_each_call.py")
    assert "200 kills of a training" in ran("kill_at_random.py", "--kills", "200")

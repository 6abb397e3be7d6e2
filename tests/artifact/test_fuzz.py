"""Damaged Runs are refused by a typed error, or answer; they never end the process, hang, or take much memory.

`tests/faults/fuzz_runs.py` says what is a failure; here it judges a few hundred mutations. Controls: with the hashes unchecked it
fails, because damage goes unnoticed.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from towerkit.run import load_run
from towerkit.testing.mutations import CHANGES, mutate
from towerkit.testing.sealing import seal_again

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "runs"
SCRIPT = ROOT / "tests" / "faults" / "fuzz_runs.py"


def fuzzed(*arguments: str) -> tuple[int, str]:
    """The exit status of the command and what it printed."""
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_two_hundred_mutations() -> None:
    status, said = fuzzed("--count", "200")
    assert status == 0, said
    assert re.search(r"200 mutations in \d+ s; 0 failures", said), said
    for kind in ("flip ", "flip, sealed", "truncate", "bloat", "JSON edit, sealed", "tensor header edit, sealed"):
        assert kind in said


def test_without_verification_damage_goes_unnoticed() -> None:
    status, said = fuzzed("--count", "60", "--seed", "500", "--no-verification")
    assert status == 1, said
    assert '"outcome": "damage not found"' in said


@pytest.mark.soak
def test_ten_thousand_mutations() -> None:
    seed = random.SystemRandom().randrange(10**9)
    status, said = fuzzed("--count", "10000", "--seed", str(seed))
    print(said)
    assert status == 0, said


def test_a_mutation_is_a_function_of_its_seed(tmp_path: Path) -> None:
    runs = sorted(path.parent for path in FIXTURES.glob("*/*/run/manifest.json"))
    kinds = set()
    for seed in range(40):
        found = []
        for copy in (tmp_path / f"{seed}-a", tmp_path / f"{seed}-b"):
            shutil.copytree(runs[0], copy)
            mutation = mutate(copy, seed, runs)
            kinds.add(mutation.kind)
            contents = {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()}
            found.append((mutation, contents))
        assert found[0] == found[1], seed
    assert kinds >= set(CHANGES) - {"add", "delete", "swap"}


@pytest.mark.parametrize("version", ["format-1", "format-2"])
def test_sealing_an_untouched_run_changes_no_byte(tmp_path: Path, version: str) -> None:
    for folder in sorted((FIXTURES / version).iterdir()):
        copy = Path(shutil.copytree(folder / "run", tmp_path / folder.name))
        seal_again(copy)
        assert (copy / "manifest.json").read_bytes() == (folder / "run" / "manifest.json").read_bytes()
        load_run(copy).model

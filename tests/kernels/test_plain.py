"""The kernels as plain Python: with ``NUMBA_DISABLE_JIT=1`` they keep every equality that they keep when compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.long
@pytest.mark.parametrize(
    "chosen",
    [
        ["kernels", "-k", "not plain and not process and not kept_apart"],
        ["matching/test_negatives.py"],
        ["index/test_shortlist.py"],
        ["training/test_compiled_engine.py", "-k", "not wait and not bits"],
    ],
    ids=["kernels", "sampler", "shortlists", "engines"],
)
def test_without_a_compiler_the_same_equalities_hold(chosen: list[str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    found = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-3000:]
    assert " passed" in found.stdout

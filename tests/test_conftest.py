"""The guard of global state bites.

- A test that draws from or seeds a global generator, or changes PyTorch's defaults, fails, and the message names what.
- The state is put back: the test after a polluting one passes.
- Private generators, and a failure of the test itself, go through unchanged.
- Without the public data sets a test is skipped, and the reason says which variable to set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

POLLUTERS = """
import random
import numpy as np
import torch

def test_numpy(): np.random.rand()
def test_python(): random.random()
def test_torch(): torch.rand(1)
def test_dtype(): torch.set_default_dtype(torch.float64)
def test_threads(): torch.set_num_threads(torch.get_num_threads() + 1)
def test_gradients(): torch.set_grad_enabled(False)
def test_private():
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    np.random.default_rng(0).random()
    torch.rand(1, generator=torch.Generator().manual_seed(0))
def test_own_failure(): assert 1 == 2
def test_data(data_root): raise AssertionError("not reached")
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest prints for the polluting tests under a copy of this folder's conftest."""
    folder = tmp_path_factory.mktemp("polluted")
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "test_polluters.py").write_text(POLLUTERS, encoding="utf-8")
    environment = os.environ | {"TOWERKIT_DATA": str(folder / "absent")}
    command = [sys.executable, "-m", "pytest", "-v", "-rs", "-p", "no:cacheprovider", "--rootdir", str(folder), "."]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize(
    ("test", "what"),
    [
        ("test_numpy", "NumPy's global random state"),
        ("test_python", "Python's global random state"),
        ("test_torch", "PyTorch's global random state"),
        ("test_dtype", "PyTorch's default dtype"),
        ("test_threads", "PyTorch's number of threads"),
        ("test_gradients", "PyTorch's gradient mode"),
    ],
)
def test_a_polluting_test_fails_and_is_told_what_it_changed(report: str, test: str, what: str) -> None:
    assert f"{test} leaves changed: {what};" in report


def test_state_is_put_back_and_private_generators_are_fine(report: str) -> None:
    assert "test_polluters.py::test_private PASSED" in report


def test_a_failure_of_the_test_itself_is_shown(report: str) -> None:
    assert "assert 1 == 2" in report
    assert "test_own_failure leaves" not in report


def test_missing_data_sets_skip_visibly(report: str) -> None:
    assert "needs the public data sets; set TOWERKIT_DATA" in report
    assert "7 failed, 1 passed, 1 skipped" in report

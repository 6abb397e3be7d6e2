"""Compiled functions: the same values as plain Python, at any number of threads, with and without a folder for the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from numba import prange

from towerkit.kernels.compiled import compiled, parts_of, torch_threads

SUMS = """
import numpy as np
from numba import prange
from towerkit.kernels.compiled import compiled

@compiled(parallel=True)
def sums(values):
    found = np.empty(len(values), np.float32)
    for row in prange(len(values)):
        total = np.float32(0.0)
        for place in range(values.shape[1]):
            total += values[row, place]
        found[row] = total
    return found

print(sums(np.arange(12, dtype=np.float32).reshape(3, 4)).tolist())
"""


@compiled(exact=True)
def _nan_count(values):
    count = 0
    for value in values:
        if value != value:
            count += 1
    return count


@compiled(parallel=True)
def _fill(values):
    for place in prange(len(values)):
        values[place] = place


def test_exact_functions_know_nan():
    assert _nan_count(np.array([1.0, np.nan, np.inf, np.nan])) == 2


@pytest.mark.parametrize("count", [1, 2, 64])
def test_kernels_use_as_many_threads_as_torch_and_leave_its_number_alone(count):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        with torch_threads():
            assert numba.get_num_threads() == min(count, numba.config.NUMBA_NUM_THREADS)
            _fill(np.empty(100))
        assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "variables",
    [{}, {"NUMBA_DISABLE_JIT": "1"}, {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere"}],
    ids=["compiled", "plain", "nowhere to keep it"],
)
def test_a_new_process_gives_the_same_with_and_without_a_folder_for_machine_code(variables, tmp_path: Path):
    (tmp_path / "sums.py").write_text(SUMS)
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "__pycache__").write_text("no folder can be made here")
    (folder / "sums.py").write_text(SUMS)
    script = folder / "sums.py" if "HOME" in variables else tmp_path / "sums.py"
    found = subprocess.run(
        [sys.executable, script], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[6.0, 22.0, 38.0]"


@compiled(parallel=True)
def _count_in_parts(parts, found):
    for part in prange(parts):
        for place in range(len(found) * part // parts, len(found) * (part + 1) // parts):
            found[place] += place


@pytest.mark.parametrize("count", [0, 1, 2, 5, 1000])
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_visit_every_place_once(threads: int, count: int) -> None:
    before, found = torch.get_num_threads(), np.zeros(count, np.int64)
    try:
        torch.set_num_threads(threads)
        assert 1 <= parts_of(count) <= max(1, min(threads, count))
        with torch_threads():
            _count_in_parts(parts_of(count), found)
    finally:
        torch.set_num_threads(before)
    assert found.tolist() == list(range(count))

"""Counter-based randomness.

Invariants:
- bits equal SplitMix64 computed with Python integers: the published first outputs for seed 0 among them;
- a number is a pure function of key and counter: shape, order and neighbors do not matter;
- integers are within their range and uniform (chi-square); different keys do not go together;
- streams of other seeds or names are other keys; the same in another process; no global generator is touched.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from towerkit.core.random import generator, random_bits, random_integers, stream

KEYS = st.integers(0, 2**64 - 1)
MASK = 2**64 - 1


def splitmix(key: int, counter: int) -> int:
    z = ((counter + 1) * 0x9E3779B97F4A7C15 + key) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@settings(max_examples=60, deadline=None)
@given(KEYS, st.lists(KEYS, min_size=1, max_size=8), st.integers(1, 2**32 - 1))
def test_equals_python_integers(key: int, counters: list[int], high: int) -> None:
    array = np.array(counters, np.uint64)
    expected = [splitmix(key, counter) for counter in counters]
    assert random_bits(key, array).tolist() == expected
    assert random_integers(key, array, high).tolist() == [((bits >> 32) * high) >> 32 for bits in expected]
    assert random_bits(key, array[::-1]).tolist() == expected[::-1]
    assert random_bits(key, array[:, None]).tolist() == [[bits] for bits in expected]


def test_the_published_outputs_of_splitmix64() -> None:
    assert [hex(bits) for bits in random_bits(0, np.arange(3, dtype=np.uint64)).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


@pytest.mark.parametrize("high", [1, 7, 1000])
def test_integers_are_uniform(high: int) -> None:
    drawn = random_integers(stream(0, "test", high), np.arange(100_000, dtype=np.uint64), high)
    assert drawn.dtype == np.int64
    counts = np.bincount(drawn, minlength=high)
    assert len(counts) == high
    if high > 1:
        assert chisquare(counts).pvalue > 1e-4


def test_other_keys_do_not_go_together() -> None:
    counters = np.arange(20_000, dtype=np.uint64)
    first, second = (random_integers(stream(seed, "a"), counters, 2**31) for seed in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.03


def test_streams() -> None:
    keys = [stream(*names) for names in ((0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), (0, "a1"), (0, 1, "a"))]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key <= MASK for key in keys)
    assert stream(0, "a", 1) == stream(0, "a", "1")


def test_the_same_in_another_process() -> None:
    program = "from towerkit.core.random import generator, stream; print(stream(3, 'x', 2), generator(3, 'x').integers(10**9))"
    environment = os.environ | {"PYTHONHASHSEED": "99"}
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said.split() == [str(stream(3, "x", 2)), str(generator(3, "x").integers(10**9))]

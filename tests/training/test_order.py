"""The order of an epoch (`towerkit.training.order`).

Pinned here:
- every row comes exactly once, whatever the number of rows, the window, and the stretches that are asked for;
- it is a pure function of seed and epoch: any stretch can be asked for first, so a resumed training reads what another would have;
- rows that fit one window are a plain permutation, drawn as it always was;
- a window's rows come from as many blocks as fill it, and neighbors in the data do not stay neighbors.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.random import generator
from towerkit.core.spec import parse
from towerkit.training.order import Order
from towerkit.training.spec import TrainingSpec
from towerkit.training.steps import order_of


def order(count: int, window: int, *, epoch: int = 0, seed: int = 0) -> Order:
    return Order(range(count), seed=seed, epoch=epoch, window_rows=window)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 3000),
    window=st.integers(1, 500),
    epoch=st.integers(0, 3),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
)
def test_every_row_comes_once_however_it_is_cut(count: int, window: int, epoch: int, cuts: list[int]) -> None:
    whole = order(count, window, epoch=epoch)[:]
    assert np.array_equal(np.sort(whole), np.arange(count))
    ends = [0, *sorted(min(cut, count) for cut in cuts), count]
    asked = order(count, window, epoch=epoch)
    pieces = [asked[low:high] for low, high in pairwise(ends)]
    assert np.array_equal(np.concatenate(pieces), whole)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 2000), start=st.integers(0, 2000))
def test_the_end_of_an_epoch_needs_nothing_of_its_beginning(count: int, start: int) -> None:
    assert np.array_equal(order(count, 100)[start:], order(count, 100)[:][start:])


def test_rows_that_fit_one_window_are_permuted_as_ever() -> None:
    rows = np.array([3, 5, 8, 13])
    for epoch in range(3):
        found = order_of(rows, parse(TrainingSpec, {"seed": 7}), epoch)[:]
        assert np.array_equal(found, rows[generator(7, "order", epoch).permutation(4)])
    assert np.array_equal(order(50, 50)[:], order(50, 10**6)[:])


def test_epochs_seeds_and_windows_differ() -> None:
    found = [
        order(1000, 100)[:],
        order(1000, 100, epoch=1)[:],
        order(1000, 100, seed=1)[:],
        order(1000, 200)[:],
    ]
    assert all(not np.array_equal(a, b) for place, a in enumerate(found) for b in found[:place])


def test_a_window_is_made_of_its_blocks_and_mixes_them() -> None:
    window, block = 160, 10
    whole = order(1605, window)[:]  # 161 blocks, the last one of five rows
    first = whole[:window]
    blocks, counts = np.unique(first // block, return_counts=True)
    assert len(blocks) in (16, 17) and counts.max() == block
    assert not np.array_equal(blocks, np.arange(len(blocks)))
    assert np.mean(np.abs(np.diff(first)) == 1) < 0.05


def test_a_stretch_is_asked_for_forwards() -> None:
    with pytest.raises(AssertionError, match="forwards"):
        order(10, 10)[::2]

"""Pairwise losses: BPR and the triplet margin.

Invariants:
- hand values, and the mean over the negatives that count;
- only differences of scores matter;
- a triplet that is wide enough apart costs nothing and moves nothing; its margin scales with the scores;
- BPR has a gradient at every distance, and log 2 at none.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from towerkit.losses import bpr, triplet


def rows(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_hand_values() -> None:
    assert bpr(rows(1.0), rows(1.0, 0.0)[None]).item() == pytest.approx((math.log(2) + math.log1p(math.exp(-1))) / 2)
    assert triplet(rows(1.0), rows(0.5, 3.0, -4.0)[None], margin=0.75).item() == pytest.approx((0.25 + 2.75) / 3)
    counting = torch.tensor([[False, True, False]])
    assert triplet(rows(1.0), rows(0.5, 3.0, -4.0)[None], margin=0.75, collision=counting).item() == pytest.approx(
        0.125
    )


@pytest.mark.parametrize("loss", [bpr, triplet])
@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=5), st.floats(-50, 50))
def test_only_differences_matter(loss: object, scores: list[float], shift: float) -> None:
    assert callable(loss)
    positive, negative = rows(scores[0]), rows(*scores[1:])[None]
    moved = loss(positive + shift, negative + shift)
    torch.testing.assert_close(moved, loss(positive, negative), rtol=1e-9, atol=1e-9)


def test_a_wide_triplet_rests_and_bpr_does_not() -> None:
    for loss, expected in ((triplet, 0.0), (bpr, -1 / (1 + math.exp(2.5)))):
        positive = rows(2.0).requires_grad_()
        losses = loss(positive, rows(-0.5)[None])
        losses.sum().backward()
        assert positive.grad is not None and positive.grad.item() == pytest.approx(expected)
    assert triplet(rows(2.0), rows(1.0)[None], margin=1.0).item() == 0.0


@given(st.floats(0.1, 50))
@settings(max_examples=20, deadline=None)
def test_the_margin_is_in_the_unit_of_the_scores(scale: float) -> None:
    plain = triplet(rows(0.4), rows(1.0, -0.2)[None], margin=0.5)
    torch.testing.assert_close(
        triplet(scale * rows(0.4), scale * rows(1.0, -0.2)[None], margin=0.5 * scale), scale * plain
    )

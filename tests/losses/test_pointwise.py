"""Pointwise losses: BCE, contrastive and the cosine contrastive loss.

Invariants:
- hand values; the best score under BCE is log(p / (w q)), found by minimizing the expectation of the loss itself;
- BCE with the weight of the number of negatives is PyTorch's binary cross-entropy, summed;
- contrastive is the loss of 2006 on a distance of 1 - cosine; ccl with a weight of 1 differs from it by the squares only;
- a negative below the margin costs nothing and moves nothing; a perfect row costs nothing;
- a shift of the scores does matter: they are compared with a fixed mark.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from towerkit.losses import bce, ccl, contrastive


def rows(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_hand_values() -> None:
    assert bce(rows(0.0), rows(0.0, 0.0)[None]).item() == pytest.approx(2 * math.log(2))
    found = bce(rows(1.0), rows(2.0, -1.0)[None], negative_weight=4.0).item()
    assert found == pytest.approx(math.log1p(math.exp(-1)) + 2 * (math.log1p(math.exp(2)) + math.log1p(math.exp(-1))))
    assert ccl(rows(0.25), rows(0.75, 0.0)[None], margin=0.5, negative_weight=8.0).item() == 0.75 + 8 * 0.125
    assert contrastive(rows(0.5), rows(0.75, 0.0)[None], margin=0.25).item() == (0.25 + 0.125) / 2


def test_bce_with_the_weight_of_the_count_is_the_sum_of_torch() -> None:
    rng = np.random.default_rng(0)
    positive, negative = torch.from_numpy(rng.normal(size=4)), torch.from_numpy(rng.normal(size=(4, 6)))
    labels = torch.cat([torch.ones(4, 1), torch.zeros(4, 6)], dim=1).double()
    scores = torch.cat([positive[:, None], negative], dim=1)
    expected = functional.binary_cross_entropy_with_logits(scores, labels, reduction="none").sum(dim=1)
    torch.testing.assert_close(bce(positive, negative, negative_weight=6.0), expected)


def test_the_best_score_under_bce_is_how_much_more_often_than_drawn() -> None:
    """The expected loss over one query's catalogue, every pair of positive and negative weighed by its chance."""
    taken, chance = rows(0.5, 0.3, 0.2), rows(0.2, 0.2, 0.6)
    scores = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15)

    def closure() -> Tensor:
        optimizer.zero_grad()
        positive = scores.repeat_interleave(3)  # [9] pairs (positive, negative)
        negative = scores.repeat(3)[:, None]
        chances = taken.repeat_interleave(3) * chance.repeat(3)
        total = (bce(positive, negative, negative_weight=2.0) * chances).sum()
        total.backward()
        return total

    optimizer.step(closure)
    torch.testing.assert_close(scores.detach(), torch.log(taken / (2.0 * chance)), rtol=1e-5, atol=1e-5)


def test_contrastive_is_the_loss_of_2006() -> None:
    rng = np.random.default_rng(1)
    positive, negative = rng.uniform(-1, 1, 5), rng.uniform(-1, 1, (5, 1))
    near, far = 1 - positive, 1 - negative[:, 0]  # distances
    reach = 1 - 0.3  # the margin as a distance
    expected = 0.5 * near**2 + 0.5 * np.maximum(0, reach - far) ** 2
    found = contrastive(torch.from_numpy(positive), torch.from_numpy(negative), margin=0.3)
    np.testing.assert_allclose(found.numpy(), expected)
    linear = ccl(torch.from_numpy(positive), torch.from_numpy(negative), margin=0.3, negative_weight=1.0)
    np.testing.assert_allclose(linear.numpy(), near + np.maximum(0, reach - far))


@pytest.mark.parametrize("loss", [contrastive, ccl])
def test_a_negative_below_the_margin_rests(loss: object) -> None:
    assert callable(loss)
    negative = rows(0.4, 0.6)[None].clone().requires_grad_()
    losses = loss(rows(1.0), negative, margin=0.5)
    losses.sum().backward()
    assert negative.grad is not None and negative.grad[0, 0] == 0 and negative.grad[0, 1] > 0
    assert loss(rows(1.0), rows(0.4, -1.0)[None], margin=0.5).item() == 0.0


@pytest.mark.parametrize("loss", [bce, contrastive, ccl])
def test_a_shift_of_the_scores_matters(loss: object) -> None:
    assert callable(loss)
    positive, negative = rows(0.2), rows(0.7, -0.5)[None]
    assert abs((loss(positive + 0.1, negative + 0.1) - loss(positive, negative)).item()) > 0.005

"""Losses of prediction tasks.

Invariants:
- each equals a plain float64 computation; one value per row, in nats;
- ordinal probabilities are differences of neighboring sigmoids, sum to one, and grow with the score towards the top;
- at log-odds of +-50, and where two cut points meet, value and gradient stay finite;
- the gradient of the ordinal loss is that of the plain computation;
- several labels are as many coins; half the squared error, balanced by uncertainty, is the likelihood of a normal.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from towerkit.losses.tasks import (
    binary_cross_entropy,
    cross_entropy,
    half_squared_error,
    huber,
    multilabel_cross_entropy,
    ordinal_cross_entropy,
    ordinal_log_probabilities,
)

# Decreasing log-odds as a first one and gaps that are not tiny, so that float64 differences of sigmoids are exact enough.
LOGITS = st.tuples(st.floats(-12, 12), st.lists(st.floats(0.05, 6), min_size=0, max_size=5)).map(
    lambda drawn: drawn[0] - np.concatenate([[0.0], np.cumsum(drawn[1])])
)


def naive_ordinal(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    above = np.concatenate([[1.0], 1.0 / (1.0 + np.exp(-logits)), [0.0]])  # P(y > c), with the two certainties
    return above[:-1] - above[1:]


@settings(max_examples=60, deadline=None)
@given(LOGITS)
def test_ordinal_equals_the_differences_of_sigmoids(logits: NDArray[np.float64]) -> None:
    expected = naive_ordinal(logits)
    found = ordinal_log_probabilities(torch.from_numpy(logits)[None]).exp()[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    single = ordinal_log_probabilities(torch.from_numpy(logits).float()[None]).exp()[0].numpy()
    np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-6)
    assert single.sum() == pytest.approx(1.0, abs=1e-5)


def test_ordinal_losses_pick_the_class_of_each_row() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [1.0, 0.5, -3.0]], dtype=torch.float64)
    for labels in ([0, 3], [2, 1]):
        found = ordinal_cross_entropy(logits, torch.tensor(labels))
        expected = [-math.log(naive_ordinal(row)[label]) for row, label in zip(logits.numpy(), labels, strict=True)]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(LOGITS, st.floats(0.01, 3))
def test_a_higher_score_moves_weight_to_higher_classes(logits: NDArray[np.float64], up: float) -> None:
    lower = ordinal_log_probabilities(torch.from_numpy(logits)[None]).exp()[0].cumsum(0)
    higher = ordinal_log_probabilities(torch.from_numpy(logits + up)[None]).exp()[0].cumsum(0)
    assert bool((higher[:-1] < lower[:-1] + 1e-12).all())


@pytest.mark.parametrize("center", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("gap", [100.0, 1.0, 1e-3, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ordinal_stays_finite_at_the_extremes(center: float, gap: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([[center + gap, center, center - gap]] * 4, dtype=dtype, requires_grad=True)
    losses = ordinal_cross_entropy(logits, torch.arange(4))
    losses.sum().backward()
    assert bool(losses.isfinite().all()) and bool((losses >= 0).all())
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-5])
def test_a_narrow_class_is_exact_in_float32(gap: float) -> None:
    found = ordinal_log_probabilities(torch.tensor([[gap, 0.0]]))[0, 1].item()
    assert found == pytest.approx(math.log(1 / (1 + math.exp(-gap)) - 0.5), abs=1e-5)


def test_the_gradient_at_the_extremes_is_the_one_of_the_formula() -> None:
    logits = torch.tensor([[50.0, -50.0]] * 3, dtype=torch.float64, requires_grad=True)
    ordinal_cross_entropy(logits, torch.arange(3)).sum().backward()
    # class 0: d/da softplus(a) = 1; class 1: nothing to gain; class 2: d/db softplus(-b) = -1
    expected = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected)


def test_the_gradient_of_the_ordinal_loss() -> None:
    start = torch.tensor([[1.5, 0.2, -0.9], [0.3, 0.1, -2.0]], dtype=torch.float64)
    labels = torch.tensor([1, 3])
    gradients = []
    for naive in (False, True):
        logits = start.clone().requires_grad_()
        if naive:
            ones, zeros = torch.ones(2, 1, dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64)
            above = torch.cat([ones, torch.sigmoid(logits), zeros], dim=1)
            losses = -torch.log((above[:, :-1] - above[:, 1:]).gather(1, labels[:, None])[:, 0])
        else:
            losses = ordinal_cross_entropy(logits, labels)
        losses.sum().backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_binary() -> None:
    logits = torch.tensor([[0.0], [2.0], [2.0], [-80.0]], requires_grad=True)
    losses = binary_cross_entropy(logits, torch.tensor([1, 1, 0, 1]))
    expected = [math.log(2), math.log1p(math.exp(-2)), math.log1p(math.exp(2)), 80.0]
    np.testing.assert_allclose(losses.detach().numpy(), expected, rtol=1e-6)
    losses.sum().backward()
    assert logits.grad is not None
    sigmoid = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(logits.grad[:, 0].numpy(), [-0.5, sigmoid - 1, sigmoid, -1.0], rtol=1e-6)


def test_multiclass() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    losses = cross_entropy(logits, torch.tensor([0, 2]))
    expected = [math.log(math.e + math.e**2 + math.e**3) - 1, math.log(3)]
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-6)


def test_several_labels_are_the_sum_of_their_coins() -> None:
    logits = torch.tensor([[0.5, -2.0, 50.0], [3.0, 0.0, -50.0]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, 0, 0], [0, 1, 1]], dtype=torch.int8)
    found = multilabel_cross_entropy(logits, labels)
    coins = [binary_cross_entropy(logits[:, [place]], labels[:, place]) for place in range(3)]
    torch.testing.assert_close(found, torch.stack(coins).sum(dim=0))
    found.sum().backward()
    assert logits.grad is not None and bool(logits.grad.isfinite().all())
    torch.testing.assert_close(logits.grad, torch.sigmoid(logits.detach()) - labels)


def test_half_the_squared_error_balanced_by_uncertainty_is_the_likelihood_of_a_normal() -> None:
    predicted, target = torch.tensor([[0.3], [-1.0]]), torch.tensor([1.0, 2.5])
    for log_variance in (-1.0, 0.0, 2.0):
        balanced = math.exp(-log_variance) * half_squared_error(predicted, target) + 0.5 * log_variance
        normal = torch.distributions.Normal(predicted[:, 0], math.exp(0.5 * log_variance))
        torch.testing.assert_close(balanced + 0.5 * math.log(2 * math.pi), -normal.log_prob(target))


def test_huber_is_the_squares_inside_and_straight_outside() -> None:
    predicted, target = torch.tensor([[0.25], [-1.0], [4.0], [-4.0]]), torch.zeros(4)
    assert huber(predicted, target).tolist() == [0.25**2 / 2, 0.5, 3.5, 3.5]
    assert half_squared_error(predicted, target).tolist() == [0.25**2 / 2, 0.5, 8.0, 8.0]

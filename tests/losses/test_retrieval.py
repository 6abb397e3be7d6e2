"""Losses of retrieval.

Invariants:
- sampled softmax and BPR equal hand values and plain float64 computations, in value and gradient;
- log q is subtracted after the temperature, from the negatives only;
- a masked negative is as if it had not been drawn, in value and gradient; all masked leaves a loss of zero or less than
  that of any negative, never NaN;
- large scores do not overflow;
- a spec builds the loss with its settings.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor

from towerkit.losses.retrieval import BprSpec, SampledSoftmaxSpec, bpr, sampled_softmax

SCORES = st.floats(-8, 8, width=32)
DRAWN = hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=SCORES)


def rows(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_hand_values() -> None:
    loss = sampled_softmax(rows(1.0), rows(0.0, 2.0)[None])
    assert loss.item() == pytest.approx(math.log(math.e + 1 + math.e**2) - 1)
    assert sampled_softmax(rows(0.0), torch.zeros(1, 5)).item() == pytest.approx(math.log(6))
    cold = sampled_softmax(rows(1.0), rows(0.0)[None], temperature=0.1)
    assert cold.item() == pytest.approx(math.log1p(math.exp(-10)))
    assert bpr(rows(1.0), rows(1.0, 0.0)[None]).item() == pytest.approx((math.log(2) + math.log1p(math.exp(-1))) / 2)


@settings(max_examples=60, deadline=None)
@given(DRAWN, st.floats(0.05, 3), st.integers(0, 2**32))
def test_sampled_softmax_equals_the_formula(negative: NDArray[np.float64], temperature: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.normal(size=len(negative))
    log_q = np.log(rng.uniform(0.01, 1, negative.shape))
    collision = rng.random(negative.shape) < 0.3
    terms = np.exp(negative / temperature - log_q) * ~collision
    own = np.exp(positive / temperature)
    expected = -np.log(own / (own + terms.sum(axis=1)))
    found = sampled_softmax(
        torch.from_numpy(positive),
        torch.from_numpy(negative),
        temperature=temperature,
        log_q=torch.from_numpy(log_q),
        collision=torch.from_numpy(collision),
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_log_q_comes_after_the_temperature_and_spares_the_positive() -> None:
    log_q = rows(math.log(0.5), math.log(0.25))[None]
    found = sampled_softmax(rows(1.0), rows(0.5, -0.5)[None], temperature=0.5, log_q=log_q).item()
    after = math.log(math.exp(2) + math.exp(1) / 0.5 + math.exp(-1) / 0.25) - 2
    before = math.log(math.exp(2) + math.exp(2 * (0.5 - math.log(0.5))) + math.exp(2 * (-0.5 - math.log(0.25)))) - 2
    assert found == pytest.approx(after)
    assert abs(after - before) > 0.1


def test_a_constant_log_q_of_zero_changes_nothing() -> None:
    positive, negative = rows(0.3, -1.0), torch.tensor([[0.1, 2.0], [1.0, -3.0]], dtype=torch.float64)
    plain = sampled_softmax(positive, negative)
    assert torch.equal(sampled_softmax(positive, negative, log_q=torch.zeros_like(negative)), plain)


@pytest.mark.parametrize("loss", [sampled_softmax, bpr])
def test_a_masked_negative_is_as_if_not_drawn(loss: object) -> None:
    assert callable(loss)
    found = []
    for masked in (True, False):
        positive = rows(0.5, -0.2).requires_grad_()
        negative = torch.tensor([[1.0, 9.0, -1.0], [0.0, 9.0, 2.0]], dtype=torch.float64, requires_grad=True)
        if masked:
            losses = loss(positive, negative, collision=torch.tensor([[False, True, False]] * 2))
        else:
            losses = loss(positive, negative[:, [0, 2]])
        losses.sum().backward()
        found.append((losses.detach(), positive.grad, negative.grad))
    torch.testing.assert_close(found[0], found[1])
    assert found[0][2] is not None
    assert found[0][2][:, 1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("loss", [sampled_softmax, bpr])
def test_all_masked_costs_nothing(loss: object) -> None:
    assert callable(loss)
    positive, negative = rows(0.5).requires_grad_(), torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    losses = loss(positive, negative, collision=torch.ones(1, 3, dtype=torch.bool))
    losses.sum().backward()
    assert losses.tolist() == [0.0]
    assert positive.grad is not None and positive.grad.tolist() == [0.0]
    assert negative.grad is not None and negative.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_the_gradient_of_sampled_softmax() -> None:
    positive = rows(0.4).requires_grad_()
    negative = rows(1.0, -0.3)[None].clone().requires_grad_()
    sampled_softmax(positive, negative, temperature=0.5).sum().backward()
    share = np.exp(np.array([0.4, 1.0, -0.3]) / 0.5)
    share /= share.sum()
    assert positive.grad is not None and negative.grad is not None
    assert positive.grad.item() == pytest.approx((share[0] - 1) / 0.5)
    np.testing.assert_allclose(negative.grad[0].numpy(), share[1:] / 0.5)


@settings(max_examples=60, deadline=None)
@given(DRAWN, st.integers(0, 2**32))
def test_bpr_equals_the_formula(negative: NDArray[np.float64], seed: int) -> None:
    positive = np.random.default_rng(seed).normal(size=len(negative))
    expected = np.log1p(np.exp(-(positive[:, None] - negative))).mean(axis=1)
    found = bpr(torch.from_numpy(positive), torch.from_numpy(negative))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("loss", [sampled_softmax, bpr])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_scores_do_not_overflow(loss: object, size: float) -> None:
    assert callable(loss)
    positive = torch.tensor([size], requires_grad=True)
    losses = loss(positive, torch.tensor([[-size, 0.0]]))
    losses.sum().backward()
    assert losses.item() == pytest.approx({1e4: 0.0, -1e4: 2e4 if loss is sampled_softmax else 1.5e4}[size])
    assert positive.grad is not None and bool(positive.grad.isfinite().all())


def test_specs_build_their_losses() -> None:
    positive, negative = rows(0.5), rows(1.0, 0.0)[None]
    built = SampledSoftmaxSpec(temperature=0.2).build()(positive, negative, log_q=None, collision=None)
    assert torch.equal(built, sampled_softmax(positive, negative, temperature=0.2))
    assert torch.equal(BprSpec().build()(positive, negative, log_q=None, collision=None), bpr(positive, negative))

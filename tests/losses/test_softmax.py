"""Softmax losses: over drawn negatives, over the catalogue, bilateral.

Invariants:
- hand values; the gradient of sampled softmax is the softmax itself;
- log q is subtracted after the temperature, from the negatives only;
- equal shifts of all scores change nothing; scores and temperature times the same number change nothing;
- with the whole catalogue drawn, sampled softmax is softmax; with many corrected draws it comes close to it;
- bilateral softmax with a ratio of 1 is softmax without the positive in the sum, less the log of the count;
- a constant log q moves bilateral softmax, and none of its gradients.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from towerkit.losses import bilateral_softmax, sampled_softmax, softmax

ALL = [sampled_softmax, softmax, bilateral_softmax]


def rows(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def drawn(seed: int, batch: int = 3, count: int = 5) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=batch)), torch.from_numpy(rng.normal(size=(batch, count)))


def test_hand_values() -> None:
    loss = sampled_softmax(rows(1.0), rows(0.0, 2.0)[None])
    assert loss.item() == pytest.approx(math.log(math.e + 1 + math.e**2) - 1)
    assert sampled_softmax(rows(0.0), torch.zeros(1, 5)).item() == pytest.approx(math.log(6))
    cold = sampled_softmax(rows(1.0), rows(0.0)[None], temperature=0.1)
    assert cold.item() == pytest.approx(math.log1p(math.exp(-10)))
    both = bilateral_softmax(rows(1.0), rows(0.0, 2.0)[None], temperature=2.0, ratio=1.5)
    assert both.item() == pytest.approx(-0.5 + 1.5 * math.log((1 + math.e) / 2))


def test_the_gradient_of_sampled_softmax() -> None:
    positive = rows(0.4).requires_grad_()
    negative = rows(1.0, -0.3)[None].clone().requires_grad_()
    sampled_softmax(positive, negative, temperature=0.5).sum().backward()
    share = np.exp(np.array([0.4, 1.0, -0.3]) / 0.5)
    share /= share.sum()
    assert positive.grad is not None and negative.grad is not None
    assert positive.grad.item() == pytest.approx((share[0] - 1) / 0.5)
    np.testing.assert_allclose(negative.grad[0].numpy(), share[1:] / 0.5)


def test_log_q_comes_after_the_temperature_and_spares_the_positive() -> None:
    log_q = rows(math.log(0.5), math.log(0.25))[None]
    found = sampled_softmax(rows(1.0), rows(0.5, -0.5)[None], temperature=0.5, log_q=log_q).item()
    after = math.log(math.exp(2) + math.exp(1) / 0.5 + math.exp(-1) / 0.25) - 2
    before = math.log(math.exp(2) + math.exp(2 * (0.5 - math.log(0.5))) + math.exp(2 * (-0.5 - math.log(0.25)))) - 2
    assert found == pytest.approx(after)
    assert abs(after - before) > 0.1


def test_log_q_comes_after_the_temperature_in_bilateral_softmax() -> None:
    log_q = rows(math.log(0.5), math.log(0.25))[None]
    found = bilateral_softmax(rows(1.0), rows(0.5, -0.5)[None], temperature=0.5, ratio=1.2, log_q=log_q).item()
    after = -2 + 1.2 * math.log((math.exp(1) / 0.5 + math.exp(-1) / 0.25) / 2)
    before = -2 + 1.2 * math.log((math.exp(2 * (0.5 - math.log(0.5))) + math.exp(2 * (-0.5 - math.log(0.25)))) / 2)
    assert found == pytest.approx(after)
    assert abs(after - before) > 0.1


def test_a_constant_log_q_of_zero_changes_nothing() -> None:
    positive, negative = drawn(0)
    for loss in (sampled_softmax, bilateral_softmax):
        assert torch.equal(loss(positive, negative, log_q=torch.zeros_like(negative)), loss(positive, negative))


@pytest.mark.parametrize("loss", [sampled_softmax, softmax])
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(-50, 50), st.floats(0.05, 20))
def test_shift_and_scale_do_not_matter(loss: object, seed: int, shift: float, scale: float) -> None:
    assert callable(loss)
    positive, negative = drawn(seed)
    plain = loss(positive, negative, temperature=0.5)
    torch.testing.assert_close(loss(positive + shift, negative + shift, temperature=0.5), plain, rtol=1e-9, atol=1e-9)
    scaled = loss(positive * scale, negative * scale, temperature=0.5 * scale)
    torch.testing.assert_close(scaled, plain, rtol=1e-9, atol=1e-9)


def test_a_shift_moves_bilateral_softmax_by_what_the_ratio_differs_from_one() -> None:
    positive, negative = drawn(1)
    moved = bilateral_softmax(positive + 2, negative + 2, temperature=0.5, ratio=1.25)
    plain = bilateral_softmax(positive, negative, temperature=0.5, ratio=1.25)
    torch.testing.assert_close(moved - plain, torch.full_like(plain, 0.25 * 2 / 0.5))


def test_softmax_is_the_cross_entropy_over_the_catalogue() -> None:
    scores = torch.from_numpy(np.random.default_rng(2).normal(size=(6, 9)))
    own = torch.tensor([0, 3, 3, 8, 5, 1])
    itself = functional.one_hot(own, 9).bool()
    positive = scores[torch.arange(6), own]
    expected = functional.cross_entropy(scores / 0.3, own, reduction="none")
    torch.testing.assert_close(softmax(positive, scores, temperature=0.3, collision=itself), expected)
    assert not torch.allclose(softmax(positive, scores, temperature=0.3), expected)  # the positive counted twice
    some = scores[~itself].reshape(6, 8)
    assert torch.equal(sampled_softmax(positive, some, temperature=0.3), softmax(positive, some, temperature=0.3))


def test_many_corrected_draws_estimate_the_softmax() -> None:
    rng, count = np.random.default_rng(3), 200_000
    scores, chance = rng.normal(size=50), rng.dirichlet(np.full(50, 2.0))
    picked = rng.choice(50, size=count, p=chance)
    positive, negative = torch.tensor([0.5]), torch.from_numpy(scores[picked])[None]
    log_q = torch.from_numpy(np.log(count * chance[picked]))[None]  # how often each is expected among the draws
    truth = softmax(positive, torch.from_numpy(scores)[None]).item()
    assert sampled_softmax(positive, negative, log_q=log_q).item() == pytest.approx(truth, abs=0.01)
    uncorrected = sampled_softmax(positive, negative, log_q=torch.tensor(math.log(count / 50))).item()
    assert abs(uncorrected - truth) > 0.02


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.5, 3), st.integers(1, 8))
def test_bilateral_with_a_ratio_of_one_is_softmax_without_the_positive(
    seed: int, temperature: float, count: int
) -> None:
    positive, negative = drawn(seed, count=count)
    found = bilateral_softmax(positive, negative, temperature=temperature, ratio=1.0)
    with_positive = sampled_softmax(positive, negative, temperature=temperature)
    expected = torch.log(torch.expm1(with_positive)) - math.log(count)  # log((e⁺ + Σ)/e⁺) to log(Σ/e⁺)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_constant_log_q_moves_no_gradient_of_bilateral_softmax() -> None:
    found = []
    for log_q in (torch.tensor(0.0), torch.tensor(-3.0)):
        positive, negative = (each.requires_grad_() for each in drawn(4))
        losses = bilateral_softmax(positive, negative, ratio=1.5, log_q=log_q)
        losses.sum().backward()
        found.append((losses.detach(), positive.grad, negative.grad))
    torch.testing.assert_close(found[1][0] - found[0][0], torch.full((3,), 4.5, dtype=torch.float64))
    torch.testing.assert_close(found[0][1:], found[1][1:])


def test_longer_vectors_lower_bilateral_softmax_without_end() -> None:
    """Why only the cosine goes with it; the other softmaxes stop at 0."""
    positive, negative = rows(1.0), rows(0.5, -1.0)[None]
    scales = (1.0, 10.0, 100.0, 1000.0)
    found = [bilateral_softmax(scale * positive, scale * negative, ratio=1.1).item() for scale in scales]
    assert found == sorted(found, reverse=True) and found[-1] < -400
    assert all(sampled_softmax(scale * positive, scale * negative).item() >= 0 for scale in scales)

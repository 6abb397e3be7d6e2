"""The learned temperature.

Invariants:
- it starts where the spec says, gives the loss of that temperature, and its gradient is that of finite differences;
- a step beyond a bound is taken back before the next use, and the way back stays open: no dead parameter;
- it falls where positives win and rises where they lose; in bilateral softmax it runs to its bound;
- a fixed temperature leaves nothing to learn; a start outside the bounds is refused.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.losses import BilateralSoftmaxSpec, SampledSoftmaxSpec, SoftmaxSpec, sampled_softmax
from towerkit.losses.temperature import LearnedTemperature, TemperedLossSpec

SPECS = [SampledSoftmaxSpec, SoftmaxSpec, BilateralSoftmaxSpec]
POSITIVE = torch.tensor([0.6, -0.1, 0.3])
NEGATIVE = torch.tensor([[0.2, 0.5], [0.4, -0.3], [0.1, 0.0]])
each_spec = pytest.mark.parametrize("spec", SPECS)


def learned(spec: type[TemperedLossSpec], start: float) -> LearnedTemperature:
    built = spec(temperature=start, learn_temperature=True).build()
    assert isinstance(built, LearnedTemperature)
    return built


def temperature_of(loss: LearnedTemperature) -> float:
    return loss.temperature.item()


@each_spec
def test_it_starts_where_the_spec_says(spec: type[TemperedLossSpec]) -> None:
    loss = learned(spec, 0.3)
    assert [name for name, _ in loss.named_parameters()] == ["log_temperature"]
    assert temperature_of(loss) == pytest.approx(0.3)
    log_q, collision = torch.tensor([-1.0, -2.0]), torch.tensor([[False, True], [False, False], [True, True]])
    fixed = spec(temperature=0.3).build()
    assert not isinstance(fixed, nn.Module)
    options = {"log_q": log_q, "collision": collision}
    torch.testing.assert_close(loss(POSITIVE, NEGATIVE, **options), fixed(POSITIVE, NEGATIVE, **options))


@each_spec
@pytest.mark.parametrize("start", [0.01, 0.3, 100.0])
def test_the_gradient_is_that_of_finite_differences(spec: type[TemperedLossSpec], start: float) -> None:
    loss = learned(spec, start)
    loss(POSITIVE.double(), NEGATIVE.double()).sum().backward()
    gradient = loss.log_temperature.grad
    assert gradient is not None and gradient.isfinite()
    sums = []
    for sign in (1, -1):
        fixed = spec(temperature=temperature_of(loss) * math.exp(sign * 1e-4)).build()
        sums.append(fixed(POSITIVE.double(), NEGATIVE.double()).sum().item())
    assert gradient.item() == pytest.approx((sums[0] - sums[1]) / 2e-4, rel=1e-3, abs=1e-4)


@each_spec
@pytest.mark.parametrize(("beyond", "bound"), [(-50.0, 0.01), (50.0, 100.0)])
def test_it_stays_between_its_bounds_and_can_come_back(
    spec: type[TemperedLossSpec], beyond: float, bound: float
) -> None:
    loss = learned(spec, 1.0)
    with torch.no_grad():
        loss.log_temperature.fill_(beyond)
    losses = loss(POSITIVE, NEGATIVE)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert temperature_of(loss) == pytest.approx(bound)
    assert loss.log_temperature.grad is not None and loss.log_temperature.grad.abs() > 0
    assert bool(loss.log_temperature.grad.isfinite())


@each_spec
@pytest.mark.parametrize("wins", [True, False])
def test_hundreds_of_steps_stay_in_range(spec: type[TemperedLossSpec], wins: bool) -> None:
    loss = learned(spec, 1.0)
    positive, negative = torch.tensor([0.9 if wins else -0.5]), torch.tensor([[0.1, 0.2]])
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss(positive, negative).sum().backward()
        assert 0.01 * 0.999 <= temperature_of(loss) <= 100 * 1.001
        optimizer.step()
    assert temperature_of(loss) < 0.3 if wins else temperature_of(loss) > 5


def test_a_softmax_has_a_best_temperature_and_a_bilateral_one_does_not() -> None:
    """Two rows, of which the second is always lost: the softmax weighs certainty against the cost of being wrong."""
    positive, negative = torch.tensor([0.8, 0.8, 0.8, 0.1]), torch.tensor([[0.1], [0.1], [0.1], [0.4]])
    found = {}
    for spec in (SampledSoftmaxSpec, BilateralSoftmaxSpec):
        loss = learned(spec, 1.0)
        optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
        for _ in range(600):
            optimizer.zero_grad()
            loss(positive, negative).sum().backward()
            optimizer.step()
        found[spec] = temperature_of(loss)
    assert 0.05 < found[SampledSoftmaxSpec] < 1.0
    assert found[BilateralSoftmaxSpec] < 0.011


@each_spec
@pytest.mark.parametrize("start", [0.001, 200.0])
def test_a_start_outside_the_bounds_is_refused(spec: type[TemperedLossSpec], start: float) -> None:
    given = {"temperature": start, "learn_temperature": True}
    with pytest.raises(SpecError, match=rf"between 0.01 and 100; received {start}\. .* learn_temperature: false"):
        parse(spec, given)
    assert parse(spec, {"temperature": start}).temperature == start


def test_two_losses_of_one_step_share_the_temperature() -> None:
    """An update with two views calls the loss twice before one backward pass."""
    loss = LearnedTemperature(sampled_softmax, 0.5)
    positive, negative = torch.tensor([1.0, 0.2], requires_grad=True), torch.tensor([[0.3], [0.9]])
    (loss(positive, negative).mean() + loss(2 * positive, negative).mean()).backward()
    assert loss.log_temperature.grad is not None and torch.isfinite(loss.log_temperature.grad)

"""Schedules of the step size.

Invariants:
- the factor is a pure function of the step: warm-up rises evenly to one, then constant, linear or half a cosine to ``final``;
- linear and cosine equal torch's ``LinearLR`` and ``CosineAnnealingLR`` where both mean the same;
- a warm-up is a share of all steps below 1, a number of steps from 1 on; a broken number of steps is refused;
- the optimizer multiplies its step size by it, and a resumed one goes on at the same place.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.training.optimizers import SgdSpec
from towerkit.training.schedule import ConstantSpec, CosineSpec, LinearSpec
from towerkit.training.spec import TrainingSpec


def factors(spec: ConstantSpec | LinearSpec | CosineSpec, total: int) -> list[float]:
    factor = spec.build(total)
    assert factor is not None
    return [factor(step) for step in range(total)]


def oracle(make: object, total: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer)  # type: ignore[operator]
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_as_in_torch(final: float) -> None:
    cosine = oracle(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20, eta_min=final), 20)
    assert factors(CosineSpec(final=final), 20) == pytest.approx(cosine)
    linear = oracle(lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, final, total_iters=20), 20)
    assert factors(LinearSpec(final=final), 20) == pytest.approx(linear)


def test_warm_up_by_steps_and_by_share() -> None:
    assert factors(ConstantSpec(warmup=4), 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert factors(ConstantSpec(warmup=0.5), 8) == factors(ConstantSpec(warmup=4), 8)
    assert factors(LinearSpec(warmup=2), 6) == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert ConstantSpec().build(10) is None
    assert ConstantSpec(warmup=0.01).build(10) is None  # rounds to no step


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([LinearSpec, CosineSpec]), st.integers(0, 30), st.integers(1, 60), st.floats(0, 1))
def test_up_then_down_within_bounds(kind: type[LinearSpec], warm: int, total: int, final: float) -> None:
    factor = kind(warmup=float(warm), final=final).build(total)
    assert factor is not None
    found = [factor(step) for step in range(total + 5)]
    assert all(0.0 <= each <= 1.0 for each in found)
    assert found[:warm] == sorted(found[:warm])
    assert all(later <= earlier + 1e-12 for earlier, later in zip(found[warm:], found[warm + 1 :], strict=False))
    if total > warm:
        assert factor(total) == pytest.approx(final)


def test_short_forms() -> None:
    spec = parse(TrainingSpec, {"optimizer": {"lr": 0.5, "schedule": "cosine"}}).optimizer
    assert spec.kind == "adam" and spec.schedule == CosineSpec()
    assert parse(TrainingSpec, {"optimizer": {"schedule": {"warmup": 3}}}).optimizer.schedule == ConstantSpec(warmup=3)


def test_what_is_refused() -> None:
    with pytest.raises(SpecError, match=r"whole number of steps; received 2\.5\. Write 2 or a share"):
        parse(LinearSpec, {"warmup": 2.5})
    with pytest.raises(SpecError, match="unknown kind 'cosin'; did you mean 'cosine'"):
        parse(TrainingSpec, {"optimizer": {"kind": "adam", "schedule": {"kind": "cosin"}}})


def test_the_optimizer_follows_it_and_goes_on_where_it_was() -> None:
    spec = SgdSpec.model_validate({"lr": 2.0, "schedule": {"kind": "linear", "warmup": 2}})
    weight = nn.Parameter(torch.zeros(()))
    optimizer, moved = spec.build([weight], total_steps=6), []
    for step in range(6):
        before = weight.item()
        weight.grad = torch.ones(())
        rate = optimizer.rate
        if step == 3:
            again = spec.build([weight], total_steps=6)
            again.restore(optimizer.state())
            optimizer = again
        optimizer.step()
        moved.append(before - weight.item())
        assert moved[-1] == pytest.approx(rate)
    assert moved == pytest.approx([1.0, 2.0, 2.0, 1.5, 1.0, 0.5])


@pytest.mark.parametrize(
    ("settings_", "rows", "steps"),
    [
        ({"batch_size": 32}, 100, 4),
        ({"batch_size": 32, "drop_last": True}, 100, 3),
        ({"batch_size": 32, "accumulate": 3}, 100, 2),
        ({"batch_size": 320}, 100, 1),
    ],
)
def test_the_number_of_steps(settings_: dict[str, object], rows: int, steps: int) -> None:
    assert TrainingSpec.model_validate({"epochs": 5, **settings_}).total_steps(rows) == 5 * steps

"""Balancers of several tasks.

Invariants:
- the gradients of each equal a few lines that follow its paper, on whole gradients written out;
- Pareto: no task gets worse along the step, and its vector is the shortest mixture; CAGrad: no direction within its ball serves the
  worst served task better; where nothing is to be decided (no conflict, radius 0, one task) all give the plain sum;
- what one task alone reaches gets that task's gradient, weighted by its head; tables with sparse gradients move as dense ones do;
- a balancer that is restored between two steps goes on bit for bit, reports included;
- the report gives the cosine of each two tasks' shared gradients and the share of steps in which it is negative;
  a task without a label in a batch counts for nothing; a loss that is no number is told, not looped on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor, nn

from towerkit.core.random import generator
from towerkit.core.spec import parse
from towerkit.objectives.balance import (
    AnyBalanceSpec,
    CagradBalanceSpec,
    DwaBalanceSpec,
    FixedBalanceSpec,
    GradNormBalanceSpec,
    ParetoBalanceSpec,
    PcgradBalanceSpec,
    Reached,
    UncertaintyBalanceSpec,
)
from towerkit.objectives.surgery import on_simplex
from towerkit.training.optimizers import RowAdam
from towerkit.training.state import LossError, TrainState, seeded_torch, train_step

Floats = NDArray[np.float64]
MENU: TypeAdapter[Any] = TypeAdapter(AnyBalanceSpec)
KINDS = [
    FixedBalanceSpec(conflicts=2),
    UncertaintyBalanceSpec(conflicts=1),
    DwaBalanceSpec(conflicts=3),
    GradNormBalanceSpec(conflicts=1),
    PcgradBalanceSpec(),
    CagradBalanceSpec(),
    ParetoBalanceSpec(),
    ParetoBalanceSpec(normalize=True),
]
TASKS = ["a", "b", "c"]
WEIGHTS = {"a": 1.0, "b": 0.5, "c": 2.0}


class World(nn.Module):
    """A shared table and layer, and a head for each of some tasks that pull in different directions."""

    def __init__(self, *, sparse: bool = False, tasks: list[str] = TASKS) -> None:
        super().__init__()
        self.tasks = tasks
        with seeded_torch(3):
            self.table = nn.Embedding(6, 4, sparse=sparse)
            self.shared = nn.Linear(4, 4)
            self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in tasks)
            self.target = torch.randn(len(TASKS), 6)

    def terms(self, rows: Tensor) -> dict[str, Tensor]:
        state = torch.tanh(self.shared(self.table(rows)))
        return {
            task: (head(state)[:, 0] - self.target[place, rows]).square().mean() * (1 + 10 * place)
            for place, (task, head) in enumerate(zip(self.tasks, self.heads, strict=True))
        }

    def reached(self) -> Reached:
        return Reached(tuple(self.parameters()), tuple(self.shared.parameters()), seed=7)


ROWS = torch.tensor([0, 2, 2, 5])


def flat(gradients: Any, parameters: list[nn.Parameter]) -> Floats:
    return np.concatenate([g.to_dense().double().numpy().ravel() for g in gradients]) if parameters else np.zeros(0)


def task_gradients(world: World) -> Floats:
    """``[tasks, numbers]`` the weighted gradient of each task in all that is shared."""
    shared = [world.table.weight, *world.shared.parameters()]
    terms = world.terms(ROWS)
    return np.stack(
        [flat(torch.autograd.grad(WEIGHTS[t] * terms[t], shared, retain_graph=True), shared) for t in world.tasks]
    )


def step_of(spec: Any, world: World, *, steps: int = 1) -> tuple[Floats, Any]:
    """The gradient of what is shared after the last of some backward passes, and the balancer."""
    balancer = spec.build({task: WEIGHTS[task] for task in world.tasks}, world.reached())
    for _ in range(steps):
        world.zero_grad()
        total = balancer.backward(world.terms(ROWS))
    if not isinstance(spec, GradNormBalanceSpec | UncertaintyBalanceSpec | DwaBalanceSpec):
        assert total == pytest.approx(sum(WEIGHTS[t] * v.item() for t, v in world.terms(ROWS).items()))
    return flat([world.table.weight.grad, *(p.grad for p in world.shared.parameters())], [world.table.weight]), balancer


def test_pcgrad_projects_task_by_task() -> None:
    found, _ = step_of(PcgradBalanceSpec(), World())
    gradients = task_gradients(World())
    draw, total, conflicts = generator(7, "pcgrad", 1), np.zeros_like(gradients[0]), 0
    for i in range(3):
        own = gradients[i].copy()
        for j in draw.permutation(3):
            if j != i and own @ gradients[j] < 0:
                own -= own @ gradients[j] / (gradients[j] @ gradients[j]) * gradients[j]
                conflicts += 1
        total += own
    assert conflicts > 1
    np.testing.assert_allclose(found, total, rtol=1e-4, atol=1e-5)
    assert np.abs(found - gradients.sum(axis=0)).max() > 0.01


@pytest.mark.parametrize("tasks", [["a", "b"], TASKS], ids=len)
@pytest.mark.parametrize("c", [0.2, 0.9])
def test_cagrad_serves_the_worst_served_task_best(tasks: list[str], c: float) -> None:
    world = World(tasks=tasks)
    found = step_of(CagradBalanceSpec(c=c), world)[0] / len(tasks)
    gradients = task_gradients(World(tasks=tasks))
    mean = gradients.mean(axis=0)
    radius = c * np.linalg.norm(mean)
    assert np.linalg.norm(found - mean) <= radius * (1 + 1e-4)
    worst = (gradients @ found).min()
    draw = generator(0, "directions")
    for _ in range(2000):  # within the span of the gradients, where the best one lies
        direction = gradients.T @ draw.standard_normal(len(tasks))
        other = mean + radius * direction / np.linalg.norm(direction)
        assert (gradients @ other).min() <= worst + 1e-5 * abs(worst)
    near = min(  # the dual of the paper, on a grid
        w @ gradients @ mean + radius * np.linalg.norm(w @ gradients)
        for w in draw.dirichlet(np.full(len(tasks), 0.3), size=40000)
    )
    assert worst == pytest.approx(near, rel=2e-3)


@pytest.mark.parametrize("tasks", [["a", "b"], TASKS], ids=len)
def test_pareto_is_the_shortest_mixture(tasks: list[str]) -> None:
    found = step_of(ParetoBalanceSpec(), World(tasks=tasks))[0] / len(tasks)
    gradients = task_gradients(World(tasks=tasks))
    square = found @ found
    assert (gradients @ found >= square * (1 - 1e-3) - 1e-6).all()  # no task gets worse
    for w in generator(0, "mixtures").dirichlet(np.ones(len(tasks)), size=2000):
        assert np.linalg.norm(w @ gradients) >= math.sqrt(square) * (1 - 1e-4)
    if len(tasks) == 2:
        one, other = gradients
        share = np.clip((other - one) @ other / ((one - other) @ (one - other)), 0, 1)
        np.testing.assert_allclose(found, share * one + (1 - share) * other, rtol=1e-3, atol=1e-4)


def test_normalized_pareto_gives_each_direction_the_same_say() -> None:
    found = step_of(ParetoBalanceSpec(normalize=True), World(tasks=["a", "b"]))[0] / 2
    gradients = task_gradients(World(tasks=["a", "b"]))
    lengths = np.linalg.norm(gradients, axis=1)
    bisector = (gradients / lengths[:, None]).mean(axis=0) * lengths.mean()
    np.testing.assert_allclose(found, bisector, rtol=1e-3, atol=1e-4)


def test_gradnorm_goes_down_the_gradient_of_its_loss() -> None:
    world, alpha, lr = World(), 0.7, 0.05
    balancer = GradNormBalanceSpec(alpha=alpha, lr=lr).build(WEIGHTS, world.reached())
    optimizer = torch.optim.SGD(world.parameters(), lr=0.01)
    first: Tensor | None = None
    for _ in range(4):
        weights = balancer.shares.clone().requires_grad_()
        losses = torch.stack([WEIGHTS[task] * term for task, term in world.terms(ROWS).items()]).double()
        first = losses.detach() if first is None else first
        norms = []
        for place in range(3):  # with a graph, as the paper has it
            inner = torch.autograd.grad(
                weights[place] * losses[place], list(world.shared.parameters()), create_graph=True
            )
            norms.append(torch.cat([each.double().ravel() for each in inner]).norm())
        sizes = torch.stack(norms)
        rates = (losses / first) / (losses / first).mean()
        loss = (sizes - (sizes.mean() * rates**alpha).detach()).abs().sum()
        (gradient,) = torch.autograd.grad(loss, weights)
        unit = (sizes / weights).mean()  # of the losses without their weights
        expected = (weights - lr * gradient / unit).detach().clamp(min=1e-3)
        optimizer.zero_grad()
        used = weights.detach()
        balancer.backward(world.terms(ROWS))
        for head, task, share in zip(world.heads, TASKS, used, strict=True):
            plain = torch.autograd.grad(world.terms(ROWS)[task], list(head.parameters()))
            torch.testing.assert_close(
                [p.grad for p in head.parameters()], [float(share) * WEIGHTS[task] * g for g in plain]
            )
        optimizer.step()
        torch.testing.assert_close(balancer.shares, 3 * expected / expected.sum(), rtol=1e-4, atol=1e-6)
    assert balancer.report().keys() >= {"task_weight/a", "task_weight/b", "task_weight/c"}
    assert balancer.shares.std() > 0.01


def test_dwa_follows_the_losses_of_the_last_two_epochs() -> None:
    parameter = nn.Parameter(torch.ones(()))
    balancer = DwaBalanceSpec(temperature=0.5).build({"a": 1.0, "b": 3.0})
    epochs = [[(4.0, 1.0), (2.0, 1.0)], [(1.5, 0.8), (1.5, 1.0)], [(1.0, 0.5)]]
    told = []
    for steps in epochs:
        for one, other in steps:
            parameter.grad = None
            balancer.backward({"a": one * parameter, "b": other * parameter})
        told.append(balancer.report())
    ratios = np.array([1.5 / 3.0, 2.7 / 3.0])  # mean losses, with the weights of the heads
    wanted = 2 * np.exp(ratios / 0.5) / np.exp(ratios / 0.5).sum()
    assert told[0] == told[1] == {"task_weight/a": 1.0, "task_weight/b": 1.0}
    assert list(told[2].values()) == pytest.approx(wanted)
    assert parameter.grad is not None
    assert parameter.grad.item() == pytest.approx(wanted[0] * 1.0 + wanted[1] * 3.0 * 0.5)


@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_what_one_task_reaches_gets_its_own_gradient(spec: Any) -> None:
    world = World()
    _, _ = step_of(spec, world)
    for task, head in zip(TASKS, world.heads, strict=True):
        plain = torch.autograd.grad(WEIGHTS[task] * world.terms(ROWS)[task], list(head.parameters()))
        torch.testing.assert_close([p.grad for p in head.parameters()], list(plain))


@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_sparse_tables_move_as_dense_ones_do(spec: Any) -> None:
    dense, _ = step_of(spec, World())
    sparse_world = World(sparse=True)
    sparse, _ = step_of(spec, sparse_world)
    assert sparse_world.table.weight.grad is not None and sparse_world.table.weight.grad.is_sparse
    np.testing.assert_allclose(sparse, dense, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", [*KINDS, CagradBalanceSpec(c=0.0)], ids=str)
def test_where_nothing_is_to_decide_it_is_the_plain_sum(spec: Any) -> None:
    plain, _ = step_of(FixedBalanceSpec(), World(tasks=["b"]))
    np.testing.assert_allclose(step_of(spec, World(tasks=["b"]))[0], plain, rtol=1e-5, atol=1e-6)
    if isinstance(spec, CagradBalanceSpec) and spec.c == 0:
        np.testing.assert_allclose(step_of(spec, World())[0], task_gradients(World()).sum(axis=0), rtol=1e-4, atol=1e-5)
    balancer = spec.build(WEIGHTS, World().reached())
    world = World()
    balancer.backward({"b": world.terms(ROWS)["b"]})  # the others have no label in this batch
    assert all(p.grad is None for p in world.heads[0].parameters())
    assert not any("gradient" in name for name in balancer.report())


def test_agreeing_tasks_are_added_up_by_pcgrad() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    balancer = PcgradBalanceSpec().build({"a": 1.0, "b": 2.0}, Reached((parameter,)))
    balancer.backward({"a": parameter[0], "b": parameter.sum()})
    assert parameter.grad is not None and parameter.grad.tolist() == [3.0, 2.0]
    balancer.backward({"a": parameter[0], "b": parameter.sum()})  # gradients accumulate
    assert parameter.grad.tolist() == [6.0, 4.0]
    assert balancer.report() == {"gradient_cosine/a.b": pytest.approx(math.sqrt(0.5)), "gradient_conflict/a.b": 0.0}


@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_a_restored_balancer_goes_on_bit_for_bit(spec: Any) -> None:
    def run(stop: int | None) -> tuple[list[Tensor], list[dict[str, float]]]:
        world, told = World(), []
        balancer = spec.build(WEIGHTS, world.reached())
        parameters = [*world.parameters(), *balancer.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=0.02)
        for step in range(12):
            if step == stop:
                kept = {name: tensor.clone() for name, tensor in balancer.state_dict().items()}
                again = spec.build(WEIGHTS, world.reached())
                again.load_state_dict(kept)
                for old, new in zip(balancer.parameters(), again.parameters(), strict=True):
                    assert torch.equal(old, new)
                balancer = again
                optimizer = torch.optim.SGD([*world.parameters(), *balancer.parameters()], lr=0.02)
            optimizer.zero_grad()
            balancer.backward(world.terms(torch.tensor([step % 6, (step * 5 + 1) % 6, 3])))
            optimizer.step()
            if step % 4 == 3:
                told.append(balancer.report())
        return [each.detach() for each in world.parameters()], told

    whole = run(None)
    for stop in (1, 6, 8):
        found = run(stop)
        assert all(torch.equal(one, other) for one, other in zip(found[0], whole[0], strict=True))
        assert found[1] == whole[1]


def test_the_report_is_of_the_gradients_that_are_shared() -> None:
    world = World()
    _, balancer = step_of(FixedBalanceSpec(conflicts=1), world, steps=2)
    gradients = task_gradients(World())
    told = balancer.report()
    lengths = np.linalg.norm(gradients, axis=1)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        cosine = gradients[i] @ gradients[j] / lengths[i] / lengths[j]
        assert told[f"gradient_cosine/{TASKS[i]}.{TASKS[j]}"] == pytest.approx(cosine, abs=1e-5)
        assert told[f"gradient_conflict/{TASKS[i]}.{TASKS[j]}"] == float(cosine < 0)
    assert balancer.report() == {}  # of the steps since the last one
    assert FixedBalanceSpec().build(WEIGHTS, world.reached()).report() == {}


@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_a_loss_that_is_no_number_is_told(spec: Any) -> None:
    world = World()

    def objective(model: World, batch: Any) -> dict[str, Tensor]:
        return {task: term * (math.nan if task == "b" else 1.0) for task, term in model.terms(ROWS).items()}

    balancer = spec.build(WEIGHTS, world.reached())
    state = TrainState(world, _Terms(objective), balancer, None, RowAdam(world.parameters(), lr=0.1))  # type: ignore[arg-type]
    with pytest.raises(LossError, match="b nan"):
        train_step(state, None)  # type: ignore[arg-type]


class _Terms:
    """An objective that is a function."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, model: Any, batch: Any) -> Any:
        return self.function(model, batch)

    def after_step(self) -> None:
        """Nothing."""


def test_the_simplex_is_solved_at_its_corners_and_inside() -> None:
    draw = generator(1, "targets")
    for _ in range(20):
        target = draw.normal(size=4)
        found = on_simplex(lambda w, t=target: float(((w - t) ** 2).sum()), lambda w, t=target: 2 * (w - t), 4)  # type: ignore[misc]
        ordered = np.sort(target)[::-1]  # the projection of Held, Wolfe and Crowder
        sums = (np.cumsum(ordered) - 1) / np.arange(1, 5)
        level = sums[np.flatnonzero(ordered > sums)[-1]]
        np.testing.assert_allclose(found, np.maximum(target - level, 0), atol=1e-5)


@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_specs_survive_json(spec: Any) -> None:
    assert MENU.validate_json(spec.model_dump_json()) == spec
    assert parse(type(spec), spec.model_dump()) == spec

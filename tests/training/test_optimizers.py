"""Optimizers: row-wise Adam, Adagrad and plain gradient descent.

Invariants:
- a dense gradient moves a parameter as ``torch.optim.Adam`` with weight decay does, over 20 steps, to 1e-6;
- a sparse gradient moves it as ``torch.optim.SparseAdam`` does (without weight decay), repeated rows added up;
- rows that a sparse gradient does not name rest: value and moments; with a dense gradient they go on by their momentum;
- where every step names every row, sparse and dense are one, weight decay included;
- a parameter without a gradient gets no slot and does not move;
- Adagrad and gradient descent move as torch's, dense and sparse; row-wise Adagrad keeps one number per row of a matrix;
- clipping is that of ``torch.nn.utils.clip_grad_norm_``, over sparse gradients too; accumulated gradients count by their mean;
- state and restore give an optimizer that goes on with the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.training.optimizers import Adagrad, AdamSpec, RowAdam, Sgd
from towerkit.training.spec import TrainingSpec

STEPS = 20


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((7, 3), (4,), ())]


def gradients(shape: torch.Size) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        yield torch.randn(shape, generator=generator) * 10.0 ** (step % 4 - 2)


def sparse(rows: list[int], values: torch.Tensor) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, (7, 3), check_invariants=True)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-5, 0.3])
@pytest.mark.parametrize("lr", [1e-3, 0.1])
def test_dense_equals_torch_adam(weight_decay: float, lr: float) -> None:
    own, other = parameters(), parameters()
    optimizer = AdamSpec(lr=lr, weight_decay=weight_decay).build(own)
    oracle = torch.optim.Adam(other, lr=lr, weight_decay=weight_decay, foreach=False)
    streams = [list(gradients(parameter.shape)) for parameter in own]
    for step in range(STEPS):
        for place, stream in enumerate(streams):
            own[place].grad, other[place].grad = stream[step].clone(), stream[step].clone()
        optimizer.step()
        oracle.step()
        for found, expected in zip(own, other, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_sparse_equals_torch_sparse_adam() -> None:
    own, other = parameters()[0], parameters()[0]
    optimizer, oracle = RowAdam([own], lr=0.05), torch.optim.SparseAdam([other], lr=0.05)
    generator = torch.Generator().manual_seed(2)
    for _ in range(STEPS):
        rows = torch.randint(0, 6, (4,), generator=generator).tolist()  # repeats, and row 6 never
        values = torch.randn(4, 3, generator=generator)
        own.grad, other.grad = sparse(rows, values), sparse(rows, values)
        optimizer.step()
        oracle.step()
        torch.testing.assert_close(own, other, rtol=0, atol=1e-6)
    assert torch.equal(own[6], parameters()[0][6])


def test_untouched_rows_rest_only_under_sparse_gradients() -> None:
    tables = {}
    for kind in ("touched", "all"):
        table = parameters()[0]
        optimizer = RowAdam([table], lr=0.1, weight_decay=0.01)
        for rows in ([0, 1], [2]):
            gradient = sparse(rows, torch.ones(len(rows), 3))
            table.grad = gradient if kind == "touched" else gradient.to_dense()
            before = table.detach().clone()
            optimizer.step()
        tables[kind] = (table != before).any(dim=1).tolist()
    assert tables["touched"] == [False, False, True, False, False, False, False]
    assert tables["all"] == [True] * 7  # by momentum, and by weight decay


def test_moments_of_untouched_rows_rest() -> None:
    table = parameters()[0]
    optimizer = RowAdam([table], lr=0.1)
    table.grad = sparse([0, 1], torch.ones(2, 3))
    optimizer.step()
    first = optimizer.moments[0].first.clone()
    table.grad = sparse([1], torch.ones(1, 3))
    optimizer.step()
    assert torch.equal(optimizer.moments[0].first[0], first[0])
    assert not torch.equal(optimizer.moments[0].first[1], first[1])
    assert optimizer.moments[0].step == 2  # the bias correction counts every step


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_sparse_over_all_rows_equals_dense(weight_decay: float) -> None:
    one, two = parameters()[0], parameters()[0]
    optimizers = [RowAdam([table], lr=0.02, weight_decay=weight_decay) for table in (one, two)]
    for gradient in gradients(one.shape):
        one.grad, two.grad = gradient.clone(), sparse(list(range(7)), gradient)
        for optimizer in optimizers:
            optimizer.step()
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)


def test_repeated_rows_are_added_up_before_the_step() -> None:
    one, two = parameters()[0], parameters()[0]
    one.grad = sparse([3, 3], torch.tensor([[1.0, 2.0, 3.0], [1.0, -1.0, 0.5]]))
    two.grad = sparse([3], torch.tensor([[2.0, 1.0, 3.5]]))
    for table in (one, two):
        RowAdam([table], lr=0.1).step()
    torch.testing.assert_close(one, two)


def test_a_parameter_without_a_gradient_rests() -> None:
    own = parameters()
    optimizer = RowAdam(iter(own), lr=0.1)
    own[1].grad = torch.ones(4)
    optimizer.step()
    assert list(optimizer.moments) == [1]
    assert torch.equal(own[0], parameters()[0])
    optimizer.zero_grad()
    assert own[1].grad is None


def test_settings_of_the_spec() -> None:
    optimizer = AdamSpec(lr=0.5, weight_decay=0.25).build(parameters())
    assert (optimizer.lr, optimizer.weight_decay, optimizer.betas, optimizer.eps) == (0.5, 0.25, (0.9, 0.999), 1e-8)
    with pytest.raises(SpecError, match=r"lr: input should be greater than 0; received 0"):
        parse(AdamSpec, {"lr": 0})


# --- the others ---------------------------------------------------------------------------------------------------

KINDS = ("adam", "adagrad", "rowwise_adagrad", "sgd")


def built(kind: str, own: list[nn.Parameter], **settings: object) -> RowAdam | Adagrad | Sgd:
    return TrainingSpec.model_validate({"optimizer": {"kind": kind, **settings}}).optimizer.build(own)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_dense_adagrad_and_sgd_equal_torch(weight_decay: float) -> None:
    torch_own = {
        "adagrad": lambda own: torch.optim.Adagrad(own, lr=0.1, weight_decay=weight_decay, foreach=False),
        "sgd": lambda own: torch.optim.SGD(own, lr=0.1, weight_decay=weight_decay, foreach=False),
    }
    for kind, make in torch_own.items():
        own, other = parameters(), parameters()
        optimizer, oracle = built(kind, own, lr=0.1, weight_decay=weight_decay), make(other)
        streams = [list(gradients(parameter.shape)) for parameter in own]
        for step in range(STEPS):
            for place, stream in enumerate(streams):
                own[place].grad, other[place].grad = stream[step].clone(), stream[step].clone()
            optimizer.step()
            oracle.step()
            for found, expected in zip(own, other, strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch's own Adagrad makes unchecked tensors
@pytest.mark.parametrize("kind", ["adagrad", "sgd"])
def test_sparse_adagrad_and_sgd_equal_torch(kind: str) -> None:
    own, other = parameters()[0], parameters()[0]
    oracle = {"adagrad": torch.optim.Adagrad, "sgd": torch.optim.SGD}[kind]([other], lr=0.1)
    optimizer, generator = built(kind, [own], lr=0.1), torch.Generator().manual_seed(2)
    for _ in range(STEPS):
        rows = torch.randint(0, 6, (4,), generator=generator).tolist()
        values = torch.randn(4, 3, generator=generator)
        own.grad, other.grad = sparse(rows, values), sparse(rows, values)
        optimizer.step()
        oracle.step()
        torch.testing.assert_close(own, other, rtol=0, atol=1e-6)
    assert torch.equal(own[6], parameters()[0][6])


def test_rowwise_adagrad_keeps_a_number_per_row() -> None:
    own = parameters()
    before = [parameter.detach().clone() for parameter in own]
    optimizer = built("rowwise_adagrad", own, lr=0.1)
    sums = torch.zeros(7, 1)
    for gradient in list(gradients(own[0].shape))[:5]:
        own[0].grad, own[1].grad = gradient, torch.ones(4)
        optimizer.step()
        sums += gradient.square().mean(dim=1, keepdim=True)
        before[0] -= 0.1 * gradient / (sums.sqrt() + 1e-10)
        torch.testing.assert_close(own[0].detach(), before[0])
    state = optimizer.state()
    assert state["0.sum"].shape == (7, 1) and state["1.sum"].shape == (4,)


@pytest.mark.parametrize("kind", KINDS)
def test_touched_rows_of_every_optimizer(kind: str) -> None:
    one, two, resting = parameters()[0], parameters()[0], parameters()[0]
    optimizers = [built(kind, [table], lr=0.02, weight_decay=0.1) for table in (one, two, resting)]
    for gradient in gradients(one.shape):
        one.grad, two.grad = gradient.clone(), sparse(list(range(7)), gradient)
        resting.grad = sparse([0, 3], gradient[[0, 3]])
        for optimizer in optimizers:
            optimizer.step()
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)
    untouched = [1, 2, 4, 5, 6]
    assert torch.equal(resting[untouched], parameters()[0][untouched])
    torch.testing.assert_close(resting[[0, 3]], one[[0, 3]], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_clipping_is_that_of_torch(kind: str) -> None:
    for size in (0.01, 100.0):
        own, other = parameters(), parameters()
        optimizer, oracle = built(kind, own, lr=0.1, clip_norm=1.5), built(kind, other, lr=0.1)
        values = torch.randn(3, 3, generator=torch.Generator().manual_seed(3)) * size
        own[0].grad = sparse([1, 1, 4], values)
        other[0].grad = own[0].grad.coalesce().to_dense()
        own[1].grad, other[1].grad = torch.full((4,), size), torch.full((4,), size)
        torch.nn.utils.clip_grad_norm_(other, 1.5)
        other[0].grad = other[0].grad.to_sparse(1)
        optimizer.step()
        oracle.step()
        for found, expected in zip(own, other, strict=True):
            torch.testing.assert_close(found, expected)


def test_accumulated_gradients_count_by_their_mean_and_are_clipped_after_it() -> None:
    one, two = parameters()[0], parameters()[0]
    one.grad, two.grad = torch.full((7, 3), 4.0), torch.full((7, 3), 1.0)
    built("sgd", [one], lr=0.1).step(batches=4)
    built("sgd", [two], lr=0.1).step()
    assert torch.equal(one, two)
    one.grad, two.grad = torch.full((7, 3), 4.0), torch.full((7, 3), 1.0)
    built("sgd", [one], lr=0.1, clip_norm=0.5).step(batches=4)
    built("sgd", [two], lr=0.1, clip_norm=0.5).step()
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("kind", KINDS)
def test_state_and_restore(kind: str) -> None:
    settings = {"lr": 0.05, "weight_decay": 0.01, "schedule": {"kind": "constant", "warmup": 9}, "clip_norm": 3.0}
    own = parameters()
    optimizer = built(kind, own, **settings)
    for step, gradient in enumerate(gradients(own[0].shape)):
        if step == 7:
            state = {name: tensor.clone() for name, tensor in optimizer.state().items()}
            other = [nn.Parameter(parameter.detach().clone()) for parameter in own]
            again = built(kind, other, **settings)
            again.restore(state)
        own[0].grad, own[2].grad = sparse([step % 7], gradient[:1]), torch.ones(())
        optimizer.step()
        if step >= 7:
            other[0].grad, other[2].grad = sparse([step % 7], gradient[:1]), torch.ones(())
            again.step()
            assert all(torch.equal(found, expected) for found, expected in zip(other, own, strict=True))

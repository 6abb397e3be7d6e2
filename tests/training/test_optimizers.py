"""Row-wise Adam.

Invariants:
- a dense gradient moves a parameter as ``torch.optim.Adam`` with weight decay does, over 20 steps, to 1e-6;
- a sparse gradient moves it as ``torch.optim.SparseAdam`` does (without weight decay), repeated rows added up;
- rows that a sparse gradient does not name rest: value and moments; with a dense gradient they go on by their momentum;
- where every step names every row, sparse and dense are one, weight decay included;
- a parameter without a gradient gets no slot and does not move.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.training.optimizers import AdamSpec, RowAdam

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

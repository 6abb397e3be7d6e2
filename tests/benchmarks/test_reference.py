"""The reference loops do what they say, and the fast ones do the arithmetic of the obvious one.

- From the same tables, the three one-backprop loops give the same losses and the same tables, batch by batch.
- A step of the obvious one is the algorithm in NumPy; a wrong ``beta`` is told apart.
- The negatives of each sampler are new to the user and differ within a pair; the two ways to look pairs up agree.
- A BPR step moves both tables by the gradient that finite differences give.
- An epoch leaves the short batch out (one-backprop) or takes it (BPR), and lowers the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

SMALL = {"dim": 4, "negatives": 3, "batch_size": 8}


@pytest.fixture
def loops(benchmark_module: Callable[[str], Any]) -> Any:
    """The module of one-backprop loops."""
    return benchmark_module("reference.one_backprop")


@pytest.fixture
def bpr(benchmark_module: Callable[[str], Any]) -> Any:
    """The module of the BPR loop."""
    return benchmark_module("reference.bpr")


def pairs_of(loops: Any, *, users: int = 12, items: int = 20, count: int = 60) -> Any:
    draw = np.random.default_rng(3)
    codes = np.unique(draw.choice(users * items, size=count, replace=False))
    return loops.Pairs(codes // items, codes % items, users, items)


def tables(loop: Any) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(loop.users, torch.nn.Embedding):
        return loop.users.weight.data, loop.items.weight.data
    return loop.users, loop.items.data


def batches(loops: Any, pairs: Any, settings: Any, count: int) -> list[tuple[torch.Tensor, ...]]:
    """Batches in which no user stands twice, so that it does not matter which of several writes is kept."""
    sampler = loops.NegativeSampler(pairs, settings.negatives, torch.Generator().manual_seed(1))
    _, first = np.unique(pairs.users, return_index=True)
    found = []
    for step in range(count):
        rows = np.random.default_rng(step).permutation(first)[: settings.batch_size]
        user, item = torch.from_numpy(pairs.users[rows]), torch.from_numpy(pairs.items[rows])
        found.append((user, item, sampler(user).T.contiguous()))
    return found


@pytest.mark.parametrize("name", ["Vectorized", "VectorizedAutograd"])
def test_the_fast_loops_do_the_arithmetic_of_the_obvious_one(loops: Any, name: str) -> None:
    settings, pairs = loops.Settings(**SMALL, lr=0.05, beta=0.9, weight_decay=0.01), pairs_of(loops)
    plain, fast = loops.ByHand(pairs, settings), getattr(loops, name)(pairs, settings)
    for own, other in zip(tables(plain), tables(fast), strict=True):
        other.copy_(own)
    for batch in batches(loops, pairs, settings, 6):
        assert plain.step(*batch) == pytest.approx(fast.step(*batch), rel=1e-5)
        for own, other in zip(tables(plain), tables(fast), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_a_step_is_the_algorithm(loops: Any) -> None:
    settings, pairs = loops.Settings(**SMALL, lr=0.05, beta=0.9, weight_decay=0.01), pairs_of(loops)
    loop = loops.ByHand(pairs, settings)
    users, items = (table.numpy().copy() for table in tables(loop))
    user, positive, negatives = batches(loops, pairs, settings, 1)[0]
    loss = loop.step(user, positive, negatives)
    shown = np.concatenate([positive[:, None], negatives], axis=1)
    scores = np.einsum("bd,bnd->bn", users[user], items[shown])
    share = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert loss == pytest.approx(-np.log(share[:, 0]).mean(), rel=1e-5)
    share[:, 0] -= 1.0
    gradient = settings.weight_decay * items
    np.add.at(gradient, shown, share[:, :, None] * users[user][:, None] / len(user))
    moved = items - settings.lr * gradient / (np.abs(gradient) + 1e-8)  # the first step of Adam
    np.testing.assert_allclose(tables(loop)[1].numpy(), moved, rtol=1e-4, atol=1e-5)
    expected = settings.beta * users[user] + (1 - settings.beta) * moved[positive]
    np.testing.assert_allclose(tables(loop)[0][user].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_another_beta_is_told_apart(loops: Any) -> None:
    pairs = pairs_of(loops)
    settings = loops.Settings(**SMALL)
    one, two = loops.ByHand(pairs, settings), loops.Vectorized(pairs, replace(settings, beta=0.5))
    for own, other in zip(tables(one), tables(two), strict=True):
        other.copy_(own)
    batch = batches(loops, pairs, settings, 1)[0]
    one.step(*batch)
    two.step(*batch)
    assert not torch.allclose(tables(one)[0], tables(two)[0], atol=1e-2)


@pytest.mark.parametrize("largest_table", [0, 1 << 20])
def test_negatives_are_new_and_differ(loops: Any, largest_table: int) -> None:
    pairs = pairs_of(loops, users=5, items=12, count=40)  # a user knows eight of the twelve
    sampler = loops.NegativeSampler(pairs, 3, torch.Generator().manual_seed(0), largest_table=largest_table)
    users = torch.from_numpy(pairs.users).repeat(20)
    drawn = sampler(users).numpy()
    known = set(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))
    possible = {(user, item) for user in range(5) for item in range(12)} - known
    met = set()
    for user, own in zip(users.tolist(), drawn.T.tolist(), strict=True):
        assert len(set(own)) == 3
        met |= {(user, item) for item in own}
    counts = np.bincount(pairs.users, minlength=5)
    assert (12 - counts >= 3).all()
    assert met == possible


def test_the_obvious_sampler_gives_new_and_different_negatives(loops: Any) -> None:
    pairs = pairs_of(loops)
    rows = loops.SampledPairs(pairs, 3, np.random.default_rng(0))
    known = set(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))
    for place in range(len(rows)):
        user, item, negatives = rows[place]
        assert (user, item) in known and len(set(negatives)) == 3
        assert not known & {(user, negative) for negative in negatives}


@pytest.mark.parametrize("name", ["ByHand", "Vectorized", "VectorizedAutograd"])
def test_an_epoch_learns_from_full_batches(loops: Any, name: str) -> None:
    settings, pairs = loops.Settings(**SMALL, lr=0.05), pairs_of(loops)
    loop, steps = getattr(loops, name)(pairs, settings), []
    inner = loop.step if name == "ByHand" else loop._step
    setattr(loop, inner.__name__, lambda *batch: (steps.append(len(batch[0])), inner(*batch))[1])
    losses = [loop.epoch() for _ in range(15)]
    assert steps == [8] * (7 * 15)  # 60 pairs: four are left out
    assert losses[-1] < losses[0]


def test_a_bpr_step_follows_the_gradient(loops: Any, bpr: Any) -> None:
    pairs = pairs_of(loops)
    loop = bpr.Bpr(pairs, dim=4, lr=0.05, decay=0.1)
    batch = (torch.tensor([0, 1, 0]), torch.tensor([2, 3, 4]), torch.tensor([5, 2, 5]))
    before = [table.clone().double() for table in tables(loop)]
    loss = loop.step(*batch)

    def objective(users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        query, own, other = users[batch[0]], items[batch[1]], items[batch[2]]
        margin = (query * (own - other)).sum(dim=1)
        squares = sum(part.square().sum() for part in (query, own, other))
        return torch.log1p(torch.exp(-margin)).sum() + 0.05 * squares

    at = [table.clone().requires_grad_() for table in before]
    gradients = torch.autograd.grad(objective(*at), at)
    assert torch.autograd.gradcheck(objective, at)
    for table, start, gradient in zip(tables(loop), before, gradients, strict=True):
        torch.testing.assert_close(table.double(), start - 0.05 * gradient, rtol=1e-5, atol=1e-6)
    assert loss < float(objective(*before).detach())  # the squares are no part of what is told


def test_a_bpr_epoch_learns_from_every_pair(loops: Any, bpr: Any) -> None:
    loop = bpr.Bpr(pairs_of(loops), dim=4, batch_size=16, lr=0.2)
    inner, rows = loop.step, []
    loop.step = lambda *batch: (rows.append(len(batch[0])), inner(*batch))[1]
    losses = [loop.epoch() for _ in range(10)]
    assert sum(rows) == 600 and losses[-1] < losses[0]

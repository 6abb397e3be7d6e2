"""What every retrieval loss on scores keeps.

Invariants:
- the value is that of a few lines of NumPy in float64, and the gradient is that function's finite differences, with
  masks, log q and every setting drawn at random;
- a masked negative is as if it had not been drawn, in value and gradient: masked columns get a gradient of exactly 0;
- a row without a negative that counts, or without any column, is finite in value and gradient;
- the order of the negatives does not matter; rows do not see each other;
- log q changes only the losses whose spec says so, and may be one row for all;
- scores of ±10,000 stay finite in float32, in value and gradient; float32 stays float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from towerkit.losses import (
    BceSpec,
    BilateralSoftmaxSpec,
    BprSpec,
    CclSpec,
    ContrastiveSpec,
    RetrievalLossSpec,
    SampledSoftmaxSpec,
    SoftmaxSpec,
    TripletSpec,
)

Array = NDArray[np.float64]
Reference = Callable[[float, Array, Array], float]


def logistic(score: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-score))


def one_of(positive: float, others: Array, temperature: float) -> float:
    """Cross-entropy of the positive against itself and others that are scaled already."""
    return float(-np.log(np.exp(positive / temperature) / (np.exp(positive / temperature) + np.exp(others).sum())))


def bilateral(positive: float, negative: Array, log_q: Array) -> float:
    if not len(negative):
        return 0.0
    return float(-positive / 0.7 + 1.3 * np.log(np.mean(np.exp(negative / 0.7 - log_q))))


def mean(values: Array) -> float:
    return float(values.mean()) if len(values) else 0.0


# One row at a time: its positive, its negatives that count, and their log q, to its loss.
CASES: dict[str, tuple[RetrievalLossSpec, Reference]] = {
    "sampled_softmax": (SampledSoftmaxSpec(temperature=0.5), lambda p, n, q: one_of(p, n / 0.5 - q, 0.5)),
    "softmax": (SoftmaxSpec(temperature=0.5), lambda p, n, _: one_of(p, n / 0.5, 0.5)),
    "bilateral_softmax": (BilateralSoftmaxSpec(temperature=0.7, ratio=1.3), bilateral),
    "bpr": (BprSpec(), lambda p, n, _: mean(-np.log(logistic(p - n)))),
    "triplet": (TripletSpec(margin=0.8), lambda p, n, _: mean(np.maximum(0, 0.8 + n - p))),
    "bce": (BceSpec(negative_weight=3), lambda p, n, _: -np.log(logistic(p)) - 3 * mean(np.log(logistic(-n)))),
    "contrastive": (
        ContrastiveSpec(margin=0.25),
        lambda p, n, _: (1 - p) ** 2 / 2 + mean(np.maximum(0, n - 0.25) ** 2) / 2,
    ),
    "ccl": (
        CclSpec(margin=0.25, negative_weight=3),
        lambda p, n, _: (1 - p) + 3 * mean(np.maximum(0, n - 0.25)),
    ),
}
LOSSES = {name: spec.build() for name, (spec, _) in CASES.items()}
each_loss = pytest.mark.parametrize("name", CASES)


class Rows:
    """A batch of random scores, masks and log q, in float64."""

    def __init__(self, seed: int, batch: int, drawn: int) -> None:
        rng = np.random.default_rng(seed)
        self.positive = rng.uniform(-3, 3, batch)
        self.negative = rng.uniform(-3, 3, (batch, drawn))
        self.log_q = np.log(rng.uniform(0.01, 1, (batch, drawn)))
        self.collision = rng.random((batch, drawn)) < 0.4

    def loss(self, name: str, **changed: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Losses, and the gradient of their sum, for positives and negatives."""
        given = {"log_q": self.log_q, "collision": self.collision, **changed}
        options = {key: None if value is None else torch.as_tensor(value) for key, value in given.items()}
        positive = torch.tensor(self.positive, requires_grad=True)
        negative = torch.tensor(options.pop("negative", torch.from_numpy(self.negative)).numpy(), requires_grad=True)
        losses = LOSSES[name](positive, negative, **options)
        losses.sum().backward()
        assert positive.grad is not None and negative.grad is not None
        return losses.detach(), positive.grad, negative.grad

    def expected(self, name: str) -> Array:
        """The reference, row by row, over what counts."""
        kept = zip(self.positive, self.negative, self.log_q, ~self.collision, strict=True)
        return np.array([CASES[name][1](p, n[counts], q[counts]) for p, n, q, counts in kept])


SEEDS, BATCHES, DRAWN = st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 6)


@each_loss
@settings(max_examples=40, deadline=None)
@given(SEEDS, BATCHES, DRAWN)
def test_the_value_is_that_of_numpy(name: str, seed: int, batch: int, drawn: int) -> None:
    rows = Rows(seed, batch, drawn)
    np.testing.assert_allclose(rows.loss(name)[0].numpy(), rows.expected(name), rtol=1e-9, atol=1e-12)


@each_loss
@settings(max_examples=15, deadline=None)
@given(SEEDS, BATCHES, DRAWN)
def test_the_gradient_is_that_of_finite_differences(name: str, seed: int, batch: int, drawn: int) -> None:
    rows, step = Rows(seed, batch, drawn), 1e-6
    _, by_positive, by_negative = rows.loss(name)

    def slope(scores: Array) -> float:
        before = scores.copy()
        sums = []
        for sign in (1, -1):
            scores[...] = before
            scores[place] += sign * step
            sums.append(rows.expected(name).sum())
        scores[...] = before
        return float(sums[0] - sums[1]) / (2 * step)

    for scores, found in ((rows.positive, by_positive), (rows.negative, by_negative)):
        for place in np.ndindex(scores.shape):
            assert found[place].item() == pytest.approx(slope(scores), rel=1e-5, abs=1e-7)


@each_loss
def test_the_gradient_is_not_zero_and_pulls_apart(name: str) -> None:
    rows = Rows(3, 40, 6)
    rows.positive /= 3.0  # at most 1, as cosines are
    _, by_positive, by_negative = rows.loss(name)
    counting = ~rows.collision
    assert (by_positive <= 0).all() and (by_positive < 0).float().mean() > 0.2
    assert (by_negative >= 0).all() and (by_negative.numpy()[counting] > 0).mean() > 0.2


@each_loss
@settings(max_examples=30, deadline=None)
@given(SEEDS, BATCHES, DRAWN)
def test_a_masked_negative_is_as_if_not_drawn(name: str, seed: int, batch: int, drawn: int) -> None:
    rows = Rows(seed, batch, drawn + 1)
    rows.collision[:] = rows.collision[0]  # the same columns in every row, so that they can be left out
    keep = ~rows.collision[0]
    masked = rows.loss(name)
    left_out = rows.loss(name, negative=rows.negative[:, keep], log_q=rows.log_q[:, keep], collision=None)
    for one, other in zip(masked[:2], left_out[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(masked[2][:, keep], left_out[2], rtol=1e-12, atol=1e-12)
    assert (masked[2][:, ~keep] == 0).all()


@each_loss
@pytest.mark.parametrize("drawn", [0, 3])
@pytest.mark.parametrize("with_log_q", [True, False])
def test_a_row_without_negatives_is_finite_and_leaves_the_others_alone(name: str, drawn: int, with_log_q: bool) -> None:
    rows = Rows(1, 3, drawn)
    if not with_log_q:
        rows.log_q[:] = 0.0
    rows.collision[:] = False
    rows.collision[1] = True
    with torch.autograd.set_detect_anomaly(True):  # nor is anything on the way back not a number
        losses, by_positive, by_negative = rows.loss(name)
    assert all(bool(found.isfinite().all()) for found in (losses, by_positive, by_negative))
    assert (by_negative[1] == 0).all()
    np.testing.assert_allclose(losses.numpy(), rows.expected(name), rtol=1e-9, atol=1e-12)
    if name not in ("bce", "contrastive", "ccl"):  # these judge the positive by itself
        assert losses[1] == 0 and by_positive[1] == 0


@each_loss
def test_no_columns_and_no_mask(name: str) -> None:
    rows = Rows(2, 2, 0)
    losses, by_positive, _ = rows.loss(name, log_q=None, collision=None)
    np.testing.assert_allclose(losses.numpy(), rows.expected(name), rtol=1e-9, atol=1e-12)
    assert by_positive.isfinite().all()


@each_loss
@settings(max_examples=30, deadline=None)
@given(SEEDS, BATCHES, DRAWN)
def test_the_order_of_negatives_does_not_matter(name: str, seed: int, batch: int, drawn: int) -> None:
    rows = Rows(seed, batch, drawn)
    order = np.random.default_rng(seed).permutation(drawn)
    plain = rows.loss(name)
    arrays = {key: getattr(rows, key)[:, order] for key in ("negative", "log_q", "collision")}
    shuffled = rows.loss(name, **arrays)
    torch.testing.assert_close(shuffled, (plain[0], plain[1], plain[2][:, order]), rtol=1e-12, atol=1e-12)


@each_loss
def test_rows_do_not_see_each_other(name: str) -> None:
    rows, others = Rows(5, 4, 3), Rows(5, 4, 3)
    others.positive[1:] += 1.0
    others.negative[1:] -= 1.0
    assert torch.equal(rows.loss(name)[0][:1], others.loss(name)[0][:1])


@each_loss
def test_log_q_matters_where_the_spec_says_so(name: str) -> None:
    rows = Rows(7, 4, 5)
    with_it, without = rows.loss(name)[0], rows.loss(name, log_q=None)[0]
    assert (not torch.equal(with_it, without)) == CASES[name][0].corrects


@each_loss
def test_log_q_may_be_one_row_for_all(name: str) -> None:
    rows = Rows(7, 4, 5)
    rows.log_q[:] = rows.log_q[0]
    for shape in ((5,), (1, 5)):
        torch.testing.assert_close(rows.loss(name, log_q=rows.log_q[0].reshape(shape)), rows.loss(name))


@each_loss
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_scores_stay_finite_in_float32(name: str, size: float, masked: bool) -> None:
    positive = torch.tensor([size, size, 0.0], requires_grad=True)
    negative = torch.tensor([[-size, 0.0], [size, size], [size, -size]], requires_grad=True)
    collision = torch.tensor([[True, True], [False, True], [True, False]]) if masked else None
    losses = LOSSES[name](positive, negative, log_q=torch.tensor([-20.0, 0.0]), collision=collision)
    losses.sum().backward()
    assert losses.dtype == torch.float32
    for found in (losses, positive.grad, negative.grad):
        assert found is not None and bool(found.isfinite().all())


def test_every_loss_on_scores_is_here() -> None:
    def kinds(spec: type[RetrievalLossSpec]) -> set[str]:
        return {spec.model_fields["kind"].default} if "kind" in spec.model_fields else set()

    named = {kind for spec in subclasses(RetrievalLossSpec) if spec.reads == "scores" for kind in kinds(spec)}
    assert named == set(CASES)
    assert all(isinstance(loss, partial) or loss is LOSSES["bpr"] for loss in LOSSES.values())


def subclasses(spec: type[RetrievalLossSpec]) -> list[type[RetrievalLossSpec]]:
    found = [spec]
    for each in found:
        found += each.__subclasses__()
    return [each for each in found if each.__module__.startswith("towerkit.")]

"""Counts: labels, head and metric.

Invariants:
- the loss is half the deviance: minus the log-likelihood of a Poisson up to what no rate changes; 0 for the count itself;
- a head starts at the mean of the training labels, learns rates that differ by factors, and stays finite at the extremes;
- labels are whole numbers of 0 or more; others are refused with column, row and value, and so is a column of one value;
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from towerkit.core.errors import DataError
from towerkit.features.encoder import LabelSpec
from towerkit.features.labels import Labels
from towerkit.heads.count import CountHeadSpec
from towerkit.heads.heads import Head
from towerkit.training.optimizers import RowAdam
from towerkit.training.state import seeded_torch

COUNTS = [0, 3, None, 1, 0, 8]


def built(values: list[int | None] = COUNTS) -> Head:
    with seeded_torch(0):
        return CountHeadSpec(column="visits").build(3, CountHeadSpec(column="visits").label().fit(pa.array(values)))


def test_the_loss_is_the_likelihood_of_a_poisson() -> None:
    head = built().double()
    logits = torch.tensor([[0.3], [-2.0], [1.0], [0.0]], dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([0.0, 2.0, 7.0, 1.0], dtype=torch.float64)
    losses = head.loss(logits, counts)
    rates = head.probabilities(logits)[:, 0]
    exact = torch.distributions.Poisson(counts.clamp(min=1e-300), validate_args=False).log_prob(counts)
    torch.testing.assert_close(losses, exact - torch.distributions.Poisson(rates).log_prob(counts))
    gradients = torch.autograd.grad(losses.sum(), logits)[0]
    torch.testing.assert_close(gradients[:, 0], (rates - counts).detach())  # of a canonical link
    assert float(head.loss(torch.log(counts[1:2, None] / 2.4), counts[1:2])[0].detach()) == pytest.approx(
        0.0, abs=1e-12
    )


def test_a_head_starts_at_the_mean_and_learns_rates() -> None:
    head = built()
    head.start_at(torch.tensor(()))
    with torch.no_grad():
        head.last.weight.zero_()
        assert head.probabilities(head(torch.zeros(1, 3)))[0].tolist() == pytest.approx([12 / 5])
    state = torch.linspace(-2, 2, 200)[:, None].repeat(1, 3)
    rates = torch.exp(1.0 + 1.2 * state[:, 0])
    counts = torch.poisson(rates, generator=torch.Generator().manual_seed(0))
    optimizer = RowAdam(head.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        head.training_loss(head(state), counts).mean().backward()
        optimizer.step()
    found = head.probabilities(head(state))[:, 0].detach()
    assert float((found / rates).log().abs().max()) < 0.35


def test_the_extremes_are_finite() -> None:
    head = built()
    logits = torch.tensor([[1e6], [-1e6], [30.0]], requires_grad=True)
    losses = head.loss(logits, torch.tensor([0.0, 5.0, 1e9]))
    losses.sum().backward()
    assert bool(losses.isfinite().all()) and logits.grad is not None and bool(logits.grad.isfinite().all())
    assert bool(head.probabilities(logits.double()).isfinite().all())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, -3], "row 3 has -3 \\(1 such rows\\)"),
        ([0.5, 2.0, 1.0], "whole number of 0 or more; row 1 has 0.5"),
        ([2, 2, None], "one value only"),
        ([None, None], "no value"),
        (["a", "b"], "row 1 has 'a'"),
    ],
)
def test_other_labels_are_refused(values: list[object], message: str) -> None:
    spec, column = LabelSpec("visits", "count"), pa.array(values)
    with pytest.raises(DataError, match=f"'visits'.*{message}"):
        spec.check(column)
        spec.fit(column)


def test_labels_survive_json() -> None:
    labels = Labels.fit_counts("visits", pa.array(COUNTS))
    assert (labels.is_number, labels.num_outputs, labels.classes) == (True, 1, ())
    assert Labels.from_dict(labels.as_dict()) == labels
    np.testing.assert_array_equal(labels.encode(pa.array(COUNTS)), [0, 3, np.nan, 1, 0, 8])
    assert labels.scale is not None
    assert labels.scale.outside(torch.tensor([-50.0])).item() > 0

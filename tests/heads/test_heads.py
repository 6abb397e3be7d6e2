"""Heads.

Invariants:
- logits have the widths of their kind; probabilities have a column per class and sum to one, in order;
- the loss of a head is minus the log of its probability of the label;
- ordinal logits decrease along a row whatever the parameters, so no probability is negative; classes can be learned;
- a head started at some frequencies gives them for a state of zeros; a fresh ordinal head is symmetric, cut points one apart;
- a binary head may name its positive class, as YAML reads it;
- specs survive JSON and give the label column with the right kind;
- a multilabel head gives independent probabilities, and its loss is that of one coin per label;
- a regression head learns in the standardized unit and answers in the label's own, whatever its size; Huber's loss is that of
  the squares within one deviation and pulls no harder beyond; a logarithm's answers are values again, never negative.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from towerkit.features.encoder import LabelSpec
from towerkit.features.label_scale import Scale, Transform
from towerkit.features.label_sets import SetForm
from towerkit.features.labels import Labels
from towerkit.heads import (
    AnyHeadSpec,
    BinaryHeadSpec,
    Head,
    MulticlassHeadSpec,
    MultilabelHeadSpec,
    OrdinalHeadSpec,
    RegressionHeadSpec,
)
from towerkit.heads.heads import OrdinalHead
from towerkit.training.optimizers import RowAdam
from towerkit.training.state import seeded_torch

MENU: TypeAdapter[Any] = TypeAdapter(AnyHeadSpec)
CASES = [
    (BinaryHeadSpec(column="y"), 2, 1),
    (MulticlassHeadSpec(column="y", layers=(6,)), 4, 4),
    (OrdinalHeadSpec(column="y", layers=(6, 5)), 5, 4),
    (OrdinalHeadSpec(column="y"), 2, 1),
]
cases = pytest.mark.parametrize(("spec", "num_classes", "num_logits"), CASES)


def built(spec: Any, num_classes: int, seed: int = 0) -> Head:
    labels = Labels("y", spec.kind, tuple(str(place) for place in range(num_classes)))
    with seeded_torch(seed):
        return spec.build(3, labels)


def states(seed: int = 0, rows: int = 7) -> torch.Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed)) * 3


@cases
def test_widths_and_probabilities(spec: Any, num_classes: int, num_logits: int) -> None:
    head = built(spec, num_classes)
    logits = head(states())
    assert logits.shape == (7, num_logits)
    probabilities = head.probabilities(logits.double())
    assert probabilities.shape == (7, num_classes)
    assert bool((probabilities >= 0).all())
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(7, dtype=torch.float64), rtol=0, atol=1e-9)


@cases
def test_the_loss_is_minus_the_log_probability_of_the_label(spec: Any, num_classes: int, num_logits: int) -> None:
    head = built(spec, num_classes)
    logits = head(states()).double()
    labels = torch.arange(7) % num_classes
    expected = -torch.log(head.probabilities(logits)[torch.arange(7), labels])
    torch.testing.assert_close(head.loss(logits, labels), expected)


@cases
def test_a_head_starts_at_the_base_rate(spec: Any, num_classes: int, num_logits: int) -> None:
    head = built(spec, num_classes)
    frequencies = torch.arange(1.0, num_classes + 1) ** 2
    frequencies = frequencies / frequencies.sum()
    with torch.no_grad():
        for layer in head.mlp:
            if isinstance(layer, torch.nn.Linear):
                layer.bias.fill_(0.25)
    head.start_at(frequencies)
    with torch.no_grad():
        head.last.weight.zero_()  # as for a last hidden state of zeros
        found = head.probabilities(head(torch.zeros(1, 3)).double())[0]
    torch.testing.assert_close(found.float(), frequencies, rtol=1e-4, atol=1e-6)


@cases
def test_every_parameter_gets_a_finite_gradient_at_the_extremes(spec: Any, num_classes: int, num_logits: int) -> None:
    head = built(spec, num_classes)
    for scale in (1.0, 50.0, -50.0):
        head.zero_grad()
        logits = head(states() * scale)
        head.loss(logits, torch.arange(7) % num_classes).sum().backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None, name
            assert bool(parameter.grad.isfinite().all()), name


@pytest.mark.parametrize("num_classes", [2, 3, 5, 10])
def test_a_fresh_ordinal_head_is_symmetric(num_classes: int) -> None:
    head = built(OrdinalHeadSpec(column="y"), num_classes)
    with torch.no_grad():
        for parameter in head.mlp.parameters():
            parameter.zero_()  # a row that says nothing
        cuts = -head(torch.zeros(1, 3))[0]
    expected = torch.arange(num_classes - 1.0) - (num_classes - 2) / 2
    torch.testing.assert_close(cuts, expected, rtol=0, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.floats(-5, 5), st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.floats(0.01, 20))
def test_classes_stay_ordered_whatever_the_parameters(first: float, gaps: list[float], scale: float) -> None:
    head = built(OrdinalHeadSpec(column="y"), 5)
    assert isinstance(head, OrdinalHead)
    with torch.no_grad():
        head.first.fill_(first)
        head.gaps.copy_(torch.tensor(gaps))
        logits = head(states() * scale)
    assert bool((logits.diff(dim=1) <= 0).all())
    probabilities = head.probabilities(logits.double())
    assert bool((probabilities >= 0).all() and probabilities.isfinite().all())
    # gaps below a millionth are taken for a millionth, so that the sum is one up to that
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(7, dtype=torch.float64), rtol=0, atol=1e-5)


def test_an_ordinal_head_learns_ordered_classes() -> None:
    head = built(OrdinalHeadSpec(column="y"), 4)
    state = torch.linspace(-2, 2, 80)[:, None].repeat(1, 3)
    labels = torch.bucketize(torch.linspace(-2, 2, 80), torch.tensor([-1.5, 0.2, 1.0]))
    optimizer = RowAdam(head.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        head.loss(head(state), labels).mean().backward()
        optimizer.step()
    found = head.probabilities(head(state)).argmax(dim=1)
    assert (found == labels).float().mean() > 0.95
    assert bool((found.diff() >= 0).all())


@pytest.mark.parametrize("spec", [case[0] for case in CASES[:3]], ids=lambda spec: spec.kind)
def test_specs_survive_json(spec: Any) -> None:
    assert MENU.validate_python(json.loads(spec.model_dump_json())) == spec
    assert spec.label() == LabelSpec("y", spec.kind)


def test_a_very_rare_last_class_gives_finite_cuts() -> None:
    with seeded_torch(0):
        head = OrdinalHead(2, (), 3)
    head.start_at(torch.tensor([0.5, 0.5 - 2e-8, 2e-8]))
    assert all(bool(parameter.isfinite().all()) for parameter in head.parameters())
    assert bool(head(torch.zeros(1, 2)).isfinite().all())


@pytest.mark.parametrize(("written", "named"), [("Ja", "Ja"), (True, "true"), (1, "1"), (None, None)])
def test_a_binary_head_names_its_positive_class(written: Any, named: str | None) -> None:
    spec = MENU.validate_python({"kind": "binary", "column": "y", "positive": written})
    assert spec.label() == LabelSpec("y", "binary", named)
    assert MENU.validate_json(spec.model_dump_json()) == spec


def test_a_multilabel_head_is_one_coin_per_label() -> None:
    head = built(MultilabelHeadSpec(column="y", layers=(5,)), 4)
    logits = head(states()).double()
    probabilities = head.probabilities(logits)
    assert probabilities.shape == (7, 4)
    labels = torch.randint(0, 2, (7, 4), generator=torch.Generator().manual_seed(1)).to(torch.int8)
    chosen = torch.where(labels == 1, probabilities, 1 - probabilities)
    torch.testing.assert_close(head.loss(logits, labels), -torch.log(chosen).sum(dim=1))
    assert not torch.allclose(probabilities.sum(dim=1), torch.ones(7, dtype=torch.float64), atol=0.1)


def test_a_multilabel_head_starts_at_the_shares_of_its_labels() -> None:
    head = built(MultilabelHeadSpec(column="y"), 3)
    head.start_at(torch.tensor([0.9, 0.25, 1.0]))
    found = head.probabilities(head(torch.zeros(1, 3)).double())[0]
    torch.testing.assert_close(found.float(), torch.tensor([0.9, 0.25, 0.9999]), rtol=0, atol=1e-4)


def regression(scale: Scale, **changed: Any) -> Head:
    labels = Labels("y", "regression", (), scale=scale)
    with seeded_torch(0):
        return RegressionHeadSpec(column="y", **changed).build(3, labels)


@pytest.mark.parametrize("transform", ["none", "log"])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e9])
def test_a_regression_head_learns_a_number_of_any_size(transform: Transform, size: float) -> None:
    state = torch.linspace(-2, 2, 81)[:, None].repeat(1, 3)
    labels = size * torch.exp(torch.linspace(0, 1, 81, dtype=torch.float64))
    inside = torch.log1p(labels) if transform == "log" else labels
    head = regression(Scale(inside.mean().item(), inside.std().item(), transform), layers=(16,), transform=transform)
    head.start_at(torch.tensor(()))
    optimizer = RowAdam(head.parameters(), lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        head.loss(head(state), labels).mean().backward()
        optimizer.step()
    with torch.no_grad():
        found = head.probabilities(head(state).double())
    assert found.shape == (81, 1)
    assert (found[:, 0] - labels).abs().max() < 0.05 * labels.std()


def test_the_squared_loss_is_half_the_squared_standardized_error() -> None:
    head = regression(Scale(10.0, 2.0))
    logits, labels = torch.tensor([[0.0], [1.0], [-0.5]]), torch.tensor([10.0, 10.0, 16.0], dtype=torch.float64)
    assert head.loss(logits, labels).tolist() == [0.0, 0.5, 0.5 * 3.5**2]
    assert head.probabilities(logits)[:, 0].tolist() == [10.0, 12.0, 9.0]


def test_huber_bends_at_one_deviation() -> None:
    head = regression(Scale(10.0, 2.0), loss="huber")
    logits, labels = torch.tensor([[0.5], [5.0]], requires_grad=True), torch.tensor([10.0, 10.0])
    losses = head.loss(logits, labels)
    assert losses.tolist() == [0.125, 4.5]
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad[:, 0].tolist() == [0.5, 1.0]


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1e12), st.floats(-5, 20), st.floats(1e-3, 1e3))
def test_a_logarithm_comes_back_and_stays_finite(value: float, mean: float, deviation: float) -> None:
    scale = Scale(mean, deviation, "log")
    one = torch.tensor([value], dtype=torch.float64)
    torch.testing.assert_close(scale.outside(scale.inside(one)), one, rtol=1e-9, atol=1e-9)
    extreme = scale.outside(torch.tensor([-1e6, 1e6], dtype=torch.float64))
    assert bool(extreme.isfinite().all())
    assert bool((extreme >= 0).all())


def test_the_new_heads_survive_json_and_say_how_labels_are_read() -> None:
    several = MENU.validate_python(
        {"kind": "multilabel", "column": "y", "separator": ";", "missing": "none", "min_count": 3}
    )
    assert several.label() == LabelSpec("y", "multilabel", form=SetForm(";", "none"), min_count=3)
    number = MENU.validate_python({"kind": "regression", "column": "y", "loss": "huber", "transform": "log"})
    assert number.label() == LabelSpec("y", "regression", transform="log")
    for spec in (several, number):
        assert MENU.validate_python(json.loads(spec.model_dump_json())) == spec

"""Class weights, focal loss and label smoothing.

Invariants:
- each equals its formula written out row by row, alone and with class weights, in value and gradient, for every kind of head;
- without them the training loss is the loss to the last bit, and probabilities and the loss of a temperature never change;
- balanced weights give every class the same say, and the training rows a mean weight of one; a class of one row stays finite;
- gradients are finite for answers that are certain; a row of weight zero has no gradient;
- weights of unknown classes, below or all zero, smoothing of ordered classes and focal with smoothing are refused with the values;
- class names are read as YAML gives them.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.ensembles.xgboost import XgboostSpec
from towerkit.features.labels import Labels
from towerkit.heads import (
    AnyHeadSpec,
    BinaryHeadSpec,
    CountHeadSpec,
    Head,
    MulticlassHeadSpec,
    MultilabelHeadSpec,
    OrdinalHeadSpec,
    RegressionHeadSpec,
)
from towerkit.training.state import seeded_torch

MENU: TypeAdapter[Any] = TypeAdapter(AnyHeadSpec)
SHARES = {2: (0.75, 0.25), 3: (0.5, 0.4, 0.1)}
EMPHASES: list[dict[str, Any]] = [
    {"class_weights": {"0": 0.5, "1": 3.0}},
    {"class_weights": "balanced"},
    {"focal": 2.0},
    {"focal": 0.5, "class_weights": "balanced"},
    {"smoothing": 0.2},
    {"smoothing": 0.2, "class_weights": {"1": 0.0}},
]


SPECS: dict[Any, Any] = {
    "binary": BinaryHeadSpec,
    "ordinal": OrdinalHeadSpec,
    "regression": RegressionHeadSpec,
    "count": CountHeadSpec,
}
CLASSES: list[tuple[Any, int]] = [(BinaryHeadSpec, 2), (MulticlassHeadSpec, 3), (OrdinalHeadSpec, 3)]


def built(spec: Any, num_classes: int) -> Head:
    labels = Labels("y", spec.kind, tuple(str(place) for place in range(num_classes)), SHARES[num_classes])
    with seeded_torch(0):
        head: Head = spec.build(3, labels)
        head.emphasis = spec.emphasis(labels)
    return head


def weight(spec: Any, label: int, classes: int, *, coin: bool = False) -> float:
    if spec.class_weights is None:
        return 1.0
    if spec.class_weights == "balanced":
        share = SHARES[classes][label]
        return (1 - share) / share if coin else 1 / (classes * share)
    return float(spec.class_weights.get(str(label), 1.0))


def expected(spec: Any, chances: torch.Tensor, label: int, classes: int) -> torch.Tensor:
    """The loss of one row from its probabilities."""
    target = [(1 - spec.smoothing) * (place == label) + spec.smoothing / classes for place in range(classes)]
    loss = -sum(share * torch.log(chance) for share, chance in zip(target, chances, strict=True))
    if spec.focal is not None:
        loss = loss * (1 - chances[label]) ** spec.focal
    return weight(spec, label, classes) * loss


@pytest.mark.parametrize(
    ("kind", "classes", "emphasis"),
    [(*each, one) for each in CLASSES for one in EMPHASES if each[0] is not OrdinalHeadSpec or "smoothing" not in one],
    ids=str,
)
def test_it_equals_its_formula(kind: Any, classes: int, emphasis: dict[str, Any]) -> None:
    spec = kind(column="y", **emphasis)
    head = built(spec, classes).double()
    states = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.arange(6) % classes
    found = []
    for rows in (
        lambda logits: head.training_loss(logits, labels),
        lambda logits: torch.stack(
            [expected(spec, head.probabilities(logits)[row], int(labels[row]), classes) for row in range(6)]
        ),
    ):
        head.zero_grad()
        losses = rows(head(states))
        losses.sum().backward()
        found.append((losses, [p.grad.clone() for p in head.parameters()]))  # type: ignore[union-attr]
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0][0], head.loss(head(states), labels))


@pytest.mark.parametrize("emphasis", EMPHASES, ids=str)
def test_of_several_labels_each_is_a_coin(emphasis: dict[str, Any]) -> None:
    spec = MultilabelHeadSpec(column="y", **emphasis)
    head = built(spec, 3).double()
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = (torch.rand(5, 3, generator=torch.Generator().manual_seed(2)) < 0.5).to(torch.int8)
    rows = []
    for row in range(5):
        total = torch.zeros((), dtype=torch.float64)
        for place in range(3):
            chance = torch.sigmoid(logits[row, place])
            has = int(labels[row, place])
            target = (1 - spec.smoothing) * has + spec.smoothing / 2
            loss = -(target * torch.log(chance) + (1 - target) * torch.log(1 - chance))
            right = chance if has else 1 - chance
            loss = loss * (1 - right) ** (spec.focal or 0)
            total = total + loss * (weight(spec, place, 3, coin=True) if has else 1.0)
        rows.append(total)
    torch.testing.assert_close(head.training_loss(logits, labels), torch.stack(rows))


@pytest.mark.parametrize(
    "spec", [BinaryHeadSpec(column="y"), MulticlassHeadSpec(column="y"), MultilabelHeadSpec(column="y")]
)
def test_without_them_the_training_loss_is_the_loss(spec: Any) -> None:
    classes = 2 if spec.kind == "binary" else 3
    head = built(spec, classes)
    logits = head(torch.randn(6, 3, generator=torch.Generator().manual_seed(1)))
    labels = torch.eye(3).repeat(2, 1).long() if spec.kind == "multilabel" else torch.arange(6) % classes
    assert head.emphasis is None
    assert torch.equal(head.training_loss(logits, labels), head.loss(logits, labels))
    weighed = built(spec.model_copy(update={"class_weights": "balanced"}), classes)
    assert torch.equal(weighed.loss(logits, labels), head.loss(logits, labels))
    assert weighed.state_dict().keys() == head.state_dict().keys()  # a Run has no weight of it


def test_balanced_classes_have_the_same_say() -> None:
    head = built(MulticlassHeadSpec(column="y", class_weights="balanced"), 3)
    assert head.emphasis is not None and head.emphasis.weights is not None
    say = head.emphasis.weights * torch.tensor(SHARES[3])
    torch.testing.assert_close(say, torch.full((3,), 1 / 3))
    assert float(say.sum()) == pytest.approx(1.0)
    rare = Labels("y", "multiclass", ("a", "b"), (1 - 1e-7, 1e-7))  # one row of ten million
    found = MulticlassHeadSpec(column="y", class_weights="balanced").emphasis(rare)
    assert found is not None and found.weights is not None and bool(found.weights.isfinite().all())
    gone = Labels("y", "multiclass", ("a", "b"), (1.0, 0.0))  # of a Run that goes on with other rows
    found = MulticlassHeadSpec(column="y", class_weights="balanced").emphasis(gone)
    assert found is not None and found.weights is not None and found.weights.tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    "emphasis", [{"focal": 0.5}, {"focal": 2.0}, {"smoothing": 0.1}, {"class_weights": "balanced"}], ids=str
)
@pytest.mark.parametrize("kind", [BinaryHeadSpec, MultilabelHeadSpec])
def test_gradients_of_certain_answers_are_finite(kind: Any, emphasis: dict[str, Any]) -> None:
    head = built(kind(column="y", **emphasis), 2)
    logits = torch.tensor([[90.0], [-90.0], [90.0], [-90.0]]).expand(4, 1 if kind is BinaryHeadSpec else 2).clone()
    labels = torch.tensor([1, 0, 0, 1])
    logits.requires_grad_()
    head.training_loss(logits, labels if kind is BinaryHeadSpec else labels[:, None].expand(4, 2)).sum().backward()
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


def test_a_class_of_weight_zero_teaches_nothing() -> None:
    head = built(MulticlassHeadSpec(column="y", class_weights={"2": 0}), 3)
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    head.training_loss(logits, torch.tensor([2, 0])).sum().backward()
    assert logits.grad is not None and logits.grad[0].tolist() == [0.0, 0.0, 0.0] and bool((logits.grad[1] != 0).all())


def test_what_makes_no_sense_is_refused_with_the_values() -> None:
    labels = Labels("stars", "multiclass", ("1", "2"), (0.5, 0.5))
    with pytest.raises(DataError, match=r"column 'stars' name '3', which is no class.*rows are '1', '2'"):
        MulticlassHeadSpec(column="stars", class_weights={"3": 1.0}).emphasis(labels)
    with pytest.raises(DataError, match=r"column 'stars' are 0 for all of its classes \('1', '2'\)"):
        MulticlassHeadSpec(column="stars", class_weights={"1": 0, "2": 0}).emphasis(labels)
    for wrong, message in (
        ({"kind": "binary", "class_weights": {"yes": -1}}, r"0 or more; received \{'yes': -1"),
        ({"kind": "binary", "focal": 2, "smoothing": 0.1}, r"received focal: 2 and smoothing: 0\.1"),
        ({"kind": "ordinal", "smoothing": 0.1}, r"those of an ordinal head lie nearer or farther; received 0\.1"),
        ({"kind": "regression", "focal": 2}, "unknown key 'focal'"),
        ({"kind": "count", "class_weights": "balanced"}, "unknown key 'class_weights'"),
        ({"kind": "binary", "weight": 0}, r"weight: .*greater than 0; received 0"),
    ):
        with pytest.raises(SpecError, match=message):
            parse(SPECS[wrong["kind"]], {"column": "y", **wrong})
    with pytest.raises(SpecError, match=r"learns from each row alike; received 'focal' in the task of 'y'"):
        parse(XgboostSpec, {"columns": ["a"], "task": {"kind": "binary", "column": "y", "focal": 1.0}})


def test_class_names_are_read_as_yaml_gives_them() -> None:
    spec = MENU.validate_python({"kind": "binary", "column": "y", "class_weights": {True: 2, 0: 1}})
    assert spec.class_weights == {"true": 2.0, "0": 1.0}
    assert MENU.validate_json(spec.model_dump_json()) == spec
    assert math.isclose(sum(spec.class_weights.values()), 3.0)

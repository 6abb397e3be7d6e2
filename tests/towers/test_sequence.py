"""The tower of sequences.

Invariants, for each encoder:
- the order of events matters, and so does the newest; what is beyond ``length`` is not read (the bag ends there);
- a row of a batch is the row alone, whatever stands beside it and however it is grouped;
- a place of an encoder knows only itself and what came before it;
- a query without events gets the mean of all candidates plus a learned vector;
- every parameter gets a finite gradient; with ``sparse_rows`` the gradient of the table equals the dense one;
- normalized, the vectors of events have one size whatever the table has;
- ages change the vector where they are read; a history without dates has none;
- heads that do not share the width, data without times and numbers that are no moments are refused with the values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.batch import Bag, Columns, take
from towerkit.data.dataset import make_dataset
from towerkit.data.readers import read_table
from towerkit.data.spec import DataSpec
from towerkit.features.encoder import Encoder
from towerkit.features.history import Events, Reach, given_events
from towerkit.models.histories import history_times
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.towers import AnyTowerSpec, Candidates, IdTower, SequenceTower, SequenceTowerSpec, TowerContext
from towerkit.training.state import seeded_torch

ENCODERS: list[dict[str, Any]] = [
    {"kind": "attention", "layers": 2, "heads": 2},
    {"kind": "convolution", "layers": 2, "width": 2},
    {"kind": "gru", "layers": 2},
]
HISTORIES = [[1, 2, 3], [3, 2, 1], [], [4], [1, 2, 3, 4, 1, 2, 3], [2, 3]]


def tower(encoder: dict[str, Any], *, sparse_rows: bool = False, **keys: Any) -> SequenceTower:
    spec = TypeAdapter(AnyTowerSpec).validate_python({"kind": "sequence", "dim": 4, "encoder": encoder, **keys})
    assert isinstance(spec, SequenceTowerSpec)
    with seeded_torch(1):
        items = IdTower(6, 4, sparse_rows=sparse_rows)
        built = spec.build(TowerContext(Encoder({}, {}), "user", sparse_rows, Candidates(6, items)))
    assert built.items is items
    return built.eval()


def columns(built: SequenceTower, histories: list[list[int]]) -> Columns:
    assert built.reach is not None
    events = given_events([np.array(codes, np.int64) for codes in histories])
    return {built.reach.name: events.bag(built.reach, np.arange(1, len(histories) + 1))}


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda each: each["kind"])
def test_the_order_counts_and_a_row_of_a_batch_is_the_row_alone(encoder: dict[str, Any]) -> None:
    built = tower(encoder, length=5)
    together = columns(built, HISTORIES)
    with torch.no_grad():
        found = built(together)
        for row in range(len(HISTORIES)):
            alone = built(take(together, torch.tensor([row])))[0]
            torch.testing.assert_close(alone, found[row])
        cut = built(columns(built, [HISTORIES[4][-5:]]))[0]
    assert (found[0] - found[1]).abs().max() > 1e-3  # the same events in another order
    assert (found[5] - found[0]).abs().max() > 1e-3  # an older event more
    torch.testing.assert_close(found[4], cut)
    torch.testing.assert_close(found[2], built.items.table[1:].mean(dim=0) + built.absent)


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda each: each["kind"])
def test_a_place_knows_nothing_of_what_follows(encoder: dict[str, Any]) -> None:
    built = tower(encoder)
    vectors = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    changed = vectors.clone()
    changed[:, 4:] += torch.arange(4.0)
    with torch.no_grad():
        before, after = built.encoder(vectors), built.encoder(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert ((before[:, 4:] - after[:, 4:]).abs() > 1e-4).any()


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda each: each["kind"])
def test_every_parameter_learns_and_a_sparse_gradient_is_the_dense_one(encoder: dict[str, Any]) -> None:
    tables: list[Tensor] = []
    for sparse_rows in (False, True):
        built = tower(encoder, sparse_rows=sparse_rows, ages=True, length=7)
        weights = torch.randn(len(HISTORIES), 4, generator=torch.Generator().manual_seed(2))
        (built(columns(built, HISTORIES)) * weights).sum().backward()
        for name, parameter in built.named_parameters():
            assert parameter.grad is not None, name
            dense = parameter.grad.to_dense()
            assert torch.isfinite(dense).all() and dense.abs().sum() > 0, name
        assert built.items.table.grad is not None and built.items.table.grad.is_sparse == sparse_rows
        tables.append(built.items.table.grad.to_dense())
    torch.testing.assert_close(*tables)


def test_dropout_belongs_to_training() -> None:
    built = tower({"kind": "attention", "dropout": 0.5}, dropout=0.5)
    rows = columns(built, HISTORIES)
    assert torch.equal(built(rows), built(rows))
    built.train()
    with seeded_torch(3):
        assert not torch.equal(built(rows), built(rows))


def test_ages_are_days_to_the_newest_event() -> None:
    day = 86_400.0
    events = Events(np.array([0, 0, 3, 4]), np.array([1, 2, 3, 4], np.int32), np.array([0.0, 9.0, 9.5, 3.0]) * day)
    bag = events.bag(Reach(5, ages=True), np.array([1, 2]))
    assert bag.weights.tolist() == [9.5, 0.5, 0.0, 0.0]
    assert events.bag(Reach(5, ages=True), np.array([1]), without=np.array([3])).weights.tolist() == [9.0, 0.0]
    undated = given_events([np.array([1, 2])])
    assert undated.bag(Reach(5, ages=True), np.array([1])).weights.tolist() == [0.0, 0.0]
    built = tower({"kind": "gru"}, ages=True)
    assert built.reach is not None
    near, far = (
        {built.reach.name: Bag(torch.tensor([1, 2]), torch.tensor([0, 2]), torch.tensor([age, 0.0]))}
        for age in (0.1, 50.0)
    )
    assert not torch.equal(built(near), built(far))


def test_heads_share_the_width() -> None:
    with pytest.raises(SpecError, match=r"dim: 6 and heads: 4\. Use heads: 1, 2, 3 or 6, or another dim"):
        parse(SequenceTowerSpec, {"kind": "sequence", "dim": 6, "encoder": {"kind": "attention", "heads": 4}})


def test_it_stands_on_the_query_side_over_ids_of_its_width() -> None:
    sequence = {"kind": "sequence", "dim": 8}
    with pytest.raises(SpecError, match="stands on the query side"):
        parse(TwoTowerSpec, {"kind": "two_tower", "query": {"kind": "id", "dim": 8}, "candidate": sequence})
    with pytest.raises(
        SpecError, match="reads the vectors of the candidate side's id tower, so both have one width.* dim 8 here and 4"
    ):
        parse(TwoTowerSpec, {"kind": "two_tower", "query": sequence, "candidate": {"kind": "id", "dim": 4}})


@pytest.mark.parametrize(
    ("time", "reach", "message"),
    [
        (None, Reach(5, ordered=True), "reads events in their order, and there is no time column"),
        (
            "when",
            Reach(5, ages=True, ordered=True),
            "plain numbers from 1 to 3.*ages in days mean nothing. Remove ages",
        ),
    ],
)
def test_times_are_needed(time: str | None, reach: Reach, message: str) -> None:
    roles = {"query": "user", "candidate": "item", **({"time": time} if time else {})}
    spec = parse(
        DataSpec, {"examples": {"path": "log.csv", **roles}, "split": {"kind": "random", "validation": 0, "test": 0}}
    )
    table = {"user": ["a", "a", "b"], "item": ["x", "y", "x"], "when": [1, 2, 3]}
    dataset = make_dataset(spec, read_table(table))
    with pytest.raises(DataError, match=message):
        history_times(dataset, np.arange(3), (reach,))


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda each: each["kind"])
def test_normalized_events_keep_what_they_are_however_small_the_table(encoder: dict[str, Any]) -> None:
    found, events = {}, [[1, 2, 3], [3, 2, 1]]
    for norm in ("none", "layer"):
        built = tower(encoder, norm=norm)
        with torch.no_grad():
            before = built(columns(built, events))
            built.items.table.mul_(100.0)
            found[norm] = (built(columns(built, events)) - before).abs().max()
    assert found["layer"] < 1e-3 < found["none"]

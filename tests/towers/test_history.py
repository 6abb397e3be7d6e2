"""Towers of histories.

Invariants:
- the vector is the weighted mean of the candidates' vectors; a query without a history gets their mean plus a learned vector;
- ``gate`` blends it with the id, learned or fixed; other id vectors are blended alike;
- every parameter gets a finite gradient; with ``sparse_rows`` the gradient of the pooled table equals the dense one;
- with ``of: candidate`` the vectors are the candidate side's own, not a copy; with ``own`` nobody else's;
- a gate outside 0 to 1, two half-lives, and a context without candidates are refused with the values.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.data.batch import Bag, Columns, take
from towerkit.features.encoder import Encoder
from towerkit.features.history import Reach
from towerkit.towers import (
    AnyTowerSpec,
    Candidates,
    HistoryTower,
    HistoryTowerSpec,
    IdHistoryTower,
    IdHistoryTowerSpec,
    IdTower,
    TowerContext,
)
from towerkit.training.state import seeded_torch

REACH = Reach(9)
BAG = Bag(torch.tensor([1, 3, 2]), torch.tensor([0, 2, 2, 3]), torch.tensor([0.25, 0.75, 1.0]))
COLUMNS: Columns = {"id": torch.tensor([1, 0, 2]), REACH.name: BAG}


def items(*, sparse_rows: bool = False) -> IdTower:
    with seeded_torch(1):
        return IdTower(5, 3, sparse_rows=sparse_rows)


def test_the_vector_is_the_weighted_mean() -> None:
    tower = HistoryTower(items(), REACH)
    table = tower.items.table.detach()
    with torch.no_grad():
        tower.absent.fill_(2.0)
        found = tower(COLUMNS)
    torch.testing.assert_close(found[0], 0.25 * table[1] + 0.75 * table[3])
    torch.testing.assert_close(found[1], table[1:].mean(dim=0) + 2.0)
    torch.testing.assert_close(found[2], table[2])
    assert tower.out_dim == 3


@pytest.mark.parametrize("gate", [0.0, 0.25, 1.0, "learned"])
def test_the_gate_blends_id_and_history(gate: Any) -> None:
    with seeded_torch(2):
        tower = IdHistoryTower(4, HistoryTower(items(), REACH), gate=gate)
    if tower.logit is not None:
        with torch.no_grad():
            tower.logit.fill_(-1.0)
    share = torch.sigmoid(torch.tensor(-1.0)).item() if gate == "learned" else gate
    pooled, ids = tower.history(COLUMNS), tower.table[torch.tensor([1, 0, 2])]
    torch.testing.assert_close(tower(COLUMNS), share * ids + (1 - share) * pooled)
    torch.testing.assert_close(tower.around(ids + 1.0, COLUMNS), share * (ids + 1.0) + (1 - share) * pooled)
    tower(COLUMNS).square().sum().backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or gate in (0.0, 1.0), name


def test_a_row_of_a_batch_is_the_row_alone() -> None:
    with seeded_torch(3):
        tower = IdHistoryTower(4, HistoryTower(items(), REACH), gate="learned")
    together = tower(COLUMNS)
    for row in range(3):
        assert torch.equal(tower(take(COLUMNS, torch.tensor([row])))[0], together[row])
    assert tower(take(COLUMNS, torch.tensor([], dtype=torch.int64))).shape == (0, 3)


def test_sparse_gradients_are_the_dense_ones() -> None:
    gradients = []
    for sparse_rows in (False, True):
        tower = HistoryTower(items(sparse_rows=sparse_rows), REACH)
        tower(COLUMNS).pow(3).sum().backward()
        gradient = tower.items.table.grad
        assert gradient is not None and gradient.is_sparse == sparse_rows
        gradients.append(gradient.to_dense() if sparse_rows else gradient)
    torch.testing.assert_close(*gradients)
    assert gradients[0][1:4].abs().sum() > 0
    assert gradients[0][[0, 4]].abs().sum() == 0  # the mean that an absent history begins with is a constant


def test_shared_vectors_are_not_copied_and_own_ones_are_not_shared() -> None:
    shared = items()
    context = TowerContext(Encoder({}, {}), "user", True, Candidates(5, shared))
    tower = HistoryTowerSpec(dim=3, length=7, half_life_days=2.0).build(context)
    assert tower.items is shared
    assert tower.reach == Reach(7, half_life_days=2.0)
    with seeded_torch(0):
        own = HistoryTowerSpec(dim=2, of="own").build(context)
    assert own.items is not shared
    assert own.items.table.shape == (5, 2)
    assert own.items.sparse_rows


@pytest.mark.parametrize("kind", ["history", "id_history"])
def test_specs_survive_json_and_refuse_what_means_nothing(kind: str) -> None:
    menu: TypeAdapter[Any] = TypeAdapter(AnyTowerSpec)
    spec = menu.validate_python({"kind": kind, "dim": 4, "of": "own", "half_life_events": 3})
    assert menu.validate_json(spec.model_dump_json()) == spec
    assert spec.reads_history
    both = {"half_life_days": 2.5, "half_life_events": 7}
    with pytest.raises(SpecError, match=r"not both; received half_life_days 2\.5 and half_life_events 7\. Remove one"):
        parse(type(spec), both)
    with pytest.raises(SpecError, match="stands on the query side of a two_tower"):
        HistoryTowerSpec().build(TowerContext(Encoder({}, {}), "user", False))


@pytest.mark.parametrize("gate", [-0.1, 1.5])
def test_a_gate_is_a_share(gate: float) -> None:
    with pytest.raises(SpecError, match=rf"gate is a share from 0 to 1, or learned; received {gate}\."):
        parse(IdHistoryTowerSpec, {"gate": gate})
    assert parse(IdHistoryTowerSpec, {"gate": "learned"}).gate == "learned"

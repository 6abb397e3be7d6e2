"""Towers that are told what the other side looks like (`objective.synergy`).

Pinned here:
- the pull is ``1 - cos`` by hand, in value and gradient, and only the told vector has one;
- in a batch it looks at each positive pair, adds both sides up, weighs rows, and stands beside the loss with its weight;
- in chunks it is the same, in value and gradient;
- a trained told tower says what the other side gives, for pairs it has not seen; without the pull it does not;
- a side without such a tower, another width, another model, another update and several workers are refused with the next step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import towerkit as tk
from towerkit.core.errors import ShapeError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.models.two_tower import TwoTower
from towerkit.objectives.synergy import Synergy, pull
from towerkit.outcomes.recipes import recipe_of
from towerkit.spec import ModelingSpec
from towerkit.training.crew import _check_sums
from towerkit.training.fit import Prepared, batches_of
from towerkit.training.forward import Chunked
from towerkit.training.state import seeded_torch, train_step

TASTES = 3


def world(weights: bool = False) -> Dataset:
    """People and things of three tastes, which are written on both; each pair is of one taste."""
    draw = np.random.default_rng(0)
    rows = [(u, int(i)) for u in range(30) for i in draw.permutation(range(u % TASTES, 24, TASTES))[:4]]
    about = {
        "user": {"user": [f"u{u}" for u in range(30)], "taste": [f"t{u % TASTES}" for u in range(30)]},
        "item": {"item": [f"i{i}" for i in range(24)], "sort": [f"s{i % TASTES}" for i in range(24)]},
    }
    table: dict[str, Any] = {"user": [f"u{u}" for u, _ in rows], "item": [f"i{i}" for _, i in rows]}
    more = {}
    if weights:
        table["much"], more = [float(n % 3) for n in range(len(rows))], {"weight": "much"}
    split = {"kind": "random", "validation": 0.0, "test": 0.25}
    return tk.read(table, query="user", candidate="item", entities=about, split=split, **more)


def side(column: str, dim: int = 8) -> dict[str, Any]:
    """An id beside a tower that is told."""
    told = {"kind": "table", "columns": [column], "layers": [8], "dim": dim}
    towers = {"id": {"kind": "id", "dim": 8}, "told": told}
    return {"towers": towers, "backbone": {"kind": "linear", "dim": 8}}


def spec(synergy: dict[str, Any] | None, **more: Any) -> ModelingSpec:
    """A two-tower whose sides both have a told tower."""
    given: dict[str, Any] = {
        "model": {"kind": "two_tower", "query": side("taste"), "candidate": side("sort")},
        "objective": {"negatives": [{"kind": "uniform", "count": 4}], "synergy": synergy},
        "training": {"epochs": 20, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.02}, "engine": "torch"},
    }
    return parse(ModelingSpec, given | more, "a test")


def prepared(wanted: ModelingSpec, data: Dataset) -> Prepared:
    """Everything before the first step."""
    with seeded_torch(3):
        found: Prepared = recipe_of(wanted, data).prepare(data, data.parts.train, wanted.training)  # type: ignore[arg-type]
    return found


def test_the_pull_and_its_gradient() -> None:
    told = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([[2.0, 0.0], [1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    found = pull(told, other)
    assert found.tolist() == pytest.approx([1 - 0.6, 0.0])
    found.sum().backward()
    # d(1 - x / |t|) for t = (3, 4): -(1/5 - 3*3/125, -3*4/125) = (-0.128, 0.096); a vector that has arrived rests
    assert told.grad is not None and told.grad.flatten().tolist() == pytest.approx([-0.128, 0.096, 0.0, 0.0])
    assert other.grad is None


@pytest.mark.parametrize("weights", [False, True])
def test_the_term_of_a_batch(weights: bool) -> None:
    wanted, data = spec({"query": "told", "candidate": "told", "weight": 0.3}), world(weights)
    state = (ready := prepared(wanted, data)).state
    batch = next(batches_of(ready, data.parts.train, wanted.training, 0))
    model: TwoTower = state.model
    with torch.no_grad():
        query, candidate = model(batch)
    by_hand, sums = 0.0, 0.0
    for row in range(len(batch)):
        u, i = int(batch.index["user"][row]), int(batch.index["item"][row])
        weight = 1.0 if batch.weights is None else float(batch.weights[row])
        pulls = (
            1 - torch.cosine_similarity(query.parts["told"][u], candidate.vectors[i], dim=0),
            1 - torch.cosine_similarity(candidate.parts["told"][i], query.vectors[u], dim=0),
        )
        by_hand, sums = by_hand + weight * float(sum(pulls)), sums + weight
    terms = state.objective(model, batch)
    assert float(terms["synergy"].detach()) == pytest.approx(by_hand / sums, rel=1e-5)
    assert by_hand / sums > 0.1
    both = float((terms["retrieval"] + 0.3 * terms["synergy"]).detach())
    assert float(state.balancer.backward(terms)) == pytest.approx(both, rel=1e-5)


def test_chunks_are_the_whole() -> None:
    wanted, data = spec({"query": "told", "candidate": "told"}), world()
    gradients: list[list[Tensor]] = []
    values = []
    for chunk in (None, 5):
        ready = prepared(wanted, data)
        model = ready.state.model
        batch = next(batches_of(ready, data.parts.train, wanted.training, 0))
        forward = model if chunk is None else Chunked(model, chunk)
        term = ready.state.objective(forward, batch)["synergy"]
        term.backward()
        values.append(float(term.detach()))
        gradients.append([p.grad.to_dense() for p in model.parameters() if p.grad is not None])
    assert values[0] == pytest.approx(values[1], abs=1e-6)
    assert len(gradients[0]) == len(gradients[1]) > 0 and any(each.abs().max() > 1e-4 for each in gradients[0])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def likeness(synergy: dict[str, Any] | None) -> float:
    """After training, the mean cosine of what the told tower of the queries says with the held-out candidates' vectors."""
    data, wanted = world(), spec(synergy)
    ready = prepared(wanted, data)
    for epoch in range(20):
        for batch in batches_of(ready, data.parts.train, wanted.training, epoch):
            train_step(ready.state, batch)
    with torch.no_grad():
        batch = ready.encoded.batch(data.parts.test)
        model = ready.state.model.eval()
        return 1 - float(Synergy("told", None)(model, batch, *model(batch)).mean())


def test_a_told_tower_says_what_the_other_side_gives() -> None:
    with_it, without = likeness({"query": "told", "weight": 0.5}), likeness(None)
    assert with_it > 0.8 and with_it > without + 0.2


def test_what_is_refused() -> None:
    with pytest.raises(SpecError, match="received neither query nor candidate"):
        spec({"weight": 0.1})
    with pytest.raises(SpecError, match=r"received 'tolt', and the side has 'id', 'told'; did you mean 'told'\?"):
        prepared(spec({"query": "tolt"}), world())
    alone = {"kind": "two_tower", "query": {"kind": "id", "dim": 8}, "candidate": side("sort")}
    with pytest.raises(SpecError, match=r"received 'id', and the side has 'id'"):
        prepared(spec({"query": "id"}, model=alone), world())
    narrow = {"kind": "two_tower", "query": side("taste", dim=4), "candidate": side("sort")}
    with pytest.raises(ShapeError, match="have 8 dimensions; it has 4. Give it dim: 8"):
        prepared(spec({"query": "told"}, model=narrow), world())
    with pytest.raises(SpecError, match="one_backprop.*decides otherwise"):
        spec({"query": "told"}, update={"kind": "one_backprop"})
    towers = {"who": {"kind": "id", "entity": "user", "dim": 4}, "what": {"kind": "id", "entity": "item", "dim": 4}}
    with pytest.raises(SpecError, match="received a ranker"):
        spec({"query": "who"}, model={"kind": "ranker", "towers": towers})
    joint = {"kind": "joint", "query": side("taste"), "candidates": {"item": side("sort"), "other": side("sort")}}
    with pytest.raises(SpecError, match="received a joint"):
        spec({"query": "told"}, model=joint)
    with pytest.raises(SpecError, match="train without --workers"):
        _check_sums(prepared(spec({"query": "told"}), world()).state)

"""The transformer over the columns of a table tower.

Invariants:
- it equals its formula: a linear layer per column, a learned token, the blocks (torch's own, by a test of backbones), a norm;
- the vector depends on products of columns, which no sum of one function per column gives; every parameter gets a gradient;
- a row alone is the row of many; what was never met in training says nothing at the start; dropout is off in evaluation;
- heads that do not share the width are refused; without it a table tower has no weight of it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.data.batch import Columns
from towerkit.towers import TableTower, TableTowerSpec
from towerkit.towers.column_parts import EmbeddedPart, FlaggedPart
from towerkit.towers.column_tokens import ColumnTransformerSpec
from towerkit.training.optimizers import RowAdam
from towerkit.training.state import seeded_torch


def built(*, dropout: float = 0.0, layers: tuple[int, ...] = (5,)) -> TableTower:
    with seeded_torch(0):
        parts = [FlaggedPart("age", 2), EmbeddedPart("color", 4, 3), FlaggedPart("hours", 2)]
        transformer = ColumnTransformerSpec(dim=8, heads=2, dropout=dropout)
        return TableTower(parts, layers=layers, out_dim=3, transformer=transformer)


def rows(count: int = 6, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    numbers = {name: torch.randn(count, 2, generator=draw) for name in ("age", "hours")}
    for each in numbers.values():
        each[:, 1] = 0.0
    return {**numbers, "color": torch.randint(1, 4, (count,), generator=draw)}


def test_it_equals_its_formula() -> None:
    tower, columns = built(), rows()
    tokens = tower.tokens
    assert tokens is not None
    table: Any = tower.parts[1]
    said = [columns["age"], table.table.weight[columns["color"]], columns["hours"]]
    projected = [each @ layer.weight.T + layer.bias for each, layer in zip(said, tokens.linear, strict=True)]  # type: ignore[union-attr, operator]
    stacked = torch.cat([tokens.reader.repeat(6, 1)[:, None], torch.stack(projected, dim=1)], dim=1)
    for block in tokens.blocks:
        stacked = block(stacked)
    centered = stacked[:, 0] - stacked[:, 0].mean(dim=1, keepdim=True)
    state = (
        centered / (centered.square().mean(dim=1, keepdim=True) + 1e-5).sqrt() * tokens.norm.weight + tokens.norm.bias
    )
    torch.testing.assert_close(tower(columns), tower.mlp(state), rtol=1e-5, atol=1e-6)
    (tower(columns) * torch.linspace(-1, 1, 3)).sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.isfinite().all()) for parameter in tower.parameters())


def test_a_product_of_columns_can_be_learned() -> None:
    with seeded_torch(0):
        parts = [FlaggedPart("age", 2), FlaggedPart("hours", 2)]
        tower = TableTower(parts, layers=(), out_dim=1, transformer=ColumnTransformerSpec(dim=16, layers=1))
    columns = rows(256)
    target = torch.sign(columns["age"][:, 0] * columns["hours"][:, 0])
    optimizer = RowAdam(tower.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        (tower(columns)[:, 0] - target).square().mean().backward()
        optimizer.step()
    assert (tower(columns)[:, 0] - target).square().mean().item() < 0.4  # a sum of functions stays at 1


def test_a_row_alone_is_the_row_of_many() -> None:
    tower, columns = built().eval(), rows()
    together = tower(columns)
    for row in range(6):
        alone: Columns = {name: column[row : row + 1] for name, column in columns.items()}
        torch.testing.assert_close(tower(alone)[0], together[row], rtol=1e-5, atol=1e-6)


def test_what_was_never_met_says_nothing_at_the_start() -> None:
    tower, columns = built(), rows(2)
    columns["age"] = torch.tensor([[0.0, 0.0], [0.0, 1.0]])  # the mean, and missing
    columns["hours"] = columns["hours"][:1].repeat(2, 1)
    columns["color"] = torch.tensor([0, 0])
    found = tower(columns)
    assert torch.equal(found[0], found[1])


def test_dropout_is_off_in_evaluation() -> None:
    tower, columns = built(dropout=0.5), rows()
    with seeded_torch(1):
        assert not torch.equal(tower.train()(columns), tower(columns))
        assert torch.equal(tower.eval()(columns), tower(columns))


def test_the_spec() -> None:
    spec = parse(TableTowerSpec, {"columns": ["age"], "transformer": {}})
    assert spec.transformer == ColumnTransformerSpec()
    assert TableTowerSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(SpecError, match="received dim: 10 and heads: 4"):
        parse(TableTowerSpec, {"columns": ["age"], "transformer": {"dim": 10}})
    with seeded_torch(0):
        plain = TableTower([FlaggedPart("age", 2)], layers=(), out_dim=3)
    assert plain.tokens is None and set(plain.state_dict()) == {"mlp.0.weight", "mlp.0.bias"}

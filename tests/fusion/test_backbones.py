"""Backbones.

Invariants:
- gated equals its formula, in value and in the gradient of every input and parameter;
- sum and concat equal theirs; a sum refuses towers of different widths, with the widths;
- ``out_dim`` is the width that comes out; the order in which parts arrive does not matter;
- specs survive JSON.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from towerkit.core.errors import ShapeError
from towerkit.fusion import AnyBackboneSpec, ConcatSpec, Gated, GatedSpec, SumSpec
from towerkit.training.state import seeded_torch

WIDTHS = {"text": 3, "table": 2, "image": 4}
MENU: TypeAdapter[Any] = TypeAdapter(AnyBackboneSpec)


def parts_of(widths: dict[str, int], batch: int = 5, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(batch, width, generator=generator).requires_grad_() for name, width in widths.items()}


def gated_reference(gated: Gated, parts: dict[str, Tensor]) -> Tensor:
    """One row, one tower, one unit at a time."""
    batch, dim = len(next(iter(parts.values()))), gated.out_dim
    rows = []
    for row in range(batch):
        beside = torch.cat([parts[name][row] for name in WIDTHS])
        state = torch.zeros(dim)
        for place, name in enumerate(WIDTHS):
            values = gated.values[name]
            for unit in range(dim):
                gate = gated.gates.weight[place * dim + unit] @ beside + gated.gates.bias[place * dim + unit]
                value = values.weight[unit] @ parts[name][row] + values.bias[unit]  # type: ignore[index, operator]
                state = state + torch.eye(dim)[unit] / (1 + torch.exp(-gate)) * torch.tanh(value)
        rows.append(state)
    return torch.stack(rows)


def test_gated_equals_its_formula_in_value_and_gradient() -> None:
    with seeded_torch(1):
        gated = GatedSpec(dim=3).build(WIDTHS)
    weights = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    found = []
    for function in (gated, lambda parts: gated_reference(gated, parts)):
        gated.zero_grad()
        parts = parts_of(WIDTHS)
        state = function(parts)
        (state * weights).sum().backward()
        inputs = {name: part.grad for name, part in parts.items()}
        parameters = {name: parameter.grad.clone() for name, parameter in gated.named_parameters()}  # type: ignore[union-attr]
        found.append((state, inputs, parameters))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
    assert len(found[0][2]) == 2 * len(WIDTHS) + 2
    assert all(bool((gradient != 0).any()) for gradient in found[0][2].values())


def test_a_closed_gate_shuts_its_tower_out() -> None:
    with seeded_torch(1):
        gated = GatedSpec(dim=3).build(WIDTHS)
    with torch.no_grad():
        gated.gates.weight.zero_()
        gated.gates.bias.copy_(torch.tensor([50.0] * 3 + [-200.0] * 6))  # only the text may pass
    parts = parts_of(WIDTHS)
    torch.testing.assert_close(gated(parts), torch.tanh(gated.values["text"](parts["text"])))


def test_sum() -> None:
    widths = dict.fromkeys(WIDTHS, 4)
    backbone, parts = SumSpec().build(widths), parts_of(widths)
    assert backbone.out_dim == 4
    assert not list(backbone.parameters())
    torch.testing.assert_close(backbone(parts), parts["text"] + parts["table"] + parts["image"])


def test_a_sum_of_other_widths_is_refused_with_them() -> None:
    with pytest.raises(ShapeError, match=r"one width; received \{'text': 3, 'table': 2, 'image': 4\}"):
        SumSpec().build(WIDTHS)


def test_concat() -> None:
    plain, parts = ConcatSpec().build(WIDTHS), parts_of(WIDTHS)
    assert plain.out_dim == 9
    torch.testing.assert_close(plain(parts), torch.cat([parts["text"], parts["table"], parts["image"]], dim=1))
    with seeded_torch(1):
        projected = ConcatSpec(dim=6).build(WIDTHS)
    linear = projected.project[0]  # type: ignore[index]
    expected = torch.relu(plain(parts) @ linear.weight.T + linear.bias)
    torch.testing.assert_close(projected(parts), expected)
    assert projected.out_dim == 6


@pytest.mark.parametrize("spec", [ConcatSpec(), ConcatSpec(dim=5), GatedSpec(dim=5), SumSpec()], ids=str)
def test_the_order_of_the_parts_does_not_matter(spec: Any) -> None:
    widths = dict.fromkeys(WIDTHS, 4)
    with seeded_torch(1):
        backbone = spec.build(widths)
    parts = parts_of(widths)
    state = backbone(parts)
    assert state.shape == (5, backbone.out_dim)
    torch.testing.assert_close(backbone(dict(reversed(parts.items()))), state)
    assert MENU.validate_python(json.loads(spec.model_dump_json())) == spec

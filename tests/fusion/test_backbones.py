"""Backbones.

Invariants:
- every kind equals its formula, written out row by row (attention and transformer: torch's own), in value and in the gradient of
  every input and parameter, and no gradient is zero;
- sum, mean, max and product refuse towers of different widths, with the widths, unless they project them;
- ``out_dim`` is the width that comes out, ``head_dim`` what a head reads; the order in which parts arrive does not matter;
- experts give each task a state of its own; a task's own experts get no gradient from another task, shared ones do;
- weights of an attention sum to one over the towers; dropout of a transformer is off in evaluation;
- specs survive JSON.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from towerkit.core.errors import ShapeError, SpecError
from towerkit.core.spec import parse
from towerkit.fusion import (
    Aligned,
    AlignedSpec,
    AnyBackboneSpec,
    Attention,
    AttentionSpec,
    Backbone,
    ConcatSpec,
    Cross,
    CrossSpec,
    Gated,
    GatedSpec,
    LinearSpec,
    MaxSpec,
    MeanSpec,
    Mmoe,
    MmoeSpec,
    Ple,
    PleSpec,
    ProductSpec,
    SumSpec,
    Tokens,
    TokensSpec,
)
from towerkit.towers.attention import Block
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


def linear(layer: Any, vector: Tensor) -> Tensor:
    return layer.weight @ vector + (0 if layer.bias is None else layer.bias)


def concat_reference(backbone: Any, parts: dict[str, Tensor]) -> Tensor:
    rows = []
    for row in range(5):
        pieces = []
        for name in WIDTHS:
            vector = linear(backbone.parts.linear[name], parts[name][row])
            centered = vector - vector.mean()
            normal = centered / (centered.square().mean() + 1e-5).sqrt()
            pieces.append(normal * backbone.parts.norm[name].weight + backbone.parts.norm[name].bias)
        rows.append(torch.relu(linear(backbone.project[0], torch.cat(pieces))))
    return torch.stack(rows)


def linear_reference(backbone: Any, parts: dict[str, Tensor]) -> Tensor:
    """A sum of one linear map for each tower."""
    pieces = backbone.project.weight.split(list(WIDTHS.values()), dim=1)
    return sum(parts[name] @ w.T for name, w in zip(WIDTHS, pieces, strict=True)) + backbone.project.bias  # type: ignore[return-value]


def pooled_reference(pool: Any) -> Any:
    def reference(backbone: Any, parts: dict[str, Tensor]) -> Tensor:
        rows = []
        for row in range(5):
            vectors = [linear(backbone.project.linear[name], parts[name][row]) for name in WIDTHS]
            rows.append(torch.stack([pool([vector[unit] for vector in vectors]) for unit in range(3)]))
        return torch.stack(rows)

    return reference


def cross_reference(cross: Cross, parts: dict[str, Tensor]) -> Tensor:
    rows = []
    for row in range(5):
        first = torch.cat([parts[name][row] for name in WIDTHS])
        crossed = first
        for layer in cross.layers:
            one: Any = layer
            low = isinstance(layer, torch.nn.Sequential)
            inner = one[1].weight @ (one[0].weight @ crossed) + one[1].bias if low else linear(one, crossed)
            crossed = torch.stack([first[i] * inner[i] + crossed[i] for i in range(len(first))])
        rows.append(torch.relu(linear(cross.project[0], crossed)))  # type: ignore[index]
    return torch.stack(rows)


def attention_reference(attention: Attention, parts: dict[str, Tensor]) -> Tensor:
    dim = attention.out_dim // attention.heads
    rows = []
    for row in range(5):
        vectors = [linear(attention.project.linear[name], parts[name][row]) for name in WIDTHS]
        heads = []
        for head in range(attention.heads):
            own = slice(head * dim, (head + 1) * dim)
            scores = [attention.question[head] @ linear(attention.keys, v)[own] / dim**0.5 for v in vectors]
            total = sum(torch.exp(score) for score in scores)
            heads.append(
                sum(
                    torch.exp(s) / total * linear(attention.values, v)[own]
                    for s, v in zip(scores, vectors, strict=True)
                )
            )
        rows.append(torch.cat(heads))  # type: ignore[arg-type]
    return torch.stack(rows)


def torch_layer(block: Block, dim: int) -> torch.nn.TransformerEncoderLayer:
    """Torch's own layer with the weights of a block."""
    hidden: Any = block.mlp[0]
    layer = torch.nn.TransformerEncoderLayer(
        dim, block.heads, hidden.out_features, 0.0, "gelu", batch_first=True, norm_first=True
    )
    pairs = {
        "self_attn.in_proj_": block.asked,
        "self_attn.out_proj.": block.answer,
        "linear1.": block.mlp[0],
        "linear2.": block.mlp[3],
        "norm1.": block.before,
        "norm2.": block.between,
    }
    layer.load_state_dict(
        {name + key: value for name, part in pairs.items() for key, value in part.state_dict().items()}
    )
    return layer


def test_a_block_is_torchs_own_transformer_layer() -> None:
    with seeded_torch(4):
        block = Block(8, 2, hidden=12)
        for parameter in block.parameters():  # norms with weights other than one
            parameter.data += 0.1 * torch.randn_like(parameter)
        layer = torch_layer(block, 8).train()  # no dropout; in evaluation torch takes another way
    given = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(1))
    found = []
    for module in (block, layer):
        tokens = given.clone().requires_grad_()
        out = module(tokens)
        (out * torch.linspace(-1, 1, 8)).sum().backward()
        found.append((out, tokens.grad, sorted(float(p.grad.square().sum()) for p in module.parameters())))  # type: ignore[union-attr]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def tokens_reference(backbone: Tokens, parts: dict[str, Tensor]) -> Tensor:
    projected = [
        parts[name] @ backbone.project.linear[name].weight.T + backbone.project.linear[name].bias for name in WIDTHS
    ]  # type: ignore[union-attr, operator]
    tokens = torch.cat([backbone.reader.repeat(5, 1)[:, None], torch.stack(projected, dim=1)], dim=1)
    for block in backbone.blocks:
        tokens = block(tokens)  # torch's own, by the test above
    centered = tokens[:, 0] - tokens[:, 0].mean(dim=1, keepdim=True)
    normal = centered / (centered.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
    return normal * backbone.norm.weight + backbone.norm.bias


def expert(module: Any, vector: Tensor) -> Tensor:
    hidden, last = module[0][0], module[0][2]
    return torch.relu(linear(last, torch.relu(linear(hidden, vector))))


def shares(gate: Any, vector: Tensor) -> Tensor:
    scores = torch.exp(linear(gate, vector))
    return scores / scores.sum()


def mmoe_reference(mmoe: Mmoe, parts: dict[str, Tensor]) -> Tensor:
    rows = []
    for row in range(5):
        beside = torch.cat([parts[name][row] for name in WIDTHS])
        states = []
        for task in TASKS:
            weights = shares(mmoe.gates[task], beside)
            states.append(sum(w * expert(e, beside) for w, e in zip(weights, mmoe.experts, strict=True)))
        rows.append(torch.cat(states))  # type: ignore[arg-type]
    return torch.stack(rows)


def ple_reference(ple: Ple, parts: dict[str, Tensor]) -> Tensor:
    rows = []
    for row in range(5):
        beside = torch.cat([parts[name][row] for name in WIDTHS])
        each, common = dict.fromkeys(TASKS, beside), beside
        for level in ple.levels:
            one: Any = level
            own = {task: [expert(e, each[task]) for e in one.own[task]] for task in TASKS}
            shared = [expert(e, common) for e in one.shared]
            mixes = {
                task: sum(w * e for w, e in zip(shares(one.gates[task], each[task]), own[task] + shared, strict=True))
                for task in TASKS
            }
            if one.gate is not None:
                everyone = [e for task in TASKS for e in own[task]] + shared
                common = sum(w * e for w, e in zip(shares(one.gate, common), everyone, strict=True))  # type: ignore[assignment]
            each = mixes  # type: ignore[assignment]
        rows.append(torch.cat([each[task] for task in TASKS]))
    return torch.stack(rows)


def aligned_reference(aligned: Aligned, parts: dict[str, Tensor]) -> Tensor:
    summed = pooled_reference(sum)(aligned.inner, parts)
    return torch.stack([linear(aligned.map, vector) for vector in summed])


TASKS = ["rating", "liked"]
FORMULAS: dict[str, tuple[Any, Any]] = {
    "gated": (GatedSpec(dim=3), gated_reference),
    "concat": (ConcatSpec(dim=6, each=3, norm="layer"), concat_reference),
    "linear": (LinearSpec(dim=3), linear_reference),
    "sum": (SumSpec(dim=3), pooled_reference(sum)),
    "mean": (MeanSpec(dim=3), pooled_reference(lambda values: sum(values) / 3)),
    "max": (MaxSpec(dim=3), pooled_reference(lambda values: max(values, key=lambda value: value.item()))),
    "product": (ProductSpec(dim=3), pooled_reference(lambda values: values[0] * values[1] * values[2])),
    "cross": (CrossSpec(layers=3, dim=6), cross_reference),
    "cross of low rank": (CrossSpec(rank=2, dim=6), cross_reference),
    "attention": (AttentionSpec(dim=6, heads=2), attention_reference),
    "tokens": (TokensSpec(dim=6, heads=3), tokens_reference),
    "mmoe": (MmoeSpec(dim=3, experts=3, layers=(8,)), mmoe_reference),
    "aligned": (AlignedSpec(dim=4, of=SumSpec(dim=3)), aligned_reference),
    "cgc": (PleSpec(dim=3, layers=(8,), own=1, shared=2), ple_reference),
    "ple": (PleSpec(dim=6, layers=(16,), own=2, shared=1, levels=3), ple_reference),
}
SILENT = {"attention": {"keys.bias"}, "tokens": {"blocks.0.asked.bias", "blocks.1.asked.bias"}}
"""The same number on the keys of all towers changes no softmax: a gradient of zero but for rounding, of a third of the bias."""


@pytest.mark.parametrize("name", FORMULAS)
def test_every_kind_equals_its_formula_in_value_and_gradient(name: str) -> None:
    spec, reference = FORMULAS[name]
    with seeded_torch(1):
        backbone: Backbone = spec.build(WIDTHS, TASKS)
    weights = torch.randn(5, backbone.out_dim, generator=torch.Generator().manual_seed(2))
    found = []
    for function in (backbone, lambda parts: reference(backbone, parts)):
        backbone.zero_grad()
        parts = parts_of(WIDTHS)
        state = function(parts)
        (state * weights).sum().backward()
        inputs = {part: vectors.grad for part, vectors in parts.items()}
        parameters = {each: parameter.grad.clone() for each, parameter in backbone.named_parameters()}  # type: ignore[union-attr]
        found.append((state, inputs, parameters))
    torch.testing.assert_close(found[0], found[1], rtol=2e-4, atol=1e-5)
    loud = {each: gradient for each, gradient in found[0][2].items() if each not in SILENT.get(name, ())}
    assert loud and all(bool((gradient.abs() > 1e-6).any()) for gradient in loud.values())


def test_attention_takes_what_it_weighs() -> None:
    with seeded_torch(1):
        attention = AttentionSpec(dim=8, heads=2).build(WIDTHS)
    parts = parts_of(WIDTHS)
    weights = attention.weights(parts)
    assert weights.shape == (5, 3, 2)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(5, 2))
    with torch.no_grad():
        attention.question.zero_()  # nothing is asked: all alike
    vectors = torch.stack(list(attention.project(parts).values()))
    torch.testing.assert_close(attention(parts), attention.values(vectors).mean(dim=0))


def test_heads_that_do_not_share_the_width_are_refused() -> None:
    for kind in (AttentionSpec, TokensSpec):
        with pytest.raises(SpecError, match="received dim: 10 and heads: 4"):
            parse(kind, {"dim": 10, "heads": 4})


def test_dropout_of_a_transformer_is_off_in_evaluation() -> None:
    with seeded_torch(1):
        tokens = TokensSpec(dim=8, heads=2, dropout=0.5).build(WIDTHS)
    parts = parts_of(WIDTHS)
    with seeded_torch(2):
        assert not torch.equal(tokens.train()(parts), tokens(parts))
        assert torch.equal(tokens.eval()(parts), tokens(parts))


@pytest.mark.parametrize("spec", [MmoeSpec(dim=3), PleSpec(dim=3, own=1, shared=1)], ids=str)
def test_each_task_has_a_state_of_its_own(spec: Any) -> None:
    with seeded_torch(1):
        backbone = spec.build(WIDTHS, TASKS)
    assert (backbone.out_dim, backbone.head_dim, spec.per_task) == (6, 3, True)
    state = backbone(parts_of(WIDTHS))
    rating, liked = (backbone.of_task(state, task) for task in TASKS)
    assert torch.equal(torch.cat([rating, liked], dim=1), state)
    assert not torch.allclose(rating, liked)
    rating.sum().backward()
    touched = {
        each: bool((p.grad != 0).any()) if p.grad is not None else False for each, p in backbone.named_parameters()
    }
    assert any(moved for each, moved in touched.items() if "shared" in each or "experts" in each)
    assert not any(moved for each, moved in touched.items() if "liked" in each)
    assert any(moved for each, moved in touched.items() if "rating" in each)


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


@pytest.mark.parametrize(
    ("spec", "what"), [(SumSpec, "A sum"), (MeanSpec, "A mean"), (MaxSpec, "A maximum"), (ProductSpec, "A product")]
)
def test_other_widths_are_refused_with_them(spec: Any, what: str) -> None:
    with pytest.raises(
        ShapeError, match=rf"^{what} needs towers of one width; received \{{'text': 3, 'table': 2, 'image': 4\}}"
    ):
        spec().build(WIDTHS)
    with seeded_torch(0):
        assert spec(dim=5).build(WIDTHS).out_dim == 5


def test_a_norm_takes_the_size_of_a_tower_away() -> None:
    widths = dict.fromkeys(WIDTHS, 4)
    backbone, parts = SumSpec(norm="layer").build(widths), parts_of(widths)
    louder = {**parts, "text": 1000 * parts["text"]}
    torch.testing.assert_close(backbone(louder), backbone(parts), rtol=1e-3, atol=1e-4)


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


@pytest.mark.parametrize(
    "spec", [ConcatSpec(), SumSpec(), CrossSpec(), *(spec for spec, _ in FORMULAS.values())], ids=str
)
def test_the_order_of_the_parts_does_not_matter(spec: Any) -> None:
    widths = dict.fromkeys(WIDTHS, 4)
    with seeded_torch(1):
        backbone = spec.build(widths, TASKS)
    parts = parts_of(widths)
    state = backbone(parts)
    assert state.shape == (5, backbone.out_dim)
    assert backbone.of_task(state, "liked").shape == (5, backbone.head_dim)
    torch.testing.assert_close(backbone(dict(reversed(parts.items()))), state)
    assert MENU.validate_python(json.loads(spec.model_dump_json())) == spec


def test_a_map_alone_reads_one_tower() -> None:
    with seeded_torch(0):
        one = AlignedSpec(dim=2).build({"text": 3})
    given = torch.ones(1, 3)
    torch.testing.assert_close(one({"text": given}), linear(one.map, given[0])[None])
    with pytest.raises(ShapeError, match=r"'text': 3, 'table': 2.*of: \{kind: sum\}"):
        AlignedSpec(dim=2).build({"text": 3, "table": 2})

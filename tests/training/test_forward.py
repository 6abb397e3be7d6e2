"""What runs in place of the model: chunks and precision.

Invariants:
- in chunks, loss and gradients are those of the whole batch, in every parameter, for in-batch, uniform and queued negatives,
  for id, table and text towers, for one-backprop, EMA and graph towers;
- with dropout they are those of the chunks encoded plainly from the same generator, to the last bit, and the generator stands
  where it would;
- only the vectors are kept between forward and backward, not what lies between a tower's layers;
- under bfloat16 towers compute in it, while scores, losses and gradients are float32; on a CPU ``auto`` is float32;
- a chunk for a tower model is refused with the reason.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from towerkit.core.errors import SpecError
from towerkit.core.random import stream
from towerkit.core.spec import parse
from towerkit.data.batch import take
from towerkit.experiment import recipe_of
from towerkit.models.two_tower import Encoding, TwoTower, encode_side
from towerkit.spec import ModelingSpec
from towerkit.testing.faults import CASES, read_case
from towerkit.training.fit import Prepared, batches_of
from towerkit.training.forward import Chunked, Lower, forward_of
from towerkit.training.state import seeded_torch, train_step

BASE = CASES["two_backprop, dropout, queue"]
ID = {"kind": "id", "dim": 8}
TEXT = {"kind": "text", "columns": ["title"], "dim": 8, "encoder": {"kind": "hashed_ngrams", "buckets": 256}}
GRAPH = {"kind": "graph", "layers": 2, "of": ID}


def table(dropout: float) -> dict[str, Any]:
    return {"kind": "table", "columns": ["price", "category"], "layers": [16], "dim": 8, "dropout": dropout}


def prepared(chunk: int | None, *, rows: str = "all", **changes: Any) -> tuple[Prepared, Any]:
    settings = {"batch_size": 200, "chunk": chunk, "optimizer": {"kind": "sgd", "rows": rows}}
    spec, data = read_case({**BASE, **changes, "training": settings})
    with seeded_torch(stream(0, "torch")):
        found = recipe_of(spec, data).prepare(data, data.parts.train, spec.training)
    batches = list(batches_of(found, data.parts.train, spec.training, 0))[:2]
    return found, batches


def gradients(found: Prepared, batches: Any) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of two steps, and the gradients of the second."""
    with seeded_torch(stream(1, "steps")):
        found.state.model.train()
        losses = [train_step(found.state, batch) for batch in batches]
    named = {name: p.grad for name, p in found.state.model.named_parameters() if p.grad is not None}
    return losses, {name: g.to_dense() if g.is_sparse else g for name, g in named.items()}


MODELS: dict[str, dict[str, Any]] = {
    "id and table": {"query": ID, "candidate": {"towers": {"id": ID, "table": table(0.0)}}},
    "text": {"query": ID, "candidate": TEXT},
    "gated": {"query": ID, "candidate": {"towers": {"id": ID, "text": TEXT}, "backbone": {"kind": "gated", "dim": 8}}},
    "graph": {"query": GRAPH, "candidate": GRAPH},
}


@pytest.mark.parametrize("rows", ["all", "touched"])
@pytest.mark.parametrize("name", list(MODELS))
def test_loss_and_gradient_are_those_of_the_whole_batch(name: str, rows: str) -> None:
    model = {"kind": "two_tower", **MODELS[name]}
    whole, expected = gradients(*prepared(None, rows=rows, model=model))
    found, chunked = gradients(*prepared(37, rows=rows, model=model))
    assert found == pytest.approx(whole, rel=1e-6)
    assert chunked.keys() == expected.keys() and len(expected) >= 2
    for each in expected:
        torch.testing.assert_close(chunked[each], expected[each], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("update", [{"kind": "one_backprop", "beta": 0.9}, {"kind": "ema", "side": "both"}])
def test_updates_notice_nothing(update: dict[str, Any]) -> None:
    model = {"kind": "two_tower", "query": ID, "candidate": {"towers": {"id": ID, "table": table(0.0)}}}
    states = []
    for chunk in (None, 50):
        found, batches = prepared(chunk, model=model, update=update)
        gradients(found, batches)
        states.append(found.state.model.state_dict())
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-4, atol=1e-6)


class Plainly(Chunked):
    """The same chunks without leaving anything out."""

    def _encode(self, side: Any, columns: Any) -> Encoding:
        size = len(next(iter(columns.values())))
        done = [encode_side(side, take(columns, rows)) for rows in torch.arange(size).split(self.rows)]
        parts = {name: torch.cat([each.parts[name] for each in done]) for name in done[0].parts}
        return Encoding(parts, torch.cat([each.vectors for each in done]))


def test_dropout_draws_the_same_in_the_second_pass() -> None:
    model = {"kind": "two_tower", "query": ID, "candidate": {"towers": {"id": ID, "table": table(0.4)}}}
    answers = []
    for kind in (Chunked, Plainly):
        found, batches = prepared(37, model=model)
        found.state.forward = kind(found.state.model, 37)
        losses, grads = gradients(found, batches)
        with seeded_torch(stream(1, "steps")):
            train_step(found.state, batches[0])
            answers.append((losses, grads, torch.rand(3)))
    assert answers[0][0] == answers[1][0]
    assert all(torch.equal(answers[0][1][name], tensor) for name, tensor in answers[1][1].items())
    assert torch.equal(answers[0][2], answers[1][2])
    model = {"kind": "two_tower", "query": ID, "candidate": {"towers": {"id": ID, "table": table(0.0)}}}
    assert gradients(*prepared(37, model=model))[0] != answers[0][0], "nothing was dropped"


def test_only_the_vectors_are_kept() -> None:
    model = {"kind": "two_tower", "query": ID, "candidate": {**table(0.0), "layers": [256, 256]}}
    kept = {}
    for chunk in (None, 16):
        found, batches = prepared(chunk, model=model)
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            found.state.forward(batches[0])
        kept[chunk] = sum(sizes)
    assert kept[16] < kept[None] / 4


def test_lower_precision_is_of_the_towers_alone() -> None:
    found, batches = prepared(None)
    model = found.state.model
    seen: list[torch.dtype] = []
    hook = model.candidate.towers["table"].mlp.register_forward_hook(lambda *a: seen.append(a[2].dtype))
    lower = forward_of(model, precision="bfloat16")
    assert isinstance(lower, Lower)
    for chunked in (False, True):
        found.state.forward = forward_of(model, precision="bfloat16", chunk=50 if chunked else None)
        with seeded_torch(0):
            sides = found.state.forward(batches[0])
        assert {part.dtype for side in sides for part in (side.vectors, *side.parts.values())} == {torch.float32}
        losses, grads = gradients(found, batches)
        assert {gradient.dtype for gradient in grads.values()} == {torch.float32}
        assert losses == pytest.approx(gradients(*prepared(None))[0], rel=0.05)
    assert set(seen) == {torch.bfloat16}
    hook.remove()
    assert forward_of(model, precision="auto") is model
    assert forward_of(model, precision="float32") is model
    assert lower.query_entity == model.query_entity and lower.match is model.match
    assert isinstance(model, TwoTower)


@pytest.mark.parametrize(
    ("training", "update", "message"),
    [
        (
            {"chunk": 0},
            {"kind": "two_backprop"},
            r"training\.chunk: input should be greater than or equal to 1; received 0",
        ),
        ({"precision": "half"}, {"kind": "two_backprop"}, r"training\.precision: .*received 'half'"),
    ],
)
def test_what_does_not_go_together(training: Any, update: Any, message: str) -> None:
    spec = {"model": {"kind": "two_tower", "query": ID, "candidate": ID}, "update": update, "training": training}
    with pytest.raises(SpecError, match=message):
        parse(ModelingSpec, spec)


def test_a_chunk_is_for_a_two_tower() -> None:
    spec = {**CASES["tower_model, uncertainty"], "training": {"chunk": 64}}
    spec = {key: value for key, value in spec.items() if key != "data"}
    with pytest.raises(SpecError, match=r"'training\.chunk' is for the big batches .* model is a tower_model"):
        parse(ModelingSpec, spec)

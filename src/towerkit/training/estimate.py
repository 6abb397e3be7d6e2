"""What a training will need, found out by building it and taking a few real steps that are thrown away."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from towerkit.core.random import stream
from towerkit.data.batch import Batch, Stored
from towerkit.data.splits import Rows
from towerkit.training.fit import D, Prepared, Recipe, batches_of
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import seeded_torch
from towerkit.training.steps import ANY_NUMBER, torch_steps

_SPANS = 8
"""What the engine does at a time: a step of the torch engine, some steps of the compiled one."""


@dataclass(frozen=True)
class Estimate:
    """What one training needs."""

    parameters: Mapping[str, int]
    """Part of the model -> its numbers; tables that no gradient moves count too."""
    weight_bytes: int
    optimizer_bytes: int
    """After the steps that were taken; tables get their slots at their first step."""
    batch_bytes: int
    """Of the largest batch that was made."""
    peak_memory_bytes: int | None
    """The most that this process held, data and libraries included, and a copy of the best weights."""
    steps_per_epoch: int
    epochs: int
    """At most."""
    prepare_s: float
    """Encoding and building, measured."""
    step_s: float
    """The median of the steps that were taken, each with the making of its batches."""
    epoch_s: float
    """Steps only; validation comes on top."""
    total_s: float
    """All epochs without early stopping, the refit not counted."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "parameters": dict(self.parameters)}


def estimate(recipe: Recipe[D], dataset: D, training: TrainingSpec) -> Estimate:
    """Build the model and take a few steps; nothing is written or kept.

    Args:
        recipe: The model kind.
        dataset: Raw tables with their split.
        training: The loop's settings.
    """
    rows, started = dataset.parts.train, time.perf_counter()
    with seeded_torch(stream(training.seed, "torch")):
        prepared = recipe.prepare(dataset, rows, training)
        prepare_s, state, seconds, sizes = time.perf_counter() - started, prepared.state, [], [0]
        state.model.train()
        batches = partial(_sized_batches, prepared, rows, training, sizes)
        spans = (prepared.engine.steps if prepared.engine else torch_steps(state, batches, training.accumulate))(
            0, 0, lambda: ANY_NUMBER
        )
        for _ in range(_SPANS if state.learns else 0):
            begun = time.perf_counter()
            span = next(spans, None)
            if span is None:
                break
            seconds.append((time.perf_counter() - begun) / len(span.losses))
    steps = training.total_steps(len(rows)) // training.epochs
    step_s = statistics.median(seconds[1:] or seconds or [0.0])  # the first one warms up
    weights = sum(_bytes(tensor) for tensor in state.model.state_dict().values())
    peak = peak_memory_bytes()
    return Estimate(
        parameters_by_part(state.model),
        weights,
        sum(_bytes(tensor) for tensor in state.optimizer.state().values()),
        max(sizes) if prepared.engine is None else prepared.engine.batch_bytes(),
        None if peak is None else peak + weights,
        steps,
        training.epochs,
        round(prepare_s, 3),
        step_s,
        step_s * steps,
        step_s * steps * training.epochs,
    )


def parameters_by_part(model: nn.Module) -> dict[str, int]:
    """Numbers per tower, backbone and head, in the order of the model."""
    found: dict[str, int] = {}
    for name, tensor in model.state_dict().items():
        pieces = name.split(".")
        end = next((place + 2 for place, piece in enumerate(pieces) if piece in ("towers", "heads")), 1)
        end = next((place + 1 for place, piece in enumerate(pieces[:2]) if piece == "backbone"), end)
        part = ".".join(pieces[:end])
        found[part] = found.get(part, 0) + tensor.numel()
    return found


def peak_memory_bytes() -> int | None:
    """The most memory that this process ever held; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _sized_batches(
    prepared: Prepared, rows: Rows | range, training: TrainingSpec, sizes: list[int], epoch: int, done: int
) -> Iterator[Batch]:
    for batch in batches_of(prepared, rows, training, epoch, done):
        sizes.append(_size(batch))
        yield batch


def _size(value: Any) -> int:
    """Bytes of all tensors inside."""
    if isinstance(value, Tensor):
        return _bytes(value)
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    if isinstance(value, tuple | list):
        return sum(map(_size, value))
    if isinstance(value, Stored):  # what a tower will read, the same for every row
        present = torch.nonzero(~value.is_empty)[:1, 0]
        return _bytes(value.places) + (
            _bytes(value.read(present)) * int((~value.is_empty).sum()) if len(present) else 0
        )
    if is_dataclass(value):
        return sum(_size(getattr(value, field.name)) for field in fields(value))
    return 0


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()

"""What the objective calls in a training step in place of the model: in chunks, or in another precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from towerkit.data.batch import Batch, Columns, take
from towerkit.models.side import Side
from towerkit.models.two_tower import Encoding, TwoTower, encode_side

Precision = Literal["auto", "float32", "bfloat16"]


def forward_of(model: nn.Module, *, precision: Precision, chunk: int | None = None) -> Any:
    """The model, or what runs it otherwise; objectives and updates see no difference.

    Args:
        model: A two-tower or a tower model.
        precision: Of towers and backbones; scores and losses are float32 always. ``auto`` is bfloat16 where the device
            computes in it, and float32 on a CPU.
        chunk: Rows that a two-tower's side keeps the intermediate results of at a time; None for all.
    """
    found: Any = model
    if chunk is not None:
        assert isinstance(model, TwoTower)
        found = Chunked(model, chunk)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if precision == "bfloat16" or (precision == "auto" and _has_bfloat16(device)):
        found = Lower(found, device.type)
    return found


def _has_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


class Wrapped:
    """Answers for a model, whose attributes are its own.

    Args:
        model: A model, or what already wraps it.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        """Whatever the model has."""
        return getattr(self.model, name)


class Lower(Wrapped):
    """Runs a model under autocast to bfloat16; what comes out is float32 again, for scores and losses.

    Args:
        model: A model, or what already wraps it.
        device_type: As ``torch.autocast`` takes it.
    """

    def __init__(self, model: Any, device_type: str) -> None:
        super().__init__(model)
        self.device_type = device_type

    def __call__(self, batch: Batch) -> Any:
        """What the model gives, in float32."""
        with torch.autocast(self.device_type, dtype=torch.bfloat16):
            found = self.model(batch)
        if isinstance(found, Mapping):
            return {task: logits.float() for task, logits in found.items()}
        return tuple(
            Encoding({name: part.float() for name, part in side.parts.items()}, side.vectors.float()) for side in found
        )


class Chunked(Wrapped):
    """Encodes the rows of a two-tower's sides chunk by chunk, keeping only the vectors.

    The backward pass starts from the loss over all vectors and runs each chunk through its towers once more to carry the
    vectors' gradients on; dropout draws the same again. So loss and gradient are those of the whole batch, at the memory of
    one chunk and the price of a second forward pass.

    Args:
        model: The two-tower.
        rows: In a chunk.

    Reference: Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, RepL4NLP 2021 (arXiv
        2101.06983).
    """

    def __init__(self, model: TwoTower, rows: int) -> None:
        super().__init__(model)
        self.rows = rows

    def __call__(self, batch: Batch) -> tuple[Encoding, Encoding]:
        """Both sides of a batch."""
        return self.model(batch, self._encode)

    def _encode(self, side: Side, columns: Columns) -> Encoding:
        from torch.utils.checkpoint import checkpoint  # its first call imports torch's compiler, a second or so

        size = len(next(iter(columns.values())))
        done = [
            checkpoint(encode_side, side, take(columns, rows), use_reentrant=False)
            for rows in torch.arange(size).split(self.rows)
        ]
        parts = {name: torch.cat([each.parts[name] for each in done]) for name in done[0].parts}
        return Encoding(parts, torch.cat([each.vectors for each in done]))

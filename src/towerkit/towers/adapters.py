"""How much of a pretrained encoder is trained: all of it, its last blocks, or a correction of low rank beside each matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from towerkit.core.errors import SpecError
from towerkit.core.spec import Spec


class LastSpec(Spec):
    """The last blocks are trained, and what comes behind them."""

    last: int = Field(ge=1, le=512)
    """How many."""


class LoraSpec(Spec):
    """A correction of low rank beside every matrix of the blocks is trained, the rest is frozen."""

    lora: int = Field(ge=1, le=1024)
    """The rank."""
    alpha: float = Field(16.0, gt=0.0)
    """The corrections count ``alpha / rank``."""


Training: TypeAlias = Literal["frozen", "full"] | LastSpec | LoraSpec
"""How much of an encoder is trained."""


def adapted(module: nn.Module, training: Training) -> list[nn.Module]:
    """Freeze what is not trained.

    Args:
        module: The encoder; changed in place.
        training: How much of it is trained.

    Returns:
        Its parts that have dropout in training.

    Raises:
        SpecError: If it has not so many blocks, or none with a linear layer to correct.
    """
    if isinstance(training, LastSpec):
        return train_last(module, training.last)
    if isinstance(training, LoraSpec):
        add_lora(module, training.lora, training.alpha)
    return [module]


def blocks_of(module: nn.Module) -> nn.ModuleList:
    """The encoder's blocks, first to last: its longest list of modules.

    Raises:
        SpecError: If it has no list of modules.

    Example:
        >>> blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        >>> len(blocks_of(nn.Sequential(nn.Linear(2, 2), blocks)))
        2
    """
    lists = [each for each in module.modules() if isinstance(each, nn.ModuleList)]
    if not lists:
        raise SpecError(
            f"A {type(module).__name__} has no list of blocks, so its last ones cannot be told; use train: full."
        )
    return max(lists, key=len)


def train_last(module: nn.Module, count: int) -> list[nn.Module]:
    """Freeze a module but for its last blocks and what comes behind them.

    Args:
        module: The encoder.
        count: How many blocks are trained.

    Returns:
        The blocks that are trained.

    Raises:
        SpecError: If it has fewer blocks.
    """
    blocks = blocks_of(module)
    if count > len(blocks):
        raise SpecError(
            f"train: {{last: {count}}} asks for more blocks than the encoder has, {len(blocks)}; use train: full."
        )
    trained = list(blocks)[-count:]
    own = {id(parameter) for block in trained for parameter in block.parameters()}
    is_behind = False
    for parameter in module.parameters():
        is_behind = is_behind or id(parameter) in own
        parameter.requires_grad_(is_behind)
    return trained


class LoraLinear(nn.Module):
    """``x W + b`` as it was, and beside it ``x A B`` of low rank, which begins at nothing and is all that is trained.

    Args:
        base: The layer as it was trained; frozen here.
        rank: Width between A and B.
        alpha: The correction counts ``alpha / rank``.

    Reference: Hu et al., LoRA, ICLR 2022 (arXiv 2106.09685).
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.down = nn.Parameter(torch.empty(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, inputs: Tensor) -> Tensor:
        """``[..., out]``."""
        low = functional.linear(inputs, self.down)  # [..., rank]
        return self.base(inputs) + self.scale * functional.linear(low, self.up)


def add_lora(module: nn.Module, rank: int, alpha: float) -> None:
    """Freeze a module and put a correction of low rank beside every linear layer of its blocks.

    Args:
        module: The encoder; changed in place.
        rank: Of the corrections.
        alpha: Their weight; see :class:`LoraLinear`.

    Raises:
        SpecError: If the blocks have no linear layer.
    """
    module.requires_grad_(False)
    linears = list(_linears(blocks_of(module)))
    if not linears:
        raise SpecError(
            f"train: {{lora: {rank}}} corrects linear layers, and the blocks of this encoder have none; use "
            "{last: …} or full."
        )
    for parent, name, layer in linears:
        setattr(parent, name, LoraLinear(layer, rank, alpha))


def _linears(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                yield parent, name, child

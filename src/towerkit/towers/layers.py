"""Layers that several towers, backbones and heads share."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from torch import Tensor, nn
from torch.nn import functional

from towerkit.data.batch import Bag


class Named(nn.ModuleDict):
    """Modules under names of the user's choice.

    ``nn.ModuleDict`` refuses a name that is an attribute of its own, and a task may well be called ``type`` or ``items``.
    Here modules are only ever looked up by ``[name]``, so such names are no trouble.

    Example:
        >>> list(Named({"type": nn.Identity()}).state_dict()), list(Named({"type": nn.Linear(1, 1)}).state_dict())
        ([], ['type.weight', 'type.bias'])
    """

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Register under any name."""
        self._modules[name] = module  # type: ignore[assignment]  # as torch does

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep the flag ``training`` apart from a module of that name."""
        if name == "training":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


Activation: TypeAlias = Literal["relu", "gelu", "silu"]
Norm: TypeAlias = Literal["none", "layer"]
_ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def perceptron(
    in_dim: int,
    layers: tuple[int, ...],
    out_dim: int,
    *,
    dropout: float = 0.0,
    activation: Activation = "relu",
    norm: Norm = "none",
) -> nn.Sequential:
    """Hidden layers (linear, normalised if asked for, activated, with dropout), then a linear layer to ``out_dim``.

    Args:
        in_dim: Width of the input.
        layers: Hidden widths; none gives a single linear layer.
        out_dim: Width of the output.
        dropout: Share of hidden units dropped in training.
        activation: Of the hidden units.
        norm: ``layer`` normalises each row's hidden units. There is no batch normalisation: towers run on the distinct
            rows of a batch, so a row's vector would depend on its company.

    Example:
        >>> [type(layer).__name__ for layer in perceptron(4, (8,), 2)]
        ['Linear', 'ReLU', 'Linear']
    """
    parts: list[nn.Module] = []
    for width in layers:
        parts.append(nn.Linear(in_dim, width))
        if norm == "layer":
            parts.append(nn.LayerNorm(width))
        parts.append(_ACTIVATIONS[activation]())
        if dropout:
            parts.append(nn.Dropout(dropout))
        in_dim = width
    return nn.Sequential(*parts, nn.Linear(in_dim, out_dim))


def bag_sums(bag: Bag, table: Tensor, *, weights: Tensor | None = None, sparse: bool = False) -> Tensor:
    """The weighted sum of the vectors of each bag; zeros for an empty one.

    Args:
        bag: Codes are rows of the table.
        table: ``[codes, dim]``.
        weights: ``[entries]`` in place of the bag's own.
        sparse: Give the table a sparse gradient.

    Returns:
        ``[bags, dim]``.
    """
    return functional.embedding_bag(
        bag.codes,
        table,
        bag.offsets,
        mode="sum",
        sparse=sparse,
        per_sample_weights=bag.weights if weights is None else weights,
        include_last_offset=True,
    )

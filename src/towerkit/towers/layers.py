"""Layers that several towers, backbones and heads share."""

from __future__ import annotations

from torch import nn


def perceptron(in_dim: int, layers: tuple[int, ...], out_dim: int, *, dropout: float = 0.0) -> nn.Sequential:
    """Hidden layers with ReLU (and dropout), then a linear layer to ``out_dim``.

    Args:
        in_dim: Width of the input.
        layers: Hidden widths; none gives a single linear layer.
        out_dim: Width of the output.
        dropout: Share of hidden units dropped in training.

    Example:
        >>> [type(layer).__name__ for layer in perceptron(4, (8,), 2)]
        ['Linear', 'ReLU', 'Linear']
    """
    parts: list[nn.Module] = []
    for width in layers:
        parts += [nn.Linear(in_dim, width), nn.ReLU()]
        if dropout:
            parts.append(nn.Dropout(dropout))
        in_dim = width
    return nn.Sequential(*parts, nn.Linear(in_dim, out_dim))

"""Arithmetic that gives the same bits on every machine.

Matrix products, ``exp`` and the tails of a normal draw may differ in the last bit between processors and operating
systems. So vectors are multiplied term by term in a fixed order, and whatever came from such a function is rounded to a
coarse grid before anything is decided by it. Everything is then drawn with whole-number weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_GRID = 4096.0
_WEIGHT_ONE = 65536.0


def on_grid(values: Floats) -> Floats:
    """The values rounded to multiples of 1/4096, which both float32 and float64 hold exactly.

    Example:
        >>> on_grid(np.array([0.1, 2.0])).tolist()
        [0.10009765625, 2.0]
    """
    return np.rint(values * _GRID) / _GRID


def normal(generator: np.random.Generator, *shape: int) -> Floats:
    """Standard normal draws on the grid."""
    return on_grid(generator.standard_normal(shape))


def unit_rows(vectors: Floats) -> Floats:
    """Each row divided by its Euclidean length, on the grid."""
    length = np.sqrt(sum_of_columns(vectors * vectors))
    return on_grid(vectors / length[:, None])


def centered(vectors: Floats) -> Floats:
    """The rows less their mean, so that no column of the world is liked by everybody: that would be popularity."""
    return vectors - on_grid(sum_of_columns(vectors.T) / len(vectors))[None, :]


def sum_of_columns(values: Floats) -> Floats:
    """Row sums, added from left to right."""
    total = np.zeros(len(values))
    for column in range(values.shape[1]):
        total = total + values[:, column]
    return total


def dot_products(left: Floats, right: Floats) -> Floats:
    """Every row of ``left`` times every row of ``right``: ``[lefts, rights]``, on the grid."""
    total = np.zeros((len(left), len(right)))
    for axis in range(left.shape[1]):
        total = total + left[:, axis, None] * right[None, :, axis]
    return on_grid(total)


def whole_weights(log_weight: Floats) -> Integers:
    """``exp(log_weight)`` as whole numbers, 65,536 standing for one and never below one."""
    return np.maximum(np.rint(np.exp(log_weight) * _WEIGHT_ONE), 1.0).astype(np.int64)


def draw_by_weight(weights: Integers, row: Integers, generator: np.random.Generator) -> Integers:
    """One column for each entry of ``row``, drawn in proportion to that row of ``weights``.

    Args:
        weights: ``[rows, columns]`` whole numbers; a zero is never drawn.
        row: ``[draws]`` which row of ``weights`` each draw follows.
        generator: Where the randomness comes from.

    Returns:
        ``[draws]`` columns.
    """
    cumulative = np.cumsum(weights, axis=1)
    total = cumulative[:, -1]
    start = np.cumsum(total) - total
    target = start[row] + generator.integers(0, total[row], dtype=np.int64)
    found = np.searchsorted((cumulative + start[:, None]).ravel(), target, side="right")
    return np.asarray(found - row * weights.shape[1], dtype=np.int64)


def pick(generator: np.random.Generator, shares: tuple[float, ...], count: int) -> Integers:
    """``count`` draws of a position in ``shares``, in proportion to its value.

    Example:
        >>> pick(np.random.default_rng(0), (0.0, 1.0), 3).tolist()
        [1, 1, 1]
    """
    weights = np.rint(np.array([shares]) * _WEIGHT_ONE).astype(np.int64)
    return draw_by_weight(weights, np.zeros(count, dtype=np.int64), generator)


def ranks(values: Floats) -> Floats:
    """The position of each value among all, scaled to (0, 1); ties go by order.

    Example:
        >>> ranks(np.array([5.0, 1.0])).tolist()
        [0.75, 0.25]
    """
    position = np.empty(len(values))
    position[np.argsort(values, kind="stable")] = np.arange(len(values))
    return (position + 0.5) / max(len(values), 1)

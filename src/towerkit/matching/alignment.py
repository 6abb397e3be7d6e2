"""Bring the vectors of one training into the space of another: a linear map, fitted on what both know.

Two trainings of the same pairs agree at best up to a rotation: the scores of a two-tower stay the same when both sides are
turned alike. Whatever is known to both spaces says which rotation, or which other linear map, lies between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import ShapeError
from towerkit.core.random import generator

Method = Literal["procrustes", "least_squares"]
METHODS: tuple[Method, ...] = ("procrustes", "least_squares")
RIDGE = 1e-6
"""Of least squares, relative to the mean square of a coordinate: for numbers that are no longer told apart, not for their size."""
HELD_OUT = 0.2
"""Share of the rows that the methods are compared on."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearMap:
    """``x W^T + b``, as a linear layer has it."""

    weight: Floats
    """``[to_dim, from_dim]``."""
    bias: Floats
    """``[to_dim]``."""
    method: Method

    def __call__(self, vectors: NDArray[np.floating]) -> Floats:
        """``[rows, from_dim]`` to ``[rows, to_dim]``."""
        return np.asarray(vectors, np.float64) @ self.weight.T + self.bias

    def error(self, source: NDArray[np.floating], target: NDArray[np.floating]) -> float:
        """The squared length of what is missed, as a share of that of the target; 0 is a perfect map.

        Args:
            source: ``[rows, from_dim]``.
            target: ``[rows, to_dim]``.
        """
        missed = np.square(np.asarray(target, np.float64) - self(source)).sum()
        return float(missed / max(np.square(np.asarray(target, np.float64)).sum(), 1e-300))


def procrustes(source: NDArray[np.floating], target: NDArray[np.floating], *, shift: bool = False) -> LinearMap:
    """The rotation (with reflections, and one scale) that brings source rows nearest to target rows.

    Between spaces of two widths its columns or rows are orthonormal.

    Args:
        source: ``[rows, from_dim]``.
        target: ``[rows, to_dim]``, row by row of the same things.
        shift: Bring the means together first.

    Raises:
        ShapeError: If there are no rows, or not as many on both sides.

    Example:
        >>> turned = np.eye(2)[::-1]
        >>> procrustes(np.eye(2), 3 * np.eye(2) @ turned).weight.round(6).tolist()
        [[0.0, 3.0], [3.0, 0.0]]

    Reference: Schönemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 1966.
    """
    x, y, from_mean, to_mean = _centered(source, target, shift)
    left, strengths, right = np.linalg.svd(x.T @ y, full_matrices=False)  # [from_dim, r], [r], [r, to_dim]
    turn = left @ right  # [from_dim, to_dim]
    length = np.square(x @ turn).sum()
    scale = strengths.sum() / length if length > 0 else 1.0
    weight = np.asarray(scale * turn.T, np.float64)
    return LinearMap(weight, to_mean - weight @ from_mean, "procrustes")


def least_squares(
    source: NDArray[np.floating], target: NDArray[np.floating], *, shift: bool = False, ridge: float = RIDGE
) -> LinearMap:
    """The linear map that brings source rows nearest to target rows.

    Args:
        source: ``[rows, from_dim]``.
        target: ``[rows, to_dim]``, row by row of the same things.
        shift: Also a constant.
        ridge: Weight of the squared weights, relative to the mean square of a coordinate of the source.

    Raises:
        ShapeError: If there are no rows, or not as many on both sides.
    """
    x, y, from_mean, to_mean = _centered(source, target, shift)
    gram = x.T @ x  # [from_dim, from_dim]
    gram[np.diag_indices_from(gram)] += max(ridge * np.trace(gram) / len(gram), 1e-300)
    weight = np.asarray(np.linalg.lstsq(gram, x.T @ y, rcond=None)[0].T, np.float64)
    return LinearMap(weight, to_mean - weight @ from_mean, "least_squares")


def fitted(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    method: Method | Literal["auto"] = "auto",
    *,
    shift: bool = False,
    seed: int = 0,
) -> tuple[LinearMap, dict[str, float]]:
    """The map of a method, or of the one that misses least on a fifth of the rows that it was not fitted on.

    Args:
        source: ``[rows, from_dim]``.
        target: ``[rows, to_dim]``, row by row of the same things.
        method: Which one; ``auto`` compares.
        shift: Whether a constant means anything to the match: it does not to a cosine.
        seed: Draws the fifth.

    Returns:
        The map, fitted on all rows; method -> its error on the fifth.

    Raises:
        ShapeError: If there are no rows, or not as many on both sides.
    """
    _check(source, target)
    order = generator(seed, "alignment").permutation(len(source))
    cut = max(1, round(HELD_OUT * len(order)))
    held_out, rest = order[:cut], order[cut:] if len(order) > cut else order
    errors: dict[str, float] = {}
    for name in METHODS if method == "auto" else (method,):
        errors[name] = _fit(name, source[rest], target[rest], shift).error(source[held_out], target[held_out])
    best = min(METHODS, key=lambda name: errors.get(name, np.inf))
    return _fit(best, source, target, shift), errors


def _fit(method: Method, source: NDArray[np.floating], target: NDArray[np.floating], shift: bool) -> LinearMap:
    if method == "procrustes":  # a shift moves every score of a query by what its candidate says: not for a rotation
        return procrustes(source, target)
    return least_squares(source, target, shift=shift)


def _centered(
    source: NDArray[np.floating], target: NDArray[np.floating], shift: bool
) -> tuple[Floats, Floats, Floats, Floats]:
    _check(source, target)
    x, y = np.asarray(source, np.float64), np.asarray(target, np.float64)
    means = (x.mean(axis=0), y.mean(axis=0)) if shift else (np.zeros(x.shape[1]), np.zeros(y.shape[1]))
    return x - means[0], y - means[1], *means


def _check(source: NDArray[np.floating], target: NDArray[np.floating]) -> None:
    if len(source) != len(target) or not len(source):
        raise ShapeError(
            f"A map is fitted on rows of the same things; received {source.shape} and {target.shape}. Give the vectors that "
            "both spaces have of them."
        )

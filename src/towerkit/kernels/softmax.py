"""Softmax losses of a batch over candidates that all its rows share: what stands between the matrix products.

Logits come as tiles of ``[some rows, shared]`` from a matrix product and are overwritten by their exponentials. These are the
coefficients of the gradient but for a factor of each row, which the next products take with their narrow side. The whole
``[batch, shared]`` never exists.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from towerkit.kernels.compiled import compiled


def _bitcast(typing_context: Any, bits: Any) -> Any:
    """The float32 that has these 32 bits, as one instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


def _view(bits: Any) -> Any:
    """The same in plain Python."""
    return np.int32(bits).view(np.float32)


def _llvm_maximum(typing_context: Any, one: Any, other: Any) -> Any:
    """The larger of two float32, NaN where one is: in a loop, ``max`` would keep to one number at a time."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), ir.FloatType()])
        return builder.call(builder.module.declare_intrinsic("llvm.maximum", [ir.FloatType()], kind), arguments)

    return types.float32(types.float32, types.float32), generate


_float_of_bits: Any = _view if numba.config.DISABLE_JIT else intrinsic(_bitcast)  # type: ignore[attr-defined]
_larger: Any = np.maximum if numba.config.DISABLE_JIT else intrinsic(_llvm_maximum)  # type: ignore[attr-defined]


@compiled()
def _exp(x):
    """``exp(x)`` for ``x <= 0`` to a relative 2e-7, and 0 below -80: a loop of it runs in the machine's widest vectors.

    ``2^n e^r`` with ``|r| <= log(2)/2``; the polynomial is that of Cephes' ``expf``.
    """
    clipped = max(x, np.float32(-80.0))
    n = np.floor(clipped * np.float32(1.44269504) + np.float32(0.5))
    r = (clipped - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    value = (p * r * r + r + np.float32(1.0)) * _float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))
    return value if x > np.float32(-80.0) else np.float32(0.0)


@compiled(parallel=True)
def exponentials(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """:func:`_exp` of an array, for tests."""
    found = np.empty_like(values)
    for place in prange(len(values)):
        found[place] = _exp(values[place])
    return found


@compiled(parallel=True)
def gather(
    table: NDArray[np.float32],
    rows: NDArray[np.int32],
    cosine: bool,
    vectors: NDArray[np.float32],
    lengths: NDArray[np.float32],
) -> None:
    """Some rows of a table as the match sees them.

    Args:
        table: ``[table rows, dim]``.
        rows: ``[n]``; one may stand several times.
        cosine: Divide each by its length.
        vectors: ``[n, dim]`` written.
        lengths: ``[table rows]`` written at these rows under cosine.
    """
    dim = table.shape[1]
    for place in prange(len(rows)):
        row = table[rows[place]]
        length = np.float32(1.0)
        if cosine:
            square = np.float32(0.0)
            for k in range(dim):
                square += row[k] * row[k]
            length = max(np.sqrt(square), np.float32(1e-12))
            lengths[rows[place]] = length
        for k in range(dim):
            vectors[place, k] = row[k] / length


@compiled()
def positions(shared: NDArray[np.int64], first: NDArray[np.int32]) -> NDArray[np.int32]:
    """Where each candidate stands among the shared ones, as linked lists.

    Args:
        shared: ``[n]`` candidate rows; one may stand several times.
        first: ``[candidates + 1]`` all -1; written at the shared ones: their last position.

    Returns:
        ``[n]`` the position before each of the same candidate, -1 for none.
    """
    before = np.empty(len(shared), np.int32)
    for place in range(len(shared)):
        before[place] = first[shared[place]]
        first[shared[place]] = place
    return before


@compiled(parallel=True)
def softmax_tile(
    logits: NDArray[np.float32],
    own: NDArray[np.float32],
    positives: NDArray[np.int64],
    queries: NDArray[np.int64],
    first: NDArray[np.int32],
    before: NDArray[np.int32],
    starts: NDArray[np.int64],
    known: NDArray[np.int32],
    log_q: NDArray[np.float32],
    weights: NDArray[np.float32],
    temperature: np.float32,
    ratio: np.float32,
    bilateral: bool,
    losses: NDArray[np.float64],
    slopes: NDArray[np.float32],
    scales: NDArray[np.float32],
    seen: NDArray[np.float64],
) -> None:
    """Losses, and in place of the scores their coefficients ``∂loss/∂score``, but for a factor of each row.

    ``-s⁺/τ + log(exp(s⁺/τ) + Σ exp(s_j/τ - log q_j))`` over the shared that are no collision, or under ``bilateral``
    ``-s⁺/τ + ρ log mean exp(s_j/τ - log q_j)``; see :mod:`towerkit.losses.softmax_family`.

    Args:
        logits: ``[rows, shared]`` scores; written.
        own: ``[rows]`` scores of the positives.
        positives: ``[rows]`` candidate rows: masked among the shared.
        queries: ``[rows]`` query rows.
        first: As :func:`positions` wrote it.
        before: As :func:`positions` gave it.
        starts: ``[queries + 1]`` where the known candidates of each query begin; empty to mask none of them.
        known: Candidate rows, also masked.
        log_q: ``[shared]``.
        weights: ``[rows]`` the weight of each row's loss in the mean.
        temperature: ``τ``.
        ratio: ``ρ``.
        bilateral: Which of the two.
        losses: ``[rows]`` written, unweighted.
        slopes: ``[rows]`` written: the coefficient of the positive, weighted.
        scales: ``[rows]`` written: by what the row's coefficients are to be multiplied, its weight among it.
        seen: ``[rows, 2]`` written: how many shared candidates count, and how many effectively.
    """
    cold = np.float32(1.0) / temperature
    for row in prange(len(logits)):
        mine = logits[row]
        masked = _mask(mine, positives[row], first, before)
        if len(starts):
            for place in range(starts[queries[row]], starts[queries[row] + 1]):
                masked += _mask(mine, known[place], first, before)
        counts = len(mine) - masked
        top = np.float32(-np.inf) if bilateral else own[row] * cold
        for j in range(len(mine)):
            top = _larger(top, mine[j] * cold - log_q[j])
        if counts == 0 and bilateral:  # its positive alone would be pulled without end
            mine[:] = np.float32(0.0)
            losses[row], slopes[row], seen[row, 0], seen[row, 1] = 0.0, np.float32(0.0), 0.0, 0.0
            scales[row] = np.float32(0.0)
            continue
        total, squares = np.float32(0.0), np.float32(0.0)
        for j in range(len(mine)):
            mine[j] = _exp(mine[j] * cold - log_q[j] - top)
            total += mine[j]
            squares += mine[j] * mine[j]
        seen[row, 0] = counts
        seen[row, 1] = np.float64(total) * np.float64(total) / max(np.float64(squares), 1e-300) if weights[row] else 0.0
        share = np.float32(0.0)
        if bilateral:
            losses[row] = ratio * (np.float64(top) + np.log(np.float64(total)) - np.log(np.float64(counts)))
        else:
            share = _exp(own[row] * cold - top)
            total += share
            losses[row] = np.float64(top) + np.log(np.float64(total))
        losses[row] -= np.float64(own[row] * cold)
        slopes[row] = weights[row] * cold * (share / total - np.float32(1.0))
        scales[row] = weights[row] * cold / total * (ratio if bilateral else np.float32(1.0))


@compiled(exact=True)
def _mask(scores, candidate, first, before):
    """Minus infinity wherever a candidate stands among the shared; how often it was not there already."""
    count = 0
    place = first[candidate]
    while place >= 0:
        if scores[place] != -np.inf:
            scores[place] = -np.inf
            count += 1
        place = before[place]
    return count

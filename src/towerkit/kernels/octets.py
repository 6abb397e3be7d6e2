"""Inner products of vectors of bytes, where the processor has an instruction for them (AVX-512 VNNI).

One instruction multiplies 64 pairs of bytes and adds them up by fours into 16 sums. Numba's loops do not become it, so the
innermost step is written in LLVM's own words. Elsewhere :func:`has_byte_products` is False, and nobody calls the rest.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from towerkit.kernels.compiled import compiled

binding.initialize_native_asmparser()
LANES, ROWS, GROUPS = 16, 4, 2
"""Candidates in a group, and the queries and groups whose sums are kept in registers together."""
CHUNK = 128
"""Groups that all queries are compared with in turn: at 64 dimensions 128 kB, which stay in the second cache."""
_LISTED = 128
"""Of the candidates of a chunk, every 128th is of one group, whose highest score is looked at first."""
Floats = NDArray[np.float32]


@cache
def has_byte_products() -> bool:
    """Whether this processor has the instruction, and Numba may compile."""
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512vnni") and not numba.config.DISABLE_JIT)  # type: ignore[attr-defined]


@compiled(exact=True)
def byte_shortlist(
    candidates: tuple[Any, ...],
    queries: tuple[Any, ...],
    slack: tuple[Any, ...],
    taken: tuple[Any, Any],
    blocked: NDArray[np.bool_],
    scores: NDArray[np.float32],
    found: tuple[Any, Any],
    k: int,
) -> None:
    """The candidates that may be among the ``k`` best of each query, by inner products of bytes that are known up to a bound.

    The score of query ``r`` and candidate ``c`` is within ``a_r x_c + b_r y_c + v`` of the product's. Among the ``k`` best can only
    be what reaches, at its upper end, the ``k``-th highest lower end, for which that of the ``k``-th best group stands in.
    It rises from chunk to chunk, and the list is kept to it.

    Args:
        candidates: ``[groups, dim / 4, 16, 4]`` bytes with 128 added, the 16 candidates of a group side by side, an even
            number of groups; ``[groups * 16]`` what the bytes of each are multiplied by.
        queries: ``[rows, dim]`` bytes, ``rows`` a multiple of 4; ``[rows]`` what they are multiplied by; ``[rows]`` -128 times
            their sum, which takes away what was added to the candidates.
        slack: ``[rows]`` a, ``[rows]`` b, ``[width]`` x, ``[width]`` y, and v of the bound.
        taken: ``[rows + 1]`` starts and the columns they point into, excluded for each row, in order.
        blocked: ``[width]`` True where no row may have the candidate; empty where all may.
        scores: Overwritten: ``[rows, CHUNK * 16]`` the products of one chunk after the other.
        found: Written: ``[rows]`` lists of candidates, in no order; ``[rows]`` how long they are, -1 where one has no room.
        k: Places to fill.
    """
    bytes_, scales, own, own_scales, starts = candidates[0], candidates[1], queries[0], queries[1], queries[2]
    columns, counts = found[0], found[1]
    groups, steps, rows, width = bytes_.shape[0], bytes_.shape[1], len(counts), len(slack[2])
    uppers, tops = np.empty(columns.shape, np.float32), np.full((rows, k), -np.inf, np.float32)
    low, high, place = np.empty(_LISTED, np.float32), np.empty(_LISTED, np.float32), taken[0].copy()
    counts[:] = 0
    for first in range(0, groups, CHUNK):
        last = min(first + CHUNK, groups)
        for row in range(0, len(own), ROWS):
            for group in range(first, last, GROUPS):
                _tile(  # type: ignore[call-arg, unused-ignore]
                    own.ctypes.data + row * steps * 4,
                    bytes_.ctypes.data + group * steps * 64,
                    steps,
                    starts.ctypes.data + row * 4,
                    own_scales.ctypes.data + row * 4,
                    scales.ctypes.data + group * 64,
                    scores.ctypes.data + row * CHUNK * 64 + (group - first) * 64,
                    CHUNK * 64,
                )
        begin, end = first * LANES, min(last * LANES, width)
        x, y = slack[2][begin:end], slack[3][begin:end]
        for row in range(rows):
            line, bound = scores[row, : end - begin], (slack[0][row], slack[1][row], slack[4])
            while place[row] < taken[0][row + 1] and taken[1][place[row]] < end:
                line[taken[1][place[row]] - begin] = -np.inf
                place[row] += 1
            if len(blocked):
                _block(line, blocked[begin:end])
            low[:], high[:] = -np.inf, -np.inf
            _ends(line, x, y, bound, low, high)
            for group in range(_LISTED):
                if low[group] > tops[row, 0]:
                    _rise(tops[row], low[group])
            if counts[row] >= 0:
                listed = columns[row], uppers[row]
                counts[row] = _list(line, begin, bound, x, y, high, tops[row, 0], listed, counts[row])
    for row in range(rows):
        if counts[row] >= 0:
            counts[row] = _kept(columns[row], uppers[row], counts[row], tops[row, 0])


@compiled(exact=True)
def _block(line: Floats, blocked: NDArray[np.bool_]) -> None:
    for place in range(len(line)):
        line[place] = -np.inf if blocked[place] else line[place]


@compiled(exact=True)
def _ends(line: Floats, x: Floats, y: Floats, bound: Any, low: Floats, high: Floats) -> None:
    """The highest lower and upper end of each group of a piece: every 128th candidate is of one."""
    a, b, v = bound
    for start in range(0, len(line), _LISTED):
        piece, lost, length = line[start : start + _LISTED], x[start : start + _LISTED], y[start : start + _LISTED]
        for group in range(len(piece)):
            score = piece[group]
            error = a * lost[group] + b * length[group] + v
            low[group] = score - error if score - error > low[group] else low[group]
            high[group] = score + error if score + error > high[group] else high[group]


@compiled(exact=True)
def _rise(top: Floats, value: float) -> None:
    """Put a value among the highest ones, which are in order, in the place of the lowest of them."""
    place = 0
    while place + 1 < len(top) and top[place + 1] < value:
        top[place] = top[place + 1]
        place += 1
    top[place] = value


@compiled(exact=True)
def _list(
    line: Floats, begin: int, bound: Any, x: Floats, y: Floats, high: Floats, threshold: float, listed: Any, count: int
) -> int:
    """Put what reaches a threshold on the list; returns how long it is, -1 where it has no room."""
    columns, uppers = listed[0], listed[1]
    for group in range(_LISTED):
        if high[group] >= threshold:
            for place in range(group, len(line), _LISTED):
                upper = line[place] + (bound[0] * x[place] + bound[1] * y[place] + bound[2])
                if upper >= threshold and upper > -np.inf:
                    if count == len(columns):
                        count = _kept(columns, uppers, count, threshold)
                        if count == len(columns):
                            return -1
                    columns[count], uppers[count] = begin + place, upper
                    count += 1
    return count


@compiled(exact=True)
def _kept(columns: NDArray[np.int32], uppers: Floats, count: int, threshold: float) -> int:
    """Of a list, only what reaches a threshold that has risen; returns how long it is."""
    size = 0
    for place in range(count):
        if uppers[place] >= threshold:
            columns[size], uppers[size] = columns[place], uppers[place]
            size += 1
    return size


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _tile(
    context: Any,
    query: Any,
    candidate: Any,
    steps: Any,
    starts: Any,
    query_scales: Any,
    scales: Any,
    scores: Any,
    stride: Any,
) -> Any:
    """The scores of 4 queries and 32 candidates, by the addresses of their numbers."""
    del context, query, candidate, steps, starts, query_scales, scales, scores, stride
    return types.void(*[types.intp] * 8), _tile_code


def _tile_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    query, candidate, steps, starts, query_scales, candidate_scales, scores, stride = arguments
    del signature
    word, number = ir.IntType(32), ir.FloatType()
    words, numbers = ir.VectorType(word, LANES), ir.VectorType(number, LANES)
    multiply_add = ir.InlineAsm(
        ir.FunctionType(words, [words] * 3), "vpdpbusd $2, $3, $0", "=v,0,v,v", side_effect=False
    )

    def at(address: Any, offset: Any, kind: Any) -> Any:
        where = builder.add(address, offset if isinstance(offset, ir.Value) else address.type(offset))
        return builder.inttoptr(where, kind.as_pointer())

    def loaded(address: Any, offset: Any, kind: Any) -> Any:
        found = builder.load(at(address, offset, kind))
        found.align = 4
        return found

    def everywhere(value: Any, kind: Any) -> Any:
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, word(0))
        return builder.shuffle_vector(
            one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(word, LANES), [0] * LANES)
        )

    sums = [[cgutils.alloca_once(builder, words) for _ in range(GROUPS)] for _ in range(ROWS)]
    for row in range(ROWS):
        start = everywhere(loaded(starts, 4 * row, word), words)
        for place in sums[row]:
            builder.store(start, place)
    with cgutils.for_range(builder, steps) as loop:
        far = builder.mul(loop.index, steps.type(64))
        group_bytes = builder.mul(steps, steps.type(64))
        both = [
            loaded(candidate, builder.add(far, builder.mul(group_bytes, steps.type(g))), words) for g in range(GROUPS)
        ]
        near = builder.mul(loop.index, steps.type(4))
        row_bytes = builder.mul(steps, steps.type(4))
        for row in range(ROWS):
            own = loaded(query, builder.add(near, builder.mul(row_bytes, steps.type(row))), word)
            own = everywhere(own, words)
            for group in range(GROUPS):
                place = sums[row][group]
                builder.store(builder.call(multiply_add, [builder.load(place), own, both[group]]), place)
    for row in range(ROWS):
        scale = everywhere(loaded(query_scales, 4 * row, number), numbers)
        for group in range(GROUPS):
            score = builder.sitofp(builder.load(sums[row][group]), numbers)
            score = builder.fmul(score, loaded(candidate_scales, 64 * group, numbers))
            score = builder.fmul(score, scale)
            where = at(scores, builder.add(builder.mul(stride, stride.type(row)), stride.type(64 * group)), numbers)
            builder.store(score, where).align = 4
    return context.get_dummy_value()

"""Inner products of vectors of bytes, where the processor has an instruction for them (AVX-512 VNNI).

One instruction multiplies 64 pairs of bytes and adds them up by fours into 16 sums. Numba's loops do not become it, so the innermost step is written
in LLVM's own words. Elsewhere :func:`has_byte_products` is False, and nobody calls the rest.
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
_CHUNK = 128
"""Groups that all queries are compared with in turn: at 64 dimensions 128 kB, which stay in the second cache."""


@cache
def has_byte_products() -> bool:
    """Whether this processor has the instruction, and Numba may compile."""
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512vnni") and not numba.config.DISABLE_JIT)  # type: ignore[attr-defined]


@compiled(exact=True)
def byte_scores(
    candidates: NDArray[np.uint8],
    candidate_scales: NDArray[np.float32],
    queries: NDArray[np.int8],
    query_scales: NDArray[np.float32],
    starts: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> None:
    """The inner product of each query with every candidate.

    A candidate's bytes have 128 added, which makes them unsigned; ``starts`` takes it away again.

    Args:
        candidates: ``[groups, dim / 4, 16, 4]`` bytes, the 16 candidates of a group side by side; an even number of groups.
        candidate_scales: ``[groups * 16]`` what a candidate's bytes are multiplied by.
        queries: ``[rows, dim]`` bytes; ``rows`` a multiple of 4.
        query_scales: ``[rows]`` likewise.
        starts: ``[rows]`` -128 times the sum of a query's bytes.
        scores: Written: ``[rows, groups * 16]``.
    """
    groups, steps = candidates.shape[0], candidates.shape[1]
    for chunk in range(0, groups, _CHUNK):
        for row in range(0, len(queries), ROWS):
            for group in range(chunk, min(chunk + _CHUNK, groups), GROUPS):
                _tile(
                    queries.ctypes.data + row * steps * 4,
                    candidates.ctypes.data + group * steps * 64,
                    steps,
                    starts.ctypes.data + row * 4,
                    query_scales.ctypes.data + row * 4,
                    candidate_scales.ctypes.data + group * 64,
                    scores.ctypes.data + row * groups * 64 + group * 64,
                    groups * 64,
                )


@intrinsic  # type: ignore[untyped-decorator]
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

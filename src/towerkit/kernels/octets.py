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
_SETS, _TOPS = 128, 16
"""Of the candidates of a chunk, every 128th is of one set, and every 16th set of one heap: what heaps can reach is looked at
first, then what their sets can, and only then candidates."""
SAFE = 1.001
"""By what lengths are enlarged, for the rounding of the bound itself."""
_ROUNDED = 2.0**-22
"""Of a rough score's own operations."""
Floats = NDArray[np.float32]


@cache
def has_byte_products() -> bool:
    """Whether this processor has the instruction, and Numba may compile."""
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512vnni") and not numba.config.DISABLE_JIT)  # type: ignore[attr-defined]


@compiled(exact=True)
def byte_queries(queries: Floats, width: int) -> tuple[Any, ...]:
    """Queries in bytes, and what the loss and the length of a candidate weigh in the bound of each.

    Args:
        queries: ``[rows, dim]``.
        width: ``dim``, or more: the bytes beyond it are zero.

    Returns:
        The ``queries`` and the first two of ``slack`` as :func:`byte_shortlist` takes them, rows of zeros added to a multiple of 4.
    """
    rows, dim = queries.shape
    padded = rows + -rows % ROWS
    octets, starts = np.zeros((padded, width), np.int8), np.zeros(padded, np.int32)
    scales, near, far = np.zeros(padded, np.float32), np.empty(rows, np.float32), np.empty(rows, np.float32)
    safe, rounded = np.float32(SAFE), np.float32(_ROUNDED)
    sums = np.float32((dim + 16) * 2.0**-23)
    for row in range(rows):
        most = np.float32(0)
        for place in range(dim):
            most = max(most, abs(queries[row, place]))
        scale = np.float32(most / np.float32(127))
        step = scale if scale > 0 else np.float32(1)
        total, square, missed = 0, 0.0, 0.0
        for place in range(dim):
            value = queries[row, place]
            octet = min(max(np.rint(np.float32(value / step)), np.float32(-127)), np.float32(127))
            octets[row, place] = np.int8(octet)
            total += int(octet)
            square += np.float64(value) * np.float64(value)
            gap = np.float64(value) - np.float64(octet) * np.float64(scale)
            missed += gap * gap
        length, lost = np.float32(np.sqrt(square) * SAFE), np.float32(np.sqrt(missed) * SAFE)
        scales[row], starts[row] = scale, -128 * total
        near[row] = (length + lost) * safe
        far[row] = (lost + (length * sums + near[row] * rounded)) * safe
    return (octets, scales, starts), (near, far)


@compiled(exact=True)
def best_listed(scores: Floats, rows: NDArray[np.int64], ties: NDArray[np.int64], found: tuple[Any, Any]) -> None:
    """The best of a list of each query, in order; equals by their place among equals, the lower one first.

    Args:
        scores: ``[queries, most]`` of the pairs.
        rows: ``[queries, most]`` candidates; -1 for none.
        ties: ``[candidates or more]``.
        found: Written: ``[queries, k]`` rows, -1 where there are fewer, and their scores, then minus infinity.
    """
    best, top = found[0], found[1]
    k = best.shape[1]
    best[:], top[:] = -1, -np.inf
    for query in range(len(rows)):
        count = 0
        for column in range(rows.shape[1]):
            row, score = rows[query, column], scores[query, column]
            if row < 0:
                continue
            place = count  # where it would stand if it were behind all that are there
            while place > 0 and (
                top[query, place - 1] < score
                or (top[query, place - 1] == score and ties[best[query, place - 1]] > ties[row])
            ):
                place -= 1
            if place < k:
                count = min(count + 1, k)
                for after in range(count - 1, place, -1):
                    best[query, after], top[query, after] = best[query, after - 1], top[query, after - 1]
                best[query, place], top[query, place] = row, score


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
    be what reaches, at its upper end, the ``k``-th highest lower end; that rises with every chunk, and the list is kept to it.

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
    reach, heaps, place = np.empty(_SETS, np.float32), np.empty(_SETS // 2, np.float32), taken[0].copy()
    most_lost, longest = np.empty(_SETS, np.float32), np.empty(_SETS, np.float32)
    floors = np.empty(rows, np.float32)
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
        lost, length = slack[2][begin:end], slack[3][begin:end]
        _peaks(lost, most_lost, 0.0)
        _peaks(length, longest, 0.0)
        for row in range(rows):
            line, weights = scores[row, : end - begin], (slack[0][row], slack[1][row], slack[4])
            while place[row] < taken[0][row + 1] and taken[1][place[row]] < end:
                line[taken[1][place[row]] - begin] = -np.inf
                place[row] += 1
            if len(blocked):
                _block(line, blocked[begin:end])
            if counts[row] < 0:
                continue
            if counts[row] < 0:
                continue
            _peaks(line, reach, -np.inf)
            if first == 0:
                floors[row] = _floor(reach, weights, most_lost, longest, tops[row])
            _reach(reach, heaps, weights, most_lost, longest)
            chunk = line, begin, weights, lost, length, reach, heaps
            counts[row] = _look(chunk, floors[row], tops[row], (columns[row], uppers[row]), counts[row])
    for row in range(rows):
        if counts[row] >= 0:
            counts[row] = _kept(columns[row], uppers[row], counts[row], max(tops[row, 0], floors[row]))


@compiled(exact=True)
def _block(line: Floats, blocked: NDArray[np.bool_]) -> None:
    for place in range(len(line)):
        line[place] = -np.inf if blocked[place] else line[place]


@compiled(exact=True)
def _bound(weights: Any, lost: float, length: float) -> float:
    """How far a score may be off; it never falls where the loss or the length of a candidate rises, rounding included."""
    return weights[0] * lost + weights[1] * length + weights[2]


@compiled(exact=True)
def _peaks(line: Floats, high: Floats, least: float) -> None:
    """The highest value of each set of a chunk, or the least there can be."""
    high[:] = least
    for start in range(0, len(line), _SETS):
        piece = line[start : start + _SETS]
        for each in range(len(piece)):
            high[each] = piece[each] if piece[each] > high[each] else high[each]


@compiled(exact=True)
def _reach(high: Floats, heaps: Floats, weights: Any, most_lost: Floats, longest: Floats) -> None:
    """What no candidate of a set is above, in the place of its highest score; and of each heap, the first 16 of ``heaps``."""
    for each in range(_SETS):
        high[each] += _bound(weights, most_lost[each], longest[each])
    half = _SETS // 2
    for each in range(half):
        heaps[each] = high[each] if high[each] > high[half + each] else high[half + each]
    while half > _TOPS:
        half //= 2
        for each in range(half):
            heaps[each] = heaps[each] if heaps[each] > heaps[half + each] else heaps[half + each]


@compiled(exact=True)
def _floor(high: Floats, weights: Any, most_lost: Floats, longest: Floats, top: Floats) -> float:
    """What as many sets as there are places surely reach: so much is known of a chunk before its candidates are looked at."""
    for each in range(_SETS):
        low = high[each] - _bound(weights, most_lost[each], longest[each])
        if low > top[0]:
            _rise(top, low)
    floor = top[0]
    top[:] = -np.inf
    return floor


@compiled(exact=True)
def _rise(top: Floats, value: float) -> None:
    """Put a value among the highest ones, which are in order, in the place of the lowest of them."""
    place = 0
    while place + 1 < len(top) and top[place + 1] < value:
        top[place] = top[place + 1]
        place += 1
    top[place] = value


@compiled(exact=True)
def _look(chunk: tuple[Any, ...], floor: float, top: Floats, found: tuple[Any, Any], count: int) -> int:
    """Look at the candidates of a chunk that may have a place, and put them on the list.

    Args:
        chunk: Its scores; where it begins; the weights, losses and lengths of the bound; what no candidate of a set is above,
            and of a heap.
        floor: What is known to be reached by as many as there are places.
        top: Written: the highest lower ends so far, in order.
        found: Written: the list and the upper ends of those on it.
        count: How long it is.

    Returns:
        How long the list is, -1 where it has no room.
    """
    line, begin, weights, lost, length, reach, heaps = chunk
    columns, uppers, least = found[0], found[1], max(floor, top[0])
    for heap in range(_TOPS):
        if heaps[heap] >= least:
            for each in range(heap, _SETS, _TOPS):
                if reach[each] >= least:
                    for place in range(each, len(line), _SETS):
                        score, bound = line[place], _bound(weights, lost[place], length[place])
                        if score - bound > top[0]:
                            _rise(top, score - bound)
                            least = max(floor, top[0])
                        if score + bound >= least and score > -np.inf:
                            if count == len(columns):
                                count = _kept(columns, uppers, count, least)
                                if count == len(columns):
                                    return -1
                            columns[count], uppers[count] = begin + place, score + bound
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

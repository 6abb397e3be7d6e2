"""Training of two id tables by pairs and negatives of their own: the steps of a span, one after the other, on plain arrays.

For a batch of pairs ``(u, c⁺)`` with negatives ``c_1 … c_n`` each step is, in this order:

1. scores ``s_j = q·c_j`` of vectors as the match sees them (``x`` under dot, ``x/|x|`` under cosine);
2. the loss of each row and its coefficients ``g_j = ∂loss/∂s_j``, times the share of the row in the batch;
3. of each candidate in the batch the gradient ``Σ g q``, gathered from the rows that hold it, and its optimizer's step;
4. the same for each query, or one-backprop: ``q <- β^k q + (1 - β^k) mean(c⁺)`` of the candidates as they are now.

Which rows hold a candidate does not depend on any weight, so all steps of a span are sorted before the first
(:mod:`towerkit.kernels.grouping`). Every sum has a fixed order, and every row of a table is written by one iteration: the
result does not depend on the number of threads. The plain twin is the torch engine, from which it may differ by the rounding
of float32.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from towerkit.kernels.compiled import compiled

SOFTMAX, BILATERAL, BPR, TRIPLET, BCE, CONTRASTIVE, CCL = range(7)
SGD, ADAM, ADAGRAD, ROWWISE = range(4)
NO_MOVE, GROUPED, LAST = range(3)

_TINY = np.float32(1e-12)
_BLOCK = 32
"""Rows whose scores, coefficients and gradients are taken one after the other."""


@compiled()
def train_span(
    queries: NDArray[np.int32],
    candidates: NDArray[np.int32],
    weights: NDArray[np.float32],
    log_q: NDArray[np.float32],
    batch: int,
    query_groups: tuple,
    candidate_groups: tuple,
    query_table: NDArray[np.float32],
    candidate_table: NDArray[np.float32],
    query_slots: tuple,
    candidate_slots: tuple,
    query_moves: NDArray[np.int64],
    candidate_moves: NDArray[np.int64],
    rates: NDArray[np.float64],
    optimizer: tuple,
    loss: int,
    settings: NDArray[np.float32],
    cosine: bool,
    lengths: NDArray[np.float32],
    aggregation: tuple,
    met: NDArray[np.float32],
    losses: NDArray[np.float64],
    effective: NDArray[np.float64],
) -> None:
    """Take some steps.

    Args:
        queries: ``[rows]`` rows of the query table.
        candidates: ``[rows, 1 + n]`` rows of the candidate table, the positive first.
        weights: ``[rows]``.
        log_q: ``[rows, n]`` subtracted from the negatives' scaled scores by softmax losses; ``[0, 0]`` for none.
        batch: Rows of a step; the last may have fewer.
        query_groups: :func:`towerkit.kernels.grouping.grouped` of the queries.
        candidate_groups: The same of the candidates.
        query_table: ``[query rows, dim]`` moved.
        candidate_table: ``[candidate rows, dim]`` moved.
        query_slots: What the optimizer remembers of the query table: two arrays like it, or empty ones.
        candidate_slots: The same of the candidate table.
        query_moves: ``[steps]`` the number of the optimizer's step for the query table (from 1), 0 where it rests.
        candidate_moves: ``[steps]`` the same for the candidate table.
        rates: ``[steps]`` step sizes.
        optimizer: Kind, weight decay, first and second decay of Adam, epsilon.
        loss: Which.
        settings: Of the loss: temperature, ratio, margin, weight of the negatives.
        cosine: The match compares directions alone.
        lengths: ``[candidate rows]`` of the vectors under cosine, brought in order; ones elsewhere.
        aggregation: How queries move without a gradient, and the share of the old vector that stays.
        met: ``[query rows]`` how much each query has met, or empty: not debiased.
        losses: ``[steps]`` written: the mean loss.
        effective: ``[steps, 3]`` zeros; added to: negatives that counted, effectively, and rows that were looked at.
    """
    width, dim = candidates.shape[1], candidate_table.shape[1]
    vectors = np.empty((batch, dim), np.float32)  # of the queries, as the match sees them
    pulls = np.empty((batch, dim), np.float32)  # the gradient of each row's query vector
    scores = np.empty((batch, width), np.float32)
    slopes = np.empty((batch, width), np.float32)
    row_losses = np.empty(batch, np.float64)
    query_lengths = np.empty(batch, np.float32)
    never = bool(0)  # for False itself move_rows would be compiled once more
    positives = candidates[:, 0].copy()  # a column would be another sort of array, and aggregate compiled for it
    for step in range(len(rates)):
        low, high = step * batch, min((step + 1) * batch, len(queries))
        total = np.float32(0.0)
        for row in range(low, high):
            total += weights[row]
        share = np.float32(1.0) / max(total, _TINY)
        moves_query = query_moves[step] > 0
        _forward(
            queries[low:high], candidates[low:high], weights[low:high], log_q[low:high], query_table, candidate_table,
            lengths, loss, settings, cosine, share, moves_query, vectors, query_lengths, pulls, scores, slopes, row_losses,
        )  # fmt: skip
        mean = 0.0
        for row in range(high - low):
            mean += np.float64(weights[low + row]) * row_losses[row]
        losses[step] = mean * share
        if not np.isfinite(losses[step]):
            return
        _count_effective(slopes, min(64, high - low), effective, step)
        if moves_query:
            move_rows(
                query_groups[0][step], query_groups[1][step], query_groups[2][step], query_groups[3][low:high],
                slopes[:0], pulls, query_lengths, width, query_table, query_slots[0], query_slots[1],
                query_moves[step], rates[step], optimizer, never,
            )  # fmt: skip
        if candidate_moves[step] > 0:
            move_rows(
                candidate_groups[0][step], candidate_groups[1][step], candidate_groups[2][step],
                candidate_groups[3][low * width : high * width], slopes, vectors, lengths, width,
                candidate_table, candidate_slots[0], candidate_slots[1],
                candidate_moves[step], rates[step], optimizer, cosine,
            )  # fmt: skip
        if aggregation[0] != NO_MOVE:
            aggregate(
                query_groups[0][step], query_groups[1][step], query_groups[2][step], query_groups[3][low:high],
                positives[low:high], weights[low:high], query_table, candidate_table, lengths, cosine,
                aggregation[0] == LAST, aggregation[1], met,
            )  # fmt: skip


@compiled()
def lengths_of(table: NDArray[np.float32], rows: NDArray[np.int32]) -> NDArray[np.float32]:
    """``[table rows]`` lengths of the vectors in some rows of a table, which may stand there several times; 0 for the others.

    The least one, 1e-12, is PyTorch's guard against zero vectors.
    """
    found = np.zeros(len(table), np.float32)
    for place in range(len(rows)):
        row, square = rows[place], np.float32(0.0)
        if found[row] == 0.0:
            for k in range(table.shape[1]):
                square += table[row, k] * table[row, k]
            found[row] = max(np.sqrt(square), _TINY)
    return found


@compiled(parallel=True)
def _forward(
    queries, candidates, weights, log_q, query_table, candidate_table, lengths, loss, settings, cosine, share,
    moves_query, vectors, query_lengths, pulls, scores, slopes, row_losses,
):  # fmt: skip
    """Scores, losses and coefficients of the rows of a batch; the gradients of their query vectors where these move.

    By blocks, and with whole arrays: a view of a row, and a call that is handed one, cost as much as a product with it.
    """
    rows, (width, dim) = len(queries), (candidates.shape[1], candidate_table.shape[1])
    for block in prange((rows + _BLOCK - 1) // _BLOCK):
        low, high = block * _BLOCK, min((block + 1) * _BLOCK, rows)
        for row in range(low, high):
            query, square = queries[row], np.float32(0.0)
            for k in range(dim):
                square += query_table[query, k] * query_table[query, k]
            length = max(np.sqrt(square), _TINY) if cosine else np.float32(1.0)
            query_lengths[row] = length
            for k in range(dim):
                vectors[row, k] = query_table[query, k] / length
            for j in range(width):
                other, score = candidates[row, j], np.float32(0.0)
                for k in range(dim):
                    score += vectors[row, k] * candidate_table[other, k]
                scores[row, j] = score / lengths[other]
        _coefficients(loss, settings, scores, log_q, slopes, row_losses, low, high)
        for row in range(low, high):
            for j in range(width):
                slopes[row, j] *= weights[row] * share
        if moves_query:
            for row in range(low, high):
                along = np.float32(0.0)
                for k in range(dim):
                    pulls[row, k] = np.float32(0.0)
                for j in range(width):
                    other = candidates[row, j]
                    slope = slopes[row, j] / lengths[other]
                    along += slopes[row, j] * scores[row, j]
                    for k in range(dim):
                        pulls[row, k] += slope * candidate_table[other, k]
                if cosine:  # ∂(x/|x|) leaves what is across x, divided by its length
                    for k in range(dim):
                        pulls[row, k] = (pulls[row, k] - along * vectors[row, k]) / query_lengths[row]


@compiled()
def _coefficients(loss, settings, s, log_q, g, row_losses, low, high):
    """The losses of the rows ``low … high``, and into ``g`` their derivatives by each score; formulas: ``towerkit.losses``."""
    temperature, ratio, margin, weight = settings[0], settings[1], settings[2], settings[3]
    width, is_corrected, zero, one = s.shape[1], len(log_q) > 0, np.float32(0.0), np.float32(1.0)
    n = np.float32(width - 1)
    for row in range(low, high):
        value = 0.0
        if loss in (SOFTMAX, BILATERAL):
            first = 0 if loss == SOFTMAX else 1
            top = np.float32(-np.inf)
            for j in range(first, width):
                g[row, j] = s[row, j] / temperature - (log_q[row, j - 1] if j > 0 and is_corrected else zero)
                top = max(top, g[row, j])
            total = zero
            for j in range(first, width):
                g[row, j] = np.exp(g[row, j] - top)
                total += g[row, j]
            spread = np.float64(top) + np.log(np.float64(total))
            own = np.float64(s[row, 0] / temperature)
            value = spread - own if loss == SOFTMAX else ratio * (spread - np.log(n)) - own
            scale = (one if loss == SOFTMAX else ratio) / (total * temperature)
            for j in range(first, width):
                g[row, j] *= scale
            g[row, 0] = (g[row, 0] if loss == SOFTMAX else zero) - one / temperature
        elif loss in (BPR, TRIPLET):
            g[row, 0] = zero
            for j in range(1, width):
                behind = s[row, j] - s[row, 0] + (margin if loss == TRIPLET else zero)
                if loss == TRIPLET:
                    cost, slope = max(behind, zero), np.float32(behind > 0.0)
                else:
                    cost, slope = _softplus(behind)
                value += cost
                g[row, j] = slope / n
                g[row, 0] -= g[row, j]
            value /= n
        elif loss == BCE:
            for j in range(1, width):
                cost, slope = _softplus(s[row, j])
                value += weight * cost / n
                g[row, j] = weight * slope / n
            cost, slope = _softplus(-s[row, 0])
            value += cost
            g[row, 0] = -slope
        else:
            for j in range(1, width):
                above = max(s[row, j] - margin, zero)
                value += 0.5 * above * above / n if loss == CONTRASTIVE else weight * above / n
                g[row, j] = above / n if loss == CONTRASTIVE else np.float32(above > 0.0) * weight / n
            missing = one - s[row, 0]
            value += 0.5 * missing * missing if loss == CONTRASTIVE else missing
            g[row, 0] = -missing if loss == CONTRASTIVE else -one
        row_losses[row] = value


@compiled()
def _softplus(x: np.float32) -> tuple[np.float32, np.float32]:
    """``log(1 + exp(x))`` without overflow, and its derivative, the sigmoid."""
    small = np.exp(-abs(x))
    slope = (np.float32(1.0) if x >= 0.0 else small) / (np.float32(1.0) + small)
    return max(x, np.float32(0.0)) + np.log1p(small), slope


@compiled(parallel=True)
def move_rows(
    named: int,
    rows: NDArray[np.int32],
    starts: NDArray[np.int64],
    entries: NDArray[np.int32],
    slopes: NDArray[np.float32],
    vectors: NDArray[np.float32],
    lengths: NDArray[np.float32],
    width: int,
    table: NDArray[np.float32],
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    move: int,
    rate: float,
    optimizer: tuple[int, float, float, float, float],
    cosine: bool,
) -> None:
    """Add up the gradient of each named row of a table over its entries, and take the optimizer's step.

    Entry ``e`` of a batch brings ``slopes[e // width, e % width] * vectors[e // width]``, or ``vectors[e]`` itself where there
    are no slopes. Under cosine these are gradients of ``x/|x|``: what is across ``x``, divided by its length, moves ``x``.

    Args:
        named: How many rows are named; they are written.
        rows: ``[named]`` rows of the table.
        starts: ``[named + 1]`` where the entries of each begin.
        entries: ``[entries]``.
        slopes: ``[batch, width]``, or empty.
        vectors: ``[batch, dim]``, or ``[entries, dim]`` where there are no slopes.
        lengths: ``[table rows]`` brought in order under cosine.
        width: Entries in a row of the batch.
        table: ``[table rows, dim]`` moved.
        first: What the optimizer remembers, like the table (or one number per row), or empty.
        second: The same.
        move: The number of the optimizer's step for this table, from 1.
        rate: Step size.
        optimizer: Kind, weight decay, first and second decay of Adam, epsilon.
        cosine: The match compares directions alone.
    """
    dim, has_slopes = table.shape[1], len(slopes) > 0
    for block in prange((named + _BLOCK - 1) // _BLOCK):
        low, high = block * _BLOCK, min((block + 1) * _BLOCK, named)
        gradients = np.zeros((_BLOCK, dim), np.float32)
        for place in range(low, high):
            mine = place - low
            for position in range(starts[place], starts[place + 1]):
                entry = np.uint32(entries[position])
                if has_slopes:
                    owner = entry // np.uint32(width)
                    slope = slopes[owner, entry - owner * np.uint32(width)]
                    for k in range(dim):
                        gradients[mine, k] += slope * vectors[owner, k]
                else:
                    for k in range(dim):
                        gradients[mine, k] += vectors[entry, k]
        if cosine:
            for place in range(low, high):
                row, mine, along = rows[place], place - low, np.float32(0.0)
                for k in range(dim):
                    along += gradients[mine, k] * table[row, k]
                along /= lengths[row] * lengths[row]
                for k in range(dim):
                    gradients[mine, k] = (gradients[mine, k] - along * table[row, k]) / lengths[row]
        _step(rows, low, high, gradients, table, first, second, move, rate, optimizer)
        if cosine:
            for place in range(low, high):
                square = np.float32(0.0)
                for k in range(dim):
                    square += table[rows[place], k] * table[rows[place], k]
                lengths[rows[place]] = max(np.sqrt(square), _TINY)


@compiled()
def _step(rows, low, high, gradients, table, first, second, move, rate, optimizer):
    """The optimizer's step of the rows ``rows[low:high]`` of a table, of which the gradients are known."""
    dim, one = table.shape[1], np.float32(1.0)
    kind, decay, beta_1, beta_2, eps = optimizer
    size, root = rate, 1.0
    if kind == ADAM:
        size, root = rate / (1.0 - beta_1**move), (1.0 - beta_2**move) ** -0.5
    size, root, eps, decay = np.float32(size), np.float32(root), np.float32(eps), np.float32(decay)
    keep_1, keep_2 = np.float32(1.0 - beta_1), np.float32(beta_2)
    for place in range(low, high):
        row, mine = rows[place], place - low
        if decay:
            for k in range(dim):
                gradients[mine, k] += decay * table[row, k]
        if kind == SGD:
            for k in range(dim):
                table[row, k] -= size * gradients[mine, k]
        elif kind == ADAM:
            for k in range(dim):
                gradient = gradients[mine, k]
                m = first[row, k] + keep_1 * (gradient - first[row, k])
                v = keep_2 * second[row, k] + (one - keep_2) * gradient * gradient
                first[row, k], second[row, k] = m, v
                table[row, k] -= size * m / (np.sqrt(v) * root + eps)
        elif kind == ADAGRAD:
            for k in range(dim):
                gradient = gradients[mine, k]
                first[row, k] += gradient * gradient
                table[row, k] -= size * gradient / (np.sqrt(first[row, k]) + eps)
        else:
            square = np.float32(0.0)
            for k in range(dim):
                square += gradients[mine, k] * gradients[mine, k]
            first[row, 0] += square / np.float32(dim)
            scale = size / (np.sqrt(first[row, 0]) + eps)
            for k in range(dim):
                table[row, k] -= scale * gradients[mine, k]


@compiled(parallel=True)
def aggregate(
    named, rows, starts, entries, positives, weights, query_table, candidate_table, lengths, cosine, last, beta, met
) -> None:
    """One-backprop: each query towards the (weighted) mean of its positives, or towards its last one."""
    dim = query_table.shape[1]
    for place in prange(named):
        row = rows[place]
        mean = np.zeros(dim, np.float32)
        count = np.float32(0.0)
        begin, end = starts[place], starts[place + 1]
        if last:
            begin, end = _last_that_counts(entries, weights, begin, end)
        for position in range(begin, end):
            entry = entries[position]
            count += weights[entry]
            scale = weights[entry] / lengths[positives[entry]]
            for k in range(dim):
                mean[k] += scale * candidate_table[positives[entry], k]
        if count > 0.0:
            kept = np.float32(beta**count)
            if len(met):
                before = met[row]
                met[row] = before + count
                kept *= np.float32((1.0 - beta**before) / max(1.0 - beta ** (before + count), 1e-12))
            for k in range(dim):
                query_table[row, k] = kept * query_table[row, k] + (np.float32(1.0) - kept) * (mean[k] / count)


@compiled()
def _last_that_counts(entries, weights, begin, end):
    for position in range(end - 1, begin - 1, -1):
        if weights[entries[position]] > 0.0:
            return position, position + 1
    return begin, begin


@compiled()
def _count_effective(slopes: NDArray[np.float32], rows: int, effective: NDArray[np.float64], step: int) -> None:
    """Of the first rows: ``(Σ g)² / Σ g²`` over their negatives, see the retrieval objective."""
    for row in range(rows):
        total, squares = 0.0, 0.0
        for j in range(1, slopes.shape[1]):
            pull = abs(np.float64(slopes[row, j]))
            total += pull
            squares += pull * pull
        effective[step, 0] += slopes.shape[1] - 1
        effective[step, 1] += total * total / max(squares, 1e-300)
        effective[step, 2] += 1.0

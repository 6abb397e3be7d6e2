"""Ranking a block of scores with PyTorch and NumPy: for small problems, and what the compiled way is held equal to."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from towerkit.index.beaten import beaten
from towerkit.index.chunk import Chunk, Ranked, no_number


def rank_plainly(block: NDArray[np.float32], chunk: Chunk) -> Ranked:
    """The best candidates of each row.

    Args:
        block: ``[rows, candidates]``; overwritten.
        chunk: What is asked.

    Raises:
        RunError: If a score that could be ranked is not a number.
    """
    if chunk.exclude is not None:
        block[chunk.exclude.owner, chunk.exclude.own] = -np.inf
    if chunk.blocked is not None:
        torch.from_numpy(block).masked_fill_(torch.from_numpy(chunk.blocked), -torch.inf)
    rows, scores = _best(torch.from_numpy(block), chunk.k, torch.from_numpy(chunk.ties), chunk.queries)
    return Ranked(rows, scores, None if chunk.positives is None else beaten(block, chunk.positives))


def _best(
    block: Tensor, k: int, ties: Tensor, queries: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ``k`` best columns of each row, ordered by score and then by tie order, with their scores."""
    num_candidates = block.shape[1]
    values, rows = torch.topk(block, min(k + 1, num_candidates), dim=1)  # NaN counts as the largest of all
    _check_numbers(values, rows, queries)
    if k < num_candidates:
        # Where the last place and the first one left out are equal, topk chose among equals in its own way.
        tied = ((values[:, k - 1] == values[:, k]) & (values[:, k] > -torch.inf)).nonzero().ravel()
        values, rows = values[:, :k], rows[:, :k]
        if len(tied):
            candidates = block[tied]
            last = values[tied, -1:]
            keys = torch.where(candidates > last, -1, torch.where(candidates == last, ties, num_candidates))
            chosen = torch.topk(keys, k, dim=1, largest=False).indices
            rows[tied], values[tied] = chosen, candidates.gather(1, chosen)
    found, scores = rows.numpy(), values.numpy()
    order = np.lexsort((ties.numpy()[found], -scores), axis=-1)
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _check_numbers(values: Tensor, rows: Tensor, queries: NDArray[np.int64]) -> None:
    wrong = values.isnan()
    if bool(wrong.any()):
        position, place = (int(part) for part in wrong.nonzero()[0])
        raise no_number(int(queries[position]), int(rows[position, place]))

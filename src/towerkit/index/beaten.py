"""How many of all other candidates a right answer beats: the area under the ROC curve, one positive at a time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from towerkit.index.chunk import Pairs


def beaten(block: NDArray[np.float32], positives: Pairs) -> NDArray[np.float64]:
    """The share of its query's negatives that each positive scores above, a tie counting half.

    Negatives are all candidates that may be ranked and are no positive of the query. The mean over the positives of a
    query is the area under its ROC curve. Sorting each row once costs less than looking at it once per positive.

    Args:
        block: ``[queries, candidates]`` scores, minus infinity for what may not be ranked; sorted in place.
        positives: The positives of each query.

    Returns:
        ``[positives]`` in their stored order: 0 for a positive that may not be ranked, and 1/2 where there is no
        negative.

    Example:
        >>> scores = np.array([[3.0, 1.0, 2.0, 1.0]], np.float32)
        >>> beaten(scores, Pairs(np.array([0, 2]), np.array([1, 2], np.int32))).tolist()
        [0.25, 0.5]
    """
    starts = positives.starts - positives.starts[0]
    own = block[positives.owner, positives.own]  # [positives], before the rows are sorted
    block.sort(axis=1)
    shares = np.zeros(len(own))
    for row, (start, end) in enumerate(pairwise(starts)):
        scores = own[start:end]
        ranked = scores > -np.inf
        among = np.sort(scores[ranked])
        masked = int(np.searchsorted(block[row], -np.inf, side="right"))
        num_negatives = block.shape[1] - masked - len(among)
        below = _places(block[row], scores) - masked - _places(among, scores)
        shares[start:end] = np.where(ranked, below / num_negatives if num_negatives else 0.5, 0.0)
    return shares


def _places(ordered: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float64]:
    """``[values]`` how many of the ordered numbers are smaller, those that are equal counting half."""
    return (np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right")) / 2

"""What a ranking baseline is: a spec that fits a ranker on the training pairs, or says why it cannot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.errors import DataError
from towerkit.core.spec import Spec
from towerkit.data.dataset import Dataset
from towerkit.features.encoded import Catalogue
from towerkit.index.ranker import Ranker


@dataclass(frozen=True)
class Interactions:
    """The training pairs, and when they happened."""

    matrix: csr_array
    """``[queries, candidates]`` counts or weights."""
    times: NDArray[np.float64] | None = None
    """``[entries]`` the last time of each stored entry of ``matrix``, NaN where missing; None where nothing has a time."""
    query: Catalogue | None = None
    """What is known of the queries; row 0 of ``matrix`` is the unknown one, row ``r`` has its row ``r - 1``."""
    candidate: Catalogue | None = None
    """What is known of the candidates, in the order of the columns."""


class BaselineSpec(Spec):
    """The configuration of a ranking baseline."""

    def check(self, dataset: Dataset) -> None:
        """Refuse, before anything is trained, what this data cannot give.

        Args:
            dataset: The raw tables.
        """

    def obstacle(self, interactions: Interactions) -> str | None:
        """Why it is left out on this data, in one sentence; None when it can be fitted.

        Args:
            interactions: The training pairs.
        """
        return None

    def build(self, interactions: Interactions) -> Ranker:
        """Fit the ranker.

        Args:
            interactions: The training pairs.
        """
        raise NotImplementedError


def clean_interactions(interactions: csr_array) -> csr_array:
    """A float64 copy with one stored entry per pair and no stored zeros.

    Args:
        interactions: ``[queries, candidates]`` counts or weights; a pair that is stored twice is summed.

    Returns:
        The copy.

    Raises:
        DataError: If a weight is negative or not finite; the message names its row and column.
    """
    matrix: csr_array = csr_array(interactions).astype(np.float64)  # a copy
    wrong = np.flatnonzero(~(np.isfinite(matrix.data) & (matrix.data >= 0)))
    if len(wrong):
        row = int(np.searchsorted(matrix.indptr, wrong[0], side="right")) - 1
        raise DataError(
            f"Interaction weights must be finite and not negative; query row {row} and candidate row "
            f"{matrix.indices[wrong[0]]} have {matrix.data[wrong[0]]}. Drop the pair, or give it the weight 0."
        )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix

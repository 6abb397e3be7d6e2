"""Precision, recall and F1 from counts, of one class or averaged over several.

The three averages over classes or labels differ in who counts: ``macro`` gives each class one vote, ``weighted`` one
vote per true row of the class, ``micro`` puts all counts together before it divides. A class that was never predicted
has precision 0, one that no row has recall 0, as in scikit-learn. A class that no row has and no row was predicted as is
left out; where nothing is left the average is undefined (nan).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from towerkit.core.errors import SpecError, listed, nearest
from towerkit.metrics.checks import Floats
from towerkit.metrics.weighted import ratio

Average = Literal["binary", "micro", "macro", "weighted", "samples"]


class PrecisionRecallF1(NamedTuple):
    """The three figures, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


class Counts(NamedTuple):
    """Of each class or label, under each weighting; ``[weightings, classes]`` each."""

    correct: Floats
    """Weight of the rows that have it and were predicted as it."""
    true: Floats
    """Weight of the rows that have it."""
    claimed: Floats
    """Weight of the rows that were predicted as it."""

    def figures(self) -> list[Floats]:
        """Precision, recall and F1 of each class, 0 where there is nothing to divide by."""
        correct, true, claimed = self
        return [ratio(correct, claimed), ratio(correct, true), ratio(2 * correct, true + claimed)]

    def averaged(self, average: Average) -> list[Floats]:
        """Precision, recall and F1, ``[weightings]`` each; of class 1 alone for ``binary``."""
        if average == "binary":
            return [values[:, 1] for values in self.figures()]
        if average == "micro":
            together = Counts(*(counts.sum(axis=1, keepdims=True) for counts in self))
            return [np.where(together.seen[:, 0], values[:, 0], np.nan) for values in together.figures()]
        votes = self.true if average == "weighted" else self.seen.astype(np.float64)
        return [ratio((votes * values).sum(axis=1), votes.sum(axis=1), np.nan) for values in self.figures()]

    @property
    def seen(self) -> Floats:
        """Whether a row has it or was predicted as it."""
        return np.asarray(self.true + self.claimed > 0, dtype=np.bool_)


def check_average(average: str, known: tuple[str, ...]) -> None:
    """Refuse an average that does not exist here.

    Raises:
        SpecError: If it is none of ``known``.
    """
    if average not in known:
        raise SpecError(
            f"average must be one of {listed(known)}, got {average!r}{nearest(average, known) or '.'} "
            "Choose who counts: classes, rows or all together."
        )

"""Plans of folds: which rows are held out together, as pure functions of what the rows say and a seed."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from towerkit.core.errors import DataError
from towerkit.core.random import generator
from towerkit.core.spec import Spec
from towerkit.data.splits import Rows

Folds = Annotated[int, Field(ge=2, le=1000)]


class RandomPlan(Spec):
    """Each row is held out once, at random."""

    kind: Literal["random"] = "random"
    folds: Folds = 5


class StratifiedPlan(Spec):
    """Each row is held out once, and every value of a column is spread evenly over the folds."""

    kind: Literal["stratified"] = "stratified"
    folds: Folds = 5
    column: str | None = None
    """The query of a ranking, the label of the first task of a prediction when not given."""


class GroupedPlan(Spec):
    """All rows with one value of a column are held out together, once: nothing is known of a user that is asked for."""

    kind: Literal["grouped"] = "grouped"
    folds: Folds = 5
    column: str | None = None
    """The query when not given."""


class ColdPlan(Spec):
    """All rows of a candidate are held out together, once: each item is new when it is asked for."""

    kind: Literal["cold"] = "cold"
    folds: Folds = 5
    column: str | None = None
    """The candidate when not given."""


class TimePlan(Spec):
    """Windows that roll forward: each is held out after all before it was learned; the first stretch is only learned from."""

    kind: Literal["time"] = "time"
    folds: Folds = 5
    learn: int | None = Field(None, ge=1)
    """How many stretches before a window are learned from; all of them when not given."""


AnyPlan = Annotated[
    RandomPlan | StratifiedPlan | GroupedPlan | ColdPlan | TimePlan,
    Field(discriminator="kind"),
]
"""The menu of plans."""


class PlanSpec(Spec):
    """A plan by itself, as words are checked."""

    plan: AnyPlan


PLANS = ("random", "stratified", "grouped", "cold", "time")


def random_folds(rows: int, folds: int, seed: int) -> Rows:
    """``[rows]`` the fold of each row; their sizes differ by one at most.

    Args:
        rows: How many.
        folds: How many.
        seed: Draws.

    Raises:
        DataError: If there are fewer rows than folds.
    """
    _check(rows, folds, "rows")
    return generator(seed, "folds").permutation(np.arange(rows) % folds)


def stratified_folds(codes: NDArray[np.int64], folds: int, seed: int) -> Rows:
    """``[rows]`` the fold of each row; of each value, the numbers of its rows in two folds differ by one at most.

    Args:
        codes: ``[rows]`` a number per value.
        folds: How many.
        seed: Draws.

    Raises:
        DataError: If there are fewer rows than folds.
    """
    _check(len(codes), folds, "rows")
    shuffled = generator(seed, "folds").permutation(len(codes))
    order = shuffled[np.argsort(codes[shuffled], kind="stable")]  # value by value, at random within each
    found = np.empty(len(codes), np.int64)
    found[order] = np.arange(len(codes)) % folds  # goes on from value to value, so that sizes stay even
    return found


def grouped_folds(groups: NDArray[np.int64], folds: int, seed: int) -> Rows:
    """``[rows]`` the fold of each row; a group is in one fold, and the next group goes to the fold that has fewest rows.

    Args:
        groups: ``[rows]`` a number per group.
        folds: How many.
        seed: Draws the order of the groups.

    Raises:
        DataError: If there are fewer groups than folds.
    """
    names, own, counts = np.unique(groups, return_inverse=True, return_counts=True)
    _check(len(names), folds, "groups")
    sizes, fold_of = np.zeros(folds, np.int64), np.empty(len(names), np.int64)
    for place, group in enumerate(generator(seed, "folds").permutation(len(names))):
        fold = place if place < folds else int(sizes.argmin())  # the first ones, so that no fold stays empty
        fold_of[group] = fold
        sizes[fold] += counts[group]
    found: Rows = fold_of[own]
    return found


def time_folds(times: NDArray[np.float64], folds: int) -> Rows:
    """``[rows]`` the stretch of each row, from 0; rows of one moment are in one stretch.

    Args:
        times: ``[rows]``, none missing.
        folds: Windows that are held out; there is one stretch more.

    Raises:
        DataError: If a time is missing, or there are too few moments.
    """
    if np.isnan(times).any():
        row = int(np.isnan(times).argmax())
        raise DataError(
            f"Windows of time need a time in every row; {int(np.isnan(times).sum()):,} of {len(times):,} are missing, the first in "
            f"row {row + 1}. Fill them, or use --by random."
        )
    moments = np.unique(times)
    if len(moments) < folds + 1:
        raise DataError(
            f"{folds} windows need {folds + 1} moments or more, and something before the first one to learn from; there are "
            f"{len(moments)}. Lower --folds."
        )
    ordered = np.sort(times)
    starts = ordered[[len(ordered) * place // (folds + 1) for place in range(1, folds + 1)]]
    if (
        len(np.unique(starts)) < folds or starts[0] == ordered[0]
    ):  # one moment has so many rows that a stretch would be empty
        starts = moments[[len(moments) * place // (folds + 1) for place in range(1, folds + 1)]]
    return np.searchsorted(starts, times, side="right").astype(np.int64)


def _check(count: int, folds: int, what: str) -> None:
    if count < folds:
        raise DataError(
            f"{folds} folds need {folds} {what} or more; there are {count}. Lower --folds, or hold out in another way."
        )

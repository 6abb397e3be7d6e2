"""How the scores of several rankers become one: they are first made comparable, query by query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from towerkit.core.spec import Name, Spec
from towerkit.heads.decision import Calibration

Weight = Annotated[float, Field(ge=0.0)]
Scores = NDArray[np.float32]
Combine = Callable[[Sequence[Scores], Sequence[Scores]], NDArray[np.float64]]
"""Per member ``[queries, n]`` scores, and ``[queries, candidates]`` those of all known candidates, to ``[queries, n]``."""
SHARES = np.arange(1, 20) / 20
"""Of a member that joins those chosen before it."""


class AverageSpec(Spec):
    """The mean of the members' probabilities, or of their numbers; of rankers, of their scores, standardized for each query."""

    kind: Literal["average"] = "average"
    calibrate: Calibration = "none"
    """``temperature``: each member's probabilities are first calibrated on validation rows; not for rankers."""


class WeightedSpec(Spec):
    """The weighted mean of the members' probabilities or numbers; of rankers, of their standardized scores."""

    kind: Literal["weighted"] = "weighted"
    weights: dict[Name, Weight] | None = None
    """Member -> weight, of which only the proportions count; chosen on validation when not given."""
    calibrate: Calibration = "none"
    """As of ``average``."""


class RRFSpec(Spec):
    """For rankers: reciprocal rank fusion, the sum of ``1 / (offset + rank)``; nothing is learned."""

    kind: Literal["rrf"] = "rrf"
    offset: int = Field(60, ge=1)
    """Larger values make the first places count less against the others."""


class RerankSpec(Spec):
    """For rankers: one retrieves, and the order of its best candidates is the weighted mean of all members' standardized scores."""

    kind: Literal["rerank"] = "rerank"
    first: Name
    """The member that retrieves."""
    depth: int = Field(100, ge=1, le=100_000)
    """Candidates of each query that are ordered anew, those that it had before not counted; below them the order is the first's."""
    weights: dict[Name, Weight] | None = None
    """Member -> weight, of which only the proportions count; chosen on validation when not given."""


def proportions(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights that sum to one."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in sorted(weights.items())}


def standardized(scores: Scores, against: Scores) -> NDArray[np.float64]:
    """Scores in standard deviations from the mean of the known candidates, query by query; 0 where those are all alike.

    Args:
        scores: ``[queries, n]``.
        against: ``[queries, candidates]`` the scores of all known candidates.

    Returns:
        ``[queries, n]``.

    Example:
        >>> standardized(np.array([[1.0, 3.0], [5.0, 9.0]]), np.array([[1.0, 3.0], [5.0, 5.0]])).tolist()
        [[-1.0, 1.0], [0.0, 0.0]]
    """
    known = np.ascontiguousarray(against, np.float64)  # sums of float32 would depend on the chunk
    mean, deviation = known.mean(axis=1, keepdims=True), known.std(axis=1, keepdims=True)
    alike = known.min(axis=1, keepdims=True) == known.max(axis=1, keepdims=True)
    return np.where(alike, 0.0, (scores - mean) / np.where(alike, 1.0, deviation))


def reciprocal_ranks(scores: Scores, against: Scores, offset: int) -> NDArray[np.float64]:
    """``1 / (offset + rank)`` with the rank among the known candidates.

    Those that tie all have the last rank of their group, so that no order is made up between them.

    Args:
        scores: ``[queries, n]``.
        against: ``[queries, candidates]`` the scores of all known candidates.
        offset: Above 0.

    Returns:
        ``[queries, n]``.

    Example:
        >>> scores = np.array([[2.0, 1.0, 1.0, 0.0]])
        >>> (1 / reciprocal_ranks(scores, scores, 60)).round(6).tolist()
        [[61.0, 63.0, 63.0, 64.0]]

    Reference: Cormack, Clarke and Büttcher, Reciprocal rank fusion outperforms Condorcet and individual rank learning methods,
    SIGIR 2009.
    """
    ranks = np.empty(scores.shape)
    for row, own in enumerate(np.sort(against, axis=1)):
        ranks[row] = len(own) - np.searchsorted(own, scores[row])  # that score as much, or more
    ranks[np.isnan(scores)] = np.nan  # which sorting takes for the best
    return 1.0 / (offset + np.maximum(ranks, 1))


def combination(spec: Spec, weights: Sequence[float]) -> Combine:
    """The function that makes one score of several.

    Args:
        spec: Which one; of ``rerank``, what is done where nothing retrieves; of ``gate``, where nothing was fitted.
        weights: One per member, in their order; reciprocal ranks take none.
    """
    if isinstance(spec, RRFSpec):
        return lambda scores, against: np.sum(
            [reciprocal_ranks(*each, spec.offset) for each in zip(scores, against, strict=True)], axis=0
        )

    def mean(scores: Sequence[Scores], against: Sequence[Scores]) -> NDArray[np.float64]:
        total = np.zeros(scores[0].shape)
        for weight, *each in zip(weights, scores, against, strict=True):
            if weight:
                total += weight * standardized(*each)
        return total

    return mean


def chosen_weights(names: Sequence[str], figure: Callable[[Mapping[str, float]], float]) -> dict[str, float]:
    """Weights by forward selection: the best member alone, then each time the member and the share that help most.

    Args:
        names: The members; among equals the earlier one is taken.
        figure: Weights to a validation figure, the higher the better.

    Returns:
        Name -> weight; they sum to one, and one that never helps has 0.

    Example:
        >>> chosen_weights(["a", "b"], lambda weights: -abs(weights["a"] - 0.3))
        {'a': 0.3, 'b': 0.7}
    """
    alone: list[dict[str, float]] = [{name: float(name == own) for name in names} for own in names]
    best, reached = _best(alone, figure)
    for _ in names[1:]:
        joined = [_mixed(best, name, share) for name in names if best[name] < 1 for share in SHARES.tolist()]
        found, value = _best(joined, figure)
        if not value > reached:
            break
        best, reached = found, value
    return best


def _best(
    tried: Sequence[dict[str, float]], figure: Callable[[Mapping[str, float]], float]
) -> tuple[dict[str, float], float]:
    values = [figure(weights) for weights in tried]
    place = int(np.argmax(values))
    return tried[place], values[place]


def _mixed(weights: Mapping[str, float], name: str, share: float) -> dict[str, float]:
    return {own: round((1 - share) * weight + share * (own == name), 12) for own, weight in weights.items()}

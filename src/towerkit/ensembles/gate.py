"""A gate over rankers: how much each counts is decided query by query, from what is known of the query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize
from scipy.sparse import csr_array

from towerkit.core.errors import listed
from towerkit.core.spec import Spec
from towerkit.ensembles.rank_combine import Scores, standardized

_LEAST = 1e-3
"""Weight that a member starts from where validation gave it none."""
_ALIKE = 1e-6
"""Signals whose deviation is below this share of their size differ by rounding only."""


class GateSpec(Spec):
    """For rankers: the weighted mean of standardized scores, with weights of each query's own."""

    kind: Literal["gate"] = "gate"
    l2: float = Field(0.01, ge=0.0)
    """Penalty on what makes queries differ; the larger, the nearer all are to one common mixture."""


@dataclass(frozen=True, eq=False)
class Gate:
    """A softmax over the members, linear in a query's signals.

    Attributes:
        center: ``[signals]`` of the queries that it was fitted on.
        scale: ``[signals]`` their deviations, 1 where they are all alike.
        reach: ``[signals]`` how far they were from the center, in deviations; a query beyond that counts as one at that place.
        slopes: ``[members, signals]``.
        start: ``[members]`` the constant.

    Example:
        >>> gate = Gate(np.zeros(1), np.ones(1), np.full(1, 2.0), np.array([[1.0], [0.0]]), np.zeros(2))
        >>> gate.weights(np.array([[0.0], [2.0], [9.0]])).round(2).tolist()
        [[0.5, 0.5], [0.88, 0.12], [0.88, 0.12]]
    """

    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    reach: NDArray[np.float64]
    slopes: NDArray[np.float64]
    start: NDArray[np.float64]

    def weights(self, signals: NDArray[np.float64]) -> NDArray[np.float64]:
        """``[queries, signals]`` to ``[queries, members]`` weights; those of a query sum to one."""
        told = np.clip((signals - self.center) / self.scale, -self.reach, self.reach)
        return _softmax(self.start + told @ self.slopes.T)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for a Run."""
        return {name: getattr(self, name).tolist() for name in _PARTS}

    @classmethod
    def of(cls, content: Any, members: int) -> Gate:
        """From what :meth:`as_dict` gave.

        Raises:
            ValueError: If it is no gate of so many members.
        """
        if not isinstance(content, dict) or content.keys() != set(_PARTS):
            raise ValueError(f"it needs {listed(_PARTS)}")
        gate = cls(**{name: np.asarray(value, np.float64) for name, value in content.items()})
        parts, signals = [getattr(gate, name) for name in _PARTS], (members + 1,)
        if [each.shape for each in parts] != [signals, signals, signals, (members, *signals), (members,)]:
            raise ValueError(f"its numbers are not those of {members} members")
        if not all(np.isfinite(each).all() for each in parts):
            raise ValueError("a number is not finite")
        if not ((gate.scale > 0).all() and (gate.reach >= 0).all()):
            raise ValueError("a scale is not above 0, or a reach below")
        return gate


_PARTS = ("center", "scale", "reach", "slopes", "start")


@dataclass(frozen=True, eq=False)
class Gated:
    """A gate, and how many candidates each query row had before.

    Attributes:
        gate: The weights.
        counts: ``[query rows]``.
    """

    gate: Gate
    counts: NDArray[np.int64]

    def combined(
        self, scores: Sequence[Scores], known: Sequence[Scores], queries: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """``[n, candidates]`` the queries' own mixtures.

        Args:
            scores: Per member ``[n, candidates]``.
            known: Per member ``[n, all known candidates]``, which its scores are measured against.
            queries: ``[n]`` query rows.
        """
        weights = self.gate.weights(signals_of(known, self.counts[queries]))  # [n, members]
        total = np.zeros(scores[0].shape)
        for place, each in enumerate(zip(scores, known, strict=True)):
            total += weights[:, place, None] * standardized(*each)
        return total


def signals_of(known: Sequence[Scores], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """What a gate is told of each query: how much it did, and how far each member's best candidate stands out.

    Args:
        known: Per member ``[queries, candidates]`` scores of all known candidates.
        counts: ``[queries]`` candidates that each had before.

    Returns:
        ``[queries, 1 + members]``: log(1 + count), then each member's best score in deviations from its mean, as log(1 + it).
    """
    peaks = [standardized(each.max(axis=1, keepdims=True), each)[:, 0] for each in known]
    return np.column_stack([np.log1p(counts), *(np.log1p(np.maximum(peak, 0.0)) for peak in peaks)])


def fit_gate(
    scores: Sequence[NDArray[np.float32]],
    signals: NDArray[np.float64],
    positives: csr_array,
    excluded: csr_array,
    start: Sequence[float],
    l2: float,
) -> Gate:
    """Find the gate under which the right answers have the largest share: a softmax over the candidates of each query.

    Args:
        scores: Per member ``[queries, candidates]`` standardized.
        signals: ``[queries, signals]``.
        positives: ``[queries, candidates]`` grades of the right answers; a query needs one.
        excluded: ``[queries, candidates]`` what cannot be answered.
        start: One weight per member, the same for all queries: where the search begins.
        l2: Penalty on the slopes.
    """
    stacked = np.stack(scores)  # [members, queries, candidates]
    center, deviation = signals.mean(axis=0), signals.std(axis=0)
    scale = np.where(deviation > _ALIKE * (1 + np.abs(center)), deviation, 1.0)
    told = (signals - center) / scale  # [queries, signals]
    shares = positives.toarray().astype(np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    closed = np.asarray(excluded.toarray() != 0)
    members, width = len(stacked), told.shape[1]

    def parts(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        return values[:members], values[members:-1].reshape(members, width), float(values[-1])

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        constant, slopes, sharpness = parts(values)
        weights = _softmax(constant + told @ slopes.T)  # [queries, members]
        mixed = np.einsum("qm,mqc->qc", weights, stacked)
        logits = np.where(closed, -np.inf, np.exp(sharpness) * mixed)
        chances = _softmax(logits)
        taken = shares > 0
        value = -float((shares[taken] * np.log(np.maximum(chances[taken], 1e-300))).sum()) / len(told)
        by_logit = (chances - shares) / len(told)
        by_weight = np.exp(sharpness) * np.einsum("qc,mqc->qm", by_logit, stacked)
        by_score = weights * (by_weight - (weights * by_weight).sum(axis=1, keepdims=True))
        by_sharpness = np.exp(sharpness) * float((by_logit * mixed).sum())
        gradient = [by_score.sum(axis=0), (by_score.T @ told + 2 * l2 * slopes).ravel(), [by_sharpness]]
        return value + l2 * float((slopes**2).sum()), np.concatenate(gradient)

    constant = np.log(np.maximum(np.asarray(start, np.float64), _LEAST))
    begun = np.concatenate([constant, np.zeros(members * width), [0.0]])
    constant, slopes, _ = parts(minimize(loss, begun, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x)
    return Gate(center, scale, np.abs(told).max(axis=0), slopes, constant - constant.max())


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = raised / raised.sum(axis=-1, keepdims=True)
    return shares

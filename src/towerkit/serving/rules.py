"""What the business wants beside what the model says: boosts, diversity, caps, pinned candidates, stock. Every change is told."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.serving.live import Live
from towerkit.serving.placing import Placed
from towerkit.serving.requests import Rules

_POOL = 10
"""So many times the answers are looked at for diversity."""
_LEAST_POOL = 100


def needs_all_scores(rules: Rules | None) -> bool:
    """Whether the best candidates of the model are not enough to apply the rules to.

    Args:
        rules: Of a request.

    Example:
        >>> needs_all_scores(Rules(in_stock="stock")), needs_all_scores(Rules(diversity=0.3))
        (False, True)
    """
    return rules is not None and bool(rules.boosts or rules.caps or rules.pinned or rules.diversity)


def placed(
    live: Live, rules: Rules, scores: NDArray[np.float32], allowed: NDArray[np.bool_], ties: NDArray[np.int64], k: int
) -> list[Placed]:
    """The best candidates under the rules.

    Pinned candidates take their places first, also if the query had them; the others fill what is left, best first, as caps and
    diversity let them.

    Args:
        live: The model with its candidates.
        rules: What holds.
        scores: ``[candidates]`` of the query.
        allowed: ``[candidates]`` which may be answers.
        ties: ``[candidates]`` place of each among equals.
        k: How many.

    Raises:
        Problem: If a rule names what there is not.
    """
    boosts = [(live.holds(boost.where), boost) for boost in rules.boosts]
    total = scores.astype(np.float64)
    for holds, boost in boosts:
        total[holds] += boost.add
    pinned = _pinned(live, rules, k)
    free = allowed.copy()
    free[list(pinned.values())] = False
    order = np.lexsort((ties, -total))
    order = order[free[order]]
    if rules.diversity:
        others = _diverse(live, rules, total, order[: max(_POOL * k, _LEAST_POOL)], k, list(pinned.values()))
    else:
        others = _capped(live, rules, order, k, list(pinned.values()))
    found: list[Placed] = []
    queue = iter(others)
    for number in range(1, k + 1):
        if number in pinned:
            place = pinned[number]
            found.append(Placed(place, float(scores[place]), [{"rule": "pinned", "place": number}]))
            continue
        nxt = next(queue, None)
        if nxt is not None:
            found.append(Placed(nxt[0], float(scores[nxt[0]]), nxt[1]))
    for each in found:
        told = [
            {"rule": "boost", "where": boost.where, "add": boost.add} for holds, boost in boosts if holds[each.place]
        ]
        each.rules = told + each.rules
    return found


def _pinned(live: Live, rules: Rules, k: int) -> dict[int, int]:
    """Place in the answer -> candidate, from 0."""
    if not rules.pinned:
        return {}
    rows = live.rows_of_candidates([pin.item for pin in rules.pinned], "rules.pinned")
    pinned = {pin.place: int(row) - 1 for pin, row in zip(rules.pinned, rows, strict=True) if pin.place <= k}
    offered = live.offered
    return pinned if offered is None else {number: place for number, place in pinned.items() if offered[place]}


class _Counts:
    """How many answers there are of each value of the capped columns."""

    def __init__(self, live: Live, rules: Rules) -> None:
        self._values = [(cap, live.column(cap.column)) for cap in rules.caps]
        self._counts = [Counter[Any]() for _ in rules.caps]

    def full(self, place: int) -> bool:
        """Whether one more of the candidate's values would be too many; a candidate without a value counts for none."""
        return any(
            (value := _plain(values[place])) is not None and counts[value] >= cap.most
            for (cap, values), counts in zip(self._values, self._counts, strict=True)
        )

    def add(self, place: int) -> None:
        """One more."""
        for (_, values), counts in zip(self._values, self._counts, strict=True):
            counts[_plain(values[place])] += 1


def _plain(value: pa.Scalar) -> Any:
    plain = value.as_py()
    return tuple(plain) if isinstance(plain, list) else plain


def _capped(
    live: Live, rules: Rules, order: NDArray[np.int64], k: int, before: list[int]
) -> list[tuple[int, list[dict[str, Any]]]]:
    counts, found, skipped = _Counts(live, rules), list[tuple[int, list[dict[str, Any]]]](), 0
    for place in before:
        counts.add(place)
    for place in order.tolist():
        if len(found) + len(before) >= k:
            break
        if rules.caps and counts.full(place):
            skipped += 1
            continue
        counts.add(place)
        found.append((place, [{"rule": "cap", "passed_over": skipped}] if skipped else []))
        skipped = 0
    return found


def _diverse(
    live: Live, rules: Rules, total: NDArray[np.float64], pool: NDArray[np.int64], k: int, before: list[int]
) -> list[tuple[int, list[dict[str, Any]]]]:
    """Maximal marginal relevance among the best, relevance scaled to 0 to 1.

    Reference: Carbonell and Goldstein, SIGIR 1998.
    """
    vectors = live.retriever("diversity is measured by them").candidate_vectors[1:]
    counts = _Counts(live, rules)
    for place in before:
        counts.add(place)
    own = _unit(vectors[pool])
    low, high = (float(total[pool].min()), float(total[pool].max())) if len(pool) else (0.0, 1.0)
    relevance = (total[pool] - low) / (high - low if high > low else 1.0)
    like = np.zeros(len(pool))
    if before:
        like = np.maximum(like, (own @ _unit(vectors[before]).T).max(axis=1))
    left = np.ones(len(pool), bool)
    found: list[tuple[int, list[dict[str, Any]]]] = []
    while len(found) + len(before) < k and left.any():
        value = np.where(left, (1.0 - rules.diversity) * relevance - rules.diversity * like, -np.inf)
        best = int(np.argmax(value))
        left[best] = False
        place = int(pool[best])
        if rules.caps and counts.full(place):
            continue
        counts.add(place)
        found.append((place, [{"rule": "diversity", "likeness": round(float(like[best]), 6), "rank_before": best + 1}]))
        like = np.maximum(like, own @ own[best])
    return found


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float64)

"""Answers in their places: from what a ranking found to what a caller is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from towerkit.index.hits import Hits


@dataclass
class Placed:
    """One answer, and what the rules did to it."""

    place: int
    """Of the candidate, from 0."""
    score: float
    """The model's own."""
    rules: list[dict[str, Any]] = field(default_factory=list)


def placed_of(hits: Hits, k: int, query: int = 0) -> list[Placed]:
    """What a ranking found for one query, best first.

    Args:
        hits: Of one query or more.
        k: How many at most.
        query: Which of them.

    Example:
        >>> import numpy as np
        >>> hits = Hits(np.array([[7, 2, -1]]), np.array([[0.5, 0.25, -np.inf]], np.float32), np.array([2]))
        >>> [(each.place, each.score) for each in placed_of(hits, 3)]
        [(7, 0.5), (2, 0.25)]
    """
    pairs = zip(hits.rows[query, :k].tolist(), hits.scores[query, :k].tolist(), strict=True)
    return [Placed(place, score) for place, score in pairs if place >= 0]


def shown(placed: Sequence[Placed], keys: Sequence[Any], titles: Sequence[Any] | None) -> list[dict[str, Any]]:
    """The answers as a caller sees them.

    Args:
        placed: Best first.
        keys: Of all that could be answers, from 0.
        titles: The same; None where they have none.
    """
    places = [each.place for each in placed]
    own = None if titles is None else [titles[place] for place in places]
    return listed([keys[place] for place in places], [each.score for each in placed], own)


def listed(keys: Sequence[Any], scores: Sequence[float], titles: Sequence[Any] | None) -> list[dict[str, Any]]:
    """Answers as a caller sees them.

    Args:
        keys: Of the answers, best first.
        scores: The model's own.
        titles: None where they have none.

    Example:
        >>> listed(["b"], [0.5], ["B"])
        [{'item': 'b', 'rank': 1, 'score': 0.5, 'title': 'B'}]
    """
    if titles is None:
        pairs = enumerate(zip(keys, scores, strict=True), start=1)
        return [{"item": key, "rank": rank, "score": score} for rank, (key, score) in pairs]
    threes = enumerate(zip(keys, scores, titles, strict=True), start=1)
    return [{"item": key, "rank": rank, "score": score, "title": title} for rank, (key, score, title) in threes]

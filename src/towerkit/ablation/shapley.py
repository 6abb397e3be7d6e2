"""Shapley values: what each player adds to a game, averaged over all orders in which the players could join.

The value of a coalition is a vector (several metrics at once, or a metric in many resamples); everything here is linear in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import SpecError
from towerkit.core.random import generator

Floats = NDArray[np.float64]
Value = Callable[[frozenset[str]], Floats]
"""Coalition -> ``[figures]``."""


@dataclass(frozen=True)
class Shares:
    """What each player adds; of a sampled game with the standard error of the sampling."""

    values: dict[str, Floats]
    """Player -> ``[figures]``."""
    errors: dict[str, Floats] | None = None
    """Player -> ``[figures]``; None where all coalitions were asked."""
    orders: int | None = None
    """Orders that were drawn."""


def subsets(players: Sequence[str]) -> Iterator[frozenset[str]]:
    """All coalitions, the empty one first.

    Args:
        players: Their names.

    Example:
        >>> [sorted(each) for each in subsets(["a", "b"])]
        [[], ['a'], ['b'], ['a', 'b']]
    """
    for size in range(len(players) + 1):
        yield from map(frozenset, combinations(players, size))


def exact_shapley(players: Sequence[str], value: Value) -> Shares:
    """From every coalition; the shares add up to what all players have beyond none.

    Args:
        players: Their names, each once.
        value: Asked twice or more for most coalitions, so it should remember.

    Example:
        >>> game = {"": 0.0, "a": 4.0, "b": 2.0, "ab": 10.0}
        >>> found = exact_shapley("ab", lambda joined: np.array([game["".join(sorted(joined))]]))
        >>> {name: share.tolist() for name, share in found.values.items()}
        {'a': [6.0], 'b': [4.0]}

    Reference: Shapley, A value for n-person games, 1953.
    """
    count = len(players)
    values = {}
    for player in players:
        others = [each for each in players if each != player]
        total: Floats = np.zeros(())
        for joined in subsets(others):
            weight = 1.0 / (count * comb(count - 1, len(joined)))
            total = total + weight * (value(joined | {player}) - value(joined))
        values[player] = total
    return Shares(values)


def sampled_shapley(players: Sequence[str], value: Value, *, orders: int, seed: int = 0) -> Shares:
    """From random orders, each also walked backwards; what all players have beyond none is shared out exactly all the same.

    Args:
        players: Their names, each once.
        value: As in :func:`exact_shapley`.
        orders: Pairs of an order and its reverse, two or more.
        seed: Draws them.

    Raises:
        SpecError: If there are fewer than two.

    Reference: Castro, Gómez and Tejada, Computers & Operations Research 2009; Mitchell et al., JMLR 2022 (reversed orders).
    """
    if orders < 2:
        raise SpecError(f"Sampled Shapley values need two orders or more to know their error; received {orders}.")
    draw = generator(seed, "ablation", "orders")
    found: dict[str, list[Floats]] = {player: [] for player in players}
    for _ in range(orders):
        order = [players[place] for place in draw.permutation(len(players))]
        forward, backward = _walk(order, value), _walk(order[::-1], value)
        for player in players:
            found[player].append((forward[player] + backward[player]) / 2.0)
    values = {player: np.mean(each, axis=0) for player, each in found.items()}
    errors = {player: np.std(each, axis=0, ddof=1) / np.sqrt(orders) for player, each in found.items()}
    return Shares(values, errors, orders)


def _walk(order: Sequence[str], value: Value) -> dict[str, Floats]:
    """What each player adds to those before it."""
    joined: frozenset[str] = frozenset()
    before, found = value(joined), {}
    for player in order:
        joined = joined | {player}
        after = value(joined)
        found[player], before = after - before, after
    return found

"""Shapley values.

- Exact values are those of a brute force over all orders of the players, for any game.
- Efficiency: the shares add up to what all players have beyond none, exact or sampled.
- A player that adds nothing has no share; two that can change places have the same one.
- Sampled values come with an error that tells how far they are from the exact ones, and are refused for one order.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from towerkit.ablation.shapley import Value, exact_shapley, sampled_shapley, subsets
from towerkit.core.errors import SpecError
from towerkit.core.random import generator


def game(players: str, seed: int) -> Value:
    """A game with a random value for each coalition and two figures."""
    table = {each: generator(seed, *sorted(each)).normal(size=2) for each in subsets(players)}
    return table.__getitem__


def brute_force(players: str, value: Value) -> dict[str, NDArray[np.float64]]:
    """The definition: the mean over all orders of what a player adds to those before it."""
    orders = list(permutations(players))
    return {
        p: sum(value(frozenset(o[: o.index(p) + 1])) - value(frozenset(o[: o.index(p)])) for o in orders) / len(orders)
        for p in players
    }


@given(players=st.integers(1, 5).map(lambda count: "abcde"[:count]), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_exact_values_are_those_of_all_orders_and_add_up(players: str, seed: int) -> None:
    value = game(players, seed)
    found = exact_shapley(players, value)
    assert found.errors is None
    for player, share in brute_force(players, value).items():
        assert np.allclose(found.values[player], share)
    assert np.allclose(sum(found.values.values()), value(frozenset(players)) - value(frozenset()))


def test_a_null_player_has_nothing_and_equals_have_the_same() -> None:
    def value(joined: frozenset[str]) -> NDArray[np.float64]:
        return np.array([3.0 * len(joined & {"a", "b"}) ** 2])

    found = exact_shapley("abc", value).values
    assert found["c"].tolist() == [0.0]
    assert found["a"].tolist() == found["b"].tolist() == [6.0]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_sampled_values_add_up_and_know_their_error(seed: int) -> None:
    players = "abcdefg"
    value = game(players, seed)
    exact, found = exact_shapley(players, value).values, sampled_shapley(players, value, orders=60, seed=seed)
    assert found.errors is not None
    assert found.orders == 60
    assert np.allclose(sum(found.values.values()), value(frozenset(players)) - value(frozenset()))
    distances = [np.abs(found.values[p] - exact[p]) / found.errors[p] for p in players]
    assert np.mean(np.concatenate(distances) < 3.0) > 0.8  # of 14 figures; a normal one has 99.7 %


def test_one_order_has_no_error() -> None:
    with pytest.raises(SpecError, match="two orders or more.*received 1"):
        sampled_shapley("ab", game("ab", 0), orders=1)

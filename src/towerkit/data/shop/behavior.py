"""What people did: browsing, buying, buying snacks, and how happy they were with it.

Purchases follow taste, popularity and chance. Browsing follows the same but more loosely, and each purchase has a view
just before it. Snacks follow the same taste, and the planted pairings with what a person mostly buys.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from towerkit.core.random import generator
from towerkit.data.shop import words
from towerkit.data.shop.portable import (
    Floats,
    Integers,
    draw_by_weight,
    normal,
    on_grid,
    pick,
    ranks,
    whole_weights,
)
from towerkit.data.shop.world import DAYS, END_S, SECONDS_PER_DAY, START_S, World, build_world

TASTE, BROWSING_TASTE, SNACK_TASTE = 2.0, 1.2, 1.1
"""How much of the log weight of a thing is one unit of preference for it, when buying, browsing and buying snacks."""
_NEW_ARRIVAL_BOOST = 0.7
"""New arrivals are promoted: without it, cold products would hardly be bought at all."""
_REPEAT_PER_THOUSAND = 15
_RATING_UP_TO = (0.06, 0.15, 0.31, 0.6)
"""Shares of happiness, lowest first, that end the ratings 1, 2, 3 and 4."""
_HOUR_SHARES = (1, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 11, 13, 12, 10, 10, 11, 13, 16, 20, 22, 18, 10, 4)


@dataclass(frozen=True)
class Events:
    """One entry per event, ordered by time."""

    user: Integers
    item: Integers
    time_s: Integers

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Opinions:
    """One entry per rated purchase, ordered by time."""

    user: Integers
    product: Integers
    time_s: Integers
    happiness: Floats
    """The rank of the person's satisfaction among all, in (0, 1); the rating is cut from it."""
    rating: Integers


@lru_cache(maxsize=4)
def purchases(seed: int, size: str) -> Events:
    """The purchases: no product twice for one person, but for a few repeats."""
    world = build_world(seed, size)
    draw = generator(seed, "shop", "purchases")
    user, time_s = _visits(world, world.size.purchases, draw)
    weights = whole_weights(TASTE * world.preference + _selling_power(world)[None, :])
    weights[:, world.products.never_bought] = 0
    item = _first_purchases(weights, user, time_s, world.products.launch_s, draw)
    kept = item >= 0
    user, item, time_s = user[kept], item[kept], time_s[kept]
    return Events(user, _with_repeats(user, item, draw), time_s)


@lru_cache(maxsize=4)
def views(seed: int, size: str) -> Events:
    """The page views: one shortly before each purchase, and many that lead to nothing."""
    world, bought = build_world(seed, size), purchases(seed, size)
    draw = generator(seed, "shop", "views")
    user, time_s = _visits(world, world.size.views - len(bought), draw)
    weights = whole_weights(BROWSING_TASTE * world.preference + _selling_power(world)[None, :])
    item = _on_sale(weights, user, time_s, world.products.launch_s, draw)
    before_s = draw.integers(20, 900, len(bought))
    return _ordered(
        np.concatenate([user, bought.user]),
        np.concatenate([item, bought.item]),
        np.concatenate([time_s, bought.time_s - before_s]),
    )


@lru_cache(maxsize=4)
def snack_purchases(seed: int, size: str) -> Events:
    """The snacks bought: shared taste times the pairing with the category a person buys most."""
    world = build_world(seed, size)
    draw = generator(seed, "shop", "snack purchases")
    user, time_s = _visits(world, world.size.snack_purchases, draw)
    weights = whole_weights(SNACK_TASTE * world.snack_preference + world.snacks.popularity[None, :])
    weights = weights * np.rint(4.0 * pairing_factor(world, purchases(seed, size))).astype(np.int64)
    return Events(user, draw_by_weight(weights, user, draw), time_s)


def pairing_factor(world: World, bought: Events) -> Floats:
    """``[users, snacks]``: the lift for the category each person bought most, 1 for people who bought nothing."""
    num_users, num_categories = world.size.users, len(words.CATEGORIES)
    cell = bought.user * num_categories + world.products.category[bought.item]
    counts = np.bincount(cell, minlength=num_users * num_categories).reshape(num_users, num_categories)
    factor: Floats = world.lift[np.argmax(counts, axis=1)]
    factor[counts.sum(axis=1) == 0] = 1.0
    return np.asarray(factor[:, world.snacks.flavor])


@lru_cache(maxsize=4)
def opinions(seed: int, size: str) -> Opinions:
    """The rated purchases: true preference, the product's quality and chance decide how happy a person is."""
    world, bought = build_world(seed, size), purchases(seed, size)
    draw = generator(seed, "shop", "opinions")
    time_s = bought.time_s + draw.integers(1 * SECONDS_PER_DAY, 12 * SECONDS_PER_DAY, len(bought))
    _, first = np.unique(bought.user * world.size.products + bought.item, return_index=True)
    eligible = first[time_s[first] < END_S]
    chosen = draw.permutation(np.sort(eligible))[: world.size.ratings]
    chosen = chosen[np.argsort(time_s[chosen], kind="stable")]
    user, product = bought.user[chosen], bought.item[chosen]
    happiness = ranks(
        0.8 * world.preference[user, product] + 0.7 * world.products.quality[product] + 0.5 * normal(draw, len(chosen))
    )
    rating = np.searchsorted(_RATING_UP_TO, happiness, side="right").astype(np.int64) + 1
    return Opinions(user, product, time_s[chosen], happiness, rating)


def quantities(seed: int, count: int) -> Integers:
    """How many pieces each purchase holds: mostly one."""
    return pick(generator(seed, "shop", "quantities"), (0.86, 0.1, 0.03, 0.01), count) + 1


def _selling_power(world: World) -> Floats:
    newcomer = world.products.launch_s > START_S
    return on_grid(world.products.popularity + _NEW_ARRIVAL_BOOST * newcomer)


def _visits(world: World, count: int, draw: np.random.Generator) -> tuple[Integers, Integers]:
    """Who comes and when, ordered by time; activity has a long tail, and nobody comes before joining."""
    first_day = np.maximum(world.users.joined_s - START_S, 0) // SECONDS_PER_DAY + 1
    activity = generator(world.seed, "shop", "activity").standard_normal(world.size.users)
    weights = whole_weights(on_grid(np.minimum(0.85 * activity, 1.9))) * np.maximum(DAYS - first_day, 0)
    user = draw_by_weight(weights[None, :], np.zeros(count, dtype=np.int64), draw)
    day = draw.integers(first_day[user], DAYS, dtype=np.int64)
    hour = pick(draw, tuple(map(float, _HOUR_SHARES)), count)
    time_s = START_S + day * SECONDS_PER_DAY + hour * 3600 + draw.integers(0, 3600, count)
    order = np.argsort(time_s, kind="stable")
    return user[order], time_s[order]


def _on_sale(
    weights: Integers, user: Integers, time_s: Integers, launch_s: Integers, draw: np.random.Generator
) -> Integers:
    """A product for each visit, drawn again while the one drawn is not on sale yet."""
    item = draw_by_weight(weights, user, draw)
    while len(early := np.flatnonzero(time_s < launch_s[item])):
        item[early] = draw_by_weight(weights, user[early], draw)
    return item


def _first_purchases(
    weights: Integers, user: Integers, time_s: Integers, launch_s: Integers, draw: np.random.Generator, rounds: int = 40
) -> Integers:
    """A product for each visit, none twice for one person; -1 where none was found in ``rounds`` draws."""
    item = np.full(len(user), -1, dtype=np.int64)
    pending = np.arange(len(user))
    for _ in range(rounds):
        item[pending] = _on_sale(weights, user[pending], time_s[pending], launch_s, draw)
        _, first = np.unique(user * weights.shape[1] + item, return_index=True)
        pending = np.setdiff1d(np.arange(len(user)), first)
        if not len(pending):
            break
    item[pending] = -1
    return item


def _with_repeats(user: Integers, item: Integers, draw: np.random.Generator) -> Integers:
    """A few purchases replaced by what the same person bought the time before."""
    by_person = np.argsort(user, kind="stable")
    again = draw.integers(0, 1000, len(user)) < _REPEAT_PER_THOUSAND
    here, before = by_person[1:], by_person[:-1]
    chosen = again[1:] & (user[here] == user[before])
    repeated = item.copy()
    repeated[here[chosen]] = item[before[chosen]]
    return repeated


def _ordered(user: Integers, item: Integers, time_s: Integers) -> Events:
    order = np.argsort(time_s, kind="stable")
    return Events(user[order], item[order], time_s[order])

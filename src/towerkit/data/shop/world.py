"""The hidden truth of the shop: who likes what, and why.

A product's vector is mostly its category and brand, then style, kind, price level and color, and a part of its own.
A person's vector is partly age, city and plan, and a part of their own. The true preference is the cosine of the two,
scaled to a spread of about one. Popularity is separate: it sells, but it is nobody's taste.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from towerkit.core.random import generator
from towerkit.data.shop import words
from towerkit.data.shop.portable import Floats, Integers, centered, dot_products, normal, on_grid, pick, unit_rows

Flags = NDArray[np.bool_]

DIM = 10
DAYS = 180
SECONDS_PER_DAY = 86_400
START_S = 1_735_689_600
"""2025-01-01 00:00, in seconds since 1970."""
END_S = START_S + DAYS * SECONDS_PER_DAY
COLD_FROM_S = START_S + DAYS * SECONDS_PER_DAY * 9 // 10
"""Cold products and the last newcomers appear after this moment."""

_AGE_ANCHORS = (18, 38, 58, 80)
_PLAN_SHARES = (0.62, 0.26, 0.12)
_BRANDS_PER_CATEGORY = 7


@dataclass(frozen=True)
class Size:
    """How many rows each table aims at."""

    users: int
    products: int
    snacks: int
    views: int
    purchases: int
    ratings: int
    reviews: int
    snack_purchases: int


SIZES = {
    "full": Size(1200, 400, 120, 60_000, 16_000, 8_000, 6_000, 9_000),
    "small": Size(240, 80, 24, 12_000, 3_200, 1_600, 1_200, 1_800),
}


@dataclass(frozen=True)
class Users:
    """One entry per person; ``taste`` is ``[users, DIM]`` with rows of length one."""

    age: Integers
    age_known: Flags
    city: Integers
    plan: Integers
    joined_s: Integers
    taste: Floats


@dataclass(frozen=True)
class Products:
    """One entry per product; word columns are positions in the word banks of its category."""

    category: Integers
    brand: Integers
    style: Integers
    adjective: Integers
    noun: Integers
    detail: Integers
    color: Integers
    price_level: Floats
    quality: Floats
    """What everybody who bought it agrees on; shows in ratings and reviews only."""
    popularity: Floats
    """Natural log of the selling power, taste aside."""
    launch_s: Integers
    never_bought: Flags
    vector: Floats


@dataclass(frozen=True)
class Snacks:
    """One entry per snack; its vector lives in the same space as the products'."""

    flavor: Integers
    popularity: Floats
    vector: Floats


@dataclass(frozen=True)
class World:
    """Everything that is true and mostly unseen."""

    seed: int
    size: Size
    users: Users
    products: Products
    snacks: Snacks
    preference: Floats
    """``[users, products]``, mean about zero and spread about one; no popularity in it."""
    snack_preference: Floats
    lift: Floats
    """``[categories, flavors]``: how much likelier a flavor is for people who mostly buy the category; mostly 1."""


@lru_cache(maxsize=4)
def build_world(seed: int, size: str) -> World:
    """The truth for a seed and a size named in :data:`SIZES`; the same call gives the same object."""
    counts = SIZES[size]
    users, products, snacks = _users(seed, counts), _products(seed, counts), _snacks(seed, counts)
    spread = np.sqrt(DIM)
    return World(
        seed=seed,
        size=counts,
        users=users,
        products=products,
        snacks=snacks,
        preference=on_grid(spread * dot_products(users.taste, products.vector)),
        snack_preference=on_grid(spread * dot_products(users.taste, snacks.vector)),
        lift=_lift(seed, products, snacks),
    )


def _users(seed: int, size: Size) -> Users:
    draw = generator(seed, "shop", "users")
    age = np.clip(18 + draw.gamma(3.0, 7.5, size.users), 18, 80).astype(np.int64)
    city = pick(draw, tuple(1.0 / (rank + 3) for rank in range(len(words.CITIES))), size.users)
    plan = pick(draw, _PLAN_SHARES, size.users)
    days_before_end = np.rint(draw.beta(1.0, 1.6, size.users) * 720).astype(np.int64) + 2
    by_age, by_city = normal(draw, len(_AGE_ANCHORS), DIM), normal(draw, len(words.CITIES), DIM)
    taste = (
        1.0 * _between_anchors(age, by_age)
        + 0.55 * by_city[city]
        + 0.3 * normal(draw, len(words.PLANS), DIM)[plan]
        + 0.75 * normal(draw, size.users, DIM)
    )
    return Users(
        age=age,
        age_known=draw.integers(0, 100, size.users) >= 12,
        city=city,
        plan=plan,
        joined_s=END_S - days_before_end * SECONDS_PER_DAY + draw.integers(0, SECONDS_PER_DAY, size.users),
        taste=unit_rows(centered(taste)),
    )


def _between_anchors(age: Integers, anchors: Floats) -> Floats:
    """A taste that moves smoothly from one anchor age to the next."""
    left = np.searchsorted(_AGE_ANCHORS, age, side="right") - 1
    left = np.minimum(left, len(_AGE_ANCHORS) - 2)
    low, high = np.array(_AGE_ANCHORS)[left], np.array(_AGE_ANCHORS)[left + 1]
    share = on_grid((age - low) / (high - low))[:, None]
    return (1.0 - share) * anchors[left] + share * anchors[left + 1]


def _products(seed: int, size: Size) -> Products:
    draw = generator(seed, "shop", "products")
    category = draw.permutation(np.arange(size.products) % len(words.CATEGORIES))
    style, adjective, noun, detail = _distinct_titles(category, draw)
    brand = _brand_of(category, draw)
    color = draw.integers(0, len(words.COLORS), size.products)
    price_level = on_grid(0.7 * normal(draw, len(words.BRANDS))[brand] + 0.7 * normal(draw, size.products))
    vector = _product_vectors(draw, category, brand, style, noun, color, price_level)
    quality = normal(draw, size.products)
    launch_s, never_bought = _availability(draw, size.products)
    return Products(
        category=category,
        brand=brand,
        style=style,
        adjective=adjective,
        noun=noun,
        detail=detail,
        color=color,
        price_level=price_level,
        quality=quality,
        popularity=_popularity(draw, size.products, steepness=0.6),
        launch_s=launch_s,
        never_bought=never_bought,
        vector=vector,
    )


def _product_vectors(
    draw: np.random.Generator,
    category: Integers,
    brand: Integers,
    style: Integers,
    noun: Integers,
    color: Integers,
    price_level: Floats,
) -> Floats:
    """What a product is like, mostly told by its columns: ``[products, DIM]`` with rows of length one."""
    kind = category * words.NUM_NOUNS + noun
    return unit_rows(
        1.0 * normal(draw, len(words.CATEGORIES), DIM)[category]
        + 0.7 * normal(draw, len(words.BRANDS), DIM)[brand]
        + 0.5 * normal(draw, len(words.STYLES), DIM)[style]
        + 0.35 * normal(draw, len(words.CATEGORIES) * words.NUM_NOUNS, DIM)[kind]
        + 0.2 * normal(draw, len(words.COLORS), DIM)[color]
        + 0.25 * price_level[:, None] * normal(draw, 1, DIM)
        + 0.4 * normal(draw, len(category), DIM)
    )


def _availability(draw: np.random.Generator, count: int) -> tuple[Integers, Flags]:
    """When each product goes on sale, one in twenty of them late; and the few that nobody ever buys."""
    order = draw.permutation(count)
    num_cold, num_unsold = count // 20, max(2, count // 100)
    launch_s = np.full(count, START_S, dtype=np.int64)
    launch_s[order[:num_cold]] = COLD_FROM_S + draw.integers(0, 7 * SECONDS_PER_DAY, num_cold)
    never_bought = np.zeros(count, dtype=np.bool_)
    never_bought[order[num_cold : num_cold + num_unsold]] = True
    return launch_s, never_bought


def _distinct_titles(category: Integers, draw: np.random.Generator) -> tuple[Integers, Integers, Integers, Integers]:
    """Style, adjective, noun and detail of each product; no two products of a category share all four."""
    radices = (len(words.STYLES), words.NUM_ADJECTIVES, words.NUM_NOUNS, words.NUM_DETAILS)
    code = np.empty(len(category), dtype=np.int64)
    for position in range(len(words.CATEGORIES)):
        members = np.flatnonzero(category == position)
        code[members] = draw.permutation(int(np.prod(radices)))[: len(members)]
    style, adjective, noun, detail = (part.astype(np.int64) for part in np.unravel_index(code, radices))
    return style, adjective, noun, detail


def _brand_of(category: Integers, draw: np.random.Generator) -> Integers:
    """Each category is served by a few of the brands, dealt like cards; each brand serves two categories or three."""
    num_slots = len(words.CATEGORIES) * _BRANDS_PER_CATEGORY
    decks = [draw.permutation(len(words.BRANDS)) for _ in range(num_slots // len(words.BRANDS) + 1)]
    dealt = np.concatenate(decks)[:num_slots].reshape(len(words.CATEGORIES), _BRANDS_PER_CATEGORY).astype(np.int64)
    return dealt[category, draw.integers(0, _BRANDS_PER_CATEGORY, len(category))]


def _snacks(seed: int, size: Size) -> Snacks:
    draw = generator(seed, "shop", "snacks")
    flavor = draw.permutation(np.arange(size.snacks) % len(words.FLAVORS))
    vector = 1.0 * normal(draw, len(words.FLAVORS), DIM)[flavor] + 0.6 * normal(draw, size.snacks, DIM)
    return Snacks(flavor=flavor, popularity=_popularity(draw, size.snacks, steepness=0.6), vector=unit_rows(vector))


def _popularity(draw: np.random.Generator, count: int, *, steepness: float) -> Floats:
    """Zipf's law: the log weight falls by ``steepness`` times the log of the rank."""
    return on_grid(-steepness * np.log(draw.permutation(count) + 3.0))


def _lift(seed: int, products: Products, snacks: Snacks) -> Floats:
    """One paired flavor for each category, two and a half to four and a half times as likely.

    It is the flavor that fans of the category are most indifferent to by taste: what shows in the data is the pairing.
    """
    by_category = _group_sums(products.vector, products.category, len(words.CATEGORIES))
    by_flavor = _group_sums(snacks.vector, snacks.flavor, len(words.FLAVORS))
    likeness = dot_products(unit_rows(by_category), unit_rows(by_flavor))
    paired = np.argmin(np.abs(likeness), axis=1)
    lift = np.ones(likeness.shape)
    lift[np.arange(len(paired)), paired] = generator(seed, "shop", "pairings").integers(10, 19, len(paired)) / 4.0
    return lift


def _group_sums(vectors: Floats, group: Integers, count: int) -> Floats:
    total = np.zeros((count, vectors.shape[1]))
    np.add.at(total, group, vectors)
    return total

"""The tables of the bundled shop, by name.

The shop is **synthetic**: a seeded generator invents every person, product, review, picture and sound, and plants the
truth that a model should find. Figures measured on it say that the software works, not how it would do on real data.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from towerkit.core.errors import DataError, listed, nearest
from towerkit.data.shop import behavior, words
from towerkit.data.shop.behavior import Events
from towerkit.data.shop.catalogue import ids, products_table, snacks_table, times, users_table
from towerkit.data.shop.reviews import write_reviews
from towerkit.data.shop.world import SIZES, build_world

TRUTH_DEPTH = 20
"""How many products per person the table ``truth`` lists."""


def shop_tables(seed: int = 0, *, size: str = "full") -> dict[str, pa.Table]:
    """All tables of the synthetic shop, the same bits for the same seed on every machine.

    ``users``, ``products`` and ``snacks`` are the entities; ``views``, ``purchases``, ``ratings``, ``snack_purchases``,
    ``baskets`` (all purchases together) and ``reviews`` are what happened, ordered by time; ``truth`` and ``pairings`` are
    what was planted.

    Args:
        seed: Which shop.
        size: ``"full"``, or ``"small"`` for about a fifth of it.

    Returns:
        The tables, in the order of :data:`SHOP_TABLES`.

    Raises:
        DataError: If there is no such size.

    Example:
        >>> shop_tables(size="small")["users"].num_rows
        240
    """
    return {name: shop_table(name, seed, size) for name in SHOP_TABLES}


def shop_table(name: str, seed: int = 0, size: str = "full") -> pa.Table:
    """One table of the synthetic shop; what the others need is not built.

    Args:
        name: One of :data:`SHOP_TABLES`.
        seed: Which shop.
        size: ``"full"`` or ``"small"``.

    Returns:
        The table; each call builds a new one, from a hidden world that is kept.

    Raises:
        DataError: If there is no such table or no such size.

    Example:
        >>> shop_table("pairings").column_names
        ['category', 'flavor', 'lift']
    """
    _known("table", name, SHOP_TABLES)
    _known("size", size, tuple(SIZES))
    return _BUILDERS[name](int(seed), size)


def _known(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise DataError(f"The shop has no {what} '{name}'{nearest(name, names) or '.'} Choose one of {listed(names)}.")


def _views(seed: int, size: str) -> pa.Table:
    return _event_table(behavior.views(seed, size), "product_id", "p")


def _purchases(seed: int, size: str) -> pa.Table:
    events = behavior.purchases(seed, size)
    return _event_table(events, "product_id", "p").append_column(
        "quantity", pa.array(behavior.quantities(seed, len(events)), pa.int64())
    )


def _snack_purchases(seed: int, size: str) -> pa.Table:
    return _event_table(behavior.snack_purchases(seed, size), "snack_id", "s")


def _baskets(seed: int, size: str) -> pa.Table:
    """Products and snacks together, ordered by time: each row has one of the two."""
    products, snacks = behavior.purchases(seed, size), behavior.snack_purchases(seed, size)
    order = np.argsort(np.concatenate([products.time_s, snacks.time_s]), kind="stable")
    keys = {"product_id": ids("p", products.item), "snack_id": ids("s", snacks.item)}
    empty = {"product_id": pa.nulls(len(snacks), pa.string()), "snack_id": pa.nulls(len(products), pa.string())}
    whole = {
        "user_id": ids("u", np.concatenate([products.user, snacks.user])),
        "product_id": pa.concat_arrays([keys["product_id"], empty["product_id"]]),
        "snack_id": pa.concat_arrays([empty["snack_id"], keys["snack_id"]]),
        "time": times(np.concatenate([products.time_s, snacks.time_s])),
    }
    return pa.table(whole).take(pa.array(order))


def _event_table(events: Events, item_column: str, letter: str) -> pa.Table:
    return pa.table(
        {"user_id": ids("u", events.user), item_column: ids(letter, events.item), "time": times(events.time_s)}
    )


def _ratings(seed: int, size: str) -> pa.Table:
    rated = behavior.opinions(seed, size)
    return pa.table(
        {
            "user_id": ids("u", rated.user),
            "product_id": ids("p", rated.product),
            "rating": pa.array(rated.rating, pa.int64()),
            "time": times(rated.time_s),
        }
    )


def _reviews(seed: int, size: str) -> pa.Table:
    found, category = write_reviews(seed, size), build_world(seed, size).products.category
    return pa.table(
        {
            "user_id": ids("u", found.user),
            "product_id": ids("p", found.product),
            "time": times(found.time_s),
            "title": pa.array(found.title, pa.string()),
            "text": pa.array(found.text, pa.string()),
            "age": pa.array(found.age, pa.int64()),
            "helpful_count": pa.array(found.helpful_count, pa.int64()),
            "rating": pa.array(found.rating, pa.int64()),
            "recommended": pa.array(found.recommended, pa.int64()),
            "category": [words.CATEGORIES[position] for position in category[found.product]],
            "tags": pa.array(found.tags, pa.string()),
        }
    )


def _truth(seed: int, size: str) -> pa.Table:
    """Each person's best products by true preference, best first, whether on sale or not."""
    preference = build_world(seed, size).preference
    best = np.argsort(-preference, axis=1, kind="stable")[:, :TRUTH_DEPTH]
    user = np.repeat(np.arange(len(preference)), TRUTH_DEPTH)
    return pa.table(
        {
            "user_id": ids("u", user),
            "product_id": ids("p", best.ravel()),
            "preference": pa.array(preference[user, best.ravel()], pa.float32()),
        }
    )


def _pairings(seed: int, size: str) -> pa.Table:
    """The planted pairings; lift 3 gives the flavor three times the weight for people who mostly buy the category."""
    lift = build_world(seed, size).lift
    category, flavor = np.nonzero(lift > 1.0)
    return pa.table(
        {
            "category": [words.CATEGORIES[position] for position in category],
            "flavor": [tuple(words.FLAVORS)[position] for position in flavor],
            "lift": lift[category, flavor],
        }
    )


_BUILDERS: dict[str, Callable[[int, str], pa.Table]] = {
    "users": lambda seed, size: users_table(build_world(seed, size)),
    "products": lambda seed, size: products_table(build_world(seed, size)),
    "snacks": lambda seed, size: snacks_table(build_world(seed, size)),
    "views": _views,
    "purchases": _purchases,
    "ratings": _ratings,
    "snack_purchases": _snack_purchases,
    "baskets": _baskets,
    "pairings": _pairings,
    "reviews": _reviews,
    "truth": _truth,
}

SHOP_TABLES = tuple(_BUILDERS)
"""The names of all tables."""

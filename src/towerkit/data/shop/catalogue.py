"""What the shop shows about people and goods: the truth turned into readable columns, with some cells missing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from towerkit.core.random import generator
from towerkit.data.shop import words
from towerkit.data.shop.pictures import draw_pictures
from towerkit.data.shop.portable import Floats, Integers, normal, on_grid
from towerkit.data.shop.sounds import make_sounds
from towerkit.data.shop.world import World

_BASE_PRICE = dict(zip(words.CATEGORIES, (60.0, 28.0, 38.0, 14.0, 34.0, 24.0, 52.0, 19.0), strict=True))
_MEAN_SNACK_PRICE = 4.2


def ids(letter: str, numbers: Integers) -> pa.Array:
    """Readable keys that start at one: ``u0007`` is the seventh person.

    Example:
        >>> ids("u", np.array([6])).to_pylist()
        ['u0007']
    """
    return pa.array([f"{letter}{number + 1:04d}" for number in numbers.tolist()], pa.string())


def times(seconds: Integers) -> pa.Array:
    """Moments without a time zone, in microseconds."""
    return pa.array(seconds * 1_000_000, pa.timestamp("us"))


def users_table(world: World) -> pa.Table:
    """One row per person."""
    users = world.users
    return pa.table(
        {
            "user_id": ids("u", np.arange(len(users.age))),
            "age": pa.array(users.age, pa.int64(), mask=~users.age_known),
            "city": [words.CITIES[city] for city in users.city],
            "plan": [words.PLANS[plan] for plan in users.plan],
            "joined": times(users.joined_s),
        }
    )


def products_table(world: World) -> pa.Table:
    """One row per product, with its picture; ``shelf_code`` is useless on purpose."""
    products, count = world.products, world.size.products
    draw = generator(world.seed, "shop", "product columns")
    shelf, price, hidden = draw.integers(0, 40, count), _prices(world), draw.integers(0, 100, count) < 6
    rgb = np.array(tuple(words.COLORS.values()), dtype=np.int64)[products.color]
    return pa.table(
        {
            "product_id": ids("p", np.arange(count)),
            "title": [_title(world, product) for product in range(count)],
            "description": _descriptions(world, draw),
            "category": [words.CATEGORIES[category] for category in products.category],
            "brand": [words.BRANDS[brand] for brand in products.brand],
            "price": pa.array(price, pa.float64(), mask=hidden),
            "color": [tuple(words.COLORS)[color] for color in products.color],
            "shelf_code": [f"{'ABCDEFGH'[code // 5]}{code % 5 + 1}" for code in shelf],
            "image": pa.array(draw_pictures(products.category, rgb, draw), pa.binary()),
        }
    )


def snacks_table(world: World) -> pa.Table:
    """One row per snack, with its picture and its chime."""
    flavor, count = world.snacks.flavor, world.size.snacks
    draw = generator(world.seed, "shop", "snack columns")
    adjective, noun = _snack_names(flavor, draw)
    flavors, colors = tuple(words.FLAVORS), np.array(tuple(words.FLAVORS.values()), dtype=np.int64)
    rgb = np.clip(colors[flavor] + draw.integers(-20, 21, (count, 3)), 0, 255)
    names = [
        (words.SNACK_ADJECTIVES[a], flavors[f], words.SNACK_NOUNS[n])
        for a, f, n in zip(adjective, flavor, noun, strict=True)
    ]
    return pa.table(
        {
            "snack_id": ids("s", np.arange(count)),
            "title": [" ".join(parts) for parts in names],
            "description": [
                f"{words.SNACK_PHRASES[f]} {words.CARE[c]}"
                for f, c in zip(flavor, draw.integers(1, 3, count), strict=True)
            ],
            "flavor": [flavors[position] for position in flavor],
            "price": np.rint(100.0 * _MEAN_SNACK_PRICE * np.exp(0.3 * normal(draw, count))) / 100.0,
            "sound": pa.array(make_sounds(flavor, draw), pa.binary()),
            "image": pa.array(draw_pictures(flavor, rgb, draw), pa.binary()),
        }
    )


def _prices(world: World) -> Floats:
    base = np.array([_BASE_PRICE[words.CATEGORIES[category]] for category in world.products.category])
    return np.rint(10.0 * base * np.exp(on_grid(0.45 * world.products.price_level))) / 10.0 - 0.05


def _title(world: World, product: int) -> str:
    goods = world.products
    department = words.DEPARTMENTS[words.CATEGORIES[goods.category[product]]]
    adjective = department.adjectives[goods.style[product]][goods.adjective[product]]
    return f"{adjective} {department.nouns[goods.noun[product]]} {department.details[goods.detail[product]]}"


def _descriptions(world: World, draw: np.random.Generator) -> list[str]:
    """One to three sentences: the style and the purpose, then perhaps color and brand, then perhaps the care."""
    goods, count = world.products, world.size.products
    dice = draw.integers(0, 2**31, (count, 5))
    found = []
    for product in range(count):
        department = words.DEPARTMENTS[words.CATEGORIES[goods.category[product]]]
        phrases = words.STYLE_PHRASES[goods.style[product]]
        style, purpose = phrases[dice[product, 0] % len(phrases)], department.purpose[dice[product, 1] % 3]
        sentences = [f"{style}: a {department.nouns[goods.noun[product]]} {purpose}."]
        if dice[product, 2] % 10 < 7:
            color, brand = tuple(words.COLORS)[goods.color[product]], words.BRANDS[goods.brand[product]]
            sentences.append(f"In {color}, by {brand}.")
        if dice[product, 3] % 10 < 5:
            sentences.append(words.CARE[dice[product, 4] % len(words.CARE)])
        found.append(" ".join(sentences))
    return found


def _snack_names(flavor: Integers, draw: np.random.Generator) -> tuple[Integers, Integers]:
    """Adjective and noun of each snack; no two snacks of a flavor share both."""
    combinations = len(words.SNACK_ADJECTIVES) * len(words.SNACK_NOUNS)
    code = np.empty(len(flavor), dtype=np.int64)
    for position in range(len(words.FLAVORS)):
        members = np.flatnonzero(flavor == position)
        code[members] = draw.permutation(combinations)[: len(members)]
    return code // len(words.SNACK_NOUNS), code % len(words.SNACK_NOUNS)

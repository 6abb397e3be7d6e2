"""The reviews: sentences put together from word banks, with moods, hedges, negations and contradictions planted.

The happier a person is, the likelier each sentence is a kind one; the rating is cut from the same happiness. Whether
the product is *recommended* also depends on things that the text does not say: its category and the reviewer's age.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from towerkit.core.random import generator
from towerkit.data.shop import words
from towerkit.data.shop.behavior import opinions
from towerkit.data.shop.portable import Floats, Integers, normal, on_grid, pick
from towerkit.data.shop.world import World, build_world

Value = TypeVar("Value")


class Aspect(NamedTuple):
    """One thing that reviews talk about, which is also a tag."""

    subjects: tuple[str, ...]
    kind: tuple[str, ...]
    unkind: tuple[str, ...]


ASPECTS: dict[str, Aspect] = {
    "quality": Aspect(
        ("the finish", "the material", "the workmanship"),
        ("solid", "beautifully made", "sturdy", "flawless"),
        ("flimsy", "cheaply made", "brittle", "full of scratches"),
    ),
    "size": Aspect(
        ("the size", "the fit"),
        ("just right", "perfect for us", "as described"),
        ("way off", "smaller than in the picture", "awkward"),
    ),
    "delivery": Aspect(
        ("the delivery", "shipping", "the parcel service"),
        ("quick", "on time", "friendly"),
        ("late", "slow", "a mess"),
    ),
    "price": Aspect(
        ("the price", "what they charge"),
        ("fair", "a bargain", "very reasonable"),
        ("too high", "a joke", "hard to justify"),
    ),
    "look": Aspect(
        ("the color", "the look", "the design"),
        ("gorgeous", "lovely", "even better in person"),
        ("dull", "nothing like the photo", "ugly"),
    ),
    "packaging": Aspect(
        ("the packaging", "the box"),
        ("neat", "plastic-free", "pretty enough to keep"),
        ("torn", "wasteful", "dented on arrival"),
    ),
}
_ASPECT_SHARES = (0.3, 0.18, 0.16, 0.13, 0.15, 0.08)

OPENINGS = (
    (
        "Disappointed with this {noun}.",
        "I sent the {noun} back.",
        "I regret buying it.",
        "Not what I hoped for.",
        "I expected more from {brand}.",
    ),
    (
        "I love this {noun}.",
        "So happy with the {noun}.",
        "Exactly what I was looking for.",
        "Could not ask for more.",
        "{brand} never lets me down.",
    ),
)
FILLERS = (
    "Bought it for my sister.",
    "We moved last month and needed one.",
    "It is my second order here.",
    "I saw it at a friend's place.",
    "My neighbor has the same {noun}.",
    "It stands in the hallway now.",
    "A gift for my parents.",
    "I compared it with two others first.",
)
TITLES = (
    ("Not for me", "Disappointed", "Would not buy again", "Meh", "Sent it back", "Not worth it"),
    ("Love it", "Great find", "Would buy again", "Not bad at all", "Very pleased", "Well worth it"),
)
# Said directly, said weakly, or said by denying the opposite: {told} fits the mood, {denied} is its opposite.
PHRASES = (
    "{Subject} is {told}.",
    "{Subject} is really {told}.",
    "{Subject} is perhaps a bit {told}.",
    "I find {subject} {told}.",
    "{Subject} is not {denied} at all.",
    "Nobody could call {subject} {denied}.",
)
_PHRASE_SHARES = (0.32, 0.18, 0.14, 0.14, 0.12, 0.1)

_LENGTH_SHARES = (0.06, 0.24, 0.3, 0.26, 0.14)
_MAX_SENTENCES = len(_LENGTH_SHARES) - 1
_CATEGORY_OFFSET = 0.2
_AGE_SLOPE = 0.17
_RECOMMEND_NOISE = 0.2
_RECOMMEND_FROM = -0.85


@dataclass(frozen=True)
class Reviews:
    """One entry per review, ordered by time; None stands for missing."""

    user: Integers
    product: Integers
    time_s: Integers
    title: list[str | None]
    text: list[str | None]
    age: list[int | None]
    helpful_count: Integers
    rating: Integers
    recommended: list[int | None]
    tags: list[str | None]


def write_reviews(seed: int, size: str) -> Reviews:
    """The reviews of part of the rated purchases."""
    world, rated = build_world(seed, size), opinions(seed, size)
    draw = generator(seed, "shop", "reviews")
    chosen = np.sort(draw.permutation(len(rated.user))[: world.size.reviews])
    user, product, happiness = rated.user[chosen], rated.product[chosen], rated.happiness[chosen]
    recommended = _recommended(world, user, product, happiness, draw)
    title, text, tags = _wording(world, product, happiness, draw)
    known = world.users.age_known[user]
    return Reviews(
        user=user,
        product=product,
        time_s=rated.time_s[chosen],
        title=_blank(title, 150, draw),
        text=_blank(text, 40, draw),
        age=[int(age) if seen else None for age, seen in zip(world.users.age[user], known, strict=True)],
        helpful_count=np.floor(draw.gamma(0.7, 1.0, len(user)) * np.where(recommended == 1, 2.0, 3.0)).astype(np.int64),
        rating=rated.rating[chosen],
        recommended=_blank([int(value) for value in recommended], 10, draw),
        tags=tags,
    )


def _recommended(
    world: World, user: Integers, product: Integers, happiness: Floats, draw: np.random.Generator
) -> Integers:
    """1 where happiness, the category, the reviewer's age and chance add up to a recommendation."""
    steps = generator(world.seed, "shop", "category offsets").permutation(len(words.CATEGORIES))
    offset = (2.0 * steps - (len(words.CATEGORIES) - 1)) / 4.0
    mood = on_grid(np.log(happiness / (1.0 - happiness))) / 1.8
    pull = _CATEGORY_OFFSET * offset[world.products.category[product]]
    pull = pull + _AGE_SLOPE * on_grid((world.users.age[user] - 40) / 14.0)
    return (mood + pull + _RECOMMEND_NOISE * normal(draw, len(user)) > _RECOMMEND_FROM).astype(np.int64)


def _wording(
    world: World, product: Integers, happiness: Floats, draw: np.random.Generator
) -> tuple[list[str], list[str], list[str | None]]:
    """Title, text and tags of each review."""
    count = len(product)
    kindness = 0.03 + 0.94 * _steep(happiness)
    mood = (draw.integers(0, 4096, (count, _MAX_SENTENCES + 2)) < 4096.0 * kindness[:, None]).astype(np.int64)
    sentences = pick(draw, _LENGTH_SHARES, count)
    aspect = pick(draw, _ASPECT_SHARES, count * _MAX_SENTENCES).reshape(count, _MAX_SENTENCES)
    phrase = pick(draw, _PHRASE_SHARES, count * _MAX_SENTENCES).reshape(count, _MAX_SENTENCES)
    dice = draw.integers(0, 2**31, (count, _MAX_SENTENCES, 3))
    asides = draw.integers(0, 2**31, (count, 4))
    titles, texts, tags = [], [], []
    for row in range(count):
        titles.append(_any(TITLES[mood[row, 0]], asides[row, 0]))
        said = range(sentences[row])
        body = [
            _sentence(tuple(ASPECTS.values())[aspect[row, i]], PHRASES[phrase[row, i]], mood[row, i + 2], dice[row, i])
            for i in said
        ]
        texts.append(_text(body, mood[row, 1], asides[row], _noun(world, product[row]), _brand(world, product[row])))
        tags.append(";".join(name for i, name in enumerate(ASPECTS) if i in aspect[row, : sentences[row]]) or None)
    return titles, texts, tags


def _steep(happiness: Floats) -> Floats:
    """Happiness from 0 to 1 with the change gathered near the fifth who are least happy, as in real shops."""
    return 1.0 / (1.0 + on_grid(((1.0 - happiness) / 0.78) ** 10.0))


def _text(body: list[str], mood: int, asides: Integers, noun: str, brand: str) -> str:
    """An opening most of the time, what was said, and an aside now and then."""
    opening = [_any(OPENINGS[mood], asides[1])] if asides[2] % 10 < 7 or not body else []
    filler = [_any(FILLERS, asides[3])] if asides[2] // 10 % 10 < 4 else []
    return " ".join(opening + filler + body).format(noun=noun, brand=brand)


def _sentence(aspect: Aspect, phrase: str, mood: int, dice: Integers) -> str:
    subject = _any(aspect.subjects, dice[0])
    told, denied = (aspect.kind, aspect.unkind) if mood else (aspect.unkind, aspect.kind)
    return phrase.format(
        subject=subject,
        Subject=subject[0].upper() + subject[1:],
        told=_any(told, dice[1]),
        denied=_any(denied, dice[2]),
    )


def _any(bank: tuple[str, ...], number: int) -> str:
    return bank[int(number) % len(bank)]


def _noun(world: World, product: int) -> str:
    department = words.DEPARTMENTS[words.CATEGORIES[world.products.category[product]]]
    return department.nouns[int(world.products.noun[product])]


def _brand(world: World, product: int) -> str:
    return words.BRANDS[int(world.products.brand[product])]


def _blank(values: list[Value], per_thousand: int, draw: np.random.Generator) -> list[Value | None]:
    """The values, with some of them missing at random."""
    missing = draw.integers(0, 1000, len(values)) < per_thousand
    return [None if gone else value for value, gone in zip(values, missing, strict=True)]

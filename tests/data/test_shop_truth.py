"""The truth planted in the shop can be found again.

Invariants: true preference beats neighbors, neighbors beat popularity; the useless column is useless while category is
not; attributes tell much about a product and something about a person; snacks follow the pairings; a review's words
tell whether the product is recommended, and the table columns tell more.
"""

from __future__ import annotations

import re
import zlib
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, diags_array, hstack

from towerkit.data.shop import shop_table
from towerkit.data.shop.behavior import SNACK_TASTE
from towerkit.data.shop.words import CATEGORIES
from towerkit.data.shop.world import World, build_world

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(0, "full")


def positions(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.array([int(key[1:]) - 1 for key in column.to_pylist()])


def one_hot(codes: NDArray[np.int64]) -> Array:
    return np.eye(codes.max() + 1)[codes]


def held_out_r2(features: Array, target: Array, ridge: float = 2.0) -> float:
    """Share of the target's variance that a ridge regression explains on the odd rows, fitted on the even ones."""
    center, middle = features[::2].mean(axis=0), target[::2].mean(axis=0)
    x = features[::2] - center
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ (target[::2] - middle))
    residual = target[1::2] - middle - (features[1::2] - center) @ weights
    return 1.0 - float((residual**2).sum() / ((target[1::2] - middle) ** 2).sum())


def area_under_curve(score: Array, label: NDArray[np.bool_]) -> float:
    rank = np.argsort(np.argsort(score, kind="stable")) + 1.0
    positives = int(label.sum())
    return float((rank[label].sum() - positives * (positives + 1) / 2) / (positives * (len(label) - positives)))


def hashed_word_pairs(texts: list[str], buckets: int = 2**15) -> csr_matrix:
    """Words and pairs of neighboring words, hashed to columns, each row of length one."""
    rows, columns = [], []
    for row, text in enumerate(texts):
        tokens = re.findall(r"\w+", text.lower())
        for gram in [*tokens, *map(" ".join, pairwise(tokens))]:
            rows.append(row)
            columns.append(zlib.crc32(gram.encode()) % buckets)
    counts = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(texts), buckets))
    return diags_array(1.0 / np.maximum(np.sqrt(counts.multiply(counts).sum(axis=1)).A1, 1.0)) @ counts


def logistic_regression(features: csr_matrix, label: NDArray[np.bool_], ridge: float = 0.3) -> Array:
    """Weights that minimize the log loss plus a ridge penalty, starting from zero; a common offset is left out."""
    sign = np.where(label, 1.0, -1.0)

    def loss(weights: Array) -> tuple[float, Array]:
        margin = sign * (features @ weights)
        slope = -sign / (1.0 + np.exp(margin))
        value = np.logaddexp(0.0, -margin).sum() + 0.5 * ridge * weights @ weights
        return float(value), features.T @ slope + ridge * weights

    found = minimize(loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 150})
    return np.asarray(found.x)


class LastTenth:
    """Purchases split by row: the last tenth is to be predicted, what was bought before is not recommended again."""

    def __init__(self, world: World) -> None:
        table = shop_table("purchases")
        user, product = positions(table["user_id"]), positions(table["product_id"])
        cut = len(user) * 9 // 10
        self.seen = np.zeros(world.preference.shape)
        self.seen[user[:cut], product[:cut]] = 1.0
        self.target = np.zeros(world.preference.shape, dtype=bool)
        self.target[user[cut:], product[cut:]] = True
        self.target &= self.seen == 0

    def quality(self, scores: Array, k: int = 10) -> tuple[float, float]:
        """Recall and NDCG at ``k``, averaged over the people with something to find."""
        rows = self.target.any(axis=1)
        top = np.argsort(-np.where(self.seen > 0, -np.inf, scores)[rows], axis=1, kind="stable")[:, :k]
        hit, wanted = np.take_along_axis(self.target[rows], top, axis=1), self.target[rows].sum(axis=1)
        discount = 1.0 / np.log2(np.arange(k) + 2.0)
        ideal = np.cumsum(discount)[np.minimum(wanted, k) - 1]
        return float((hit.sum(axis=1) / wanted).mean()), float((hit @ discount / ideal).mean())


def test_taste_beats_neighbors_and_neighbors_beat_popularity(world: World) -> None:
    split = LastTenth(world)
    count = split.seen.sum(axis=0)
    popularity = split.quality(np.broadcast_to(count, split.seen.shape))
    length = np.sqrt(np.maximum(count, 1.0))
    cosine = split.seen.T @ split.seen / length[:, None] / length[None, :]
    np.fill_diagonal(cosine, 0.0)
    neighbors, taste = split.quality(split.seen @ cosine), split.quality(world.preference)
    for metric in range(2):
        assert taste[metric] > 2.5 * popularity[metric]
        assert neighbors[metric] > 1.5 * popularity[metric]
        assert taste[metric] > 1.2 * neighbors[metric]


def test_the_truth_table_lists_the_best_products_of_each_person(world: World) -> None:
    table = shop_table("truth")
    user, product = positions(table["user_id"]), positions(table["product_id"])
    listed = np.array(table["preference"].to_pylist()).reshape(world.size.users, -1)
    assert np.array_equal(listed.ravel(), world.preference[user, product])
    assert np.array_equal(listed, -np.sort(-world.preference, axis=1)[:, : listed.shape[1]])
    assert abs(world.preference.mean()) < 0.1 and 0.8 < world.preference.std() < 1.2


def test_shelf_code_says_nothing_and_category_says_much(world: World) -> None:
    table = shop_table("products")

    def variance_ratio(column: str) -> float:
        """Between groups over within groups, per degree of freedom; one is chance."""
        codes = np.unique(table[column].to_pylist(), return_inverse=True)[1]
        vectors, groups = world.products.vector, codes.max() + 1
        means = (one_hot(codes).T @ vectors) / np.bincount(codes)[:, None]
        within = ((vectors - means[codes]) ** 2).sum() / (len(codes) - groups)
        between = ((means[codes] - vectors.mean(axis=0)) ** 2).sum() / (groups - 1)
        return float(between / within)

    assert variance_ratio("shelf_code") == pytest.approx(1.0, abs=0.3)
    assert variance_ratio("category") > 10.0
    assert variance_ratio("brand") > 3.0


def test_attributes_place_a_new_product_and_hint_at_a_new_person(world: World) -> None:
    goods, users = world.products, world.users
    coarse = np.hstack([one_hot(goods.category), one_hot(goods.brand)])
    table = shop_table("products").select(["title", "description"]).to_pylist()
    titles = [re.findall(r"\w+", f"{row['title']} {row['description']}".lower()) for row in table]
    vocabulary = {word: place for place, word in enumerate(sorted({word for title in titles for word in title}))}
    bag = np.zeros((len(titles), len(vocabulary)))
    for row, title in enumerate(titles):
        bag[row, [vocabulary[word] for word in title]] = 0.5
    assert held_out_r2(coarse, goods.vector) > 0.55
    assert held_out_r2(np.hstack([coarse, bag]), goods.vector) > held_out_r2(coarse, goods.vector) + 0.02
    person = np.hstack([one_hot((users.age - 18) // 8), one_hot(users.city)])
    assert held_out_r2(person, users.taste) > 0.3


def test_snacks_follow_the_planted_pairings(world: World) -> None:
    bought, snacks = shop_table("purchases"), shop_table("snack_purchases")
    user, category = positions(bought["user_id"]), world.products.category[positions(bought["product_id"])]
    counts = np.zeros((world.size.users, 8))
    np.add.at(counts, (user, category), 1.0)
    buyer, snack = positions(snacks["user_id"]), positions(snacks["snack_id"])
    favorite, flavor = counts.argmax(axis=1)[buyer], np.array(shop_table("snacks")["flavor"].to_pylist())
    taste_only = np.exp(SNACK_TASTE * world.snack_preference + world.snacks.popularity)
    taste_only /= taste_only.sum(axis=1, keepdims=True)
    pairings = shop_table("pairings").to_pylist()
    assert [row["category"] for row in pairings] == list(CATEGORIES)
    raw = []
    for code, row in enumerate(pairings):
        fans = favorite == code
        share = taste_only[:, flavor == row["flavor"]].sum(axis=1)[buyer[fans]]
        expected = (row["lift"] * share / (1.0 + (row["lift"] - 1.0) * share)).mean()
        observed = (flavor[snack] == row["flavor"])[fans].mean()
        error = np.sqrt(expected * (1.0 - expected) / fans.sum())
        assert observed == pytest.approx(expected, abs=4.0 * error)
        assert observed > share.mean() + 4.0 * error
        raw.append(observed / (flavor[snack] == row["flavor"])[~fans].mean())
    assert float(np.median(raw)) > 1.5  # seen by counting alone, taste ignored


def test_ratings_follow_taste_and_quality(world: World) -> None:
    table = shop_table("ratings")
    user, product = positions(table["user_id"]), positions(table["product_id"])
    rating = np.array(table["rating"].to_pylist(), dtype=float)
    assert np.corrcoef(rating, world.preference[user, product])[0, 1] > 0.3
    assert np.corrcoef(rating, world.products.quality[product])[0, 1] > 0.3
    pairs = user * world.size.products + product
    assert len(np.unique(pairs)) == len(pairs)


def test_reviews_agree_with_the_ratings_of_the_same_purchase() -> None:
    ratings, reviews = shop_table("ratings"), shop_table("reviews")
    given = {(row["user_id"], row["product_id"]): (row["rating"], row["time"]) for row in ratings.to_pylist()}
    said = {(row["user_id"], row["product_id"]): (row["rating"], row["time"]) for row in reviews.to_pylist()}
    assert len(said) == reviews.num_rows and all(given[key] == value for key, value in said.items())


def test_words_tell_recommended_and_the_table_adds_to_it() -> None:
    rows = [row for row in shop_table("reviews").to_pylist() if row["recommended"] is not None]
    label = np.array([row["recommended"] == 1 for row in rows])
    said = [f"{row['title'] or ''} . {row['text'] or ''}" for row in rows]
    words = hashed_word_pairs(said)
    age = np.array([((row["age"] or 40) - 40) / 14 for row in rows])
    helpful = np.log1p([row["helpful_count"] for row in rows])
    category = one_hot(np.unique([row["category"] for row in rows], return_inverse=True)[1])
    table = csr_matrix(np.column_stack([age, helpful, category]))

    def quality(features: csr_matrix) -> float:
        test = np.arange(len(rows)) % 3 == 0
        weights = logistic_regression(features[~test], label[~test])
        return area_under_curve(features[test] @ weights, label[test])

    by_words, by_both = quality(words), quality(csr_matrix(hstack([words, table])))
    assert 0.85 <= by_words <= 0.93
    assert 0.008 <= by_both - by_words <= 0.04
    rating = np.array([row["rating"] for row in rows], dtype=float)
    assert 0.5 < np.corrcoef(rating, label)[0, 1] < 0.85

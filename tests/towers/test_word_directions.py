"""Where the vectors of words begin (`towerkit.towers.word_directions`).

Pinned here:
- texts of one subject, without a word in common, are near each other, and far from texts of another subject;
- with all directions kept, cosines of sums are those of the weighed texts themselves (the oracle: a dense product);
- the order of the texts means nothing, an n-gram in no text is zeros, and empty texts are allowed.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from towerkit.data.batch import Bag
from towerkit.towers.layers import bag_sums
from towerkit.towers.word_directions import word_directions


def bag(texts: list[list[int]]) -> Bag:
    counts = np.array([len(text) for text in texts])
    codes = torch.tensor([code for text in texts for code in sorted(text)])
    weights = np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts).astype(np.float32)
    return Bag(codes, torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])), torch.from_numpy(weights))


def cosines(texts: Bag, table: torch.Tensor) -> NDArray[np.float64]:
    sums = bag_sums(texts, table, weights=texts.weights, sparse=False).double().numpy()
    sums = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return np.asarray(sums @ sums.T)


def test_one_subject_without_a_common_word() -> None:
    # words 0 to 3 are of one subject, 4 to 7 of another; the first two texts have no word in common
    texts = bag([[0, 1], [2, 3], [1, 2], [0, 3], [4, 5], [6, 7], [5, 6], [4, 7]])
    found = cosines(texts, word_directions(texts, 16, 2))
    assert found[0, 1] > 0.9
    assert abs(found[0, 4]) < 0.1


def test_all_directions_keep_every_cosine() -> None:
    texts = bag([[0, 1, 2], [2, 3], [0, 4, 5, 6], [6], [1, 3, 5]])
    counts = np.zeros((5, 7))
    counts[np.repeat(np.arange(5), np.diff(texts.offsets.numpy())), texts.codes.numpy()] = texts.weights.numpy()
    having = (counts > 0).sum(axis=0)
    weighed = counts * np.log1p((5 - having + 0.5) / (having + 0.5))
    weighed /= np.linalg.norm(weighed, axis=1, keepdims=True)
    np.testing.assert_allclose(cosines(texts, word_directions(texts, 7, 7)), weighed @ weighed.T, atol=1e-5)


def test_order_empties_and_unused_buckets() -> None:
    texts = [[0, 1, 2], [], [2, 3], [0, 4]]
    table = word_directions(bag(texts), 9, 3)
    assert table.shape == (9, 3)
    assert table[5:].abs().max() == 0
    turned = word_directions(bag(texts[::-1]), 9, 3)
    assert (table @ table.T).numpy() == pytest.approx((turned @ turned.T).numpy(), abs=1e-6)
    assert word_directions(bag([[], []]), 4, 2).abs().max() == 0

"""The pairs that training is timed on: public data where they are there, random pairs of the same size elsewhere."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.csv
from harness import data_folder
from numpy.typing import NDArray
from reference.one_backprop import Pairs


@dataclass(frozen=True)
class Source:
    """Pairs, and in words where they come from."""

    pairs: Pairs
    origin: str

    def part(self, count: int) -> Source:
        """So many of the pairs, chosen at random; all of them where there are no more."""
        if count >= len(self.pairs.users):
            return self
        rows = np.random.default_rng(0).choice(len(self.pairs.users), count, replace=False)
        pairs = replace(self.pairs, users=self.pairs.users[rows], items=self.pairs.items[rows])
        return Source(pairs, f"{count:,} pairs of {self.origin}")


def ml100k(*, tiny: bool = False) -> Source:
    """The 80,000 training pairs of MovieLens-100K in the reference split."""
    file = data_folder("ml-100k", "reference_split", "100k_train.csv")
    if tiny or file is None:
        return random_pairs(*((60, 90, 900) if tiny else (943, 1_682, 80_000)))
    table = pyarrow.csv.read_csv(file)
    return _coded(table["user"].to_numpy(), table["item"].to_numpy(), "MovieLens-100K, reference split")


def gowalla(*, tiny: bool = False) -> Source:
    """The 810,128 training pairs of Gowalla in the LightGCN split."""
    file = data_folder("gowalla", "light_gcn_gowalla.zip")
    if tiny or file is None:
        return random_pairs(*((60, 90, 900) if tiny else (29_858, 40_981, 810_128)))
    lines = zipfile.ZipFile(file).read("light_gcn_gowalla/train.txt").decode().splitlines()
    rows = [np.array(line.split(), dtype=np.int64) for line in lines if line]
    users = np.repeat([row[0] for row in rows], [len(row) - 1 for row in rows])
    return _coded(users, np.concatenate([row[1:] for row in rows]), "Gowalla, LightGCN split")


def random_pairs(num_users: int, num_items: int, count: int) -> Source:
    """Distinct random pairs: users alike, items by a falling popularity; every user keeps items it has not met."""
    draw = np.random.default_rng(0)
    cells = np.empty(0, dtype=np.int64)
    while len(cells) < count:
        items = (num_items * draw.random(count) ** 2).astype(np.int64)
        cells = np.unique(np.concatenate([cells, draw.integers(0, num_users, count) * num_items + items]))
    cells = draw.permutation(cells)[:count]
    pairs = Pairs(cells // num_items, cells % num_items, num_users, num_items)
    return Source(pairs, f"{count:,} random pairs of {num_users:,} users and {num_items:,} items")


def _coded(users: NDArray[np.int64], items: NDArray[np.int64], origin: str) -> Source:
    (known_users, user), (known_items, item) = (np.unique(column, return_inverse=True) for column in (users, items))
    return Source(Pairs(user, item, len(known_users), len(known_items)), origin)

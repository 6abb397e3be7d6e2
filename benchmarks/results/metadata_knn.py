"""The metadata-kNN that new films are compared with: a user likes what resembles the films that she rated.

    python benchmarks/results/metadata_knn.py [--seeds 0]

A film is TF-IDF over its genres, its people, its words, or several of these side by side, each part of length 1. Its score is
the sum of its ``k`` largest similarities to the user's training films, or of all. Parts and ``k`` are chosen by recall@50 of the
validation films, which have no training row either, among ``USERS`` users; test is read once. The figures are added to
``fusion.json`` beside the models of the row ``films_cold`` of fusion_rows.py, whose split they share.
"""

from __future__ import annotations

import argparse
import json
import re
from datetime import date
from typing import Any

import numpy as np
from fusion import ROOT, commit, keep
from fusion_rows import ROWS
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.data.dataset import read_dataset
from towerkit.metrics.intervals import mean_intervals
from towerkit.spec import load_spec

PARTS = {
    "genres": ("Genres",),
    "people": ("director", "writer", "actors"),
    "words": ("title", "overview"),
    "country": ("production_countries",),
}
CHOICES = (("genres",), ("people",), ("words",), ("genres", "people"), ("genres", "people", "words"), tuple(PARTS))
DEPTHS = (5, 20, None)
K, USERS = 50, 1000
Floats = NDArray[np.float32]


def main() -> None:
    """Choose on validation, measure on test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    for seed in parser.parse_args().seeds:
        keep([measured(seed)], "runs")


def measured(seed: int) -> dict[str, Any]:
    """The best setting of validation, on test."""
    (row,) = (row for row in ROWS if row.name == "films_cold")
    path = ROOT / row.models[0].spec
    spec = load_spec(path, [f"{key}={json.dumps(value)}" for key, value in row.settings.items()])
    dataset = read_dataset(spec.data, base=path.parent, seed=seed)
    films = dataset.entities["movieID"].table.data
    place = {str(key): index for index, key in enumerate(films["MovieID"].to_pylist())}
    rows = dataset.examples.data
    item = np.array([place[str(key)] for key in rows["movieID"].to_pylist()])
    users, user = np.unique(np.asarray(rows["userID"].to_pylist()), return_inverse=True)
    parts = {
        name: matrix
        for name in ("train", "validation", "test")
        for matrix in [pairs(user, item, getattr(dataset.parts, name), (len(users), len(place)))]
    }
    cells = {name: films[name].to_pylist() for names in PARTS.values() for name in names}
    found = {name: tf_idf([words(cells, names, index) for index in range(len(place))]) for name, names in PARTS.items()}
    few = np.random.default_rng(seed).choice(len(users), USERS, replace=False)
    best: tuple[float, tuple[str, ...], int | None] = (-1.0, (), None)
    for names in CHOICES:
        similarity = similarities([found[name] for name in names])
        for depth in DEPTHS:
            value = float(recalls(similarity, depth, parts["train"], parts["validation"], few).mean())
            print(
                f"seed {seed}: {' + '.join(names)}, k {depth or 'all'}: validation recall@{K} {value:.4f}", flush=True
            )
            best = max(best, (value, names, depth), key=lambda each: each[0])
    _, names, depth = best
    values = recalls(
        similarities([found[name] for name in names]), depth, parts["train"], parts["test"], np.arange(len(users))
    )
    interval = mean_intervals({"recall": values.astype(np.float64)}, seed=seed)["recall"]
    print(
        f"seed {seed}: chosen {' + '.join(names)}, k {depth or 'all'}: test recall@{K} {values.mean():.4f}", flush=True
    )
    known = parts["train"].sum(axis=1)[np.diff(parts["test"].indptr) > 0]
    return {
        "row": row.name,
        "model": "metadata-kNN",
        "seed": seed,
        "settings": {"parts": list(names), "k": depth, "chance": float(np.mean(K / (len(place) - known)))},
        "metrics": {f"recall@{K}": {"value": float(values.mean()), "low": interval.low, "high": interval.high}},
        "beside": {},
        "protocol": {"queries": len(values), "candidates": len(place)},
        "measured": f"{date.today()} at {commit()}",
    }


def pairs(user: NDArray[Any], item: NDArray[Any], rows: Any, shape: tuple[int, int]) -> csr_array:
    """Which user has which film in a part."""
    chosen = np.asarray(rows)
    found = csr_array((np.ones(len(chosen), np.float32), (user[chosen], item[chosen])), shape=shape)
    found.data[:] = 1.0
    return found


def words(cells: dict[str, list[Any]], names: tuple[str, ...], index: int) -> list[str]:
    """What is written in some columns of a film: whole names where several stand between bars, else words."""
    found: list[str] = []
    for name in names:
        value = cells[name][index]
        values = value if isinstance(value, list) else str(value or "").split("|")
        for each in values:
            found += re.findall(r"\w+", each.lower()) if name in ("title", "overview") else [each] * bool(each)
    return found


def tf_idf(films: list[list[str]]) -> csr_array:
    """Rows of length 1; a word counts by the logarithm of how few films have it."""
    names = {word: place for place, word in enumerate(sorted({word for film in films for word in film}))}
    rows = [row for row, film in enumerate(films) for _ in film]
    columns = [names[word] for film in films for word in film]
    counts = csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(films), len(names)))
    counts.sum_duplicates()
    present = np.bincount(counts.indices, minlength=len(names))
    counts.data = (1 + np.log(counts.data)) * np.log(len(films) / present)[counts.indices]
    length = np.sqrt(counts.multiply(counts).sum(axis=1))
    counts.data /= np.repeat(np.maximum(length, 1e-9), np.diff(counts.indptr))
    return counts


def similarities(parts: list[csr_array]) -> Floats:
    """Cosines of all films, the mean over the parts."""
    return np.mean([(each @ each.T).toarray() for each in parts], axis=0).astype(np.float32)


def recalls(similarity: Floats, depth: int | None, train: csr_array, held: csr_array, users: NDArray[Any]) -> Floats:
    """recall@50 of each of the users that have a held-out film; training films are no candidates."""
    noise = np.random.default_rng(0).random(len(similarity)).astype(np.float32) * 1e-7
    found = []
    for user in users:
        wanted = held.indices[held.indptr[user] : held.indptr[user + 1]]
        known = train.indices[train.indptr[user] : train.indptr[user + 1]]
        if not len(wanted):
            continue
        near = similarity[known]
        if depth is not None and len(known) > depth:
            near = np.partition(near, len(known) - depth, axis=0)[-depth:]
        scores = near.sum(axis=0) + noise
        scores[known] = -np.inf
        top = np.argpartition(-scores, K)[:K]
        found.append(len(np.intersect1d(top, wanted)) / len(wanted))
    return np.array(found, np.float32)


if __name__ == "__main__":
    main()

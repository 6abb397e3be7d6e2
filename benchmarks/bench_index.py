"""Approximate search through the library beside bare faiss, and a catalogue of a million: building, recall, single queries.

Vectors are drawn around 2,000 centers of unequal size, with axes of unequal length, as trained vectors lie; queries likewise.
Without faiss the benchmark is left out, and a line says so.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
from harness import ratio, report, stopwatch
from numpy.typing import NDArray

from towerkit.index.exact import ExactIndex
from towerkit.index.specs import FaissIndexSpec
from towerkit.index.stored import StoredIndex, keyed_vectors
from towerkit.index.trials import recall_of

DIM, K, BATCH = 64, 20, 64
FACTORY, BUILD, SEARCH = "HNSW32", 100, 256
"""The graph, and how many nodes of it are kept while it is built and searched."""
ABOUT = f"{FACTORY}, {BUILD} nodes kept to build and {SEARCH} to search, cosine, vectors around 2,000 centers"
SPEC = FaissIndexSpec(factory=FACTORY, ef_construction=BUILD, ef_search=SEARCH)


def clustered(size: int, draw: np.random.Generator, centers: NDArray[np.float64]) -> NDArray[np.float32]:
    """``[size, DIM]`` points around centers: the first have more than the last, the first axes are longer than the last."""
    owner = (len(centers) * draw.random(size) ** 2).astype(np.int64)
    axes = np.arange(1, DIM + 1) ** -0.25
    return ((centers[owner] + 0.7 * draw.normal(size=(size, DIM))) * axes).astype(np.float32)


def world(num_candidates: int, num_queries: int) -> tuple[Any, NDArray[np.float32]]:
    """Stored candidates, and queries."""
    draw = np.random.default_rng(0)
    centers = draw.normal(size=(2000, DIM))
    vectors = clustered(num_candidates, draw, centers)
    return keyed_vectors(list(range(num_candidates)), vectors, "cosine"), clustered(num_queries, draw, centers)


def beside_faiss(num_candidates: int, rounds: int) -> None:
    """Batches of 64 through the index and through faiss itself; each side takes batches of its own, so none warms the other's."""
    stored, queries = world(num_candidates, 64 * BATCH)
    index = SPEC.build(stored)
    ready = stored.measure.ready("query", queries)
    through, bare = _batches(), _batches(start=32)
    sides: dict[str, Callable[[], object]] = {
        "towerkit": lambda: index.search(queries[next(through)], K),
        "bare faiss": lambda: index.native.search(ready[next(bare)], K),
    }
    seconds = in_both_orders(sides, rounds)
    found = recall_of(index.search(queries[:1024], K), ExactIndex(stored).search(queries[:1024], K))
    ratios = {"bare faiss / towerkit": ratio(seconds["bare faiss"], seconds["towerkit"])}
    about = {"n": num_candidates, "dim": DIM, "k": K, "batch": BATCH, "recall": round(found, 4), "about": ABOUT}
    report("index beside faiss", seconds, **about, ratios=ratios)


def _batches(start: int = 0) -> Iterator[slice]:
    """Places of one batch after the other, again and again."""
    return (slice(BATCH * (place % 64), BATCH * (place % 64) + BATCH) for place in count(start))


def in_both_orders(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of sides that take turns, each as often first as last."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for place in range(rounds):
        for name in sides if place % 2 else reversed(sides):
            seconds[name].append(stopwatch(sides[name]))
    return seconds


def large(num_candidates: int, num_queries: int) -> None:
    """Build an index of so many, and ask it one query at a time."""
    stored, queries = world(num_candidates, num_queries)
    started, worked = time.perf_counter(), time.process_time()
    index: StoredIndex = SPEC.build(stored)
    build_s, build_cpu_s = time.perf_counter() - started, time.process_time() - worked
    found = recall_of(index.search(queries, K), ExactIndex(stored).search(queries, K))
    index.search(queries[:1], K)
    single = [
        stopwatch(lambda place=place: index.search(queries[place : place + 1], K)) for place in range(num_queries)
    ]  # type: ignore[misc]
    figures = {"build_s": round(build_s, 1), "build_cpu_s": round(build_cpu_s, 1), "recall": round(found, 4)}
    figures["p99_s"] = float(np.quantile(single, 0.99))
    report("large index", {"one query": single}, n=num_candidates, dim=DIM, k=K, about=ABOUT, **figures)


def main() -> None:
    """Both, tiny or whole."""
    if importlib.util.find_spec("faiss") is None:
        report("index beside faiss", {}, left_out="faiss is not installed: pip install 'towerkit[ann]'", ratios={})
        return
    tiny = "--tiny" in sys.argv
    beside_faiss(2_000 if tiny else 100_000, 4 if tiny else 400)
    large(2_000 if tiny else 1_000_000, 64 if tiny else 2_000)


if __name__ == "__main__":
    main()

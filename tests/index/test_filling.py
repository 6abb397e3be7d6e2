"""Inverted lists that are filled in shards.

- They are those of one fill, byte for byte, with codes, rotations and graphs over the centers, however many vectors a shard has;
- what is found afterwards, written and read again is the same;
- what has no lists is filled here, and is refused where workers shall fill it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from towerkit.cli import app
from towerkit.core.errors import SpecError
from towerkit.index.files import open_index, save_index
from towerkit.index.filling import by_shards
from towerkit.index.specs import FaissIndexSpec
from towerkit.index.stored import keyed_vectors

pytestmark = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="needs towerkit[ann]")
VECTORS = np.random.default_rng(0).normal(size=(1200, 16)).astype(np.float32)
QUERIES = np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32)


def stored(similarity: Any = "dot") -> Any:
    return keyed_vectors([f"i{number}" for number in range(len(VECTORS))], VECTORS, similarity)


def octets(index: Any) -> bytes:
    import faiss

    return bytes(faiss.serialize_index(index.native))


FACTORIES = ["IVF8,Flat", "IVF8,SQ8", "IVF8,PQ4x4", "OPQ4_8,IVF8,PQ4x4", "IVF16_HNSW8,SQfp16"]


@pytest.mark.parametrize(
    ("factory", "rows"),
    [("IVF8,Flat", 1), ("IVF8,Flat", 1200), ("IVF8,Flat", 5000), *((each, 500) for each in FACTORIES)],
)
def test_shards_make_the_lists_of_one_fill(factory: str, rows: int) -> None:
    spec = FaissIndexSpec(factory=factory)
    whole, cut = spec.build(stored()), spec.build(stored(), fill=by_shards(map, rows=rows))
    assert cut.native.ntotal == len(VECTORS)
    assert octets(cut) == octets(whole)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
def test_what_shards_made_is_searched_written_and_read(similarity: Any, tmp_path: Path) -> None:
    spec = FaissIndexSpec(factory="IVF8,Flat", nprobe=3)
    shards = list[int]()

    def each(function: Callable[[Any], Any], pieces: Sequence[Any]) -> Iterator[Any]:
        shards.extend(len(piece) for piece in pieces)
        return map(function, pieces)

    whole, cut = spec.build(stored(similarity)), spec.build(stored(similarity), fill=by_shards(each, rows=500))
    assert shards == [500, 500, 200]
    save_index(tmp_path / "cut", cut, spec)
    for index in (cut, open_index(tmp_path / "cut")):
        index.upsert(["new"], np.ones((1, 16), np.float32))
        index.delete(["i7"])
    whole.upsert(["new"], np.ones((1, 16), np.float32))
    whole.delete(["i7"])
    want, found = whole.search(QUERIES, 9), cut.search(QUERIES, 9)
    np.testing.assert_array_equal(found.rows, want.rows)
    np.testing.assert_array_equal(found.scores, want.scores)


@pytest.mark.parametrize("factory", ["HNSW8", "Flat"])
def test_what_has_no_lists_is_filled_here(factory: str) -> None:
    spec = FaissIndexSpec(factory=factory)
    assert octets(spec.build(stored(), fill=by_shards(map))) == octets(spec.build(stored()))


@pytest.mark.parametrize(
    ("words", "received"),
    [
        (["--factory", "HNSW32"], "'HNSW32' has none"),
        (["--factory", "IVF8,Flat", "--factory", "Flat", "--recall", "0.9"], "'Flat' has none"),
        (["--kind", "exact"], "'exact' has none"),
        (["--out", "x"], "'exact' has none"),
    ],
)
def test_workers_are_refused_what_they_cannot_fill(words: list[str], received: str, tmp_path: Path) -> None:
    """Before a cluster is started, and before the Run is opened."""
    done = CliRunner().invoke(app, ["index", str(tmp_path), *words, "--on", "local", "--workers", "2"])
    assert isinstance(done.exception, SpecError)
    assert received in str(done.exception)
    assert "Choose IVF" in str(done.exception)


def test_workers_go_with_a_cluster(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["index", str(tmp_path), "--recall", "0.9", "--workers", "2"])
    assert done.exit_code == 2
    assert "goes with --on" in done.output

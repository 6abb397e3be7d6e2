"""Every sort of index keeps the contract.

- exact, and faiss at full effort, in fewer bits too, keep one kit: hits, filters, writing, deleting, refusals;
- with random worlds, masks and lists an index gives what an exact filtered search gives (Hypothesis);
- exact search equals the sort-everything twin, also where all scores tie and where rounding could decide;
- the compiled selection and NumPy's give the same hits; the similarity conventions are those of the Run's own ranking;
- shards find what the whole index finds, bit for bit, equals and filters included;
- an approximate index falls back where its library finds too few, and says that it is not exact.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from towerkit.core.errors import DataError, ShapeError, SpecError
from towerkit.core.spec import parse
from towerkit.index import approximate, selection
from towerkit.index.contract import Index, Key, Similarity
from towerkit.index.exact import ExactIndex
from towerkit.index.hits import candidate_tie_order
from towerkit.index.question import excluded_rows
from towerkit.index.sharded import ShardedIndex
from towerkit.index.specs import ExactIndexSpec, FaissIndexSpec, IndexChoice, MilvusIndexSpec
from towerkit.index.stored import keyed_vectors
from towerkit.index.vectors import VectorRanker
from towerkit.testing.indexes import SIMILARITIES, IndexContract

HAS_MILVUS = all(importlib.util.find_spec(name) for name in ("pymilvus", "milvus_lite"))
needs_milvus = pytest.mark.skipif(not HAS_MILVUS, reason="needs towerkit[milvus]")
needs_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="needs towerkit[ann]")


class TestExact(IndexContract):
    def make(self, keys: Sequence[Key], vectors: NDArray[np.float32], similarity: Similarity) -> Index:
        return ExactIndex.of(keys, vectors, similarity)


class TestSharded(IndexContract):
    def make(self, keys: Sequence[Key], vectors: NDArray[np.float32], similarity: Similarity) -> Index:
        return ShardedIndex.of([(keys[part], vectors[part]) for part in CUTS], similarity)


CUTS = (slice(0, 7), slice(7, 8), slice(8, 8), slice(8, 140), slice(140, None))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_shards_find_what_the_whole_finds(similarity: Similarity) -> None:
    draw = np.random.default_rng(3)
    vectors = draw.integers(-1, 2, size=(300, 4)).astype(np.float32)  # many equals, so that ties decide
    keys = [f"k{row}" for row in range(300)]
    whole, queries = ExactIndex.of(keys, vectors, similarity), draw.integers(-2, 3, size=(40, 4)).astype(np.float32)
    shards = ShardedIndex.of([(keys[part], vectors[part]) for part in CUTS], similarity)
    allowed, exclude = draw.random(300) < 0.7, [np.flatnonzero(draw.random(300) < 0.1) for _ in queries]
    for more in ({}, {"allowed": allowed}, {"exclude": exclude}, {"allowed": allowed, "exclude": exclude}):
        for k in (1, 9, 290):
            right, found = whole.search(queries, k, **more), shards.search(queries, k, **more)  # type: ignore[arg-type]
            assert np.array_equal(found.rows, right.rows)
            assert np.array_equal(found.scores, right.scores)
            assert np.array_equal(found.counts, right.counts)
            assert found.reason == right.reason
    assert shards.keys_of(np.array([0, 7, 139, 299])) == ["k0", "k7", "k139", "k299"]


def test_shards_that_do_not_fit() -> None:
    one = (["a"], np.ones((1, 3), np.float32))
    with pytest.raises(DataError, match="'a' stands twice"):
        ShardedIndex.of([one, one], "dot")
    with pytest.raises(ShapeError, match=r"one width; received \[2, 3\]"):
        ShardedIndex.of([one, (["b"], np.ones((1, 2), np.float32))], "dot")
    with pytest.raises(DataError, match="Row 2 of the index holds no key"):
        ShardedIndex.of([one, (["b"], np.ones((1, 3), np.float32))], "dot").keys_of(np.array([1, 2]))


@needs_faiss
class TestFlat(IndexContract):
    spec = FaissIndexSpec(factory="Flat")

    def make(self, keys: Sequence[Key], vectors: NDArray[np.float32], similarity: Similarity) -> Index:
        return self.spec.build(keyed_vectors(keys, vectors, similarity))


class TestHNSW(TestFlat):
    spec = FaissIndexSpec(factory="HNSW16", ef_search=400)


class TestIVF(TestFlat):
    spec = FaissIndexSpec(factory="IVF4,Flat", nprobe=4)


class TestRefinedCodes(TestFlat):
    spec = FaissIndexSpec(factory="IVF4,SQ8", nprobe=4, refine=5)


class TestHalfPrecision(TestFlat):
    spec = FaissIndexSpec(factory="SQfp16", refine=3)


@needs_milvus
class TestMilvus(TestFlat):
    """Embedded, or the cluster of ``TOWERKIT_MILVUS_URI``."""

    spec = MilvusIndexSpec(index_type="FLAT")  # type: ignore[assignment]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SIMILARITIES), st.integers(0, 2**32), st.sampled_from([1, 10, 299, 301]))
def test_exact_filters_at_random(similarity: Similarity, seed: int, k: int) -> None:
    TestExact().check_filters(similarity, seed, k)


@needs_faiss
@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SIMILARITIES), st.integers(0, 2**32), st.sampled_from([1, 10, 60]))
def test_approximate_filters_at_random(similarity: Similarity, seed: int, k: int) -> None:
    TestHNSW().check_filters(similarity, seed, k)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 40]), st.booleans())
def test_exact_is_the_sorted_whole_bit_for_bit(seed: int, k: int, far: bool) -> None:
    """Whole numbers have no rounding; far from zero, float32 rounds, and the scores of pairs still decide."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (200, 6)).astype(np.float32) * np.float32(1.1 if far else 1.0)
    queries = rng.integers(-1, 2, (5, 6)).astype(np.float32) * np.float32(1e3 if far else 1.0)
    index = ExactIndex.of(list(range(200)), vectors, "dot")
    scores = np.vecdot(queries[:, None], vectors)
    order = np.lexsort((np.broadcast_to(candidate_tie_order(200), scores.shape), -scores), axis=-1)[:, :k]
    hits = index.search(queries, k)
    np.testing.assert_array_equal(hits.rows, order)
    np.testing.assert_array_equal(hits.scores, np.take_along_axis(scores, order, axis=1))


def test_a_collapsed_model_gives_the_tie_order() -> None:
    index = ExactIndex.of(list(range(500)), np.ones((500, 4)), "cosine")
    np.testing.assert_array_equal(index.search(np.ones((2, 4)), 30).rows[1], np.argsort(candidate_tie_order(500))[:30])


def test_compiled_and_plain_selection_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    index = ExactIndex.of(list(range(3000)), rng.normal(size=(3000, 16)), "euclidean")
    queries, lists = rng.normal(size=(70, 16)), [np.array([row]) for row in range(70)]
    plain = index.search(queries, 9, exclude=lists)
    monkeypatch.setattr(selection, "_WORTH_COMPILING", 0)
    compiled = index.search(queries, 9, exclude=lists)
    np.testing.assert_array_equal(plain.rows, compiled.rows)
    np.testing.assert_array_equal(plain.scores, compiled.scores)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_scores_and_order_are_those_of_the_ranking_of_a_run(similarity: Similarity) -> None:
    """Whole numbers, so that no rounding decides; a cosine's lengths are powers of two."""
    rng = np.random.default_rng(3)
    vectors, queries = rng.integers(-3, 4, (400, 8)).astype(np.float32), rng.integers(-3, 4, (20, 8)).astype(np.float32)
    if similarity == "cosine":
        vectors, queries = (np.where(np.arange(8) < 4, np.sign(each + 0.5), 0) for each in (vectors, queries))
    if similarity == "euclidean":
        vectors[:200] = -vectors[200:]  # centered on zero
    ranked = VectorRanker(queries, vectors, similarity).rank(np.arange(20), 15)
    hits = ExactIndex.of(list(range(400)), vectors, similarity).search(queries, 15)
    np.testing.assert_array_equal(hits.rows, ranked.rows)
    np.testing.assert_array_equal(hits.scores, ranked.scores)


@needs_faiss
def test_an_approximate_index_falls_back_where_the_library_finds_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    vectors, queries = rng.normal(size=(300, 4)), rng.normal(size=(6, 4))
    index = FaissIndexSpec(factory="IVF64,Flat", nprobe=1).build(keyed_vectors(list(range(300)), vectors, "dot"))
    assert not index.exact
    assert (index.search(queries, 50).counts == 50).all()
    allowed = np.zeros(300, bool)
    allowed[rng.permutation(300)[:100]] = True
    exact = ExactIndexSpec().build(index.stored).search(queries, 60, allowed=allowed)
    np.testing.assert_array_equal(index.search(queries, 60, allowed=allowed).rows, exact.rows)
    monkeypatch.setattr(approximate, "search_exactly", lambda stored, asked: pytest.fail("fell back"))
    with pytest.raises(BaseException, match="fell back"):
        index.search(queries, 50)


@needs_faiss
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"factory": "HNSWx"}, "'HNSWx'"),
        ({"factory": "nonsense"}, "could not parse index string nonsense"),
        ({"factory": "IVF500,Flat"}, "300 vectors"),
        ({"factory": "HNSW8", "nprobe": 3}, "nprobe is a setting of IVF; 'HNSW8' has none"),
        ({"factory": "Flat", "ef_construction": 3}, "ef_construction is a setting of HNSW; 'Flat' has none"),
        ({"factory": "IVF4,Flat", "ef_search": 3}, "ef_search is a setting of HNSW; 'IVF4,Flat' has none"),
    ],
)
def test_what_faiss_cannot_build_is_refused(settings: dict[str, Any], told: str) -> None:
    stored = keyed_vectors(list(range(300)), np.random.default_rng(0).normal(size=(300, 4)), "dot")
    with pytest.raises(SpecError, match=told):
        FaissIndexSpec(**settings).build(stored)


def test_keys_stand_once_and_are_of_one_type() -> None:
    with pytest.raises(DataError, match="'b' stands twice"):
        ExactIndex.of(["a", "b", "b"], np.eye(3), "dot")
    with pytest.raises(DataError, match=r"such as 'a'; received 7 at place 1"):
        ExactIndex.of(["a", 7], np.eye(2), "dot")
    with pytest.raises(SpecError, match="'dott'; did you mean 'dot'"):
        ExactIndex.of(["a"], np.eye(1), "dott")  # type: ignore[arg-type]


def test_a_spec_survives_json() -> None:
    for spec in (ExactIndexSpec(), FaissIndexSpec(factory="IVF8,Flat", nprobe=2), MilvusIndexSpec(ef_search=9)):
        assert parse(IndexChoice, {"index": spec.model_dump(mode="json")}).index == spec
    with pytest.raises(SpecError, match="nprobe is a setting of IVF_FLAT; HNSW has none"):
        parse(IndexChoice, {"index": {"kind": "milvus", "nprobe": 3}})
    with pytest.raises(SpecError, match="'fais'; did you mean 'faiss'"):
        parse(IndexChoice, {"index": {"kind": "fais"}})


def test_room_doubles_and_rows_come_back() -> None:
    """Writing one key after the other moves old rows rarely; a deleted row is given away again."""
    index = ExactIndex.of([], np.empty((0, 3)), "dot")
    for place in range(100):
        assert index.upsert([place], np.full((1, 3), place)).tolist() == [place]
    index.delete([17])
    assert index.upsert([1000], np.zeros((1, 3))).tolist() == [17]
    assert index.num_rows == len(index) == 100
    assert index.keys_of(index.search(np.ones((1, 3)), 3).rows[0]) == [99, 98, 97]


@given(
    lists=st.lists(st.lists(st.integers(-1, 9), max_size=6), min_size=1, max_size=5),
    ordered=st.booleans(),
    masked=st.booleans(),
)
def test_lists_of_what_a_query_may_not_have(lists: list[list[int]], ordered: bool, masked: bool) -> None:
    """In order or not, with repeats and nobody's rows or without: the rows that it could have, each once."""
    usable = np.arange(10) % 3 > 0 if masked else None
    given_lists = [np.array(sorted({row for row in rows if row >= 0}) if ordered else rows, np.int32) for rows in lists]
    found = excluded_rows(given_lists, len(lists), 10, usable)
    want = [sorted({row for row in rows if row >= 0 and (usable is None or usable[row])}) for rows in lists]
    assert [rows.tolist() for rows in found] == want
    assert all(rows.dtype == np.int64 for rows in found)


@pytest.mark.parametrize("wrong", [[3, 10], [-2, 3], [10], [-2]])
def test_a_list_names_rows_that_there_are(wrong: list[int]) -> None:
    with pytest.raises(ShapeError, match="exclude names row (10|-2); the rows of this index are 0 to 9"):
        excluded_rows([np.array([1, 2]), np.array(wrong)], 2, 10, None)

"""Exact search by way of a shortlist of bytes.

Pinned: rows and scores are those of the exact search bit for bit, for vectors of any size and spread, equal ones among them, with
exclusions, a mask and any ``k``, and after candidates were written, added and deleted; every rough score is within its bound of the
pair's; candidates that are closer together than bytes can tell are searched exactly; distances, small indexes and very long vectors
are left to the exact search.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from towerkit.index import octets as module
from towerkit.index.exact import ExactIndex
from towerkit.index.octets import Octets, lengths_of, rounded, suits
from towerkit.index.stored import keyed_vectors
from towerkit.kernels.octets import byte_queries, byte_shortlist, has_byte_products

Floats = NDArray[np.float32]
needs_bytes = pytest.mark.skipif(not has_byte_products(), reason="this processor has no products of bytes")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small indexes too."""
    monkeypatch.setattr(module, "_FEWEST", 64)


def vectors(kind: str, rows: int, dim: int, seed: int) -> Floats:
    """Of a sort."""
    draw = np.random.default_rng(seed)
    found = draw.normal(size=(rows, dim))
    match kind:
        case "long-tailed":
            found *= draw.pareto(1.5, (rows, 1))
        case "one direction":
            found = np.abs(found)
        case "equal":
            found[rows // 3 : 2 * rows // 3] = found[0]
        case "tiny":
            found *= 1e-30
        case "large":
            found *= 1e12
        case "whole":
            found = np.rint(found)
    return found.astype(np.float32)


def both(stored: Any) -> tuple[ExactIndex, ExactIndex]:
    """The index, and one that is in a hurry."""
    plain, quick = ExactIndex(stored), ExactIndex(stored)
    quick.hasten()
    assert quick._octets is not None
    return plain, quick


def same(plain: ExactIndex, quick: ExactIndex, queries: Floats, k: int, **asked: Any) -> None:
    want, found = plain.search(queries, k, **asked), quick.search(queries, k, **asked)
    np.testing.assert_array_equal(found.rows, want.rows)
    np.testing.assert_array_equal(found.scores, want.scores)
    assert (found.counts.tolist(), found.reason) == (want.counts.tolist(), want.reason)


KINDS = ["normal", "long-tailed", "one direction", "equal", "tiny", "large", "whole"]


@needs_bytes
@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(64, 400),
    dim=st.integers(1, 70),
    number=st.integers(1, 35),
    k=st.integers(1, 140),
    similarity=st.sampled_from(["dot", "cosine"]),
    masked=st.booleans(),
    excluded=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_answers_are_those_of_the_exact_search(
    kind: str, rows: int, dim: int, number: int, k: int, similarity: Any, masked: bool, excluded: bool, seed: int
) -> None:
    candidates, queries = vectors(kind, rows, dim, seed), vectors(kind, number, dim, seed + 1)
    plain, quick = both(keyed_vectors(list(range(rows)), candidates, similarity))
    draw = np.random.default_rng(seed)
    asked: dict[str, Any] = {}
    if masked:
        asked["allowed"] = draw.random(rows) < 0.5
    if excluded:
        asked["exclude"] = [draw.integers(-1, rows, draw.integers(0, 30)) for _ in range(number)]
    same(plain, quick, queries, k, **asked)


@needs_bytes
def test_it_follows_what_is_written() -> None:
    candidates, queries = vectors("normal", 100, 10, 0), vectors("normal", 5, 10, 1)
    index = ExactIndex.of([f"i{n}" for n in range(100)], candidates, "dot")
    index.hasten()
    for step in range(4):
        index.upsert([f"i{n}" for n in range(90 + 20 * step, 115 + 20 * step)], vectors("large", 25, 10, step + 2))
        index.delete([f"i{7 * step}", f"i{7 * step + 1}"])
        assert index._octets is not None
        same(ExactIndex(index.stored), index, queries, 9)


@needs_bytes
@pytest.mark.parametrize("kind", KINDS)
def test_rough_scores_are_within_their_bound(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates, queries = vectors(kind, 96, 30, 0), vectors(kind, 8, 30, 1)
    stored = keyed_vectors(list(range(96)), candidates, "dot")
    octets = Octets(stored)
    seen: list[Any] = []

    def kept(*asked: Any) -> None:
        byte_shortlist(*asked)
        seen.append((asked[5][:8, :96], asked[2]))

    monkeypatch.setattr("towerkit.kernels.octets.byte_shortlist", kept)
    octets.search(module_question(stored, queries))
    (block, (a, b, x, y, v)), *_ = seen
    exact = queries.astype(np.float64) @ candidates.astype(np.float64).T
    bound = np.outer(a, x) + np.outer(b, y) + v
    assert (np.abs(block - exact) <= bound).all()
    if kind == "normal":  # and no bound is there that says nothing
        assert bound.mean() < 0.1 * np.abs(exact).mean()


def module_question(stored: Any, queries: Floats) -> Any:
    from towerkit.index.question import question_of

    return question_of(stored, queries, 3, None, None)


@needs_bytes
def test_what_bytes_cannot_tell_apart_is_searched_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    candidates = np.float32(1.0) + draw.normal(size=(2000, 16)).astype(np.float32) * np.float32(1e-6)
    plain, quick = both(keyed_vectors(list(range(2000)), candidates, "dot"))
    exactly, seen = module.search_exactly, []
    monkeypatch.setattr(module, "search_exactly", lambda *asked: seen.append(len(asked[1].queries)) or exactly(*asked))
    same(plain, quick, vectors("normal", 3, 16, 1), 5)
    assert seen == [3]
    seen.clear()
    plain, quick = both(keyed_vectors(list(range(2000)), vectors("normal", 2000, 16, 0), "dot"))
    same(plain, quick, vectors("normal", 40, 16, 1), 5)
    assert not seen


@needs_bytes
@pytest.mark.parametrize("kind", KINDS)
def test_queries_in_bytes_are_candidates_in_bytes(kind: str) -> None:
    queries = vectors(kind, 6, 30, 0)
    queries[2] = 0.0
    (octets, scales, starts), (near, far) = byte_queries(queries, 32)
    want, steps, lost = rounded(queries)
    np.testing.assert_array_equal(octets[:6, :30], want)
    np.testing.assert_array_equal(scales[:6], steps)
    np.testing.assert_array_equal(starts, -128 * octets.sum(axis=1, dtype=np.int32))
    assert octets.shape == (8, 32)
    assert not octets[6:].any()
    assert not octets[:, 30:].any()
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    assert (near >= lengths).all()
    assert (near <= 1.01 * (lengths + lost)).all()
    assert (far >= lost).all()


@needs_bytes
def test_a_long_list_is_kept_to_what_reaches_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever order candidates come in: the best last, so that all before them were on the list for a while."""
    candidates, queries = vectors("normal", 6000, 16, 0), vectors("normal", 3, 16, 1)
    order = np.argsort(candidates @ queries[0], kind="stable")
    exactly, seen = module.search_exactly, []
    monkeypatch.setattr(module, "search_exactly", lambda *asked: seen.append(len(asked[1].queries)) or exactly(*asked))
    for rows in (order, order[::-1]):
        plain, quick = both(keyed_vectors(list(range(6000)), candidates[rows], "dot"))
        seen.clear()
        same(plain, quick, queries, 7)
        assert not seen


def test_what_it_is_not_for() -> None:
    candidates = vectors("normal", 100, 4, 0)
    assert not suits(keyed_vectors(list(range(100)), candidates, "euclidean"))
    assert not suits(keyed_vectors(list(range(10)), candidates[:10], "dot"))
    assert not suits(keyed_vectors(list(range(100)), candidates * np.float32(1e16), "dot"))
    assert suits(keyed_vectors(list(range(100)), candidates, "dot")) == has_byte_products()


def test_lengths_are_never_too_short() -> None:
    found = vectors("long-tailed", 200, 9, 0)
    octets, scales, lost = rounded(found)
    gone = found.astype(np.float64) - octets.astype(np.float64) * scales[:, None].astype(np.float64)
    assert (lost >= np.linalg.norm(gone, axis=1)).all()
    assert (lengths_of(found) >= np.linalg.norm(found.astype(np.float64), axis=1)).all()
    assert not rounded(np.zeros((2, 3), np.float32))[0].any()

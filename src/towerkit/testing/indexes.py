"""What every index keeps, as tests that an index of your own can inherit.

A subclass says how its index is made, and pytest collects the rest::

    class TestMine(IndexContract):
        def make(self, keys, vectors, similarity):
            return MyIndex(keys, vectors, similarity)

An approximate index is made at full effort here (every list probed, a graph searched with more nodes than vectors): it must
then find what an exact one finds. Where it may miss some even so, ``finds_all`` is False, and only what must hold of any answer is
asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import DataError, RunError, ShapeError, SpecError
from towerkit.index.contract import Index, Key, Similarity
from towerkit.index.hits import Hits, candidate_tie_order
from towerkit.testing.promises import require

SIMILARITIES: tuple[Similarity, ...] = ("dot", "cosine", "euclidean")
_CLOSE = 2e-5
"""Of scores of vectors of some units' length, in float32 against float64."""


class IndexContract:
    """The promises of :class:`towerkit.index.contract.Index`.

    Attributes:
        num_keys: Of the small worlds that are searched.
        dim: Of their vectors.
        finds_all: Whether the index, as it is made here, finds what an exact one finds.
        similarities: Those that it knows.
    """

    num_keys: ClassVar[int] = 300
    dim: ClassVar[int] = 8
    finds_all: ClassVar[bool] = True
    similarities: ClassVar[tuple[Similarity, ...]] = SIMILARITIES

    def make(self, keys: Sequence[Key], vectors: NDArray[np.float32], similarity: Similarity) -> Index:
        """The index of some vectors.

        Args:
            keys: Distinct.
            vectors: ``[keys, dim]``.
            similarity: How they are compared.
        """
        raise NotImplementedError

    def world(self, similarity: Similarity, seed: int = 0) -> tuple[Index, NDArray[np.float32], NDArray[np.float32]]:
        """An index, its vectors and some queries; every tenth vector stands twice, and one is zero."""
        rng = np.random.default_rng(seed)
        vectors = rng.normal(size=(self.num_keys, self.dim)).astype(np.float32)
        vectors[1::10] = vectors[0::10][: len(vectors[1::10])]
        vectors[7] = 0.0
        keys = [f"k{place}" for place in range(self.num_keys)]
        return self.make(keys, vectors, similarity), vectors, rng.normal(size=(9, self.dim)).astype(np.float32)

    def test_hits_are_the_best_in_order(self) -> None:
        """Scores are the definitions', the order is by score and then by tie order, and each candidate stands once."""
        for similarity in self.similarities:
            index, vectors, queries = self.world(similarity)
            require(index.similarity == similarity and index.dim == self.dim, f"{similarity}: it says what it is")
            require(len(index) == index.num_rows == self.num_keys, f"{similarity}: it holds {len(index)} keys")
            self.check(index, index.search(queries, 12), true_scores(queries, vectors, similarity), 12)

    def test_filters_give_what_an_exact_filtered_search_gives(self) -> None:
        """Masks and lists of any strictness; see :meth:`check_filters`."""
        for similarity in self.similarities:
            for seed in range(4):
                self.check_filters(similarity, seed)

    def check_filters(self, similarity: Similarity, seed: int, k: int = 10) -> None:
        """A random mask and random lists: every answer suits them, and there are ``k`` unless fewer suit.

        Args:
            similarity: How vectors are compared.
            seed: Of the world, the mask and the lists.
            k: How many.
        """
        index, vectors, queries = self.world(similarity, seed)
        rng = np.random.default_rng([seed, 1])
        allowed = rng.random(index.num_rows) < rng.choice([0.0, 0.01, 0.2, 0.9, 1.0])
        lists = [np.flatnonzero(rng.random(index.num_rows) < rng.choice([0.0, 0.05, 0.9])) for _ in queries]
        scores = true_scores(queries, vectors, similarity)
        scores[:, ~allowed] = -np.inf
        for row, taken in enumerate(lists):
            scores[row, taken] = -np.inf
        self.check(
            index, index.search(queries, k, allowed=allowed, exclude=[np.append(each, -1) for each in lists]), scores, k
        )

    def check(self, index: Index, hits: Hits, scores: NDArray[np.float64], k: int) -> None:
        """Hits against the scores of all pairs.

        Args:
            index: Who answered.
            hits: The answer.
            scores: ``[queries, num_rows]``, minus infinity for no candidate.
            k: How many were asked for.

        Raises:
            AssertionError: Says which promise is broken.
        """
        require(
            hits.rows.shape == hits.scores.shape == (len(scores), k), f"hits are [queries, k], not {hits.rows.shape}"
        )
        there = np.count_nonzero(scores > -np.inf, axis=1)
        require(
            (hits.counts == np.minimum(k, there)).all(), f"a query has k hits unless fewer suit: {hits.counts}, {there}"
        )
        require((hits.reason is None) == bool((there >= k).all()), f"fewer hits have a reason: {hits.reason}")
        ties = candidate_tie_order(4 * index.num_rows)
        for own, found, true in zip(hits.rows, hits.scores, scores, strict=True):
            rows = own[own >= 0]
            require((own[len(rows) :] == -1).all() and (found[len(rows) :] == -np.inf).all(), "empty places come last")
            require(len(np.unique(rows)) == len(rows), f"no candidate stands twice: {rows}")
            require(bool((true[rows] > -np.inf).all()), "what was taken away is no hit")
            require(bool(np.allclose(found[: len(rows)], true[rows], atol=_CLOSE)), "a score is that of its pair")
            order = np.lexsort((ties[rows], -found[: len(rows)]))
            require((order == np.arange(len(rows))).all(), "hits are in order of score, equals in tie order")
            if self.finds_all and len(rows):
                best = np.sort(true[true > -np.inf])[::-1][: len(rows)]
                require(
                    bool(np.allclose(np.sort(true[rows])[::-1], best, atol=_CLOSE)), "no better candidate was left out"
                )

    def test_one_query_is_answered_as_in_a_batch(self) -> None:
        """Bit for bit."""
        for similarity in self.similarities:
            index, _, queries = self.world(similarity)
            together = index.search(queries, 7)
            for place in range(len(queries)):
                alone = index.search(queries[place : place + 1], 7)
                require((alone.rows[0] == together.rows[place]).all(), f"{similarity}: the rows of query {place}")
                require((alone.scores[0] == together.scores[place]).all(), f"{similarity}: the scores of query {place}")

    def test_more_hits_than_candidates_are_all_of_them(self) -> None:
        """With a reason that tells how many there are."""
        index, vectors, queries = self.world(self.similarities[0])
        k = self.num_keys + 5
        hits = index.search(queries, k)
        self.check(index, hits, true_scores(queries, vectors, self.similarities[0]), k)
        require(f"{self.num_keys}" in str(hits.reason), f"the reason says how many there are: {hits.reason}")
        require(index.search(queries[:0], 3).rows.shape == (0, 3), "no query has no hits")

    def test_what_is_written_is_found_and_what_is_deleted_is_not(self) -> None:
        """New keys, new vectors under old keys, a key twice in one call, deletions, and keys that come back."""
        for similarity in self.similarities:
            index, vectors, queries = self.world(similarity)
            rng = np.random.default_rng(5)
            new = rng.normal(size=(4, self.dim)).astype(np.float32)
            before = index.rows_of(["k3", "k250"])
            rows = index.upsert(["k3", "n1", "n2", "n1"], new)
            require(rows[0] == before[0] and rows[1] == rows[3], f"{similarity}: a key keeps its row: {rows}")
            require(index.delete(["k250", "k8", "nobody", "k8"]) == 2, f"{similarity}: two of these keys were there")
            require(index.upsert(["k8"], new[:1])[0] >= 0, f"{similarity}: a deleted key may come back")
            require(len(index) == self.num_keys + 1, f"{similarity}: {len(index)} keys")
            require(index.rows_of(["k250"])[0] == -1, f"{similarity}: a deleted key has no row")
            scores = np.full((len(queries), index.num_rows), -np.inf)
            pairs = {f"k{place}": vector for place, vector in enumerate(vectors)}
            del pairs["k250"]
            pairs |= {"k3": new[0], "n2": new[2], "n1": new[3], "k8": new[0]}
            scores[:, index.rows_of(list(pairs))] = true_scores(queries, np.stack(list(pairs.values())), similarity)
            # A distance is measured from another center than one of all vectors would be: only rounding differs.
            hits = index.search(queries, 20)
            self.check(index, hits, scores, 20)
            found = index.keys_of(hits.rows[0])
            require((index.rows_of(found) == hits.rows[0]).all(), f"{similarity}: rows and keys belong together")

    def test_vectors_come_back(self) -> None:
        """As they are compared: of a cosine at length one."""
        for similarity in self.similarities:
            index, vectors, _ = self.world(similarity)
            wanted = _unit(vectors) if similarity == "cosine" else vectors
            rows = index.rows_of(["k4", "k7"])
            require(
                bool(np.allclose(index.vectors_of(rows), wanted[[4, 7]], atol=1e-5)), f"{similarity}: vectors come back"
            )

    def test_bad_questions_are_refused(self) -> None:
        """The message holds what was received; nothing is written in part."""
        index, vectors, queries = self.world(self.similarities[0])
        nan = np.full((1, self.dim), np.nan, np.float32)
        wide = np.ones((1, self.dim + 1), np.float32)
        mask = np.ones(3, bool)
        _refused(SpecError, "0", lambda: index.search(queries, 0))
        _refused(SpecError, "-2", lambda: index.search(queries, -2))
        _refused(RunError, "nan", lambda: index.search(nan, 3))
        _refused(ShapeError, f"{self.dim + 1}", lambda: index.search(wide, 3))
        _refused(ShapeError, r"(3,)", lambda: index.search(queries, 3, allowed=mask))
        _refused(ShapeError, "1", lambda: index.search(queries, 3, exclude=[np.zeros(1, np.int64)]))
        _refused(ShapeError, "999999", lambda: index.search(queries[:1], 3, exclude=[np.array([999999])]))
        _refused(RunError, "nan", lambda: index.upsert(["x"], nan))
        _refused(ShapeError, f"{self.dim + 1}", lambda: index.upsert(["x"], wide))
        _refused(ShapeError, "2", lambda: index.upsert(["x", "y"], vectors[:1]))
        _refused(DataError, "5", lambda: index.upsert(["x", 5], vectors[:2]))
        _refused(DataError, "-1", lambda: index.keys_of(np.array([-1])))
        require(len(index) == self.num_keys and index.rows_of(["x"])[0] == -1, "what was refused is not there in part")


def true_scores(
    queries: NDArray[np.floating], vectors: NDArray[np.floating], similarity: Similarity
) -> NDArray[np.float64]:
    """``[queries, vectors]`` by the definitions, in float64.

    Args:
        queries: ``[queries, dim]``.
        vectors: ``[vectors, dim]``.
        similarity: How they are compared.
    """
    query, candidate = queries.astype(np.float64), vectors.astype(np.float64)
    if similarity == "euclidean":
        return np.asarray(-np.square(query[:, None] - candidate).sum(axis=-1))
    if similarity == "cosine":
        query, candidate = _unit(query), _unit(candidate)
    return np.asarray(query @ candidate.T)


def _unit(vectors: NDArray[Any]) -> NDArray[Any]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0))


def _refused(error: type[Exception], received: str, ask: Callable[[], object]) -> None:
    try:
        ask()
    except error as told:
        require(received in str(told), f"the message must hold {received}: {told}")
        return
    require(False, f"a {error.__name__} with {received} must be raised")

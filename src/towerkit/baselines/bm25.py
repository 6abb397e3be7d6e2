"""BM25: candidates by the words that their texts share with the query's text."""

from __future__ import annotations

from copy import copy
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array

from towerkit.baselines.base import BaselineSpec, Interactions
from towerkit.baselines.words import WordIndex, text_columns
from towerkit.core.errors import DataError, SpecError
from towerkit.data.dataset import Dataset
from towerkit.data.table import require_columns
from towerkit.features.encoded import Catalogue
from towerkit.index.ranker import Ranker, check_query_rows

_PRODUCT_ROWS = 64
"""Queries whose sparse product is held at a time, beside the block of scores that is filled."""


class BM25(Ranker):
    """Scores a candidate by its words that the query has, rare ones more, each the less the more often it repeats.

    With ``f`` the times that a word stands in a candidate of ``n`` words, ``mean`` the mean length of the candidates,
    ``N`` candidates of which ``d`` have the word, and the sum over the words of the query (one that stands twice counts twice)::

        score = sum ln(1 + (N - d + 0.5) / (d + 0.5)) * f / (f + k1 * (1 - b + b * n / mean))

    Every factor is above 0, so that a shared word never lowers a score; this is the form that Lucene has. Training pairs are
    not looked at. A query without a known word scores 0 everywhere.

    Args:
        index: The words of the candidates.
        queries: ``[queries, words]`` how often each word of the index stands in each query.
        k1: How long repetitions of a word go on to count; 0 asks only whether it is there.
        b: How much a long candidate's repetitions count less; 0 ignores lengths.

    Raises:
        SpecError: If ``k1`` is negative or ``b`` is not in [0, 1].

    Reference: Robertson et al., Okapi at TREC-3, 1994; the form without a factor ``k1 + 1``: Kamphuis et al., Which BM25 do
    you mean?, ECIR 2020.
    """

    exact = True

    def __init__(self, index: WordIndex, queries: csr_array, *, k1: float = 1.5, b: float = 0.75) -> None:
        if not (0 <= k1 < np.inf and 0 <= b <= 1):
            raise SpecError(
                f"k1 must be finite and not negative, b in [0, 1]; received k1 {k1} and b {b}. Usual are 1.2 to 2 and 0.75."
            )
        known = csr_array(index.counts[1:])
        lengths, having = known.sum(axis=1), np.bincount(known.indices, minlength=known.shape[1])
        self._rarity = np.log1p((known.shape[0] - having + 0.5) / (having + 0.5))  # [words]
        self._mean, self._k1, self._b = float(lengths.mean()) if lengths.any() else 1.0, k1, b
        self._answer(known)
        self._ask(queries)

    def with_queries(self, queries: csr_array) -> BM25:
        """A ranker of the same candidates for other queries.

        Args:
            queries: ``[queries, words]`` counts of the same words.
        """
        other = copy(self)
        other._ask(queries)
        return other

    def with_candidates(self, counts: csr_array) -> BM25:
        """A ranker of other candidates, as if they came later: how rare a word is and what is long stay as they were.

        Args:
            counts: ``[candidates, words]`` counts of the same words.
        """
        other = copy(self)
        other._answer(counts)
        return other

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every candidate for some query rows.

        Raises:
            DataError: If a query row does not exist.
        """
        check_query_rows(queries, self.num_queries)
        block = np.empty((len(queries), self.num_candidates), np.float32)
        for start in range(0, len(queries), _PRODUCT_ROWS):
            own = self._queries[queries[start : start + _PRODUCT_ROWS]]  # [few, words]
            block[start : start + _PRODUCT_ROWS] = (own @ self._weights).toarray()
        return block

    def _ask(self, queries: csr_array) -> None:
        self.num_queries, self._queries = queries.shape[0], csr_array(queries.astype(np.float64))

    def _answer(self, counts: csr_array) -> None:
        """Keep ``[words, candidates]`` what a word adds to a candidate's score."""
        self.num_candidates = counts.shape[0]
        times = counts.data.astype(np.float64)
        penalty = self._k1 * (1 - self._b + self._b * counts.sum(axis=1) / self._mean)  # [candidates]
        owner = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        added = self._rarity[counts.indices] * (times / (times + penalty[owner]))
        self._weights = csr_array(csr_array((added, counts.indices, counts.indptr), shape=counts.shape).T)


class BM25Spec(BaselineSpec):
    """Candidates by the words they share with the query; needs texts on both sides."""

    kind: Literal["bm25"] = "bm25"
    query: tuple[str, ...] | None = Field(None, min_length=1)
    """Text columns of the query's table; all that hold texts when not given."""
    candidate: tuple[str, ...] | None = Field(None, min_length=1)
    """Text columns of the candidate's table."""
    k1: float = Field(1.5, ge=0.0)
    """How long repetitions of a word go on to count."""
    b: float = Field(0.75, ge=0.0, le=1.0)
    """How much the repetitions in a long candidate count less."""
    prefix: int | None = Field(None, ge=1)
    """Words are cut to so many letters, which does for endings what a stemmer does: 6 is good for English."""

    def check(self, dataset: Dataset) -> None:
        """Refuse a column that there is not.

        Raises:
            DataError: If a side has no table, or its table lacks the column; with the nearest name.
        """
        for entity, columns in ((dataset.roles.query, self.query), (dataset.roles.candidate, self.candidate)):
            if columns is None or entity is None:
                continue
            if entity not in dataset.entities:
                raise DataError(
                    f"bm25 is to read the column '{columns[0]}' of '{entity}', which has no table, only keys. Give its texts "
                    f"under data.entities.{entity}."
                )
            source = dataset.entities[entity].table
            require_columns(columns, source.data.column_names, source.name)

    def columns(self, query: Catalogue, candidate: Catalogue) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The text columns that are read of each side; none where there is no text.

        Args:
            query: The query catalogue.
            candidate: The candidate catalogue.
        """
        own = text_columns(query) if self.query is None else self.query
        return own, text_columns(candidate) if self.candidate is None else self.candidate

    def obstacle(self, interactions: Interactions) -> str | None:
        """A side without texts."""
        query, candidate = interactions.query, interactions.candidate
        if query is None or candidate is None:
            return "compares texts, and here are none"
        for side, columns in zip((query, candidate), self.columns(query, candidate), strict=True):
            if not columns:
                return f"compares texts, and the table of '{side.key}' has no column of texts"
        return None

    def build(self, interactions: Interactions) -> BM25:
        """Count the words of both catalogues."""
        query, candidate = interactions.query, interactions.candidate
        assert query is not None
        assert candidate is not None
        own, others = self.columns(query, candidate)
        index = WordIndex.of(candidate.table, others, self.prefix)
        return self.ranker(index, index.counts_of(query.table, own))

    def ranker(self, index: WordIndex, queries: csr_array) -> BM25:
        """The ranker of some queries, given as counts of the index's words."""
        return BM25(index, queries, k1=self.k1, b=self.b)

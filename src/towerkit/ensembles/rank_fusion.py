"""Late fusion of rankers: members that rank one catalogue apart, their scores combined. Weights come from validation only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.data.table import Table, values_of
from towerkit.ensembles.gate import Gate, Gated
from towerkit.ensembles.late_spec import LateFusionSpec, StackSpec, VoteSpec
from towerkit.ensembles.rank_combine import Combine, RerankSpec, RRFSpec, Scores, combination
from towerkit.ensembles.rank_members import RankMember
from towerkit.ensembles.rerank import Memory, Reranked
from towerkit.features.encoded import Catalogue
from towerkit.index.fused import is_worth_compiling
from towerkit.index.ranker import Ranker

_SCORES = 1 << 22
"""Scores of one member that are held at a time where no ranker cuts the chunks."""


class FusedRanker(Ranker):
    """Ranks by the combined scores of several rankers.

    What a query may not be answered with still counts among the candidates that its scores are compared with.

    Args:
        rankers: Of the same queries and candidates, column 0 the unknown candidate.
        combine: Makes their scores one.
        weights: One per ranker, where ``combine`` is the weighted mean of standardized scores: large rankings then take a kernel.
        reranked: Takes the place of ``combine`` where known candidates are ranked for known queries.
        gated: Takes the place of ``combine``.
    """

    def __init__(
        self,
        rankers: Sequence[Ranker],
        combine: Combine,
        weights: Sequence[float] | None = None,
        reranked: Reranked | None = None,
        gated: Gated | None = None,
    ) -> None:
        self._rankers, self._combine, self._weights = tuple(rankers), combine, weights
        self._reranked, self._gated = reranked, gated
        self.num_candidates = rankers[0].num_candidates - 1
        self.exact = all(ranker.exact for ranker in rankers)

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every known candidate for some query rows."""
        return self.with_unknown(queries)[:, 1:]

    def with_unknown(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """``[n, candidates + 1]`` scores; column 0 is the unknown candidate."""
        if self._reranked is not None:
            return self._reranked.scores(queries)
        if self._weights is not None and is_worth_compiling(len(queries), self.num_candidates):
            return self._mixed(queries, self._weights)
        scores = [ranker.scores(queries) for ranker in self._rankers]
        return self._combined(scores, [each[:, 1:] for each in scores], queries)

    def _combined(
        self, scores: Sequence[Scores], known: Sequence[Scores], queries: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        found = self._combine(scores, known) if self._gated is None else self._gated.combined(scores, known, queries)
        return found.astype(np.float32)

    def _mixed(self, queries: NDArray[np.int64], weights: Sequence[float]) -> NDArray[np.float32]:
        """The weighted mean by a kernel, one member after the other."""
        from towerkit.kernels.compiled import torch_threads  # Numba takes half a second to import
        from towerkit.kernels.mixing import add_standardized

        total = np.zeros((len(queries), self.num_candidates + 1))
        for ranker, weight in zip(self._rankers, weights, strict=True):
            if weight:
                scores = np.ascontiguousarray(ranker.scores(queries))
                with torch_threads():
                    add_standardized(scores, weight, total)
        return total.astype(np.float32)

    def of_newcomers(self, newcomers: Sequence[Ranker], queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """``[n, newcomers]`` scores of candidates that are not in the catalogue, measured against those that are.

        Args:
            newcomers: Each member's ranker of the new candidates.
            queries: ``[n]`` query rows.
        """
        known = [ranker.scores(queries)[:, 1:] for ranker in self._rankers]
        return self._combined([each.scores(queries) for each in newcomers], known, queries)


class KnownRanker(Ranker):
    """A member by itself: its ranker without the unknown candidate.

    Args:
        ranker: Column 0 is the unknown candidate.
    """

    def __init__(self, ranker: Ranker) -> None:
        self._ranker, self.exact, self.num_candidates = ranker, ranker.exact, ranker.num_candidates - 1

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every known candidate for some query rows."""
        return self._ranker.scores(queries)[:, 1:]


class NewcomerRanker(Ranker):
    """The other way round: ranks the known queries, from 0, for new candidates, by their place from 0.

    Args:
        fused: Of the known queries and candidates.
        newcomers: Each member's ranker of the new candidates.
        num_queries: How many queries are known.
    """

    def __init__(self, fused: FusedRanker, newcomers: Sequence[Ranker], num_queries: int) -> None:
        self._fused, self._newcomers = fused, newcomers
        self.exact, self.num_candidates = fused.exact, num_queries

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every known query for some new candidates."""
        found = np.empty((len(queries), self.num_candidates), np.float32)
        step = max(1, _SCORES // (self._fused.num_candidates + 1))
        for start in range(0, self.num_candidates, step):
            rows = np.arange(start, min(start + step, self.num_candidates))
            found[:, rows] = self._fused.of_newcomers(self._newcomers, rows + 1)[:, queries].T
        return found


@dataclass(frozen=True, eq=False)
class RankFusion:
    """Fitted members of one catalogue and their combiner; it answers keys and raw rows as a two-tower does."""

    spec: LateFusionSpec
    members: Mapping[str, RankMember]
    weights: Mapping[str, float]
    """Member -> its weight; equal unless they were chosen on validation, and not used by reciprocal ranks."""
    query: Catalogue
    candidate: Catalogue
    seen: csr_array
    """``[queries, candidates]`` pairs that the members were trained on, by place in the catalogues."""
    titles: Mapping[str, str | None]
    """Entity -> the column shown to people."""
    query_entity: str
    candidate_entity: str
    gate: Gate | None = None
    """Of each query's own weights, members sorted by name; only with ``combine: {kind: gate}`` and a validation part."""

    @cached_property
    def ranker(self) -> FusedRanker:
        """Ranks the catalogue for query rows; row 0 is the unknown query."""
        return self.weighed(self.weights)

    def weighed(
        self, weights: Mapping[str, float], memory: Memory | None = None, rankers: Mapping[str, Ranker] | None = None
    ) -> FusedRanker:
        """Ranks the catalogue with other weights.

        Args:
            weights: One per member.
            memory: See :class:`Reranked`.
            rankers: The members' rankers, where something stands before them.
        """
        own = rankers or {name: member.ranker for name, member in self.members.items()}
        return self._fused(own, weights, self.counts, memory)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """``[query rows]`` candidates that each had in training; row 0 is the unknown query."""
        return np.concatenate([[0], np.diff(self.seen.indptr)])

    def _fused(
        self,
        rankers: Mapping[str, Ranker],
        weights: Mapping[str, float],
        counts: NDArray[np.int64],
        memory: Memory | None = None,
    ) -> FusedRanker:
        """The fusion of one ranker per member, of queries that had so many candidates before."""
        names, combine = sorted(rankers), self.spec.combine
        own, shares = [rankers[name] for name in names], [weights[name] for name in names]
        assert not isinstance(combine, StackSpec | VoteSpec)
        if isinstance(combine, RerankSpec):
            settings: dict[str, Any] = {"first": names.index(combine.first), "depth": combine.depth, "counts": counts}
            return FusedRanker(
                own, combination(combine, shares), reranked=Reranked(own, shares, **settings, memory=memory)
            )
        if self.gate is not None:
            return FusedRanker(own, combination(combine, shares), gated=Gated(self.gate, counts))
        return FusedRanker(own, combination(combine, shares), None if isinstance(combine, RRFSpec) else shares)

    def member_rankers(self) -> dict[str, Ranker]:
        """``member NAME`` -> the member's own ranker."""
        return {f"member {name}": KnownRanker(member.ranker) for name, member in self.members.items()}

    def ranker_of_rows(self, table: Table) -> FusedRanker:
        """Ranks the catalogue for raw query rows, by their place from 0.

        Args:
            table: Rows with the columns that the members read, among them the key; it may be empty or unknown.

        Raises:
            DataError: If a column is missing or holds a value of another kind.
        """
        rows = self.query.rows(values_of(table.data, self.query.key))
        counts = np.where(rows > 0, np.diff(self.seen.indptr)[np.maximum(rows, 1) - 1], 0)
        return self._fused(
            {name: member.of_queries(table) for name, member in self.members.items()}, self.weights, counts
        )

    def ranker_of_newcomers(self, table: Table) -> NewcomerRanker:
        """Ranks the known queries, from 0, for raw candidate rows, by their place from 0.

        Args:
            table: Rows with the columns that the members read, among them the key; it may be empty or unknown.

        Raises:
            DataError: If a column is missing or holds a value of another kind.
        """
        newcomers = [self.members[name].of_candidates(table) for name in sorted(self.members)]
        return NewcomerRanker(self.ranker, newcomers, len(self.query.keys))

    def pair_scores(self, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        """The score of each pair of catalogue rows; row 0 of either side is the unknown one.

        Args:
            queries: ``[pairs]``.
            candidates: ``[pairs]``.
        """
        scores = np.empty(len(queries), np.float32)
        distinct, place = np.unique(queries, return_inverse=True)
        step = max(1, _SCORES // (self.ranker.num_candidates + 1))
        for start in range(0, len(distinct), step):
            block = self.ranker.with_unknown(distinct[start : start + step])
            own = np.flatnonzero((place >= start) & (place < start + step))
            scores[own] = block[place[own] - start, candidates[own]]
        return scores

    @property
    def query_columns(self) -> tuple[str, ...]:
        """What the members read of raw query rows, each column once."""
        return tuple(dict.fromkeys(name for member in self.members.values() for name in member.query_columns))

    @property
    def candidate_columns(self) -> tuple[str, ...]:
        """What the members read of raw candidate rows, each column once."""
        return tuple(dict.fromkeys(name for member in self.members.values() for name in member.candidate_columns))

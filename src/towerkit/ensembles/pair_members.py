"""Members that rank by what candidates were met together: co-occurrence and EASE, from the trained pairs of the fusion alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.baselines import EASE, CooccurrenceSpec, EASESpec
from towerkit.baselines.ranking import interactions_of
from towerkit.core.errors import RunError, SpecError, listed
from towerkit.data.table import Table, values_of
from towerkit.features.encoded import Catalogue
from towerkit.index.ranker import Ranker, check_query_rows
from towerkit.storage.hashes import write_json
from towerkit.storage.tensors import load_tensors, save_tensors

AnyPairsSpec = CooccurrenceSpec | EASESpec
"""The menu: each is fitted on pairs, and knows a raw row by its key."""


class Asked(Ranker):
    """A baseline's scores with a column in front for the unknown candidate, which scores 0, and for some rows and columns.

    Args:
        ranker: ``[queries + 1, candidates]``; row 0 is the unknown query.
        rows: ``[asked]`` its rows that are asked, all in their order when not given.
        columns: ``[candidates]`` the columns that are answered, the unknown one counted, all when not given.
    """

    def __init__(
        self, ranker: Ranker, rows: NDArray[np.int64] | None = None, columns: NDArray[np.int64] | None = None
    ) -> None:
        self._ranker, self._rows, self._columns = ranker, rows, columns
        self.exact = ranker.exact
        self.num_candidates = ranker.num_candidates + 1 if columns is None else len(columns)

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every candidate for some query rows."""
        rows = queries if self._rows is None else self._rows[queries]
        found = np.zeros((len(rows), self._ranker.num_candidates + 1), np.float32)
        found[:, 1:] = self._ranker.scores(rows)
        return found if self._columns is None else found[:, self._columns]


class KeptWeights(Ranker):
    """Scores a candidate by ``x B`` with weights that were fitted before.

    Args:
        interactions: ``[queries, candidates]``.
        weights: ``[candidates, candidates]`` the matrix ``B``.
    """

    exact = True

    def __init__(self, interactions: csr_array, weights: NDArray[np.float32]) -> None:
        self.num_queries, self.num_candidates = interactions.shape
        self._interactions, self.weights = csr_array(interactions.astype(np.float32)), weights

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every candidate for some query rows; one without interactions scores 0 everywhere."""
        check_query_rows(queries, self.num_queries)
        scores: NDArray[np.float32] = self._interactions[queries] @ self.weights
        return scores


@dataclass(frozen=True, eq=False)
class PairsMember:
    """A baseline of pairs, fitted on those of the fusion."""

    spec: AnyPairsSpec
    fitted: Ranker
    """``[queries + 1, candidates]``; row 0 is the unknown query."""
    query: Catalogue
    candidate: Catalogue

    @cached_property
    def ranker(self) -> Asked:
        """All queries and candidates."""
        return Asked(self.fitted)

    @property
    def query_columns(self) -> tuple[str, ...]:
        """The key alone."""
        return (self.query.key,)

    @property
    def candidate_columns(self) -> tuple[str, ...]:
        """The key alone."""
        return (self.candidate.key,)

    def of_queries(self, table: Table) -> Asked:
        """The pairs of the queries that the rows name; an unknown key has none, and scores 0 everywhere."""
        return Asked(self.fitted, rows=self.query.rows(values_of(table.data, self.query.key)))

    def of_candidates(self, table: Table) -> Asked:
        """The candidates that the rows name; an unknown key was never met, and scores 0."""
        return Asked(self.fitted, columns=self.candidate.rows(values_of(table.data, self.candidate.key)))

    def save(self, folder: Path) -> None:
        """Write the spec, and the weights where they cost more to find again than to read."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "model.json", {"spec": self.spec.model_dump(mode="json")})
        if isinstance(self.fitted, KeptWeights):
            save_tensors(folder / "weights.safetensors", {"weights": self.fitted.weights})


def fit_pairs(spec: AnyPairsSpec, seen: csr_array, query: Catalogue, candidate: Catalogue) -> PairsMember:
    """Fit a member on pairs.

    Args:
        spec: Its settings.
        seen: ``[queries, candidates]`` the trained pairs.
        query: What the fusion knows of the queries.
        candidate: What it knows of the candidates.

    Raises:
        SpecError: If the pairs are too many for it.
    """
    interactions = interactions_of(seen)
    obstacle = spec.obstacle(interactions)
    if obstacle is not None:
        raise SpecError(f"A member {spec.kind} {obstacle}. Raise its limit, or remove the member.")
    fitted: Ranker = spec.build(interactions)
    if isinstance(fitted, EASE):
        fitted = KeptWeights(interactions.matrix, fitted.similarity)
    return PairsMember(spec, fitted, query, candidate)


def load_pairs(
    folder: Path, spec: AnyPairsSpec, seen: csr_array, query: Catalogue, candidate: Catalogue
) -> PairsMember:
    """Read a member of this spec from its folder; co-occurrences are counted again when they are first asked for.

    Args:
        folder: Its files.
        spec: What it was fitted from.
        seen: ``[queries, candidates]`` the trained pairs.
        query: What the fusion knows of the queries.
        candidate: What it knows of the candidates.

    Raises:
        RunError: If the weights are missing, damaged, or do not fit the candidates.
    """
    interactions = interactions_of(seen)
    if isinstance(spec, CooccurrenceSpec):
        return PairsMember(spec, spec.build(interactions), query, candidate)
    path, number = folder / "weights.safetensors", len(candidate.keys)
    tensors = load_tensors(path)
    weights = tensors.get("weights", np.empty(0))
    if tensors.keys() != {"weights"} or (weights.dtype, weights.shape) != (np.dtype(np.float32), (number, number)):
        raise RunError(
            f"{path} holds {listed(tensors)} in place of weights of {number:,} x {number:,} float32; train the Run again."
        )
    if not np.isfinite(weights).all():
        raise RunError(f"{path}: a weight is not finite; train the Run again.")
    return PairsMember(spec, KeptWeights(interactions.matrix, weights), query, candidate)

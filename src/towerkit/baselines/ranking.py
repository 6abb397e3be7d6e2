"""The baselines of a ranking: which there are by default, what they learn from, and fitting them one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.baselines import (
    BaselineSpec,
    Interactions,
    ItemKNNSpec,
    PopularitySpec,
    RecentPopularitySpec,
)
from towerkit.data.dataset import Dataset, times_of
from towerkit.data.splits import Rows
from towerkit.features.encoded import Catalogue
from towerkit.index.ranker import Ranker


def default_baselines(*, has_time: bool) -> dict[str, BaselineSpec]:
    """What a ranking is compared with when the spec does not choose, by kind.

    Args:
        has_time: Whether the data has a time column.

    Example:
        >>> list(default_baselines(has_time=True))
        ['popularity', 'recent_popularity', 'item_knn']
    """
    recent: dict[str, BaselineSpec] = {"recent_popularity": RecentPopularitySpec()} if has_time else {}
    return {"popularity": PopularitySpec(), **recent, "item_knn": ItemKNNSpec()}


def ranking_baselines(
    interactions: Interactions, specs: Mapping[str, BaselineSpec] | None = None
) -> Iterator[tuple[str, Ranker]]:
    """Fit the baselines one after the other, so that no two large ones are held at once.

    Args:
        interactions: The trained pairs, as :func:`interactions_of` gives them.
        specs: Name -> baseline; those that are measured by default when not given. One with an obstacle is left out.

    Yields:
        The name, and a ranker of query rows; row 0 is the unknown query, which has seen nothing.
    """
    if specs is None:
        specs = default_baselines(has_time=interactions.times is not None)
    for name, spec in specs.items():
        if spec.obstacle(interactions) is None:
            yield name, spec.build(interactions)


def interactions_of(
    seen: csr_array,
    times: NDArray[np.float64] | None = None,
    query: Catalogue | None = None,
    candidate: Catalogue | None = None,
) -> Interactions:
    """Trained pairs as baselines take them: an empty row in front for the unknown query.

    Args:
        seen: ``[queries, candidates]`` a retriever's trained pairs.
        times: ``[entries]`` the time of each of them, NaN where missing.
        query: What is known of the queries; only baselines that read columns want it.
        candidate: What is known of the candidates.
    """
    starts = np.concatenate([seen.indptr[:1], seen.indptr])  # the pairs themselves may be many, and are not copied
    below = csr_array((seen.data, seen.indices, starts), shape=(seen.shape[0] + 1, seen.shape[1]))
    return Interactions(below, times, query, candidate)


class Learned(Protocol):
    """A model that ranks, with the pairs that it learned from."""

    @property
    def query_entity(self) -> str:
        """The name of the query entity."""

    @property
    def candidate_entity(self) -> str:
        """The name of the candidate entity."""

    @property
    def query(self) -> Catalogue:
        """What is known of the queries."""

    @property
    def candidate(self) -> Catalogue:
        """What is known of the candidates."""

    @property
    def seen(self) -> csr_array:
        """``[queries, candidates]`` the pairs."""


def last_times(model: Learned, dataset: Dataset, learned: Rows) -> NDArray[np.float64] | None:
    """The last time of each trained pair.

    Args:
        model: Its ``seen`` are the pairs.
        dataset: The raw tables.
        learned: The example rows that it learned from.

    Returns:
        ``[entries of seen]`` in their stored order, NaN where missing; None where the data has no time column.
    """
    if dataset.roles.time is None:
        return None
    seen, entities = model.seen, (model.query_entity, model.candidate_entity)
    catalogues = model.query, model.candidate
    query, candidate = (c.rows(dataset.labelled(e, learned)) - 1 for c, e in zip(catalogues, entities, strict=True))
    times = times_of(dataset.examples, dataset.roles.time)[learned]
    stored = np.repeat(np.arange(seen.shape[0]), np.diff(seen.indptr)) * seen.shape[1] + seen.indices
    latest = np.full(seen.nnz, np.nan)
    np.fmax.at(latest, np.searchsorted(stored, query * seen.shape[1] + candidate), times)
    return latest


def seen_with_unknown(seen: csr_array) -> csr_array:
    """``[queries, candidates]`` with an empty row and an empty column in front, for the unknown ones."""
    starts = np.concatenate([seen.indptr[:1], seen.indptr])
    return csr_array((seen.data, seen.indices + 1, starts), shape=(seen.shape[0] + 1, seen.shape[1] + 1))

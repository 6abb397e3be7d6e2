"""What settings are worth: validation pairs of some queries, ranked among all known candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.baselines.ranking import interactions_of
from towerkit.core.random import generator
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.ensembles.rank_combine import standardized
from towerkit.evaluation.ranking import ranking_values
from towerkit.evaluation.ranking_task import ranking_task
from towerkit.features.encoded import encode
from towerkit.features.encoder import Encoder
from towerkit.index.ranker import Ranker
from towerkit.index.vectors import VectorRanker
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.spec import ModelingSpec
from towerkit.towers import SpectralTowerSpec
from towerkit.towers.svd import Directions, directions_of
from towerkit.training.recipes import id_pairs, pairs_matrix

QUERIES = 2000
"""Validation queries that are ranked, drawn once: the settings are compared on the same ones."""
_MOST_NUMBERS = 2**27
"""In the vectors of both sides; the decomposition holds a few times as many at once, half a gigabyte each. And in the scores of
one member of a blend, which are kept."""
_AT_ONCE = 64
"""Queries that are standardized at a time."""


class Validation:
    """Ranks the validation rows by what was learned from the training rows.

    Args:
        spec: How rankings are measured.
        dataset: Raw tables with their split; test rows are not read.
        queries: At most so many are ranked.
        towers: Two spectral towers and their match; the model of the spec when not given.

    Attributes:
        pairs: ``[queries, candidates]`` known from the training rows.
        interactions: The same with an empty row in front, as baselines take them, candidates in the order of the scores.
    """

    def __init__(
        self, spec: ModelingSpec, dataset: Dataset, queries: int = QUERIES, *, towers: TwoTowerSpec | None = None
    ) -> None:
        model = towers or spec.model
        assert isinstance(model, TwoTowerSpec)
        self._evaluation, entities, rows = spec.evaluation, model.entities(dataset), dataset.parts.train
        self._similarity = model.match.kind
        encoded = encode(Encoder.fit(model.demand(dataset), dataset, rows), dataset, rows)
        query, candidate = (encoded.catalogues[entity] for entity in entities)
        self.pairs = csr_array(id_pairs(encoded, rows, entities)[1:, 1:])
        held_out = _of_some(
            np.asarray(encoded.index[entities[0]]), dataset.parts.validation, queries, spec.training.seed
        )
        keys = [dataset.labelled(entity, held_out) for entity in entities]
        grades = None if dataset.grades is None else dataset.grades[held_out]
        exclude_seen = spec.evaluation.exclude_seen
        seen = pairs_matrix(encoded, rows, entities)
        task = ranking_task(query, candidate, seen, keys[0], keys[1], grades=grades, exclude_seen=exclude_seen)
        codes = [np.asarray(encoded.tables[entity]["id"]) for entity in entities]
        self.interactions = interactions_of(csr_array(seen[1 : query.num_known + 1, 1 : candidate.num_known + 1]))
        self.asked = task.queries
        self._queries = codes[0][task.queries] - 1  # [asked] -1 for one that training never saw
        self._candidates = codes[1][1 : candidate.num_known + 1] - 1
        self._task = replace(task, queries=np.arange(len(task.keys)))
        self._directions: tuple[tuple[float, float, int, int], Directions] | None = None

    @property
    def most_directions(self) -> int:
        """More than these there are not, or their vectors would not fit."""
        return max(1, min(*self.pairs.shape, _MOST_NUMBERS // sum(self.pairs.shape)))

    @property
    def keeps_scores(self) -> bool:
        """Whether the scores of all candidates fit, for a blend."""
        return len(self.asked) * len(self._candidates) <= _MOST_NUMBERS

    def figures(self, tower: SpectralTowerSpec) -> Mapping[str, float]:
        """Ranking metrics of the vectors that a tower would have.

        Args:
            tower: The last decomposition is kept, so that towers that share theirs are measured one after the other.
        """
        return self.of_ranker(self.ranker(tower))

    def ranker(self, tower: SpectralTowerSpec) -> VectorRanker:
        """Ranks the candidates for the asked queries, by their place from 0, with the vectors that a tower would have."""
        wanted = tower.query_exponent, tower.candidate_exponent, tower.rounds, tower.dim + tower.spare
        if self._directions is None or self._directions[0] != wanted:
            self._directions = None  # the old one goes before the new one comes
            # all but one of the width's directions, for the widths that will share this decomposition
            width = tower.dim + tower.spare - 1
            found = directions_of(self.pairs, width, tower.model_copy(update={"spare": 1}))
            self._directions = wanted, found.at(self._queries, self._candidates)
        query, candidate = self._directions[1].vectors(tower.dim, power=tower.power, weight=tower.weight)
        return VectorRanker(query, candidate, self._similarity)

    def of_ranker(self, ranker: Ranker) -> Mapping[str, float]:
        """Ranking metrics.

        Args:
            ranker: Of the asked queries, by their place from 0.
        """
        evaluation = self._evaluation
        auc = evaluation.select_by == "auc"
        values = ranking_values(ranker, self._task, evaluation.k, auc=auc, gain=evaluation.gain)
        return {name: float(np.mean(value)) for name, value in values.items()}


class Kept(Ranker):
    """Scores that are kept, of queries by their place.

    Args:
        values: ``[queries, candidates]``.
    """

    exact = True

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values, self.num_candidates = values, values.shape[1]

    @classmethod
    def standardized(cls, ranker: Ranker, queries: int) -> Kept:
        """A ranker's scores as a late fusion takes them, made once.

        Args:
            ranker: Whose.
            queries: How many it has.
        """
        values = np.empty((queries, ranker.num_candidates), np.float32)
        for start in range(0, queries, _AT_ONCE):
            found = ranker.scores(np.arange(start, min(start + _AT_ONCE, queries)))
            values[start : start + _AT_ONCE] = standardized(found, found)
        return cls(values)

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """A copy of some rows."""
        return self.values[queries]


class Blended(Ranker):
    """The weighted sum of kept scores.

    Args:
        members: Name to scores.
        weights: Name to weight; one of 0 is left out.
    """

    exact = True

    def __init__(self, members: Mapping[str, Kept], weights: Mapping[str, float]) -> None:
        self._parts = [(np.float32(weight), members[name].values) for name, weight in weights.items() if weight]
        self.num_candidates = next(iter(members.values())).num_candidates

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every candidate for some query rows."""
        total: Any = sum(weight * values[queries] for weight, values in self._parts)
        return np.asarray(total, np.float32)


def _of_some(query_of: Rows, rows: Rows, queries: int, seed: int) -> Rows:
    """The rows of some of their queries.

    Args:
        query_of: ``[examples]`` a number per query.
        rows: Example rows.
        queries: At most so many.
        seed: Draws them.
    """
    distinct = np.unique(query_of[rows])
    if len(distinct) <= queries:
        return rows
    chosen = generator(seed, "preset").permutation(distinct)[:queries]
    return rows[np.isin(query_of[rows], chosen)]

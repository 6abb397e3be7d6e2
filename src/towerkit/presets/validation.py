"""What a setting of spectral towers is worth: validation pairs of some queries, ranked among all known candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from towerkit.core.random import generator
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.evaluation.ranking import ranking_values
from towerkit.evaluation.ranking_task import ranking_task
from towerkit.features.encoded import encode
from towerkit.features.encoder import Encoder
from towerkit.index.vectors import VectorRanker
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.spec import ModelingSpec
from towerkit.towers import SpectralTowerSpec
from towerkit.towers.svd import Directions, directions_of
from towerkit.training.recipes import id_pairs, pairs_matrix

QUERIES = 2000
"""Validation queries that are ranked, drawn once: the settings are compared on the same ones."""
_MOST_NUMBERS = 2**27
"""In the vectors of both sides; the decomposition holds a few times as many at once, half a gigabyte each."""


class Validation:
    """Ranks the validation rows by spectral vectors of the training rows.

    Args:
        spec: The model, and how rankings are measured.
        dataset: Raw tables with their split; test rows are not read.
        queries: At most so many are ranked.

    Attributes:
        pairs: ``[queries, candidates]`` known from the training rows.
    """

    def __init__(self, spec: ModelingSpec, dataset: Dataset, queries: int = QUERIES) -> None:
        assert isinstance(spec.model, TwoTowerSpec)
        self._spec, entities, rows = spec, spec.model.entities(dataset), dataset.parts.train
        self._similarity = spec.model.match.kind
        encoded = encode(Encoder.fit(spec.model.demand(dataset), dataset, rows), dataset, rows)
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
        self._queries = codes[0][task.queries] - 1  # [asked] -1 for one that training never saw
        self._candidates = codes[1][1 : candidate.num_known + 1] - 1
        self._task = replace(task, queries=np.arange(len(task.keys)))
        self._directions: tuple[tuple[float, float, int, int], Directions] | None = None

    @property
    def most_directions(self) -> int:
        """More than these there are not, or their vectors would not fit."""
        return max(1, min(*self.pairs.shape, _MOST_NUMBERS // sum(self.pairs.shape)))

    def figures(self, tower: SpectralTowerSpec) -> Mapping[str, float]:
        """Ranking metrics of the vectors that a tower would have.

        Args:
            tower: The last decomposition is kept, so that towers that share theirs are measured one after the other.
        """
        wanted = tower.query_exponent, tower.candidate_exponent, tower.rounds, tower.dim + tower.spare
        if self._directions is None or self._directions[0] != wanted:
            self._directions = None  # the old one goes before the new one comes
            # all but one of the width's directions, for the widths that will share this decomposition
            width = tower.dim + tower.spare - 1
            found = directions_of(self.pairs, width, tower.model_copy(update={"spare": 1}))
            self._directions = wanted, found.at(self._queries, self._candidates)
        query, candidate = self._directions[1].vectors(tower.dim, power=tower.power, weight=tower.weight)
        ranker = VectorRanker(query, candidate, self._similarity)
        evaluation = self._spec.evaluation
        auc = evaluation.select_by == "auc"
        values = ranking_values(ranker, self._task, evaluation.k, auc=auc, gain=evaluation.gain)
        return {name: float(np.mean(value)) for name, value in values.items()}


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

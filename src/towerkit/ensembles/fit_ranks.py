"""Fit the members of a fusion of rankers: once to choose the weights on validation, once on all rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from towerkit.baselines.bm25 import BM25Spec
from towerkit.baselines.ranking import seen_with_unknown
from towerkit.data.dataset import Dataset
from towerkit.ensembles.kept_scores import KeptScores
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.ensembles.members import pair_scorer
from towerkit.ensembles.pair_members import AnyPairsSpec, fit_pairs
from towerkit.ensembles.rank_combine import RerankSpec, WeightedSpec, chosen_weights, proportions
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.ensembles.rank_members import PairsMember, RankMember, TowersMember, fit_words
from towerkit.ensembles.rerank import Memory
from towerkit.evaluation.ranking import ranking_values
from towerkit.evaluation.ranking_task import ranking_task
from towerkit.evaluation.selection import ranking_selection
from towerkit.evaluation.spec import EvaluationSpec
from towerkit.features.encoded import catalogue_of
from towerkit.matching.updates import OneBackpropSpec
from towerkit.models.answer import known_part, retriever_of
from towerkit.models.ranker import RankerSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.models.wiring import pair_of
from towerkit.training.checkpoint import Checkpoints
from towerkit.training.fit import Trained, fit_recipe, refit_recipe
from towerkit.training.pair_recipe import RankerRecipe
from towerkit.training.progress import Progress, Staged
from towerkit.training.recipes import RetrievalRecipe, ones_at, pairs_matrix
from towerkit.training.spec import TrainingSpec


@dataclass(frozen=True)
class RankFitting:
    """How a fusion of rankers is fitted.

    Attributes:
        spec: Members and combiner.
        recipe_of: Name and spec of a member with towers -> how it is trained.
        training: The settings of each of these trainings.
        evaluation: The figure that weights are chosen by.
        progress: Told after each epoch of each member.
        checkpoints: Where each training is saved, and a finished one found again.
    """

    spec: LateFusionSpec
    recipe_of: Callable[[str, TwoTowerSpec | RankerSpec], RetrievalRecipe | RankerRecipe]
    training: TrainingSpec
    evaluation: EvaluationSpec
    progress: Progress
    checkpoints: Checkpoints | None = None

    def fit(self, dataset: Dataset) -> RankFusion:
        """Fit the members on the training rows and choose the weights on the validation rows, then fit them on both.

        Weights that the spec gives are taken as they are.

        Args:
            dataset: Raw tables; test rows are not read.
        """
        trained = {name: self._trained(name, member, dataset) for name, member in self._towers().items()}
        weighs = isinstance(self.spec.combine, WeightedSpec | RerankSpec)
        given = getattr(self.spec.combine, "weights", None)
        alike = dict.fromkeys(self.spec.members, 1.0)
        fusion = self._fusion(dataset, trained, proportions(alike if given is None else given))
        if not len(dataset.parts.validation):
            return fusion
        weights = fusion.weights
        if weighs and given is None:
            weights = weights_on_validation(fusion, dataset, self.evaluation)
        if self.training.refit:
            again = {name: self._again(name, dataset, found) for name, found in trained.items()}
            return self._fusion(dataset.for_refit(), again, weights)
        return self._fusion(dataset, trained, weights)

    def _towers(self) -> dict[str, TwoTowerSpec | RankerSpec]:
        members = self.spec.members.items()
        return {name: member for name, member in members if isinstance(member, TwoTowerSpec | RankerSpec)}

    def _trained(self, name: str, member: TwoTowerSpec | RankerSpec, dataset: Dataset) -> Trained:
        once = self.training.model_copy(update={"refit": False})
        return fit_recipe(self.recipe_of(name, member), dataset, once, self._told(name), self._part(name))

    def _again(self, name: str, dataset: Dataset, found: Trained) -> Trained:
        recipe, part = self.recipe_of(name, self._towers()[name]), self._part(f"{name}.refit")
        return refit_recipe(recipe, dataset, self.training, self._told(name), found.history.best_epoch, part)

    def _told(self, name: str) -> Progress:
        return Staged(self.progress, f"member {name}:")

    def _part(self, name: str) -> Checkpoints | None:
        return None if self.checkpoints is None else self.checkpoints.part(name)

    def _fusion(self, dataset: Dataset, trained: Mapping[str, Trained], weights: Mapping[str, float]) -> RankFusion:
        """The fusion of members that learned from the training rows of a data set."""
        rows, entities = dataset.parts.train, pair_of(dataset)
        whole = [catalogue_of(dataset, entity, rows) for entity in entities]
        query, candidate = map(known_part, whole)
        places = [each.rows(dataset.labelled(entity, rows)) - 1 for each, entity in zip(whole, entities, strict=True)]
        titles = {name: dataset.entities[name].title if name in dataset.entities else None for name in entities}
        seen = ones_at(places[0], places[1], (len(query.keys), len(candidate.keys)))
        members: dict[str, RankMember] = {}
        for name, spec in self.spec.members.items():
            if isinstance(spec, BM25Spec):
                members[name] = fit_words(spec, query, candidate)
            elif isinstance(spec, AnyPairsSpec):
                members[name] = fit_pairs(spec, seen, query, candidate)
            else:
                members[name] = self._member(name, trained[name], dataset, titles)
        return RankFusion(self.spec, members, weights, query, candidate, seen, titles, *entities)

    def _member(self, name: str, trained: Trained, dataset: Dataset, titles: Mapping[str, str | None]) -> RankMember:
        spec, encoded = self._towers()[name], trained.prepared.encoded
        entities = spec.entities(dataset)
        seen = pairs_matrix(encoded, dataset.parts.train, entities)
        if isinstance(spec, RankerSpec):
            return PairsMember(pair_scorer(spec, dataset, trained, seen))
        recipe = self.recipe_of(name, spec)
        assert isinstance(recipe, RetrievalRecipe)
        retriever = retriever_of(
            spec,
            encoded.encoder,
            trained.model,
            encoded.catalogues,
            seen,
            queries_average_candidates=isinstance(recipe.update, OneBackpropSpec),
            titles=titles,
            histories=encoded.histories.get(entities[0]),
        )
        return TowersMember(retriever)


def weights_on_validation(fusion: RankFusion, dataset: Dataset, evaluation: EvaluationSpec) -> dict[str, float]:
    """The weights of the members with which the validation queries are ranked best.

    Args:
        fusion: Its members learned from the training rows only.
        dataset: Raw tables with their split.
        evaluation: Which figure decides, as it does for a two-tower's epochs.
    """
    rows, entities = dataset.parts.validation, (fusion.query_entity, fusion.candidate_entity)
    keys = [dataset.labelled(entity, rows) for entity in entities]
    seen, grades = seen_with_unknown(fusion.seen), None if dataset.grades is None else dataset.grades[rows]
    task = ranking_task(
        fusion.query, fusion.candidate, seen, *keys, grades=grades, exclude_seen=evaluation.exclude_seen
    )
    metric = ranking_selection(evaluation).metric

    memory: Memory = {}
    rankers = {
        name: KeptScores(member.ranker) if isinstance(member, PairsMember) else member.ranker
        for name, member in fusion.members.items()
    }

    def figure(weights: Mapping[str, float]) -> float:
        ranker = fusion.weighed(weights, memory, rankers)
        values = ranking_values(ranker, task, evaluation.k, auc=metric == "auc", gain=evaluation.gain)
        return float(np.mean(values[metric]))

    return chosen_weights(sorted(fusion.members), figure)

"""Fit the members of a fusion of rankers: once to choose the weights on validation, once on all rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from towerkit.baselines.bm25 import BM25Spec
from towerkit.baselines.ranking import seen_with_unknown
from towerkit.data.dataset import Dataset
from towerkit.ensembles.gate import Gate, GateSpec, fit_gate, signals_of
from towerkit.ensembles.kept_scores import KeptScores
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.ensembles.members import pair_scorer
from towerkit.ensembles.pair_members import AnyPairsSpec, fit_pairs
from towerkit.ensembles.rank_combine import RerankSpec, WeightedSpec, chosen_weights, proportions, standardized
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.ensembles.rank_members import PairsMember, RankMember, TowersMember, fit_words
from towerkit.ensembles.rerank import Memory
from towerkit.evaluation.ranking import ranking_values
from towerkit.evaluation.ranking_task import RankingTask, ranking_task
from towerkit.evaluation.selection import ranking_selection
from towerkit.evaluation.spec import EvaluationSpec
from towerkit.features.encoded import catalogue_of
from towerkit.index.ranker import Ranker
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

_GATE_SCORES = 1 << 26
"""Scores that a gate is fitted on at most (256 MB); with more queries, some of them are left out."""


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
        combine = self.spec.combine
        given = getattr(combine, "weights", None)
        alike = dict.fromkeys(self.spec.members, 1.0)
        fusion = self._fusion(dataset, trained, proportions(alike if given is None else given))
        if not len(dataset.parts.validation):
            return fusion
        weights, gate = fusion.weights, None
        if isinstance(combine, WeightedSpec | RerankSpec | GateSpec) and given is None:
            trial = Trial.of(fusion, dataset, self.evaluation)
            weights = trial.weights()
            gate = trial.gate(weights, combine.l2) if isinstance(combine, GateSpec) else None
        if self.training.refit:
            again = {name: self._again(name, dataset, found) for name, found in trained.items()}
            fusion = self._fusion(dataset.for_refit(), again, weights)
        return replace(fusion, weights=weights, gate=gate)

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


@dataclass(frozen=True)
class Trial:
    """The validation queries, for a fusion whose members learned from the training rows only.

    Attributes:
        fusion: The members.
        task: What is asked.
        evaluation: Which figure decides, as it does for a two-tower's epochs.
    """

    fusion: RankFusion
    task: RankingTask
    evaluation: EvaluationSpec

    @classmethod
    def of(cls, fusion: RankFusion, dataset: Dataset, evaluation: EvaluationSpec) -> Trial:
        """Of the raw tables with their split."""
        rows, entities = dataset.parts.validation, (fusion.query_entity, fusion.candidate_entity)
        keys = [dataset.labelled(entity, rows) for entity in entities]
        seen, grades = seen_with_unknown(fusion.seen), None if dataset.grades is None else dataset.grades[rows]
        task = ranking_task(
            fusion.query, fusion.candidate, seen, *keys, grades=grades, exclude_seen=evaluation.exclude_seen
        )
        return cls(fusion, task, evaluation)

    def weights(self) -> dict[str, float]:
        """The weights of the members with which the queries are ranked best."""
        memory: Memory = {}
        rankers = {
            name: KeptScores(member.ranker) if isinstance(member, PairsMember) else member.ranker
            for name, member in self.fusion.members.items()
        }
        return chosen_weights(
            sorted(rankers), lambda weights: self.figure(self.fusion.weighed(weights, memory, rankers))
        )

    def gate(self, weights: Mapping[str, float], l2: float) -> Gate | None:
        """The gate that starts from some weights.

        Returns:
            None where gates that learned from one half of the queries rank the other half no better than these weights do.
        """
        asked = np.flatnonzero(np.diff(self.task.positives.indptr))
        room = max(2, _GATE_SCORES // (len(weights) * self.fusion.seen.shape[1]))
        asked = asked[np.unique(np.linspace(0, len(asked) - 1, min(room, len(asked))).astype(np.int64))]
        if len(asked) < 2:
            return None
        names, queries = sorted(weights), self.task.queries[asked]
        known = [self.fusion.members[name].ranker.scores(queries)[:, 1:] for name in names]
        signals = signals_of(known, self.fusion.counts[queries])
        scores = [standardized(each, each).astype(np.float32) for each in known]
        positives, excluded = self.task.positives[asked], self.task.exclude[asked]
        start = [weights[name] for name in names]

        def learned(of: slice) -> Gate:
            return fit_gate([each[of] for each in scores], signals[of], positives[of], excluded[of], start, l2)

        before = replace(self.fusion, weights=weights)
        plain, gain = self.values(before.ranker), 0.0
        for half, other in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
            gated = self.values(replace(before, gate=learned(half)).ranker)
            gain += float((gated - plain)[asked[other]].sum())
        return learned(slice(None)) if gain > 0 else None

    def figure(self, ranker: Ranker) -> float:
        """How well a ranker does; the higher the better."""
        return float(np.mean(self.values(ranker)))

    def values(self, ranker: Ranker) -> NDArray[np.float64]:
        """``[queries]`` how well a ranker does for each."""
        metric = ranking_selection(self.evaluation).metric
        found = ranking_values(ranker, self.task, self.evaluation.k, auc=metric == "auc", gain=self.evaluation.gain)
        return np.asarray(found[metric], np.float64)

"""Late fusions: several trainings, whose answers are combined; of predictions or of rankings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towerkit.data.dataset import Dataset
from towerkit.ensembles.fit_late import fit_late_fusion
from towerkit.ensembles.fit_ranks import RankFitting
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.measured import predicted_beside_baselines, ranked_beside_baselines
from towerkit.models.ranker import RankerSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.outcomes.asked import Asked, Outcome
from towerkit.outcomes.recipes import recipe_of
from towerkit.training.loop import History
from towerkit.training.pair_recipe import RankerRecipe
from towerkit.training.progress import Progress, Step
from towerkit.training.recipes import RetrievalRecipe


def late_fusion(model: LateFusionSpec, dataset: Dataset, asked: Asked) -> Outcome:
    """A fusion of members that predict."""
    history = _Recorder(asked.progress)
    fusion = fit_late_fusion(model, dataset, asked.spec.training, history, asked.checkpoints, asked.known)
    evaluation, baselines = predicted_beside_baselines(fusion, model.demand(dataset), asked.spec, dataset)
    return Outcome(fusion, evaluation, baselines, history.history)


def rank_fusion(model: LateFusionSpec, dataset: Dataset, asked: Asked) -> Outcome:
    """A fusion of members that rank."""
    spec, history = asked.spec, _Recorder(asked.progress)

    def recipe(name: str, member: TwoTowerSpec | RankerSpec) -> RetrievalRecipe | RankerRecipe:
        own = spec.model_copy(update={"model": member, "objective": spec.objective_of(name)})
        found = recipe_of(own, dataset)
        assert isinstance(found, RetrievalRecipe | RankerRecipe)
        return found

    fusion = RankFitting(model, recipe, spec.training, spec.evaluation, history, asked.checkpoints).fit(dataset)
    evaluation, baselines = ranked_beside_baselines(fusion, spec, dataset, asked.learned(dataset))
    return Outcome(fusion, evaluation, baselines, history.history)


class _Recorder:
    """Passes the epochs of all members on, and keeps them."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.history = progress, History()

    def waits(self, what: str) -> None:
        """Pass on."""
        self.progress.waits(what)

    def step(self, step: Step) -> None:
        """Pass on."""
        self.progress.step(step)

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """Keep one epoch and pass it on."""
        self.history.records.append(dict(record))
        self.progress.epoch(record, stage=stage, epochs=epochs, is_best=is_best)

    def end(self, record: Mapping[str, float]) -> None:
        """Not passed on: the members are done, the fusion is not."""

"""Models that predict by one training: towers, a backbone and heads; where asked for, each task alone beside them."""

from __future__ import annotations

from towerkit.data.dataset import Dataset
from towerkit.ensembles.members import predictor_of
from towerkit.measured import predicted_beside_baselines
from towerkit.models.answer import TaskPredictor
from towerkit.models.tower_model import TowerModelSpec
from towerkit.objectives.balance import FixedBalanceSpec
from towerkit.outcomes.asked import Asked, Outcome
from towerkit.outcomes.recipes import recipe_of
from towerkit.training.fit import fit_recipe
from towerkit.training.loop import Selection
from towerkit.training.progress import Staged
from towerkit.training.recipes import PredictionRecipe


def prediction(model: TowerModelSpec, dataset: Dataset, asked: Asked) -> Outcome:
    """A tower model with its heads."""
    spec = asked.spec
    recipe = recipe_of(spec, dataset, asked.base)
    trained = fit_recipe(recipe, dataset, spec.training, asked.progress, asked.checkpoints, asked.world)
    predictor = predictor_of(model, trained)
    alone = _each_task_alone(model, dataset, asked) if spec.evaluation.single_task else {}
    evaluation, baselines = predicted_beside_baselines(predictor, model.demand(dataset), spec, dataset, alone)
    return Outcome(predictor, evaluation, baselines, trained.history)


def _each_task_alone(model: TowerModelSpec, dataset: Dataset, asked: Asked) -> dict[str, TaskPredictor]:
    """Task -> a model of the same towers and backbone for that task alone, trained in the same way."""
    found = {}
    for task, head in model.heads.items():
        own = model.model_copy(update={"heads": {task: head}})
        recipe = PredictionRecipe(own, FixedBalanceSpec(), Selection("loss", higher_is_better=False))
        trained = fit_recipe(recipe, dataset, asked.spec.training, Staged(asked.progress, f"{task} alone:"))
        found[task] = predictor_of(own, trained)
    return found

"""The recipe of each kind of model that is one training."""

from __future__ import annotations

from towerkit.core.errors import SpecError
from towerkit.data.dataset import Dataset
from towerkit.data.stream.log import Log
from towerkit.evaluation.selection import joint_selection, ranking_selection, ranking_validator, task_selection
from towerkit.models.joint import JointSpec, for_candidate
from towerkit.models.ranker import RankerSpec
from towerkit.models.tower_model import TowerModelSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.outcomes.teachers import open_teacher
from towerkit.spec import ModelingSpec
from towerkit.training.carry import Base
from towerkit.training.joint_recipe import JointRecipe
from towerkit.training.log_recipe import LogRecipe, check_streamable
from towerkit.training.pair_recipe import RankerRecipe
from towerkit.training.recipes import PredictionRecipe, RetrievalRecipe


def recipe_of(
    spec: ModelingSpec, dataset: Dataset, base: Base | None = None
) -> RetrievalRecipe | RankerRecipe | JointRecipe | PredictionRecipe:
    """How a model that is one training is prepared and validated; a late fusion is several."""
    model = spec.model
    if isinstance(model, TwoTowerSpec):
        validator = ranking_validator(dataset, spec.evaluation)
        selection, distill = ranking_selection(spec.evaluation), spec.training.distill
        teacher = None if distill is None else open_teacher(distill).bound
        return RetrievalRecipe(model, spec.objective, spec.update, selection, validator, base, teacher)
    if isinstance(model, JointSpec):
        selection = joint_selection(spec.evaluation, model.candidates)
        validators = {
            name: ranking_validator(for_candidate(dataset, name), spec.evaluation) for name in model.candidates
        }
        return JointRecipe(model, spec.objective, spec.balance, selection, validators.__getitem__)
    if isinstance(model, RankerSpec):
        validator, selection = ranking_validator(dataset, spec.evaluation), ranking_selection(spec.evaluation)
        return RankerRecipe(model, spec.objective, spec.balance, selection, validator, base)
    assert isinstance(model, TowerModelSpec)
    return PredictionRecipe(model, spec.balance, task_selection(spec.evaluation, model.heads), base)


def log_recipe_of(spec: ModelingSpec, log: Log) -> LogRecipe:
    """How a two-tower over a log is prepared and validated.

    Args:
        spec: With a two-tower of ids.
        log: Where its pairs lie.
    """
    check_streamable(spec.model, spec.update)
    if spec.training.distill is not None:
        raise SpecError("training.distill asks a Run about rows in memory; remove it, or data.examples.stream.")
    assert isinstance(spec.model, TwoTowerSpec)
    validator = ranking_validator(log, spec.evaluation)
    selection = ranking_selection(spec.evaluation)
    return LogRecipe(RetrievalRecipe(spec.model, spec.objective, spec.update, selection, validator))

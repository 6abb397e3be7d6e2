"""Which engine takes the steps of a training: decided once, by the spec and the number of rows."""

from __future__ import annotations

from towerkit.core.errors import listed
from towerkit.matching.negatives import InBatchSpec, PopularitySpec, UniformSpec
from towerkit.matching.updates import AnyUpdateSpec
from towerkit.matching.updates.ema import EmaSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.objectives.retrieval import RetrievalObjectiveSpec
from towerkit.towers import IdTowerSpec
from towerkit.training.engines.base import KernelEngine
from towerkit.training.engines.pairwise import LOSSES, PairwiseEngine
from towerkit.training.engines.shared import SOFTMAXES, SharedEngine
from towerkit.training.spec import TrainingSpec

WORTH = 2e8
"""``auto`` compiles from so many (rows x candidates x dim x epochs) on: some seconds of the torch engine."""


def unsupported(
    model: TwoTowerSpec, objective: RetrievalObjectiveSpec, update: AnyUpdateSpec, training: TrainingSpec
) -> str | None:
    """Why no compiled engine can run a spec, or None where one can."""
    loss = objective.loss
    for side, tower in (("query", model.query), ("candidate", model.candidate)):
        if not isinstance(tower, IdTowerSpec) or tower.hide:
            return f"model.{side} is no id tower alone (or hides ids)"
    checks = {
        f"model.match is {model.match.kind}": model.match.kind == "euclidean",
        f"the loss is {loss.kind}": loss.kind not in LOSSES,
        "the temperature is learned": bool(getattr(loss, "learn_temperature", False)),
        _wanted(objective): engine_for(objective) is None,
        "an ema update keeps slow copies of its towers": isinstance(update, EmaSpec),
        "training.optimizer.clip_norm looks at all gradients together": training.optimizer.clip_norm is not None,
        "training.towers has starts, frozen towers or paces of their own": bool(training.towers),
        "training.distill asks another model about each batch": training.distill is not None,
        "training.accumulate adds up batches": training.accumulate > 1,
        "training.precision is bfloat16": training.precision == "bfloat16",
    }
    return next((reason for reason, holds in checks.items() if holds), None)


def engine_for(objective: RetrievalObjectiveSpec) -> type[KernelEngine] | None:
    """The engine of a loss and its negatives, or None where there is none."""
    drawn = [each for each in objective.negatives if isinstance(each, UniformSpec | PopularitySpec)]
    own = [each for each in drawn if not each.shared]
    if len(own) == 1 and len(objective.negatives) == 1:
        return PairwiseEngine
    batches = [each for each in objective.negatives if isinstance(each, InBatchSpec)]
    all_shared = not own and len(drawn) + len(batches) == len(objective.negatives) > 0
    return SharedEngine if all_shared and objective.loss.kind in SOFTMAXES else None


def engine_of(
    model: TwoTowerSpec,
    objective: RetrievalObjectiveSpec,
    update: AnyUpdateSpec,
    training: TrainingSpec,
    num_rows: int,
) -> type[KernelEngine] | None:
    """The compiled engine that takes the steps: where one can, and with ``auto`` where it is worth the compiling.

    Args:
        model: The two towers.
        objective: Loss and negatives.
        update: How gradients reach the sides.
        training: Its settings, the engine among them.
        num_rows: Examples that are trained on.

    Returns:
        None for the torch engine.
    """
    if training.engine == "torch" or unsupported(model, objective, update, training) is not None:
        return None
    count = 1 + sum(getattr(each, "count", training.batch_size) for each in objective.negatives)
    work = float(num_rows) * count * getattr(model.query, "dim", 1) * training.epochs
    return engine_for(objective) if training.engine == "compiled" or work >= WORTH else None


def _wanted(objective: RetrievalObjectiveSpec) -> str:
    kinds = listed(each.kind for each in objective.negatives) or "empty"
    return (
        f"objective.negatives is {kinds}, where one sort for each pair of its own is wanted (uniform or popularity, shared: "
        f"false), or with {listed(SOFTMAXES)} several shared by the batch (uniform, popularity, in_batch)"
    )

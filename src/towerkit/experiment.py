"""From a spec and a data set to a Run: train, evaluate once on test, measure the baselines, write the folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from towerkit.core.remarks import collecting, remark
from towerkit.core.world import ALONE, World
from towerkit.data.dataset import Dataset
from towerkit.data.fingerprint import fingerprint
from towerkit.data.stream.log import Log
from towerkit.ensembles.fit_late import Known
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.measurable import check_measurable
from towerkit.models.joint import JointSpec
from towerkit.models.ranker import RankerSpec
from towerkit.models.tower_model import TowerModelSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.outcomes.asked import Asked, Outcome
from towerkit.outcomes.fusions import late_fusion, rank_fusion
from towerkit.outcomes.predictions import prediction
from towerkit.outcomes.rankings import joint_retrieval, ranking_of_pairs, retrieval, retrieval_of_log
from towerkit.outcomes.recipes import log_recipe_of, recipe_of
from towerkit.presets.fusions import ChosenFusion, candidates_of, choose_fusion, chooses_fusion
from towerkit.presets.kept_choice import kept_choice
from towerkit.pretrained.source import fingerprints
from towerkit.spec import ModelingSpec, plain
from towerkit.training.carry import Base
from towerkit.training.checkpoint import Checkpoints, checkpoint_folder
from towerkit.training.estimate import Estimate, estimate
from towerkit.training.fit import fit_recipe
from towerkit.training.progress import Progress, Several, Silent
from towerkit.training.signals import StopSignals

__all__ = [
    "Outcome",
    "checkpoints_of",
    "estimates_of",
    "log_recipe_of",
    "recipe_of",
    "train_and_evaluate",
    "train_beside",
]


def train_and_evaluate(
    spec: ModelingSpec,
    dataset: Dataset | Log,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
    base: Base | None = None,
    known: Mapping[str, Known] | None = None,
    world: World = ALONE,
) -> Outcome:
    """Train a model of any kind and measure it once, beside its baselines, on the held-out part.

    Without a test part, the validation part is measured (it also chose the epoch, and the protocol says so), and the
    model is not refitted on it.

    Args:
        spec: The model, its training and evaluation.
        dataset: Raw tables with their split, or a log.
        progress: Told after each step and epoch, and at the end.
        checkpoints: Where the training is saved, and gone on from; see :func:`checkpoints_of`.
        base: A trained Run to go on from, with weights and vocabularies.
        known: Members of a late fusion that are there already.
        world: The processes that train together; this is the first of them, the others call :func:`train_beside`.

    Raises:
        RunError: If the model does not fit the Run that it goes on from.
    """
    started = time.perf_counter()
    check_measurable(spec, dataset)
    chosen = _chosen(spec, dataset, progress, checkpoints)
    spec = spec if chosen is None else chosen.spec
    spec = _final(spec, dataset)
    if spec.training.track:
        progress = Several([progress, *(each.build(plain(spec)) for each in spec.training.track)])
    if isinstance(dataset, Log):
        assert isinstance(spec.model, TwoTowerSpec)  # no other model may be streamed
        found = retrieval_of_log(spec.model, dataset, Asked(spec, progress, checkpoints, base, world=world))
    else:
        if base is not None:
            dataset = base.with_known(dataset)
        with collecting() as remarks:
            found = _of_tables(dataset, Asked(spec, progress, checkpoints, base, known, world))
        found = replace(found, evaluation=found.evaluation.with_warnings(remarks))
    progress.end({name: metric.value for name, metric in found.evaluation.metrics.items()})
    found.history.records[:0] = [] if chosen is None else chosen.records
    return replace(found, seconds=time.perf_counter() - started, base=base, chosen=chosen)


def train_beside(spec: ModelingSpec, dataset: Dataset | Log, checkpoints: Checkpoints, world: World) -> None:
    """Take part in a training whose first process calls :func:`train_and_evaluate`; nothing is measured or written here.

    Args:
        spec: As the first process has it.
        dataset: As the first process has it.
        checkpoints: Those of the first process, which alone writes them.
        world: This process among them.
    """
    check_measurable(spec, dataset)
    spec = _final(spec, dataset)
    recipe: Any = log_recipe_of(spec, dataset) if isinstance(dataset, Log) else recipe_of(spec, dataset)
    fit_recipe(recipe, dataset, spec.training, Silent(), checkpoints, world)


def _final(spec: ModelingSpec, dataset: Dataset | Log) -> ModelingSpec:
    """The spec as it is trained: without a test part the validation part is measured, and no model may learn from it."""
    if len(dataset.parts.test):
        return spec
    return spec.model_copy(update={"training": spec.training.model_copy(update={"refit": False})})


def _chosen(
    spec: ModelingSpec, dataset: Dataset | Log, progress: Progress, checkpoints: Checkpoints | None
) -> ChosenFusion | None:
    """Choose a fusion on validation rows, where the spec asks for it."""
    if not chooses_fusion(spec.model):
        return None
    assert isinstance(dataset, Dataset)
    with collecting():  # what is odd about the rows is told when the chosen model reads them
        return kept_choice(spec, checkpoints, lambda: choose_fusion(spec, dataset, progress, checkpoints))


def _of_tables(dataset: Dataset, asked: Asked) -> Outcome:
    model = asked.spec.model
    for told in model.remarks(dataset):
        remark(told)
    if isinstance(model, TwoTowerSpec):
        return retrieval(model, dataset, asked)
    if isinstance(model, JointSpec):
        return joint_retrieval(model, dataset, asked)
    if isinstance(model, RankerSpec):
        return ranking_of_pairs(model, dataset, asked)
    if isinstance(model, TowerModelSpec):
        return prediction(model, dataset, asked)
    return rank_fusion(model, dataset, asked) if model.ranks else late_fusion(model, dataset, asked)


_MAY_CHANGE = ("checkpoint_every", "track", "partition")


def checkpoints_of(
    run: Path,
    spec: ModelingSpec,
    dataset: Dataset | Log,
    *,
    base: Base | None = None,
    stop: StopSignals | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Checkpoints:
    """The checkpoints of a training that will write a Run; they know the spec and the data that they belong to.

    Args:
        run: The Run's folder; the checkpoints are beside it.
        spec: What is trained. How often to save and who is told may change until the training goes on.
        dataset: Its tables and split, by their hashes; not the paths they were read from.
        base: What the training goes on from.
        stop: Signals to listen to.
        say: Told what a person should know.
    """
    described = {key: value for key, value in plain(spec).items() if key != "data"}
    described["training"] = {key: v for key, v in described["training"].items() if key not in _MAY_CHANGE}
    if base is not None:
        described["from"] = base.seal
    identity = {"spec": described, "data": fingerprint(dataset)}
    encoders = fingerprints(described["model"])
    if encoders:
        identity["encoders"] = encoders
    return Checkpoints(checkpoint_folder(run), identity, every=spec.training.checkpoint_every, stop=stop, say=say)


def estimates_of(spec: ModelingSpec, dataset: Dataset | Log) -> dict[str, Estimate]:
    """What the training of a model will need; of a late fusion, each tower model once (with folds it is trained folds + 1 times).

    Where the fusion is left to validation, what each of those that are compared would need for the final training.

    Args:
        spec: What would be trained.
        dataset: Raw tables with their split, or a log.
    """
    check_measurable(spec, dataset)
    if isinstance(dataset, Log):
        return {"model": estimate(log_recipe_of(spec, dataset), dataset, spec.training)}
    if chooses_fusion(spec.model):
        return {name: estimate(recipe_of(own, dataset), dataset, spec.training) for name, own in candidates_of(spec)}
    if not isinstance(spec.model, LateFusionSpec):
        recipe: Any = recipe_of(spec, dataset)
        return {"model": estimate(recipe, dataset, spec.training)}
    members: dict[str, TowerModelSpec | TwoTowerSpec | RankerSpec] = dict(spec.model.towers())
    ranking = TwoTowerSpec | RankerSpec
    members |= {name: each for name, each in spec.model.members.items() if isinstance(each, ranking)}
    each = {
        name: spec.model_copy(update={"model": member, "objective": spec.objective_of(name)})
        for name, member in members.items()
    }
    return {f"member {name}": estimate(recipe_of(own, dataset), dataset, spec.training) for name, own in each.items()}

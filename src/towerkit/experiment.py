"""From a spec and a data set to a Run: train, evaluate once on test, measure the baselines, write the folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from towerkit.core.errors import SpecError
from towerkit.core.remarks import collecting, remark
from towerkit.data.dataset import Dataset
from towerkit.data.fingerprint import fingerprint
from towerkit.data.stream.log import Log
from towerkit.ensembles.fit_late import Known, fit_late_fusion
from towerkit.ensembles.fit_ranks import RankFitting
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.ensembles.members import pair_scorer, predictor_of
from towerkit.evaluation.result import Evaluation
from towerkit.evaluation.selection import joint_selection, ranking_selection, ranking_validator, task_selection
from towerkit.matching.updates import OneBackpropSpec
from towerkit.measurable import check_measurable, held_out_part
from towerkit.measured import (
    joint_beside_baselines,
    pairs_beside_baselines,
    predicted_beside_baselines,
    ranked_beside_baselines,
)
from towerkit.models.answer import Retriever, TaskPredictor, retriever_of
from towerkit.models.joint import JointSpec, for_candidate, query_of
from towerkit.models.joint_retriever import JointRetriever
from towerkit.models.ranker import RankerSpec
from towerkit.models.tower_model import TowerModelSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.objectives.balance import FixedBalanceSpec
from towerkit.presets.fusions import ChosenFusion, candidates_of, choose_fusion, chooses_fusion
from towerkit.presets.kept_choice import kept_choice
from towerkit.pretrained.source import fingerprints
from towerkit.spec import ModelingSpec, plain
from towerkit.trained import Model
from towerkit.training.carry import Base
from towerkit.training.checkpoint import Checkpoints, checkpoint_folder
from towerkit.training.estimate import Estimate, estimate
from towerkit.training.fit import Trained, fit_recipe
from towerkit.training.joint_recipe import JointRecipe
from towerkit.training.log_recipe import LogRecipe, check_streamable
from towerkit.training.loop import History, Selection
from towerkit.training.pair_recipe import RankerRecipe
from towerkit.training.progress import Progress, Several, Staged, Step
from towerkit.training.recipes import PredictionRecipe, RetrievalRecipe, pairs_matrix
from towerkit.training.signals import StopSignals


@dataclass(frozen=True)
class Outcome:
    """A trained model with everything that was measured."""

    model: Model
    evaluation: Evaluation
    baselines: Mapping[str, Evaluation]
    history: History
    seconds: float
    base: Base | None = None
    """What the training went on from."""
    replaces: Mapping[str, str] | None = None
    """Of a fusion with a new member: the Run it comes from, the member that went, and what was fitted."""
    chosen: ChosenFusion | None = None
    """Where the spec left the fusion to validation: what was chosen, and the spec that was trained."""


def train_and_evaluate(
    spec: ModelingSpec,
    dataset: Dataset | Log,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
    base: Base | None = None,
    known: Mapping[str, Known] | None = None,
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

    Raises:
        RunError: If the model does not fit the Run that it goes on from.
    """
    started = time.perf_counter()
    check_measurable(spec, dataset)
    chosen = _chosen(spec, dataset, progress, checkpoints)
    spec = spec if chosen is None else chosen.spec
    if not len(dataset.parts.test):
        spec = spec.model_copy(update={"training": spec.training.model_copy(update={"refit": False})})
    if spec.training.track:
        progress = Several([progress, *(each.build(plain(spec)) for each in spec.training.track)])
    if isinstance(dataset, Log):
        found = _of_log(spec, dataset, progress, checkpoints, base)
    else:
        if base is not None:
            dataset = base.with_known(dataset)
        with collecting() as remarks:
            found = _of_tables(spec, dataset, progress, checkpoints, base, known)
        found = replace(found, evaluation=found.evaluation.with_warnings(remarks))
    progress.end({name: metric.value for name, metric in found.evaluation.metrics.items()})
    found.history.records[:0] = [] if chosen is None else chosen.records
    return replace(found, seconds=time.perf_counter() - started, base=base, chosen=chosen)


def _chosen(
    spec: ModelingSpec, dataset: Dataset | Log, progress: Progress, checkpoints: Checkpoints | None
) -> ChosenFusion | None:
    """Choose a fusion on validation rows, where the spec asks for it."""
    if not chooses_fusion(spec.model):
        return None
    assert isinstance(dataset, Dataset)
    with collecting():  # what is odd about the rows is told when the chosen model reads them
        return kept_choice(spec, checkpoints, lambda: choose_fusion(spec, dataset, progress, checkpoints))


def _of_tables(
    spec: ModelingSpec,
    dataset: Dataset,
    progress: Progress,
    checkpoints: Checkpoints | None,
    base: Base | None,
    known: Mapping[str, Known] | None,
) -> Outcome:
    kind = spec.model
    for told in kind.remarks(dataset):
        remark(told)
    if isinstance(kind, TwoTowerSpec):
        return _retrieval(kind, spec, dataset, progress, checkpoints, base)
    if isinstance(kind, JointSpec):
        return _joint(kind, spec, dataset, progress, checkpoints, base)
    if isinstance(kind, RankerSpec):
        return _pair_ranking(kind, spec, dataset, progress, checkpoints, base)
    if isinstance(kind, TowerModelSpec):
        return _prediction(kind, spec, dataset, progress, checkpoints, base)
    if kind.ranks:
        return _rank_fusion(kind, spec, dataset, progress, checkpoints)
    return _late_fusion(kind, spec, dataset, progress, checkpoints, known)


_MAY_CHANGE = ("checkpoint_every", "track")


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


def _retrieval(
    model: TwoTowerSpec,
    spec: ModelingSpec,
    dataset: Dataset,
    progress: Progress,
    checkpoints: Checkpoints | None,
    base: Base | None,
) -> Outcome:
    _, _, final = held_out_part(dataset)
    trained = fit_recipe(recipe_of(spec, dataset, base), dataset, spec.training, progress, checkpoints)
    encoded, entities = trained.prepared.encoded, model.entities(dataset)
    learned = final.parts.train if spec.training.refit else dataset.parts.train
    seen = pairs_matrix(encoded, learned, entities)
    if base is not None:
        seen = base.with_seen(seen, encoded.catalogues, entities)
    retriever = _retriever(model, spec, dataset, trained, seen)
    evaluation, baselines = ranked_beside_baselines(retriever, spec, dataset, learned)
    return Outcome(retriever, evaluation, baselines, trained.history, 0.0)


def _retriever(
    model: TwoTowerSpec, spec: ModelingSpec, dataset: Dataset | Log, trained: Trained, seen: csr_array
) -> Retriever:
    encoded, entities = trained.prepared.encoded, trained.prepared.entities
    assert entities is not None
    return retriever_of(
        model,
        encoded.encoder,
        trained.model,
        encoded.catalogues,
        seen,
        queries_average_candidates=isinstance(spec.update, OneBackpropSpec),
        titles={name: dataset.entities[name].title if name in dataset.entities else None for name in entities},
        histories=encoded.histories.get(entities[0]),
    )


def _of_log(
    spec: ModelingSpec, log: Log, progress: Progress, checkpoints: Checkpoints | None, base: Base | None
) -> Outcome:
    """As :func:`_retrieval`; the pairs stay on disk until they are measured against."""
    if base is not None:
        raise SpecError(
            "A training that goes on from a Run takes new data in memory; remove data.examples.stream, or --from."
        )
    model = spec.model
    assert isinstance(model, TwoTowerSpec)
    _, _, final = held_out_part(log)
    trained = fit_recipe(log_recipe_of(spec, log), log, spec.training, progress, checkpoints)
    seen = trained.prepared.encoded.pairs
    assert seen is not None
    retriever = _retriever(model, spec, log, trained, seen)
    learned = (final if spec.training.refit else log).parts.train
    evaluation, baselines = ranked_beside_baselines(retriever, spec, log, learned)
    return Outcome(retriever, evaluation, baselines, trained.history, 0.0)


def log_recipe_of(spec: ModelingSpec, log: Log) -> LogRecipe:
    """How a two-tower over a log is prepared and validated.

    Args:
        spec: With a two-tower of ids.
        log: Where its pairs lie.
    """
    check_streamable(spec.model, spec.update)
    assert isinstance(spec.model, TwoTowerSpec)
    validator = ranking_validator(log, spec.evaluation)
    selection = ranking_selection(spec.evaluation)
    return LogRecipe(RetrievalRecipe(spec.model, spec.objective, spec.update, selection, validator))


def _rank_fusion(
    model: LateFusionSpec, spec: ModelingSpec, dataset: Dataset, progress: Progress, checkpoints: Checkpoints | None
) -> Outcome:
    history = _Recorder(progress)

    def recipe(name: str, member: TwoTowerSpec | RankerSpec) -> RetrievalRecipe | RankerRecipe:
        own = spec.model_copy(update={"model": member, "objective": spec.objective_of(name)})
        found = recipe_of(own, dataset)
        assert isinstance(found, RetrievalRecipe | RankerRecipe)
        return found

    fitting = RankFitting(model, recipe, spec.training, spec.evaluation, history, checkpoints)
    fusion = fitting.fit(dataset)
    learned = dataset.for_refit().parts.train if spec.training.refit else dataset.parts.train
    evaluation, baselines = ranked_beside_baselines(fusion, spec, dataset, learned)
    return Outcome(fusion, evaluation, baselines, history.history, 0.0)


def _pair_ranking(
    model: RankerSpec,
    spec: ModelingSpec,
    dataset: Dataset,
    progress: Progress,
    checkpoints: Checkpoints | None,
    base: Base | None,
) -> Outcome:
    _, _, final = held_out_part(dataset)
    trained = fit_recipe(recipe_of(spec, dataset, base), dataset, spec.training, progress, checkpoints)
    learned = final.parts.train if spec.training.refit else dataset.parts.train
    seen = pairs_matrix(trained.prepared.encoded, learned, model.entities(dataset))
    if base is not None:
        seen = base.with_seen(seen, trained.prepared.encoded.catalogues, model.entities(dataset))
    scorer = pair_scorer(model, dataset, trained, seen)
    evaluation, baselines = pairs_beside_baselines(scorer, model.demand(dataset), spec, dataset, learned)
    return Outcome(scorer, evaluation, baselines, trained.history, 0.0)


def _joint(
    model: JointSpec,
    spec: ModelingSpec,
    dataset: Dataset,
    progress: Progress,
    checkpoints: Checkpoints | None,
    base: Base | None,
) -> Outcome:
    if base is not None:
        raise SpecError("A joint model does not go on from a Run yet; train it without --from.")
    trained = fit_recipe(recipe_of(spec, dataset), dataset, spec.training, progress, checkpoints)
    encoded, module = trained.prepared.encoded, trained.model
    learned = (held_out_part(dataset)[2] if spec.training.refit else dataset).parts.train
    members = {}
    for name, two_tower in module.two_towers.items():
        pair = query_of(dataset), name
        own = np.intersect1d(learned, held_out_part(for_candidate(dataset, name))[2].parts.train)
        members[name] = retriever_of(
            model.two_tower(name),
            encoded.encoder.only(pair),
            two_tower.eval(),
            encoded.catalogues,
            pairs_matrix(encoded, own, pair),
            queries_average_candidates=False,
            titles={each: dataset.entities[each].title if each in dataset.entities else None for each in pair},
        )
    retriever = JointRetriever(model, members)
    evaluation, baselines = joint_beside_baselines(retriever, spec, dataset, learned)
    return Outcome(retriever, evaluation, baselines, trained.history, 0.0)


def recipe_of(
    spec: ModelingSpec, dataset: Dataset, base: Base | None = None
) -> RetrievalRecipe | RankerRecipe | JointRecipe | PredictionRecipe:
    """How a model that is one training is prepared and validated; a late fusion is several."""
    model = spec.model
    if isinstance(model, TwoTowerSpec):
        validator = ranking_validator(dataset, spec.evaluation)
        return RetrievalRecipe(model, spec.objective, spec.update, ranking_selection(spec.evaluation), validator, base)
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


def _prediction(
    model: TowerModelSpec,
    spec: ModelingSpec,
    dataset: Dataset,
    progress: Progress,
    checkpoints: Checkpoints | None,
    base: Base | None,
) -> Outcome:
    trained = fit_recipe(recipe_of(spec, dataset, base), dataset, spec.training, progress, checkpoints)
    predictor = predictor_of(model, trained)
    alone = _each_task_alone(spec, dataset, progress) if spec.evaluation.single_task else {}
    evaluation, baselines = predicted_beside_baselines(predictor, model.demand(dataset), spec, dataset, alone)
    return Outcome(predictor, evaluation, baselines, trained.history, 0.0)


def _each_task_alone(spec: ModelingSpec, dataset: Dataset, progress: Progress) -> dict[str, TaskPredictor]:
    """Task -> a model of the same towers and backbone for that task alone, trained in the same way."""
    assert isinstance(spec.model, TowerModelSpec)
    found = {}
    for task, head in spec.model.heads.items():
        model = spec.model.model_copy(update={"heads": {task: head}})
        recipe = PredictionRecipe(model, FixedBalanceSpec(), Selection("loss", higher_is_better=False))
        trained = fit_recipe(recipe, dataset, spec.training, Staged(progress, f"{task} alone:"))
        found[task] = predictor_of(model, trained)
    return found


def _late_fusion(
    model: LateFusionSpec,
    spec: ModelingSpec,
    dataset: Dataset,
    progress: Progress,
    checkpoints: Checkpoints | None,
    known: Mapping[str, Known] | None,
) -> Outcome:
    history = _Recorder(progress)
    fusion = fit_late_fusion(model, dataset, spec.training, history, checkpoints, known)
    evaluation, baselines = predicted_beside_baselines(fusion, model.demand(dataset), spec, dataset)
    return Outcome(fusion, evaluation, baselines, history.history, 0.0)


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

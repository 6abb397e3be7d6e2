"""The two recipes: how a two-tower and a tower model are prepared and validated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import nn

from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.features.encoded import Catalogue, Encoded, encode
from towerkit.features.encoder import Demand, Encoder
from towerkit.heads.decision import Decision
from towerkit.matching.negatives import KnownPairs, Material, Negatives
from towerkit.matching.updates import AnyUpdateSpec, Update
from towerkit.models.histories import with_histories, with_pasts
from towerkit.models.tower_model import TowerModel, TowerModelSpec
from towerkit.models.two_tower import TwoTower, TwoTowerSpec
from towerkit.objectives.balance import AnyBalanceSpec, FixedBalanceSpec, Reached
from towerkit.objectives.distillation import Distillation, Teacher
from towerkit.objectives.retrieval import RetrievalObjectiveSpec
from towerkit.objectives.tasks import TasksObjective, task_terms
from towerkit.towers import Tower
from towerkit.training.carry import Base
from towerkit.training.decisions import decisions_of
from towerkit.training.engines.choice import engine_of
from towerkit.training.fit import Prepared
from towerkit.training.forward import forward_of
from towerkit.training.loop import Selection
from towerkit.training.optimizers import Optimizer
from towerkit.training.spec import TrainingSpec
from towerkit.training.starts import Starts
from towerkit.training.state import TrainState

TeacherOf = Callable[[Catalogue, Catalogue], Teacher]
"""The catalogues of queries and candidates -> who scores their pairs. Given from above: it may be a model of any kind."""
ValidateRanking = Callable[[TwoTower | TowerModel, Encoded, Rows | range, Rows], Mapping[str, float]]
"""Model, arrays, training rows, held-out rows -> figures. Given from above: ranking metrics live on a higher floor."""


@dataclass(frozen=True)
class RetrievalRecipe:
    """A two-tower with its objective and update."""

    model: TwoTowerSpec
    objective: RetrievalObjectiveSpec
    update: AnyUpdateSpec
    selection: Selection
    validate_ranking: ValidateRanking
    base: Base | None = None
    """A Run to go on from."""
    teacher: TeacherOf | None = None
    """The catalogues of queries and candidates -> a trained model that is learned from beside."""

    def prepare(self, dataset: Dataset, rows: Rows, training: TrainingSpec) -> Prepared:
        """Encode, build, and set the negatives up over the candidates known from these rows."""
        entities = self.model.entities(dataset)
        starts = Starts.of(training, self.model, dataset, self.base)
        encoder = starts.grown(encoder_of(self.model.demand(dataset), dataset, rows, self.base))
        encoded = encode(encoder, dataset, rows)
        model = self.model.build(encoder, entities, sparse_rows=training.optimizer.rows == "touched")
        encoded = with_histories(encoded, dataset, rows, entities, model.query.reaches())
        encoded = with_pasts(encoded, dataset, entities[0])
        model.begin(id_pairs(encoded, rows, entities))
        model.begin_from(lambda entity: encoded.pointed_to(entity, rows))
        if self.base is not None:
            self.base.carry(model)
        starts.begin(model)
        encoded = starts.computed(model, encoded)
        update = self.update.build()
        trainable = list(update.trainable(model))
        update.begin(model, encoded, rows)
        if self.base is not None:
            self.base.keep_known(model, update)
        material = material_of(encoded, rows, entities, training)
        prepared = self.assembled(encoded, model, update, trainable, material, rows, training)
        starts.pace(prepared.state.optimizer, model)
        prepared.before_epoch = starts.unfreezing(model)
        return prepared

    def assembled(
        self,
        encoded: Encoded,
        model: TwoTower,
        update: Update,
        trainable: Iterable[nn.Parameter],
        material: Material,
        rows: Rows | range,
        training: TrainingSpec,
    ) -> Prepared:
        """Set up what moves a model, which is the same wherever its rows lie.

        Args:
            encoded: The arrays.
            model: Built, and begun.
            update: Begun.
            trainable: What the optimizer moves.
            material: What negatives are drawn from.
            rows: The rows that are trained on.
            training: The loop's settings.
        """
        sampler = self.objective.sampler(material)
        objective = self.objective.build(update, sampler, self._distillation(encoded, model, training))
        optimizer = training.optimizer.build([*trainable, *objective.parameters()], training.total_steps(len(rows)))
        apply_rates(optimizer, model)
        taught = {} if training.distill is None else {"distill": training.distill.weight}
        balancer = FixedBalanceSpec().build({"retrieval": 1.0, **taught})
        forward = forward_of(model, precision=training.precision, chunk=training.chunk)
        state = TrainState(model, objective, balancer, update, optimizer, forward=forward)
        prepared = Prepared(state, encoded, sampler, (model.query_entity, model.candidate_entity))
        engine = engine_of(self.model, self.objective, self.update, training, len(rows))
        if engine is not None:
            assert isinstance(sampler, Negatives)
            prepared.engine = engine.of(state, encoded, sampler, self.objective.loss, rows, training)
        return prepared

    def validate(self, prepared: Prepared, dataset: Dataset, rows: Rows) -> Mapping[str, float]:
        """Ranking metrics of the held-out rows."""
        return self.validate_ranking(prepared.state.model, prepared.encoded, dataset.parts.train, rows)

    def _distillation(
        self, encoded: Encoded, model: TwoTower, training: TrainingSpec
    ) -> Callable[[float], Distillation] | None:
        """What is learned from another model, given the temperature of the loss."""
        own = training.distill
        if own is None:
            return None
        assert self.teacher is not None
        teacher = self.teacher(encoded.catalogues[model.query_entity], encoded.catalogues[model.candidate_entity])
        return lambda scale: Distillation(teacher, own.temperature, own.candidates, scale)

    def decide(self, prepared: Prepared, rows: Rows) -> Mapping[str, Decision]:
        """A ranking has no threshold."""
        return {}


@dataclass(frozen=True)
class PredictionRecipe:
    """A tower model with its balancer; validation is the weighted sum of the heads' losses."""

    model: TowerModelSpec
    balance: AnyBalanceSpec
    selection: Selection
    base: Base | None = None
    """A Run to go on from."""

    def prepare(self, dataset: Dataset, rows: Rows, training: TrainingSpec) -> Prepared:
        """Encode and build."""
        starts = Starts.of(training, self.model, dataset, self.base)
        encoder = starts.grown(encoder_of(self.model.demand(dataset), dataset, rows, self.base))
        encoded = encode(encoder, dataset, rows)
        model = self.model.build(encoder, sparse_rows=training.optimizer.rows == "touched")
        if self.base is not None:
            self.base.carry(model)
        starts.begin(model)
        encoded = starts.computed(model, encoded)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        reached = Reached(tuple(trainable), tuple(model.last_shared()), training.seed)
        balancer = self.balance.build({task: head.weight for task, head in self.model.heads.items()}, reached)
        optimizer = training.optimizer.build([*trainable, *balancer.parameters()], training.total_steps(len(rows)))
        apply_rates(optimizer, model)
        starts.pace(optimizer, model)
        forward = forward_of(model, precision=training.precision)
        state = TrainState(model, TasksObjective(), balancer, None, optimizer, forward=forward)
        return Prepared(state, encoded, before_epoch=starts.unfreezing(model))

    def validate(self, prepared: Prepared, dataset: Dataset, rows: Rows) -> Mapping[str, float]:
        """Mean loss of each task over its labelled rows, and their weighted sum as ``loss``."""
        losses = task_losses(prepared.state.model, prepared.encoded, rows, self.model.heads)
        weighted = [self.model.heads[task].weight * loss for task, loss in losses.items()]
        return {"loss": float(np.sum(weighted)) if weighted else float("nan"), **by_task(losses, self.model.heads)}

    def decide(self, prepared: Prepared, rows: Rows) -> Mapping[str, Decision]:
        """Temperatures and thresholds, where the heads ask for them."""
        return decisions_of(self.model.heads, prepared.state.model, prepared.encoded, rows)


@torch.no_grad()
def task_losses(model: TowerModel, encoded: Encoded, rows: Rows, tasks: Iterable[str]) -> dict[str, float]:
    """Task -> mean loss over its labelled rows; a task without any is left out.

    Args:
        model: Its heads know their losses; set to evaluation.
        encoded: The arrays.
        rows: Example rows.
        tasks: Which ones.
    """
    totals, counts = dict.fromkeys(tasks, 0.0), dict.fromkeys(tasks, 0.0)
    for start in range(0, len(rows), 4096):
        batch = encoded.batch(rows[start : start + 4096])
        logits = {task: own for task, own in model(batch).items() if task in totals}
        for task, term in task_terms(model, logits, batch).items():
            mask = batch.masks[task]
            weight = float(mask.sum() if batch.weights is None else batch.weights[mask].sum())
            totals[task] += term.item() * weight
            counts[task] += weight
    return {task: totals[task] / counts[task] for task in totals if counts[task]}


def by_task(losses: Mapping[str, float], tasks: Iterable[str]) -> dict[str, float]:
    """``task/loss`` of every task, NaN where none is known."""
    return {f"{task}/loss": losses.get(task, float("nan")) for task in tasks}


def encoder_of(demand: Demand, dataset: Dataset, rows: Rows, base: Base | None) -> Encoder:
    """What a model reads, fitted on the rows it learns from; behind what a Run already knew.

    Args:
        demand: What it reads.
        dataset: Raw tables.
        rows: Training rows.
        base: A Run to go on from.
    """
    fitted = Encoder.fit(demand, dataset, rows)
    return fitted if base is None else base.grown(fitted)


def apply_rates(optimizer: Optimizer, model: nn.Module) -> None:
    """Let the optimizer move what towers want moved at a pace of its own, such as a pretrained encoder.

    Args:
        optimizer: Over the model's parameters.
        model: Its towers say what.
    """
    for module in model.modules():
        if isinstance(module, Tower):
            for parameter, factor in module.rates():
                optimizer.scale(parameter, factor)


def material_of(encoded: Encoded, rows: Rows, entities: tuple[str, str], training: TrainingSpec) -> Material:
    """What negatives are drawn from: the candidates and pairs known from the rows that are trained on."""
    known = encoded.catalogues[entities[1]].num_known
    counts = np.bincount(encoded.index[entities[1]][rows], minlength=known + 1).astype(np.float64)
    pairs = KnownPairs(pairs_matrix(encoded, rows, entities))
    return Material(known, pairs, counts[: known + 1], min(training.batch_size, len(rows)), training.seed)


def id_pairs(encoded: Encoded, rows: Rows, entities: tuple[str, str]) -> csr_array:
    """The training pairs by id code, for towers that begin from them; see :meth:`Tower.begin_with`."""
    codes, sizes = [], []
    for entity in entities:
        own = encoded.tables[entity].get("id")
        everything = np.arange(len(encoded.catalogues[entity].keys) + 1) if own is None else np.asarray(own)
        codes.append(everything[encoded.index[entity][rows]])
        sizes.append(int(everything.max()) + 1)
    return ones_at(codes[0], codes[1], (sizes[0], sizes[1]))


def pairs_matrix(encoded: Encoded, rows: Rows | range, entities: tuple[str, str]) -> csr_array:
    """Known pairs as a matrix of ones.

    Args:
        encoded: The arrays.
        rows: Example rows; all of them, where they are a range.
        entities: The query and the candidate entity.

    Returns:
        ``[query rows, candidate rows]``, the unknown row 0 included, each pair once, indices sorted.
    """
    if isinstance(rows, range):
        assert encoded.pairs is not None
        return encoded.pairs
    query, candidate = encoded.index[entities[0]][rows], encoded.index[entities[1]][rows]
    shape = len(encoded.catalogues[entities[0]].keys) + 1, len(encoded.catalogues[entities[1]].keys) + 1
    return ones_at(query, candidate, shape)


def ones_at(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]) -> csr_array:
    """A one at each place, however often it is named; indices sorted.

    Args:
        rows: ``[places]``.
        columns: ``[places]``.
        shape: Of the matrix.
    """
    matrix = csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    matrix.sort_indices()
    matrix.data[:] = 1.0
    return matrix

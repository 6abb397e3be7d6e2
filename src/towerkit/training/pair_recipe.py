"""The recipe of a ranker: how it is prepared and validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.features.encoded import encode
from towerkit.heads.decision import Decision
from towerkit.models.ranker import RANKING, RankerSpec
from towerkit.objectives.balance import AnyBalanceSpec, Reached
from towerkit.objectives.pairs import PairsObjective
from towerkit.objectives.retrieval import RetrievalObjectiveSpec
from towerkit.training.carry import Base
from towerkit.training.decisions import decisions_of
from towerkit.training.fit import Prepared
from towerkit.training.forward import forward_of
from towerkit.training.loop import Selection
from towerkit.training.recipes import ValidateRanking, apply_rates, by_task, encoder_of, material_of, task_losses
from towerkit.training.spec import TrainingSpec
from towerkit.training.starts import Starts
from towerkit.training.state import TrainState


@dataclass(frozen=True)
class RankerRecipe:
    """A ranker with its objective, and its balancer where tasks stand beside the ranking."""

    model: RankerSpec
    objective: RetrievalObjectiveSpec
    balance: AnyBalanceSpec
    selection: Selection
    validate_ranking: ValidateRanking
    base: Base | None = None
    """A Run to go on from."""

    def prepare(self, dataset: Dataset, rows: Rows, training: TrainingSpec) -> Prepared:
        """Encode, build, and set the negatives up over the candidates known from these rows."""
        entities = self.model.entities(dataset)
        starts = Starts.of(training, self.model, dataset, self.base)
        encoder = starts.grown(encoder_of(self.model.demand(dataset), dataset, rows, self.base))
        encoded = encode(encoder, dataset, rows)
        model = self.model.build(encoder, sparse_rows=training.optimizer.rows == "touched")
        if self.base is not None:
            self.base.carry(model)
        starts.begin(model)
        encoded = starts.computed(model, encoded)
        sampler = self.objective.sampler(material_of(encoded, rows, entities, training))
        objective = PairsObjective(self.objective.loss.build(), sampler, entities[1])
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        reached = Reached(tuple(trainable), tuple(model.last_shared()), training.seed)
        weights = {RANKING: self.model.weight, **{task: head.weight for task, head in self.model.heads.items()}}
        balancer = self.balance.build(weights, reached)
        moved = [*trainable, *objective.parameters(), *balancer.parameters()]
        optimizer = training.optimizer.build(moved, training.total_steps(len(rows)))
        apply_rates(optimizer, model)
        starts.pace(optimizer, model)
        forward = forward_of(model, precision=training.precision)
        state = TrainState(model, objective, balancer, None, optimizer, forward=forward)
        return Prepared(state, encoded, sampler, entities, before_epoch=starts.unfreezing(model))

    def validate(self, prepared: Prepared, dataset: Dataset, rows: Rows) -> Mapping[str, float]:
        """Ranking metrics of the held-out rows, and the loss of each task beside the ranking."""
        model, encoded = prepared.state.model, prepared.encoded
        figures = self.validate_ranking(model, encoded, dataset.parts.train, rows)
        losses = task_losses(model, encoded, rows, self.model.heads)
        return {**figures, **by_task(losses, self.model.heads)}

    def decide(self, prepared: Prepared, rows: Rows) -> Mapping[str, Decision]:
        """Temperatures and thresholds of the tasks beside the ranking, where their heads ask for them."""
        return decisions_of(self.model.heads, prepared.state.model, prepared.encoded, rows)

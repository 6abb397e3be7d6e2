"""The recipe of several retrievals that share a query side: how they are prepared and validated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from towerkit.data.batch import Batch
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.features.encoded import Drawn, Encoded, encode
from towerkit.heads.decision import Decision
from towerkit.matching.negatives import AllCandidates, Negatives
from towerkit.matching.updates import TwoBackpropSpec
from towerkit.models.joint import JointSpec, for_candidate, query_of
from towerkit.objectives.balance import AnyBalanceSpec, Reached
from towerkit.objectives.joint import JointObjective
from towerkit.objectives.retrieval import RetrievalObjectiveSpec
from towerkit.training.fit import Prepared
from towerkit.training.forward import forward_of
from towerkit.training.loop import Selection
from towerkit.training.recipes import ValidateRanking, apply_rates, encoder_of, material_of
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import TrainState

Sampler = Negatives | AllCandidates | None


@dataclass(frozen=True)
class JointRecipe:
    """Several retrievals with one loss and one sort of negatives."""

    model: JointSpec
    objective: RetrievalObjectiveSpec
    balance: AnyBalanceSpec
    selection: Selection
    validate_ranking: Callable[[str], ValidateRanking]
    """Candidate entity -> how its ranking is validated."""

    def prepare(self, dataset: Dataset, rows: Rows, training: TrainingSpec) -> Prepared:
        """Encode, build, and set up the negatives of each sort of candidates over those known from these rows."""
        query = query_of(dataset)
        encoder = encoder_of(self.model.demand(dataset), dataset, rows, None)
        encoded = encode(encoder, dataset, rows)
        model = self.model.build(encoder, query, sparse_rows=training.optimizer.rows == "touched")
        samplers: dict[str, Sampler] = {}
        for name in self.model.candidates:
            own = rows[encoded.index[name][rows] > 0]
            samplers[name] = self.objective.sampler(material_of(encoded, own, (query, name), training))
        update = TwoBackpropSpec().build()
        objective = JointObjective({name: self.objective.build(update, each) for name, each in samplers.items()})
        trainable = list(model.parameters())
        reached = Reached(tuple(trainable), tuple(model.query.parameters()), training.seed)
        weights = {name: self.model.weights.get(name, 1.0) for name in self.model.candidates}
        balancer = self.balance.build(weights, reached)
        moved = [*trainable, *objective.parameters(), *balancer.parameters()]
        optimizer = training.optimizer.build(moved, training.total_steps(len(rows)))
        apply_rates(optimizer, model)
        forward = forward_of(model, precision="float32")
        state = TrainState(model, objective, balancer, None, optimizer, forward=forward)
        return Prepared(state, encoded, batch=Mixed(encoded, query, samplers))

    def validate(self, prepared: Prepared, dataset: Dataset, rows: Rows) -> Mapping[str, float]:
        """``candidate/metric`` of each ranking, and the plain metric: their mean."""
        found: dict[str, float] = {}
        metrics: dict[str, list[float]] = {}
        for name, two_tower in prepared.state.model.two_towers.items():
            parts = for_candidate(dataset, name).parts
            held_out = rows[np.isin(rows, parts.validation)]
            if not len(held_out):
                continue
            figures = self.validate_ranking(name)(two_tower, prepared.encoded, parts.train, held_out)
            for metric, value in figures.items():
                found[f"{name}/{metric}"] = value
                metrics.setdefault(metric, []).append(value)
        return {**{metric: float(np.mean(values)) for metric, values in metrics.items()}, **found}

    def decide(self, prepared: Prepared, rows: Rows) -> Mapping[str, Decision]:
        """A ranking has no threshold."""
        return {}


@dataclass(frozen=True)
class Mixed:
    """Cuts batches whose rows have candidates of several sorts; negatives of each sort are drawn for the rows that have one."""

    encoded: Encoded
    query: str
    samplers: Mapping[str, Sampler]

    def __call__(self, rows: Rows, draw: int) -> Batch:
        """A batch of some rows.

        Args:
            rows: ``[batch]`` row numbers of the example table.
            draw: Which draw of negatives this is.
        """
        has = {name: self.encoded.index[name][rows] > 0 for name in self.samplers}
        drawn: dict[str, list[Drawn]] = {}
        for name, sampler in self.samplers.items():
            own = rows[has[name]]
            if sampler is not None and len(own):
                drawn[name] = sampler.draw(self.encoded.index[self.query][own], self.encoded.index[name][own], draw)
        batch = self.encoded.batch(rows, drawn)
        return replace(batch, masks={name: torch.from_numpy(mask) for name, mask in has.items()})

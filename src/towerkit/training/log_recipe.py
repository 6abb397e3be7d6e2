"""The recipe of a two-tower of ids whose pairs are a log on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from towerkit.core.errors import SpecError
from towerkit.data.schema import Schema
from towerkit.data.stream.learned import learned_pairs
from towerkit.data.stream.log import Log
from towerkit.features.encoder import Demand
from towerkit.features.streamed import encode_log, let_go_of_rows
from towerkit.heads.decision import Decision
from towerkit.matching.negatives import KnownPairs, Material
from towerkit.matching.updates import AnyUpdateSpec, OneBackpropSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.towers import IdTowerSpec
from towerkit.training.fit import Prepared
from towerkit.training.loop import Selection
from towerkit.training.recipes import RetrievalRecipe
from towerkit.training.spec import TrainingSpec


@dataclass(frozen=True)
class LogRecipe:
    """A two-tower with its objective and update, as in memory; only where its pairs lie is another thing."""

    of: RetrievalRecipe

    @property
    def selection(self) -> Selection:
        """Which validation figure decides."""
        return self.of.selection

    def prepare(self, dataset: Log, rows: range, training: TrainingSpec) -> Prepared:
        """Gather the pairs, build, and set the negatives up over the candidates known from these rows.

        Args:
            dataset: The log.
            rows: All rows that are learned from, counted among themselves.
            training: The loop's settings.
        """
        check_streamable(self.of.model, self.of.update)
        if training.towers:
            raise SpecError(
                "training.towers needs the data in memory; remove data.examples.stream, or training.towers."
            )
        learned, entities = learned_pairs(dataset), dataset.pair
        encoded = encode_log(dataset, learned, demand_of(self.of.model, entities))
        model = self.of.model.build(encoded.encoder, entities, sparse_rows=training.optimizer.rows == "touched")
        update = self.of.update.build()
        trainable = list(update.trainable(model))
        update.begin(model, encoded, rows)  # type: ignore[arg-type]  # reads no rows: see check_streamable
        assert encoded.pairs is not None
        num_known = learned.num_known[1]
        material = Material(
            num_known,
            KnownPairs(encoded.pairs),
            learned.counts[: num_known + 1].astype(float),
            min(training.batch_size, len(rows)),
            training.seed,
        )
        return self.of.assembled(encoded, model, update, trainable, material, rows, training)

    def validate(self, prepared: Prepared, dataset: Log, rows: object) -> Mapping[str, float]:
        """Ranking metrics of the held-out rows; the pages of the rows that were learned from make room for it."""
        held_out = dataset.parts.validation
        let_go_of_rows(prepared.encoded)
        return self.of.validate_ranking(prepared.state.model, prepared.encoded, dataset.parts.train, held_out)

    def decide(self, prepared: Prepared, rows: object) -> Mapping[str, Decision]:
        """A ranking has no threshold."""
        return {}


def demand_of(model: TwoTowerSpec, entities: tuple[str, str]) -> Demand:
    """The ids of both sides: a log has no tables beside it.

    Args:
        model: Two id towers.
        entities: The query and the candidate column.

    Raises:
        SpecError: If a tower names another entity than its side's.
    """
    demand = Demand()
    for entity, tower in zip(entities, (model.query, model.candidate), strict=True):
        assert isinstance(tower, IdTowerSpec)
        if tower.entity not in (None, entity):
            raise SpecError(f"The id tower of '{entity}' reads the entity '{tower.entity}'; remove the key entity.")
        demand.add(entity, tower.features(Schema(columns=()), entity))
    return demand


def check_streamable(model: object, update: AnyUpdateSpec) -> None:
    """Refuse what would need the rows of a stream in memory.

    Raises:
        SpecError: Naming the key, and why.
    """
    if not isinstance(model, TwoTowerSpec):
        raise SpecError(
            "data.examples.stream trains a two_tower; this model reads the rows themselves. Remove the key, and the data is read "
            "into memory."
        )
    for side, tower in (("query", model.query), ("candidate", model.candidate)):
        if not isinstance(tower, IdTowerSpec):
            kind = getattr(tower, "kind", "several towers")
            raise SpecError(
                f"data.examples.stream trains two id towers: a log has no columns but its keys; received {kind} at "
                f"model.{side}. Use kind: id, or read the data into memory (remove stream)."
            )
        if tower.spectral() is not None:
            raise SpecError(
                f"model.{side}.start is spectral, which decomposes all pairs in memory, and data.examples.stream never has them "
                "there. Remove the start, or stream."
            )
    if isinstance(update, OneBackpropSpec) and (update.start != "random" or update.refresh != "batch"):
        raise SpecError(
            f"update.start: {update.start} and update.refresh: {update.refresh} look at all rows at once, and "
            "data.examples.stream never has them in memory. Use start: random and refresh: batch, or remove stream."
        )

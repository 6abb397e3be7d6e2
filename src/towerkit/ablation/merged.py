"""Tower models and rankers without some of their towers: each tower speaks once, backbone and heads follow for each question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import torch
from torch import Tensor

from towerkit.ablation.game import Mode, Part, columns_of, replaced, shuffled, size_of
from towerkit.ablation.two_towers import FEW, Asked
from towerkit.data.batch import Columns, take
from towerkit.data.dataset import Dataset
from towerkit.data.roles import EXAMPLE
from towerkit.data.table import Table
from towerkit.evaluation.samples import Block, Sample, answered_tasks
from towerkit.features.base import FeatureSpec
from towerkit.features.encoder import Encoder
from towerkit.features.labels import Truth
from towerkit.index.pairs import PairRanker, without_unknown
from towerkit.models.answer import TaskPredictor
from towerkit.models.pair_scorer import PairScorer, Parts
from towerkit.trained import truth_of

ROW = "row"


@dataclass(frozen=True, eq=False)
class PredictorGame:
    """A trained tower model, or the tasks beside the ranking of a ranker; its parts are its towers."""

    predictor: TaskPredictor
    table: Table
    """The held-out rows."""
    learned: Table
    """Some training rows: what a mean is taken over."""
    reads: Mapping[str, tuple[str, Sequence[FeatureSpec]]]
    """Tower -> its entity, and what it reads of it."""
    metrics: tuple[str, ...]
    several: bool

    @cached_property
    def _spoken(self) -> dict[str, Tensor]:
        return self.predictor.parts(self.table)

    @cached_property
    def _unknown(self) -> dict[str, Tensor]:
        return self.predictor.unknown_parts(self.table)

    @cached_property
    def _means(self) -> dict[str, Tensor]:
        return {name: own.mean(dim=0) for name, own in self.predictor.parts(self.learned).items()}

    @cached_property
    def _truth(self) -> dict[str, Truth]:
        return truth_of(self.predictor.tasks, self.table)

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The towers."""
        found = {}
        for name, (entity, features) in self.reads.items():
            parameters, size = size_of([self.predictor.model.towers[name]])
            table = self.table if entity == EXAMPLE else self.predictor.entities[entity].table
            run = tower_runner(self.predictor, name, entity, features, table)
            found[name] = Part(ROW, columns_of(features), parameters, size, run)
        return found

    @property
    def rest(self) -> dict[str, Callable[[], int]]:
        """Backbone and heads."""

        def run() -> int:
            few = {name: own[:FEW] for name, own in self._spoken.items()}
            self.predictor.answers(few)
            return min(FEW, self.table.data.num_rows)

        return {ROW: run}

    def answers(self, missing: frozenset[str], mode: Mode, draw: int) -> Sample:
        """See :class:`towerkit.ablation.game.Game`."""
        count = self.table.data.num_rows
        return self._answered(
            replaced(
                self._spoken,
                missing,
                mode,
                self._unknown,
                lambda name: self._means[name],
                lambda: shuffled(torch.arange(count), count, ROW, draw),
            )
        )

    def with_column(self, part: str, column: str, draw: int) -> Sample:
        """See :class:`towerkit.ablation.game.Game`."""
        entity, _ = self.reads[part]
        if entity == EXAMPLE:
            changed = replace(self.table, data=mixed(self.table.data, column, draw))
            spoken = self.predictor.parts(changed)[part]
        else:
            catalogue = self.predictor.entities[entity]
            own = replace(catalogue.table, data=mixed(catalogue.table.data, column, draw))
            entities = {**self.predictor.entities, entity: replace(catalogue, table=own)}
            spoken = replace(self.predictor, entities=entities).parts(self.table)[part]
        return self._answered({**self._spoken, part: spoken})

    def _answered(self, parts: Mapping[str, Tensor]) -> Sample:
        predictions = self.predictor.answers(parts)
        tasks, decisions = self.predictor.tasks, self.predictor.decisions
        return answered_tasks(predictions, self._truth, tasks, decisions, self.metrics, several=self.several)


@dataclass(frozen=True, eq=False)
class RankerGame:
    """A trained ranker: each side's towers speak once of its rows; every pair goes through the backbone for each question."""

    scorer: PairScorer
    asked: Asked
    reads: Mapping[str, tuple[str, Sequence[FeatureSpec]]]
    tasks: PredictorGame | None
    """The tasks beside the ranking."""

    @cached_property
    def _sides(self) -> dict[str, Parts]:
        return {
            self.scorer.query_entity: self.scorer.query_parts,
            self.scorer.candidate_entity: self.scorer.candidate_parts,
        }

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The towers; the group of each is its entity."""
        found = {}
        for name, (entity, features) in self.reads.items():
            parameters, size = size_of([self.scorer.model.towers[name]])
            table = self._table(entity)
            run = tower_runner(self.scorer.predictor, name, entity, features, table)
            found[name] = Part(entity, columns_of(features), parameters, size, run)
        return found

    def _table(self, entity: str) -> Table:
        if entity == self.scorer.query_entity:
            return self.scorer.query.table
        if entity == self.scorer.candidate_entity:
            return self.scorer.candidate.table
        if entity in self.scorer.others:
            return self.scorer.others[entity].table
        assert self.tasks is not None
        return self.tasks.table

    @property
    def rest(self) -> dict[str, Callable[[], int]]:
        """The backbone, of one query and all candidates."""

        def run() -> int:
            candidates = without_unknown(self._sides[self.scorer.candidate_entity])
            PairRanker(self.scorer.model, self._sides[self.scorer.query_entity], candidates).scores(
                self.asked.task.queries[:1]
            )
            return 1

        return {self.scorer.query_entity: run}

    def answers(self, missing: frozenset[str], mode: Mode, draw: int) -> Sample:
        """See :class:`towerkit.ablation.game.Game`; rankings know no tower of the request, so they do not miss it."""
        sides = {}
        for entity, parts in self._sides.items():
            own = [name for name in missing if name in parts]
            sides[entity] = self._replaced(entity, parts, own, mode, draw)
        found: dict[str, Block] = dict(self._ranked(sides))
        return found | (dict(self.tasks.answers(missing, mode, draw)) if self.tasks is not None else {})

    def with_column(self, part: str, column: str, draw: int) -> Sample:
        """See :class:`towerkit.ablation.game.Game`."""
        entity, _ = self.reads[part]
        sides = dict(self._sides)
        if entity in sides:
            table = self._table(entity)
            changed = self.scorer.parts_of_rows(entity, replace(table, data=mixed(table.data, column, draw)))
            sides[entity] = {**sides[entity], part: changed[part]}
        found: dict[str, Block] = dict(self._ranked(sides))
        return found | (dict(self.tasks.with_column(part, column, draw)) if self.tasks is not None else {})

    def _replaced(self, entity: str, parts: Parts, missing: Sequence[str], mode: Mode, draw: int) -> Parts:
        absent = self.scorer.model.absent
        unknown = {name: own[0] if absent is None else absent.vector(name).detach() for name, own in parts.items()}
        count = len(next(iter(parts.values())))
        rows = torch.arange(1, count)
        if entity == self.scorer.query_entity:
            asked = torch.unique(torch.from_numpy(self.asked.task.queries))
            rows = asked[asked > 0]
        return replaced(
            parts,
            missing,
            mode,
            unknown,
            lambda name: parts[name][1:].mean(dim=0),
            lambda: shuffled(rows, count, entity, draw),
        )

    def _ranked(self, sides: Mapping[str, Parts]) -> Sample:
        query, candidate = sides[self.scorer.query_entity], sides[self.scorer.candidate_entity]
        return self.asked.of(PairRanker(self.scorer.model, query, without_unknown(candidate)))


def tower_runner(
    predictor: TaskPredictor, name: str, entity: str, features: Sequence[FeatureSpec], table: Table
) -> Callable[[], int]:
    """Raw rows to the vectors of one tower.

    Args:
        predictor: Whose tower.
        name: The tower.
        entity: Whose columns it reads.
        features: What it reads.
        table: Rows of the entity.
    """
    own = set(features)
    encoder = Encoder({entity: tuple(each for each in predictor.encoder.features[entity] if each.spec in own)}, {})
    few = replace(table, data=table.data.slice(0, FEW))
    rows = torch.arange(1, few.data.num_rows + 1)

    @torch.no_grad()
    def run() -> int:
        columns: Columns = take(encoder.encode(entity, few), rows)
        predictor.model.towers[name](columns)
        return len(rows)

    return run


def predictor_game(
    predictor: TaskPredictor, dataset: Dataset, table: Table, learned: Table, metrics: Sequence[str], *, several: bool
) -> PredictorGame:
    """The game of a tower model.

    Args:
        predictor: Trained.
        dataset: What it was trained with; it says which columns a tower reads.
        table: The held-out rows.
        learned: Some training rows.
        metrics: Which figures.
        several: Whether their names begin with the task.
    """
    reads = predictor.spec.reads(dataset)
    return PredictorGame(predictor, table, learned, reads, tuple(metrics), several)


def mixed(data: pa.Table, column: str, draw: int) -> pa.Table:
    """The table with the values of one column exchanged among its rows.

    Args:
        data: The table.
        column: Its column.
        draw: Number of the shuffle.
    """
    source = shuffled(torch.arange(data.num_rows), data.num_rows, column, draw).numpy()
    place = data.column_names.index(column)
    return data.set_column(place, data.schema.field(place), data.column(column).take(source))

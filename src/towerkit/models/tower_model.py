"""Merged towers: any number of them, one backbone, one head per task. The tower model is their plainest spec."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from towerkit.core.errors import listed
from towerkit.core.spec import Name, Spec
from towerkit.data.batch import Batch, Columns, spread
from towerkit.data.dataset import Dataset
from towerkit.data.roles import EXAMPLE
from towerkit.features.base import FeatureSpec
from towerkit.features.encoder import Demand, Encoder, LabelSpec
from towerkit.features.labels import Labels
from towerkit.fusion import AnyFusionSpec, AutoSpec, Backbone, ConcatSpec
from towerkit.heads import AnyHeadSpec, Head, HeadSpec
from towerkit.models.absent import Absent, check_without, standby_of
from towerkit.models.overlaps import overlap_remarks
from towerkit.models.ties import check_ties, tied
from towerkit.models.wiring import check_aggregates, key_of, schema_of
from towerkit.towers import AnyTowerSpec, TextTowerSpec, Tower, TowerContext, TowerSpec
from towerkit.towers.layers import Named


class TowerModel(nn.Module):
    """Towers -> backbone -> heads.

    Args:
        towers: By name.
        entities: Tower name -> the entity whose columns it reads.
        backbone: Merges the towers' vectors.
        heads: By task.
        absent: What stands in for towers that have nothing to say; None where each tower answers for itself.
    """

    def __init__(
        self,
        towers: Mapping[str, Tower],
        entities: Mapping[str, str],
        backbone: Backbone,
        heads: Mapping[str, nn.Module],
        absent: Absent | None = None,
    ) -> None:
        super().__init__()
        self.towers = Named(towers)
        self.entities = dict(entities)
        self.backbone = backbone
        self.heads = Named(heads)
        self.absent = absent

    def forward(self, batch: Batch, without: Collection[str] = ()) -> dict[str, Tensor]:
        """Task -> logits ``[batch, outputs]``.

        Args:
            batch: The rows.
            without: Towers to leave out, as if all their columns were missing.
        """
        state = self.state(batch, without)
        return {task: head(self.backbone.of_task(state, task)) for task, head in self.heads.items()}

    def state(self, batch: Batch, without: Collection[str] = ()) -> Tensor:
        """``[batch, dim]`` what the backbone makes of the towers' vectors, and the heads read.

        Args:
            batch: The rows.
            without: As for :meth:`forward`.

        Raises:
            SpecError: If a tower cannot be left out.
        """
        if without:
            check_without(without, self.entities, can=self.absent is not None)
        parts = {name: self._part(name, batch, left_out=name in without) for name in self.towers}  # [batch, dim_i]
        state: Tensor = self.backbone(parts)
        return state

    def _part(self, name: str, batch: Batch, *, left_out: bool) -> Tensor:
        entity = self.entities[name]
        columns, index = batch.columns[entity], batch.index[entity]
        if self.absent is None:
            return spread(self._tower(name).vectors(columns), index)
        if left_out:
            return self.absent.vector(name).expand(len(index), -1)
        vectors = spread(self._tower(name).vectors(columns), index)
        return self.absent.fill(name, vectors, self.absent.gone(name, columns, index))

    def part(self, name: str, columns: Columns) -> Tensor:
        """``[rows, dim_i]`` what one tower says of some rows of its entity, its learned vector where it has nothing to say.

        Args:
            name: The tower.
            columns: Encoded columns of the rows.
        """
        vectors = self._tower(name).vectors(columns)
        return vectors if self.absent is None else self.absent.fill(name, vectors, self.absent.gone(name, columns))

    def merged(self, parts: Mapping[str, Tensor], task: str) -> Tensor:
        """``[batch, outputs]`` the logits of one task.

        Args:
            parts: Tower name -> ``[batch, dim_i]``, of all towers.
            task: Whose head.
        """
        logits: Tensor = self.heads[task](self.backbone.of_task(self.backbone(parts), task))
        return logits

    def _tower(self, name: str) -> Tower:
        tower = self.towers[name]
        assert isinstance(tower, Tower)
        return tower

    def last_shared(self) -> list[nn.Parameter]:
        """The weights of the backbone, or of the towers where it has none: the last that all tasks share."""
        return list(self.backbone.parameters()) or list(self.towers.parameters())

    def head(self, task: str) -> Head:
        """The head of a task."""
        head = self.heads[task]
        assert isinstance(head, Head)
        return head


class MergedSpec(Spec):
    """What the model kinds have in common that merge the vectors of all towers by a backbone."""

    kind: str
    towers: dict[Name, AnyTowerSpec] = Field(min_length=1)
    backbone: AnyFusionSpec = ConcatSpec()
    absent: float | None = Field(None, ge=0.0, lt=1.0)
    """Learn a vector for each tower that stands where all its columns are missing, and put it for so large a share of the training
    rows where they are not; when not given, each tower has its own way with missing values."""
    overlap: tuple[str, ...] = ()
    """Columns that several towers read on purpose; the others are told as a likely slip."""

    @field_validator("towers")
    @classmethod
    def _no_tower_needs_a_partner(cls, towers: dict[str, TowerSpec]) -> dict[str, TowerSpec]:
        kind = cls.model_fields["kind"].default
        paired = [name for name, tower in towers.items() if tower.pairing() is not None]
        if paired:
            raise ValueError(
                "a spectral tower, a spectral start and a graph tower come from the pairs of a two_tower; received "
                f"{listed(paired)} in a {kind}, which {_LACKS[kind]}. Use {{kind: id}}."
            )
        for name, tower in towers.items():
            if isinstance(tower, TextTowerSpec) and tower.start != "random":
                raise ValueError(
                    f"'start: spectral' is for the texts of a two_tower; received start: {tower.start} in the tower '{name}' of a "
                    f"{kind}. Remove it."
                )
        check_ties(towers)
        return towers

    @model_validator(mode="after")
    def _no_histories(self) -> Self:
        for name, tower in self.towers.items():
            if tower.reads_history:
                raise ValueError(
                    f"the tower '{name}' is a {tower.kind}: it reads what a query met, and a {self.kind} has no query side. "
                    "Use it on the query side of a two_tower."
                )
        return self

    def entity_of(self, tower: str) -> str:
        """Whose columns a tower reads: an entity's, or the example's own."""
        return self.towers[tower].entity or EXAMPLE

    def read(self, dataset: Dataset, labels: Mapping[str, LabelSpec]) -> Demand:
        """What the towers read, beside the labels.

        Args:
            dataset: Raw tables.
            labels: Task -> its label column.
        """
        demand = Demand(labels=dict(labels))
        for entity, features in self.reads(dataset).values():
            demand.add(entity, features)
        check_aggregates(demand)
        return demand

    def remarks(self, dataset: Dataset, where: str = "model") -> list[str]:
        """What looks like a slip beside this data: columns that several towers read.

        Args:
            dataset: What it would learn from.
            where: The part of the spec that this is.
        """
        return overlap_remarks(self.reads(dataset), self.overlap, where)

    def reads(self, dataset: Dataset) -> dict[str, tuple[str, list[FeatureSpec]]]:
        """Of each tower its entity, and what it reads of it.

        Args:
            dataset: Its columns.
        """
        entities = {name: self.entity_of(name) for name in self.towers}
        return {
            name: (entity, self.towers[name].features(schema_of(dataset, entity), key_of(dataset, entity)))
            for name, entity in entities.items()
        }

    def assembled(
        self, encoder: Encoder, heads: Callable[[int], Mapping[str, nn.Module]], tasks: Sequence[str], sparse_rows: bool
    ) -> TowerModel:
        """Make the module from fitted features and labels.

        Args:
            encoder: The fitted encoder.
            heads: Width of what a head reads -> the heads; they are made last.
            tasks: Their names, for a backbone that makes a state for each.
            sparse_rows: Tables give sparse gradients.
        """
        entities = {name: self.entity_of(name) for name in self.towers}
        contexts = {name: TowerContext(encoder, entity, sparse_rows) for name, entity in entities.items()}
        ties = tied(self.towers)
        built = {name: tower.build(contexts[name]) for name, tower in self.towers.items() if name not in ties}
        for name, other in ties.items():
            contexts[name] = replace(contexts[name], twin=built[other])
            built[name] = self.towers[name].build(contexts[name])
        towers = {name: built[name] for name in self.towers}
        backbone = self.backbone.build({name: tower.out_dim for name, tower in towers.items()}, list(tasks))
        made = heads(backbone.head_dim)
        absent = None
        if self.absent is not None:
            absent = Absent({name: standby_of(towers[name], contexts[name]) for name in towers}, self.absent)
        return TowerModel(towers, entities, backbone, made, absent)


_LACKS = {"tower_model": "has no pairs", "ranker": "merges both sides"}


def label_head(spec: HeadSpec, in_dim: int, labels: Labels) -> Head:
    """A head that starts at the base rates of its labels.

    Args:
        spec: Of the head.
        in_dim: Width of what it reads.
        labels: What was found among the training labels.
    """
    head = spec.build(in_dim, labels)
    head.emphasis = spec.emphasis(labels)
    head.start_at(torch.tensor(labels.frequencies))
    return head


class TowerModelSpec(MergedSpec):
    """Prediction: any number of towers, merged, for one or more tasks."""

    kind: Literal["tower_model"] = "tower_model"
    heads: dict[Name, AnyHeadSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _auto_has_towers_to_merge(self) -> Self:
        if isinstance(self.backbone, AutoSpec) and len(self.towers) < 2:
            raise ValueError(
                "backbone: {kind: auto} compares how several towers are merged, and there is one, "
                f"{listed(self.towers)}. Remove the backbone, or add a tower."
            )
        return self

    def demand(self, dataset: Dataset) -> Demand:
        """What the towers read, and the labels of the heads."""
        return self.read(dataset, {task: head.label() for task, head in self.heads.items()})

    def build(self, encoder: Encoder, *, sparse_rows: bool = False) -> TowerModel:
        """Make the module from fitted features and labels."""

        def heads(in_dim: int) -> dict[str, Head]:
            return {task: label_head(head, in_dim, encoder.labels[task]) for task, head in self.heads.items()}

        return self.assembled(encoder, heads, list(self.heads), sparse_rows)

"""The tower model: towers, one backbone, one head per task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from towerkit.core.errors import listed
from towerkit.core.spec import Name, Spec
from towerkit.data.batch import Batch, spread
from towerkit.data.dataset import Dataset
from towerkit.data.roles import EXAMPLE
from towerkit.features.encoder import Demand, Encoder
from towerkit.fusion import AnyBackboneSpec, Backbone, ConcatSpec
from towerkit.heads import AnyHeadSpec, Head
from towerkit.models.wiring import key_of, schema_of
from towerkit.towers import AnyTowerSpec, TextTowerSpec, Tower, TowerContext, TowerSpec
from towerkit.towers.layers import Named


class TowerModel(nn.Module):
    """Towers -> backbone -> heads.

    Args:
        towers: By name.
        entities: Tower name -> the entity whose columns it reads.
        backbone: Merges the towers' vectors.
        heads: By task.
    """

    def __init__(
        self, towers: Mapping[str, Tower], entities: Mapping[str, str], backbone: Backbone, heads: Mapping[str, Head]
    ) -> None:
        super().__init__()
        self.towers = Named(towers)
        self.entities = dict(entities)
        self.backbone = backbone
        self.heads = Named(heads)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Task -> logits ``[batch, outputs]``."""
        state = self.state(batch)
        return {task: head(state) for task, head in self.heads.items()}

    def state(self, batch: Batch) -> Tensor:
        """``[batch, dim]`` what the backbone makes of the towers' vectors, and the heads read."""
        parts = {}
        for name, tower in self.towers.items():
            entity = self.entities[name]
            parts[name] = spread(tower(batch.columns[entity]), batch.index[entity])  # [batch, dim_i]
        state: Tensor = self.backbone(parts)
        return state

    def head(self, task: str) -> Head:
        """The head of a task."""
        head = self.heads[task]
        assert isinstance(head, Head)
        return head


class TowerModelSpec(Spec):
    """Prediction: any number of towers, merged, for one or more tasks."""

    kind: Literal["tower_model"] = "tower_model"
    towers: dict[Name, AnyTowerSpec] = Field(min_length=1)
    backbone: AnyBackboneSpec = ConcatSpec()
    heads: dict[Name, AnyHeadSpec] = Field(min_length=1)

    @field_validator("towers")
    @classmethod
    def _no_tower_needs_a_partner(cls, towers: dict[str, TowerSpec]) -> dict[str, TowerSpec]:
        paired = [name for name, tower in towers.items() if tower.pairing() is not None]
        if paired:
            raise ValueError(
                "a spectral tower, a spectral start and a graph tower come from the pairs of a two_tower; received "
                f"{listed(paired)} in a tower_model, which has no pairs. Use {{kind: id}}."
            )
        for name, tower in towers.items():
            if isinstance(tower, TextTowerSpec) and (tower.of, tower.start) != ("own", "random"):
                raise ValueError(
                    f"'of: candidate' and 'start: spectral' are for the texts of a two_tower; received of: {tower.of}, start: "
                    f"{tower.start} in the tower '{name}' of a tower_model. Remove them."
                )
        return towers

    @model_validator(mode="after")
    def _no_histories(self) -> TowerModelSpec:
        for name, tower in self.towers.items():
            if tower.reads_history:
                raise ValueError(
                    f"the tower '{name}' is a {tower.kind}: it reads what a query met, and a tower_model has no query side. "
                    "Use it on the query side of a two_tower."
                )
        return self

    def demand(self, dataset: Dataset) -> Demand:
        """What the towers read, and the labels of the heads."""
        demand = Demand(labels={task: head.label() for task, head in self.heads.items()})
        for tower in self.towers.values():
            entity = tower.entity or EXAMPLE
            demand.add(entity, tower.features(schema_of(dataset, entity), key_of(dataset, entity)))
        return demand

    def build(self, encoder: Encoder, *, sparse_rows: bool = False) -> TowerModel:
        """Make the module from fitted features and labels."""
        entities = {name: tower.entity or EXAMPLE for name, tower in self.towers.items()}
        towers = {
            name: tower.build(TowerContext(encoder, entities[name], sparse_rows)) for name, tower in self.towers.items()
        }
        backbone = self.backbone.build({name: tower.out_dim for name, tower in towers.items()})
        heads = {}
        for task, head in self.heads.items():
            heads[task] = head.build(backbone.out_dim, encoder.labels[task])
            heads[task].start_at(torch.tensor(encoder.labels[task].frequencies))
        return TowerModel(towers, entities, backbone, heads)

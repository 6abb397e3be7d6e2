"""The ranker: towers of both sides merged by one backbone into the score of a pair, and tasks on the same pairs beside it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from torch import nn

from towerkit.core.errors import SpecError, listed
from towerkit.core.spec import Name
from towerkit.data.dataset import Dataset
from towerkit.features.encoder import Demand, Encoder
from towerkit.fusion import AnyBackboneSpec, ConcatSpec
from towerkit.heads import AnyHeadSpec, HeadSpec
from towerkit.models.tower_model import MergedSpec, TowerModel, label_head
from towerkit.models.wiring import pair_of
from towerkit.towers.layers import perceptron

RANKING = "ranking"
"""What the task of the score is called beside those of the heads."""


class RankerSpec(MergedSpec):
    """Ranking by pairs: what a two-tower cannot say, because it depends on both sides at once."""

    kind: Literal["ranker"] = "ranker"
    backbone: AnyBackboneSpec = ConcatSpec()
    layers: tuple[int, ...] = ()
    """Hidden widths between backbone and score."""
    weight: float = Field(1.0, gt=0.0)
    """Of the ranking in the sum of losses."""
    heads: dict[Name, AnyHeadSpec] = Field(default_factory=dict)
    """Tasks beside the ranking, on the rows that have their label."""

    @field_validator("heads")
    @classmethod
    def _one_ranking(cls, heads: dict[str, HeadSpec]) -> dict[str, HeadSpec]:
        if RANKING in heads:
            raise ValueError(f"'{RANKING}' is what the score of a ranker is called; give the head another name.")
        return heads

    @property
    def tasks(self) -> list[str]:
        """The ranking and the heads."""
        return [RANKING, *self.heads]

    def entities(self, dataset: Dataset) -> tuple[str, str]:
        """The names of the query and the candidate entity."""
        return pair_of(dataset)

    def demand(self, dataset: Dataset) -> Demand:
        """What the towers read, and the labels of the heads.

        Raises:
            DataError: If the data does not say which columns are query and candidate.
            SpecError: If one of the two has no tower, or a tower reads the request and none stands in for it.
        """
        pair = self.entities(dataset)
        read = {name: self.entity_of(name) for name in self.towers}
        for side, entity in zip(("query", "candidate"), pair, strict=True):
            if entity not in read.values():
                raise SpecError(
                    f"A ranker sees both sides of a pair, and no tower reads the {side} '{entity}'; the towers read "
                    f"{listed(dict.fromkeys(read.values()))}. Give one entity: {entity}."
                )
        context = [name for name, entity in read.items() if entity not in pair]
        if context and self.absent is None:
            raise SpecError(
                f"The tower '{context[0]}' of a ranker reads '{read[context[0]]}', which is known of a request and not of a "
                f"catalogue: to rank '{pair[1]}' for '{pair[0]}', something must stand in for it. Set model.absent to a share such "
                "as 0.1, or name the entity of one of the two in the tower."
            )
        return self.read(dataset, {task: head.label() for task, head in self.heads.items()})

    def build(self, encoder: Encoder, *, sparse_rows: bool = False) -> TowerModel:
        """Make the module from fitted features and labels."""

        def heads(in_dim: int) -> dict[str, nn.Module]:
            own = {task: label_head(head, in_dim, encoder.labels[task]) for task, head in self.heads.items()}
            return {RANKING: perceptron(in_dim, self.layers, 1), **own}

        return self.assembled(encoder, heads, self.tasks, sparse_rows)

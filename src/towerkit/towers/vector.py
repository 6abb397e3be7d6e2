"""The vector tower: vectors that another model made beforehand, through a small multi-layer perceptron."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.core.errors import ShapeError, SpecError, listed
from towerkit.data.batch import Columns, dense
from towerkit.data.column_types import ColumnType
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.features.vectors import VectorFeature, VectorScale, VectorSpec
from towerkit.towers.base import TowerContext
from towerkit.towers.layers import Activation, Norm, perceptron
from towerkit.towers.ties import OneFeatureTower, TiedTowerSpec

_LISTS: tuple[ColumnType, ...] = ("vector", "list")
"""A list is seen to have one width when it is fitted: the message then names the row."""
_NUMBERS: tuple[ColumnType, ...] = ("number", "bool")


class VectorTower(OneFeatureTower):
    """An MLP over given vectors; a learned vector where there is none.

    Args:
        feature: Key of the ``[rows, in_dim + 1]`` column, whose last number says that the vector is missing.
        in_dim: Width of the given vectors.
        layers: Hidden widths.
        out_dim: Width of the tower's vectors.
        dropout: Share of hidden units dropped in training.
        activation: Of the hidden units.
        norm: Of the hidden units.
    """

    def __init__(
        self,
        feature: str,
        in_dim: int,
        *,
        layers: tuple[int, ...],
        out_dim: int,
        dropout: float = 0.0,
        activation: Activation = "relu",
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        self.feature, self.in_dim, self.out_dim = feature, in_dim, out_dim
        self.mlp = perceptron(in_dim, layers, out_dim, dropout=dropout, activation=activation, norm=norm)
        self.absent = nn.Parameter(torch.randn(out_dim) * 0.01)  # not zeros: a cosine has no gradient there

    def forward(self, columns: Columns) -> Tensor:
        """Transform, or the absent vector."""
        given = dense(columns, self.feature)
        vectors, missing = given[:, :-1], given[:, -1:] > 0.0  # [rows, in_dim], [rows, 1]
        return torch.where(missing, self.absent, self.mlp(vectors))  # [rows, out_dim]


class VectorTowerSpec(TiedTowerSpec):
    """Precomputed vectors of any width: one column of lists of numbers, or several columns of numbers."""

    kind: Literal["vector"] = "vector"
    columns: tuple[str, ...] = Field(min_length=1)
    scale: VectorScale = "unit"
    """``unit``: each vector has length 1; ``standard``: each place by mean and deviation of the training rows; ``none``."""
    layers: tuple[int, ...] = ()
    dim: int = Field(64, ge=1, le=8192)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    activation: Activation = "relu"
    norm: Norm = "none"

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """The vectors.

        Raises:
            SpecError: If a column is of a type that holds no vectors.
        """
        found = {name: schema.require(name, "the vector tower's columns") for name in self.columns}
        reads = _LISTS if len(found) == 1 else _NUMBERS
        for name, column in found.items():
            if column.type in (*reads, *_NUMBERS) or column.missing == 1.0:
                continue
            what = "one column of lists" if len(found) == 1 else f"columns of the types {listed(_NUMBERS)}"
            raise SpecError(
                f"A vector tower reads {what}; the column '{name}' holds {column.type} values"
                f"{f' such as {column.example}' if column.example else ''}. Write lists of numbers to a Parquet file, name one "
                "such column, or several columns of numbers."
            )
        return [VectorSpec(columns=self.columns, scale=self.scale)]

    def build(self, context: TowerContext) -> VectorTower:
        """An MLP over the fitted width, or a tower with the weights of another one.

        Raises:
            ShapeError: If that one reads vectors of another width.
        """
        feature = context.feature(VectorSpec(columns=self.columns, scale=self.scale))
        assert isinstance(feature, VectorFeature)
        like = self.twin(context)
        if like is not None:
            assert isinstance(like, VectorTower)
            if like.in_dim != feature.width:
                raise ShapeError(
                    f"Two vector towers with the same weights read vectors of one width; {list(self.columns)} hold "
                    f"{feature.width} numbers (of: {self.of}), and the other tower reads {like.in_dim}. Use of: own."
                )
            return like.over(feature.name)
        return VectorTower(
            feature.name,
            feature.width,
            layers=self.layers,
            out_dim=self.dim,
            dropout=self.dropout,
            activation=self.activation,
            norm=self.norm,
        )

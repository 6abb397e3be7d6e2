"""The table tower: columns of numbers, categories, lists and times through a small multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from towerkit.core.errors import SpecError
from towerkit.data.batch import Columns
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.towers.base import Tower, TowerContext, TowerSpec
from towerkit.towers.column_parts import ColumnPart
from towerkit.towers.column_specs import ColumnEntry, ColumnSpec, usual
from towerkit.towers.column_tokens import ColumnTransformerSpec
from towerkit.towers.layers import Activation, Norm, perceptron


class TableTower(Tower):
    """What its parts say of each column, side by side, then an MLP.

    Args:
        parts: One per column, as they stand side by side.
        layers: Hidden widths.
        out_dim: Width of the vectors.
        dropout: Share of hidden units dropped in training.
        activation: Of the hidden units.
        norm: Of the hidden units.
        transformer: Over the columns, in place of putting them side by side.
    """

    side_by_side = ("parts",)

    def __init__(
        self,
        parts: Sequence[ColumnPart],
        *,
        layers: tuple[int, ...],
        out_dim: int,
        dropout: float = 0.0,
        activation: Activation = "relu",
        norm: Norm = "none",
        transformer: ColumnTransformerSpec | None = None,
    ) -> None:
        super().__init__()
        self.out_dim = out_dim
        self.parts = nn.ModuleList(parts)
        self.tokens = transformer.build(parts) if transformer else None
        width = self.tokens.out_dim if self.tokens else sum(part.out_dim for part in parts)
        self.mlp = perceptron(width, layers, out_dim, dropout=dropout, activation=activation, norm=norm)
        if self.tokens is None:
            self._start_silent(parts)

    @torch.no_grad()
    def _start_silent(self, parts: Sequence[ColumnPart]) -> None:
        """Let missing flags begin at nothing, as the parts let unknown values: met in serving only, noise would answer."""
        first, end = self.mlp[0], 0
        assert isinstance(first, nn.Linear)
        for part in parts:
            end += part.out_dim
            if part.has_flag:
                first.weight[:, end - 1] = 0.0

    def forward(self, columns: Columns) -> Tensor:
        """Concatenate, or let the columns look at each other, and transform."""
        said = [part(columns) for part in self.parts]  # columns x [rows, dim_i]
        return self.mlp(torch.cat(said, dim=1) if self.tokens is None else self.tokens(said))  # [rows, out_dim]


class TableTowerSpec(TowerSpec):
    """Columns of an entity or of the examples; a name alone is read as the type of its column suggests."""

    kind: Literal["table"] = "table"
    columns: tuple[ColumnEntry, ...] = Field(min_length=1)
    layers: tuple[int, ...] = (64,)
    dim: int = Field(32, ge=1, le=8192)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    activation: Activation = "relu"
    norm: Norm = "none"
    transformer: ColumnTransformerSpec | None = None
    """Let the columns look at each other before the hidden layers; side by side when not given."""

    @field_validator("columns")
    @classmethod
    def _each_once(cls, columns: tuple[ColumnEntry, ...]) -> tuple[ColumnEntry, ...]:
        for place, entry in enumerate(columns):
            if entry in columns[:place]:
                shown = entry if isinstance(entry, str) else entry.model_dump(exclude_none=True)
                raise ValueError(f"each entry stands once; received {shown!r} twice. Remove one of the two.")
        return columns

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """The feature of each entry.

        Raises:
            SpecError: If a column is of a type that its entry cannot read.
        """
        entries = [_by_type(entry, schema) if isinstance(entry, str) else entry for entry in self.columns]
        for entry in entries:
            entry.check(schema)
        return [entry.feature() for entry in entries]

    def build(self, context: TowerContext) -> TableTower:
        """An MLP over the fitted features."""
        entries = [_as_fitted(entry, context) if isinstance(entry, str) else entry for entry in self.columns]
        parts = [entry.build(context.feature(entry.feature()), sparse_rows=context.sparse_rows) for entry in entries]
        parts.sort(key=lambda part: not part.has_flag)  # plain numbers first, each group in the order of the spec
        return TableTower(
            parts,
            layers=self.layers,
            out_dim=self.dim,
            dropout=self.dropout,
            activation=self.activation,
            norm=self.norm,
            transformer=self.transformer,
        )


def _by_type(name: str, schema: Schema) -> ColumnSpec:
    column_type = schema.require(name, "the table tower's columns").type
    found = usual(name, column_type)
    if found is None:
        raise SpecError(
            f"A table tower reads numbers, categories, lists and times; the column '{name}' holds {column_type} values. "
            "Remove it from the tower's columns."
        )
    return found


def _as_fitted(name: str, context: TowerContext) -> ColumnSpec:
    """How a name was read when the features were fitted; the schema is gone by now."""
    fitted = [each.spec for each in context.encoder.features[context.entity]]
    readings = (usual(name, column_type) for column_type in ("number", "category", "time", "list"))
    found = [reading for reading in readings if reading is not None and reading.feature() in fitted]
    if len(found) > 1:
        ways = " and ".join(str(getattr(reading, "how")) for reading in found)  # noqa: B009 - each of these has one
        raise SpecError(
            f"The column '{name}' of the entity '{context.entity}' is read as {ways} by the towers, so its name alone does "
            f"not tell which is meant here. Write {{column: {name}, as: …}} instead of the name."
        )
    return found[0]

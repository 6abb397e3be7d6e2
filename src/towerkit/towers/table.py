"""The table tower: numbers and categories through a small multi-layer perceptron."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.core.errors import SpecError
from towerkit.data.batch import Columns, dense
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.features.columns import CategoryFeature, CategorySpec, NumberSpec
from towerkit.towers.base import Tower, TowerContext, TowerSpec
from towerkit.towers.layers import perceptron


class TableTower(Tower):
    """Standardised numbers with their missing flags beside embedded categories, then an MLP.

    Args:
        numbers: Keys of the ``[rows, 2]`` number columns.
        categories: Key -> number of codes (unknown included) of the category columns.
        layers: Hidden widths.
        out_dim: Width of the vectors.
        dropout: Share of hidden units dropped in training.
    """

    def __init__(
        self, numbers: list[str], categories: dict[str, int], *, layers: tuple[int, ...], out_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.out_dim = out_dim
        self.numbers, self.categories = numbers, list(categories)
        self.embeddings = nn.ModuleList(nn.Embedding(size, category_dim(size)) for size in categories.values())
        width = 2 * len(numbers) + sum(category_dim(size) for size in categories.values())
        self.mlp = perceptron(width, layers, out_dim, dropout=dropout)
        self._start_silent()

    @torch.no_grad()
    def _start_silent(self) -> None:
        """Let unknown categories and missing numbers begin at nothing: met in serving only, noise would answer for them."""
        for table in self.embeddings:
            assert isinstance(table, nn.Embedding)
            table.weight[0] = 0.0
        first = self.mlp[0]
        assert isinstance(first, nn.Linear)
        first.weight[:, 1 : 2 * len(self.numbers) : 2] = 0.0  # the flags

    def forward(self, columns: Columns) -> Tensor:
        """Concatenate and transform."""
        parts = [dense(columns, name) for name in self.numbers]  # [rows, 2] each
        parts += [table(dense(columns, name)) for table, name in zip(self.embeddings, self.categories, strict=True)]
        return self.mlp(torch.cat(parts, dim=1))  # [rows, out_dim]


def category_dim(num_codes: int) -> int:
    """Width of a category's embedding: about the fourth root of its size, times four, within [2, 64]."""
    return int(min(64, max(2, round(4 * num_codes**0.25))))


class TableTowerSpec(TowerSpec):
    """Columns of numbers and categories; the schema says which is which."""

    kind: Literal["table"] = "table"
    columns: tuple[str, ...] = Field(min_length=1)
    layers: tuple[int, ...] = (64,)
    dim: int = Field(32, ge=1, le=8192)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """A number feature for each numeric column, a category feature for every other."""
        found: list[FeatureSpec] = []
        for name in self.columns:
            column_type = schema.require(name, "the table tower's columns").type
            if column_type not in ("number", "category", "text", "bool", "key"):
                raise SpecError(
                    f"A table tower reads numbers and categories; the column '{name}' holds {column_type} values. "
                    "Remove it from the tower's columns."
                )
            found.append(NumberSpec(column=name) if column_type == "number" else CategorySpec(column=name))
        return found

    def build(self, context: TowerContext) -> TableTower:
        """An MLP over the fitted features."""
        numbers, categories = [], {}
        for fitted in context.encoder.features[context.entity]:
            if not set(fitted.spec.column_names()) <= set(self.columns):
                continue
            if isinstance(fitted.spec, NumberSpec):
                numbers.append(fitted.feature.name)
            elif isinstance(fitted.feature, CategoryFeature) and isinstance(fitted.spec, CategorySpec):
                categories[fitted.feature.name] = len(fitted.feature.vocabulary)
        return TableTower(numbers, categories, layers=self.layers, out_dim=self.dim, dropout=self.dropout)

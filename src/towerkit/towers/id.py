"""The id tower: one learned vector per key."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from towerkit.core.errors import SpecError
from towerkit.data.batch import Columns, dense
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.features.columns import CategoryFeature, IdSpec
from towerkit.towers.base import Tower, TowerContext, TowerSpec


class IdTower(Tower):
    """A table of vectors; row 0 belongs to every unknown id and is the mean of the others.

    Args:
        num_rows: Rows of the table, the unknown row included.
        out_dim: Width of the vectors.
        sparse_rows: Give sparse gradients.
    """

    def __init__(self, num_rows: int, out_dim: int, *, sparse_rows: bool = False) -> None:
        super().__init__()
        self.out_dim = out_dim
        self.sparse_rows = sparse_rows
        self.table = nn.Parameter(torch.empty(num_rows, out_dim))
        nn.init.xavier_normal_(self.table)
        self.settle()

    def forward(self, columns: Columns) -> Tensor:
        """Look the rows up."""
        return functional.embedding(dense(columns, "id"), self.table, sparse=self.sparse_rows)  # [rows, out_dim]

    @torch.no_grad()
    def settle(self) -> None:
        """Make the unknown row the mean of the known ones, the least surprising vector for a stranger."""
        if len(self.table) > 1:  # where no key is known, the row that all share is learned
            self.table[0] = self.table[1:].mean(dim=0)


class IdTowerSpec(TowerSpec):
    """One learned vector per key; a key without training rows gets the mean vector."""

    kind: Literal["id"] = "id"
    dim: int = Field(64, ge=1, le=8192)

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """The key itself."""
        if key is None:
            raise SpecError(
                "An id tower needs an entity with a key; example rows have none. "
                "Set entity to the column that holds the key, for example entity: user."
            )
        return [IdSpec(column=key)]

    def build(self, context: TowerContext) -> IdTower:
        """A table with a row per known key."""
        feature = next(f.feature for f in context.encoder.features[context.entity] if isinstance(f.spec, IdSpec))
        assert isinstance(feature, CategoryFeature)
        return IdTower(len(feature.vocabulary), self.dim, sparse_rows=context.sparse_rows)

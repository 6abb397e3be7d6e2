"""The spectral tower: id vectors in closed form from the training pairs, on both sides of a two-tower."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn import functional

from towerkit.data.batch import Columns, dense
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.towers.base import Tower, TowerContext, TowerSpec
from towerkit.towers.id import id_features, num_ids
from towerkit.towers.svd import SpectralSettings, id_tables


class SpectralTower(Tower):
    """A table of vectors that no gradient moves; zeros until :meth:`begin_with`.

    Args:
        num_rows: Rows of the table, the unknown row included.
        out_dim: Width of the vectors.
        settings: Of the decomposition.
    """

    paired = True
    table: Tensor

    def __init__(self, num_rows: int, out_dim: int, settings: SpectralSettings) -> None:
        super().__init__()
        self.out_dim, self.settings = out_dim, settings
        self.register_buffer("table", torch.zeros(num_rows, out_dim))

    def forward(self, columns: Columns) -> Tensor:
        """Look the rows up."""
        return functional.embedding(dense(columns, "id"), self.table)  # [rows, out_dim]

    def begin_with(self, other: Tower, pairs: csr_array) -> None:
        """Fill the tables of both sides."""
        assert isinstance(other, SpectralTower)
        for tower, table in zip((self, other), id_tables(pairs, self.out_dim, self.settings), strict=True):
            tower.table.copy_(torch.from_numpy(table))


class SpectralTowerSpec(TowerSpec, SpectralSettings):
    """Vectors without training: the strongest directions of the normalised training pairs; both sides need one."""

    kind: Literal["spectral"] = "spectral"
    dim: int = Field(64, ge=1, le=8192)

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """The key itself."""
        return id_features("spectral", key)

    def pairing(self) -> dict[str, Any]:
        """Both sides come from one decomposition."""
        return self.model_dump(exclude={"entity"})

    def build(self, context: TowerContext) -> SpectralTower:
        """A table with a row per known key."""
        return SpectralTower(num_ids(context.encoder, context.entity), self.dim, self)

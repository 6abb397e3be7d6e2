"""Towers over files, such as pictures and sounds: an encoder of what is there, a learned vector where nothing is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from towerkit.data.batch import Columns, Stored
from towerkit.towers.base import Tower

_AT_ONCE = 64
"""Rows that are encoded at once where no gradient is wanted: their maps take much more room than their vectors."""


class MediaTower(Tower):
    """An encoder of stored rows, then a linear layer; a learned vector where a row has nothing.

    Args:
        feature: Key of the stored column.
        encoder: ``[n, *shape]`` to ``[n, encoder_dim]``; gets the rows as they are stored.
        encoder_dim: Width of what the encoder gives.
        out_dim: Width of the tower's vectors.
        dropout: Share of the encoder's numbers dropped in training.
    """

    def __init__(
        self, feature: str, encoder: nn.Module, encoder_dim: int, out_dim: int, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.feature, self.out_dim = feature, out_dim
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder_dim, out_dim)
        self.absent = nn.Parameter(torch.randn(out_dim) * 0.01)  # not zeros: a cosine has no gradient there

    def forward(self, columns: Columns) -> Tensor:
        """Read and encode the rows that are there."""
        column = columns[self.feature]
        assert isinstance(column, Stored)
        rows = torch.arange(len(column))
        present = rows[~column.is_empty]
        vectors = self.absent.expand(len(column), self.out_dim)
        if not len(present):
            return vectors.clone()
        pieces = [present] if torch.is_grad_enabled() else present.split(_AT_ONCE)
        found = torch.cat([self.head(self.dropout(self.encoder(column.read(piece)))) for piece in pieces])
        return vectors.index_copy(0, present, found.to(vectors.dtype))  # [rows, out_dim]

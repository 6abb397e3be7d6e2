"""Towers over files, such as pictures and sounds: an encoder of what is there, a learned vector where nothing is."""

from __future__ import annotations

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from towerkit.core.errors import SpecError, listed
from towerkit.data.batch import Columns, Stored
from towerkit.data.column_types import ColumnType
from towerkit.data.schema import Schema
from towerkit.features.image import checked_pattern
from towerkit.features.media import OnError
from towerkit.towers.ties import OneFeatureTower, TiedTowerSpec

_PATHS: tuple[ColumnType, ...] = ("text", "category", "key")
_VALUES: tuple[ColumnType, ...] = ("number", "bool")
"""Names of files where a pattern makes paths of them."""
_AT_ONCE = 64
"""Rows that are encoded at once where no gradient is wanted: their maps take much more room than their vectors."""


class MediaTower(OneFeatureTower):
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


class FilesTowerSpec(TiedTowerSpec):
    """What towers over a column of files have in common."""

    column: str
    """Bytes of files, or paths that start at the folder of the table's file."""
    root: str | None = Field(default=None, min_length=1)
    """A folder or a zip archive that paths start from instead, and do not leave."""
    pattern: str | None = None
    """How a value becomes a path, such as ``{}.jpg``."""
    on_error: OnError = "absent"
    """Whether a file that cannot be used counts as absent, and is told, or is refused."""

    @field_validator("pattern")
    @classmethod
    def _pattern_has_one_place(cls, pattern: str | None) -> str | None:
        return checked_pattern(pattern)

    def check_column(self, schema: Schema, found: ColumnType, what: str) -> None:
        """See that the column can hold files.

        Args:
            schema: Columns of the entity.
            found: The type of a column that holds such files as bytes.
            what: What messages call the tower.

        Raises:
            DataError: If there is no such column.
            SpecError: If it is of another type.
        """
        column = schema.require(self.column, f"the {what} tower's column")
        reads = (found, *_PATHS) if self.pattern is None else (*_PATHS, *_VALUES)
        if column.type not in reads:
            raise SpecError(
                f"An {what} tower reads a column of the types {listed(reads)}; the column '{self.column}' holds {column.type} "
                f"values{f' such as {column.example}' if column.example else ''}. Name the column of paths or bytes."
                + (" With pattern: '{}.jpg' a number names a file." if column.type in _VALUES else "")
            )

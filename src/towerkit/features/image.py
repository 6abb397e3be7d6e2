"""Pictures: a column of files to pixels of one size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator

from towerkit.data.shop.pictures import png
from towerkit.data.table import values_of
from towerkit.features.base import Feature, FeatureSpec, State
from towerkit.features.cells import Place, cells_of
from towerkit.features.media import MediaFeature, OnError
from towerkit.features.pictures import pillow, pixels_of
from towerkit.pretrained.reading import Fit, Resample

_VERSION = 1
"""Of the decoding; another number forgets what is kept on disk."""


@dataclass(frozen=True)
class ImageFeature(MediaFeature):
    """``[rows, 3, size, size]`` pixels of 0 to 255, red, green and blue, read batch by batch."""

    size: int = 64
    fit: Fit = "crop"
    resample: Resample = "bicubic"

    @property
    def shape(self) -> tuple[int, ...]:
        """Colors, height and width."""
        return (3, self.size, self.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """A byte per color."""
        return np.dtype(np.uint8)

    @property
    def settings(self) -> str:
        """Size and how it is reached, and what decodes."""
        return f"image-{_VERSION}-{self.size}-{self.fit}-{self.resample}-pillow-{pillow().__version__}"

    @property
    def what(self) -> str:
        """Pictures."""
        return "pictures"

    def decode(self, content: bytes) -> NDArray[Any]:
        """The pixels of a file."""
        return pixels_of(content, self.size, fit=self.fit, resample=self.resample)

    def sample(self) -> Mapping[str, Any]:
        """A made-up picture: colors that run into each other."""
        row, column = np.mgrid[0:8, 0:8] * 32
        return {self.column: png(np.stack([row, column, 255 - row], axis=2).astype(np.uint8))}


class FileSpec(FeatureSpec):
    """A column of files: bytes, or paths that start at the folder of the table's file or at ``root``."""

    column: str
    root: str | None = Field(default=None, min_length=1)
    pattern: str | None = None
    on_error: OnError = "absent"

    @field_validator("pattern")
    @classmethod
    def _pattern_has_one_place(cls, pattern: str | None) -> str | None:
        return checked_pattern(pattern)

    def column_names(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    @property
    def place(self) -> Place:
        """Where paths start, but for the folder of the table."""
        return Place(None, self.root, self.pattern)

    def fit(self, table: pa.Table) -> Feature:
        """Nothing is learned; files are opened when rows are encoded."""
        cells_of(values_of(table, self.column), self.column)
        return self.restore(State({}))

    def restore(self, state: State) -> Feature:
        """Rebuild from the spec alone."""
        raise NotImplementedError


class ImageSpec(FileSpec):
    """A column of pictures, resized."""

    kind: Literal["image"] = "image"
    size: int = Field(64, ge=8, le=1024)
    fitting: Fit = "crop"
    resample: Resample = "bicubic"

    def restore(self, state: State) -> ImageFeature:
        """Rebuild from the spec alone."""
        settings = (self.column, self.root, self.pattern, self.on_error, self.size, self.fitting, self.resample)
        return ImageFeature(
            f"image:{settings!r}", self.column, self.place, self.on_error, self.size, self.fitting, self.resample
        )


def checked_pattern(pattern: str | None) -> str | None:
    """The pattern, if it has one place for the value.

    Raises:
        ValueError: If it has none or several, or asks for more than the value.
    """
    if pattern is None:
        return None
    if pattern.count("{}") != 1 or pattern.count("{") != 1 or pattern.count("}") != 1:
        raise ValueError(
            f"a pattern has one {{}}, where the value of the column stands, as in {{}}.jpg; received {pattern!r}."
        )
    return pattern

"""The image tower: pictures from files or bytes, resized, through an encoder, to a vector."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from torch import Tensor, nn

from towerkit.core.errors import SpecError, listed
from towerkit.core.spec import Spec
from towerkit.data.column_types import ColumnType
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.features.image import ImageSpec, checked_pattern
from towerkit.features.media import OnError
from towerkit.features.pictures import Fit
from towerkit.towers.augmentation import Augmentation, AugmentationSpec
from towerkit.towers.base import Tower, TowerContext, TowerSpec
from towerkit.towers.convolution import SmallConvolution
from towerkit.towers.media import MediaTower

_PATHS: tuple[ColumnType, ...] = ("image", "text", "category", "key")
_VALUES: tuple[ColumnType, ...] = ("number", "bool")
"""Names of files where a pattern makes paths of them."""


class PictureConvolution(nn.Module):
    """Pixels of 0 to 255 through a small convolution; changed at random in training, if asked for.

    Args:
        channels: Of each stage.
        augment: What is changed in training.
    """

    def __init__(self, channels: tuple[int, ...], augment: Augmentation | None) -> None:
        super().__init__()
        self.convolution = SmallConvolution(3, channels)
        self.augment = augment
        self.out_dim = self.convolution.out_dim

    def forward(self, pixels: Tensor) -> Tensor:
        """``[n, 3, size, size]`` bytes to ``[n, out_dim]``."""
        pictures = pixels.float() / 255.0
        if self.augment is not None:
            pictures = self.augment(pictures)
        found: Tensor = self.convolution(2.0 * pictures - 1.0)
        return found


class PictureConvolutionSpec(Spec):
    """A small convolutional network, trained from scratch."""

    kind: Literal["convolution"] = "convolution"
    channels: tuple[int, ...] = Field((32, 64, 128), min_length=1, max_length=7)
    """Of each stage; each halves the edge of the picture."""
    augment: AugmentationSpec | None = None

    @field_validator("channels")
    @classmethod
    def _channels_are_few(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        return checked_channels(channels)

    def build(self) -> PictureConvolution:
        """The network."""
        return PictureConvolution(self.channels, None if self.augment is None else self.augment.build())


ImageEncoderSpec = Annotated[PictureConvolutionSpec, Field()]
"""The menu of image encoders."""


class FilesTowerSpec(TowerSpec):
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
        reads = (found, *_PATHS[1:]) if self.pattern is None else (*_PATHS[1:], *_VALUES)
        if column.type not in reads:
            raise SpecError(
                f"An {what} tower reads a column of the types {listed(reads)}; the column '{self.column}' holds {column.type} "
                f"values{f' such as {column.example}' if column.example else ''}. Name the column of paths or bytes."
                + (" With pattern: '{}.jpg' a number names a file." if column.type in _VALUES else "")
            )


def checked_channels(channels: tuple[int, ...]) -> tuple[int, ...]:
    """The widths of the stages, if each is between 1 and 1,024.

    Raises:
        ValueError: If one is not.
    """
    for width in channels:
        if not 1 <= width <= 1024:
            raise ValueError(f"each stage has between 1 and 1,024 channels; received {width}.")
    return channels


class ImageTowerSpec(FilesTowerSpec):
    """A column of pictures."""

    kind: Literal["image"] = "image"
    size: int = Field(64, ge=8, le=1024)
    """Pixels along each edge."""
    fit: Fit = "crop"
    """How a picture becomes a square: cut in the middle, with white beside it, or stretched."""
    encoder: ImageEncoderSpec = PictureConvolutionSpec()
    dim: int = Field(64, ge=1, le=8192)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """The pixels."""
        self.check_column(schema, "image", "image")
        return [self._feature()]

    def build(self, context: TowerContext) -> Tower:
        """The encoder and a linear layer."""
        encoder = self.encoder.build()
        feature = context.feature(self._feature())
        return MediaTower(feature.name, encoder, encoder.out_dim, self.dim, dropout=self.dropout)

    def _feature(self) -> ImageSpec:
        return ImageSpec(
            column=self.column,
            root=self.root,
            pattern=self.pattern,
            on_error=self.on_error,
            size=self.size,
            fitting=self.fit,
        )

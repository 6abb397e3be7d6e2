"""The image tower: pictures from files or bytes, resized, through an encoder, to a vector."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from torch import Tensor, nn

from towerkit.core.spec import Spec
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.features.image import ImageSpec
from towerkit.features.pictures import Fit
from towerkit.towers.augmentation import Augmentation, AugmentationSpec
from towerkit.towers.base import Tower, TowerContext
from towerkit.towers.convolution import SmallConvolution, checked_channels
from towerkit.towers.media import FilesTowerSpec, MediaTower


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

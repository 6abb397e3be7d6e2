"""The image tower: pictures from files or bytes, resized, through an encoder, to a vector."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from torch import Tensor, nn

from towerkit.core.spec import Spec, kind_or
from towerkit.data.schema import Schema
from towerkit.features.base import Feature, FeatureSpec
from towerkit.features.image import ImageSpec
from towerkit.pretrained.reading import SIZES, Fit
from towerkit.towers.augmentation import Augmentation, AugmentationSpec
from towerkit.towers.base import Tower, TowerContext
from towerkit.towers.convolution import SmallConvolution, checked_channels
from towerkit.towers.media import FilesTowerSpec, MediaTower
from towerkit.towers.pretrained_image import PretrainedImageSpec
from towerkit.towers.ties import OneFeatureTower

_SIZE = 64


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

    def feature(self, *, size: int | None, fitting: Fit | None, **files: Any) -> FeatureSpec:
        """Pixels.

        Args:
            size: Along each edge.
            fitting: How a picture becomes a square.
            **files: The column, and where its files are.
        """
        return ImageSpec(size=size or _SIZE, fitting=fitting or "crop", **files)

    def build(self, feature: Feature, dim: int, dropout: float) -> Tower:
        """The network and a linear layer.

        Args:
            feature: The fitted feature.
            dim: Width of the tower's vectors.
            dropout: Share of the network's numbers dropped in training.
        """
        encoder = PictureConvolution(self.channels, None if self.augment is None else self.augment.build())
        return MediaTower(feature.name, encoder, encoder.out_dim, dim, dropout=dropout)


AnyImageEncoderSpec = Annotated[
    PictureConvolutionSpec | PretrainedImageSpec, Field(discriminator="kind"), kind_or("convolution")
]
"""The menu of image encoders."""


class ImageTowerSpec(FilesTowerSpec):
    """A column of pictures."""

    kind: Literal["image"] = "image"
    size: int | None = Field(None, ge=SIZES[0], le=SIZES[1])
    """Pixels along each edge; 64, or what a pretrained encoder was trained on, when not given."""
    fit: Fit | None = None
    """How a picture becomes a square: cut in the middle, with white beside it, or stretched; ``crop``, or as a pretrained encoder
    was trained, when not given."""
    encoder: AnyImageEncoderSpec = PictureConvolutionSpec()
    dim: int = Field(64, ge=1, le=8192)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """What the encoder reads."""
        self.check_column(schema, "image", "image")
        return [self._feature()]

    def build(self, context: TowerContext) -> Tower:
        """What the encoder makes, or a tower with the weights of another one."""
        feature, like = context.feature(self._feature()), self.twin(context)
        if like is not None:
            assert isinstance(like, OneFeatureTower)
            return like.over(feature.name)
        return self.encoder.build(feature, self.dim, self.dropout)

    def _feature(self) -> FeatureSpec:
        return self.encoder.feature(
            size=self.size,
            fitting=self.fit,
            column=self.column,
            root=self.root,
            pattern=self.pattern,
            on_error=self.on_error,
        )

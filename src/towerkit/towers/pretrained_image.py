"""Pictures by a pretrained encoder: its vectors as they are, or an encoder that is trained on with the tower."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from towerkit.core.errors import SpecError
from towerkit.features.base import Feature, FeatureSpec
from towerkit.features.image_pretrained import (
    EncoderPixelsFeature,
    EncoderPixelsSpec,
    ImageVectorsFeature,
    ImageVectorsSpec,
)
from towerkit.pretrained.pictures import PictureModule, PicturePooling, picture_module
from towerkit.pretrained.reading import PictureReader
from towerkit.pretrained.source import PretrainedSource
from towerkit.pretrained.texts import Precision
from towerkit.towers.adapters import Training, adapted
from towerkit.towers.augmentation import Augmentation, AugmentationSpec
from towerkit.towers.base import Tower
from towerkit.towers.media import MediaTower
from towerkit.towers.pretrained_text import Projection, VectorsTower


class TrainedPictures(nn.Module):
    """Bytes of pixels through an encoder that is trained.

    Args:
        module: The encoder.
        reader: What it takes.
        augment: What is changed in training.
        trained: Its parts that have dropout in training.
    """

    def __init__(
        self,
        module: PictureModule,
        reader: PictureReader,
        augment: Augmentation | None,
        trained: list[nn.Module],
    ) -> None:
        super().__init__()
        self.module, self.reader, self.augment = module, reader, augment
        self._trained = trained

    def train(self, mode: bool = True) -> TrainedPictures:
        """Switch modes; what is frozen has no dropout, and no statistics of batches are taken."""
        super().train(mode)
        self.module.eval()
        for part in self._trained:
            part.train(self.training)
        for norm in self.module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """``[n, 3, size, size]`` bytes to ``[n, dim]``."""
        if self.augment is not None and self.training:
            pixels = 255.0 * self.augment(pixels.float() / 255.0)
        found: Tensor = self.module(self.reader.normalized(pixels))
        return found


class TrainedImageTower(MediaTower):
    """A tower over an encoder that is trained at a pace of its own.

    Args:
        feature: Key of the stored column.
        encoder: Bytes of pixels to ``[n, encoder_dim]``.
        encoder_dim: That width.
        out_dim: Width of the tower's vectors.
        dropout: Share of the encoder's numbers dropped in training.
        lr_factor: Of the step size of the encoder's parameters.
    """

    def __init__(
        self,
        feature: str,
        encoder: TrainedPictures,
        encoder_dim: int,
        out_dim: int,
        *,
        dropout: float,
        lr_factor: float,
    ) -> None:
        super().__init__(feature, encoder, encoder_dim, out_dim, dropout=dropout)
        self.lr_factor = lr_factor

    def rates(self) -> Iterator[tuple[nn.Parameter, float]]:
        """The encoder's parameters."""
        return ((parameter, self.lr_factor) for parameter in self.encoder.parameters() if parameter.requires_grad)


class PretrainedImageSpec(PretrainedSource):
    """A pretrained encoder: its vectors, computed once and kept on disk, or trained on with the tower."""

    kind: Literal["pretrained"] = "pretrained"
    train: Training = "frozen"
    """How much of the encoder is trained."""
    pooling: Literal["auto"] | PicturePooling = "auto"
    """Of an encoder that sees patches: its vector of the whole picture (``cls``, as is ``auto``), or their ``mean``."""
    layers: tuple[int, ...] = ()
    """Hidden widths of the projection of a frozen encoder's vectors."""
    precision: Precision = "float32"
    """In which a frozen encoder computes; one that is trained goes by ``training.precision``."""
    lr_factor: float = Field(1.0, gt=0.0, le=1000.0)
    """Of the step size, for the encoder's own parameters."""
    augment: AugmentationSpec | None = None
    """What is changed at random in training, for an encoder that is trained."""

    @model_validator(mode="after")
    def _settings_belong_together(self) -> PretrainedImageSpec:
        is_frozen = self.train == "frozen"
        if is_frozen and (self.lr_factor != 1.0 or self.augment is not None):
            raise ValueError(
                "'lr_factor' and 'augment' are for an encoder that is trained; received train: frozen, whose vectors are computed "
                "once. Remove them, or train the encoder."
            )
        if not is_frozen and (self.precision != "float32" or self.layers):
            raise ValueError(
                "'precision' and 'layers' are for a frozen encoder; one that is trained goes by training.precision and a linear "
                "layer. Remove them."
            )
        return self

    def feature(self, **files: Any) -> FeatureSpec:
        """Vectors of a frozen encoder, pixels for one that is trained.

        Args:
            **files: The column, where its files are, and the size of pictures.
        """
        shared = {**files, "source": self.source(), "pooling": self.pooling}
        if self.train == "frozen":
            return ImageVectorsSpec(**shared, precision=self.precision)
        return EncoderPixelsSpec(**shared)

    def build(self, feature: Feature, dim: int, dropout: float) -> Tower:
        """The projection, and the encoder's module where it is trained.

        Args:
            feature: The fitted feature.
            dim: Width of the tower's vectors.
            dropout: Share of the encoder's numbers dropped in training.
        """
        if isinstance(feature, ImageVectorsFeature):
            projection = Projection(feature.dim, dim, layers=self.layers, dropout=dropout)
            return VectorsTower(feature.name, projection, dim)
        assert isinstance(feature, EncoderPixelsFeature)
        encoder = feature.built_from()
        module = picture_module(encoder.pretrained, encoder.pooling)
        augment = None if self.augment is None else self.augment.build()
        pictures = TrainedPictures(module, encoder.reader, augment, adapted(module, self.train))
        return TrainedImageTower(
            feature.name, pictures, width_of_module(module), dim, dropout=dropout, lr_factor=self.lr_factor
        )


def width_of_module(module: PictureModule) -> int:
    """How wide an encoder's vectors are, by its own config.

    Raises:
        SpecError: If it does not say.
    """
    config = getattr(module.network, "config", None)
    sizes = getattr(config, "hidden_sizes", None)
    for width in (
        getattr(module.network, "DIM", None),
        sizes[-1] if sizes else None,
        getattr(config, "hidden_size", None),
    ):
        if isinstance(width, int) and width > 0:
            return width
    raise SpecError(
        f"The config of a {type(module.network).__name__} does not say how wide its vectors are, so it cannot be trained here; use "
        "train: frozen."
    )

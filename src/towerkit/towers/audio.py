"""The audio tower: sounds as pictures of their frequencies, through a small convolution, to a vector."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from towerkit.core.spec import Spec
from towerkit.data.schema import Schema
from towerkit.features.audio import AudioSpec
from towerkit.features.base import FeatureSpec
from towerkit.towers.base import Tower, TowerContext
from towerkit.towers.convolution import SmallConvolution, checked_channels
from towerkit.towers.media import FilesTowerSpec, MediaTower
from towerkit.towers.ties import OneFeatureTower


class SpectrogramConvolutionSpec(Spec):
    """A small convolutional network over frequency and time, trained from scratch."""

    kind: Literal["convolution"] = "convolution"
    channels: tuple[int, ...] = Field((16, 32, 64), min_length=1, max_length=7)
    """Of each stage; each halves both edges."""

    @field_validator("channels")
    @classmethod
    def _channels_are_few(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        return checked_channels(channels)

    def build(self) -> SmallConvolution:
        """The network."""
        return SmallConvolution(1, self.channels)


AudioEncoderSpec = Annotated[SpectrogramConvolutionSpec, Field()]
"""The menu of audio encoders."""


class AudioTowerSpec(FilesTowerSpec):
    """A column of WAV files."""

    kind: Literal["audio"] = "audio"
    rate: int = Field(16_000, ge=4_000, le=96_000)
    """Samples a second to which each sound is resampled."""
    seconds: float = Field(2.0, ge=0.05, le=60.0)
    """How much of each sound is looked at; a shorter one goes on in silence."""
    mels: int = Field(64, ge=8, le=256)
    """Bands of frequencies."""
    encoder: AudioEncoderSpec = SpectrogramConvolutionSpec()
    dim: int = Field(64, ge=1, le=8192)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """The spectrograms."""
        self.check_column(schema, "sound", "audio")
        return [self._feature()]

    def build(self, context: TowerContext) -> Tower:
        """The encoder and a linear layer, or a tower with the weights of another one."""
        feature, like = context.feature(self._feature()), self.twin(context)
        if like is not None:
            assert isinstance(like, OneFeatureTower)
            return like.over(feature.name)
        encoder = self.encoder.build()
        return MediaTower(feature.name, encoder, encoder.out_dim, self.dim, dropout=self.dropout)

    def _feature(self) -> AudioSpec:
        return AudioSpec(
            column=self.column,
            root=self.root,
            pattern=self.pattern,
            on_error=self.on_error,
            rate=self.rate,
            seconds=self.seconds,
            mels=self.mels,
        )

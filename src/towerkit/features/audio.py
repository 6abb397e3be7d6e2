"""Sounds: a column of WAV files to spectrograms of one length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from towerkit.data.shop.sounds import RATE_HZ, SAMPLES, wav
from towerkit.features.base import State
from towerkit.features.image import FileSpec
from towerkit.features.media import MediaFeature
from towerkit.features.sounds import log_mel_of, num_frames

_VERSION = 1
"""Of the decoding; another number forgets what is kept on disk."""


@dataclass(frozen=True)
class AudioFeature(MediaFeature):
    """``[rows, 1, mels, frames]`` spectrograms, read batch by batch."""

    rate: int = 16_000
    seconds: float = 2.0
    mels: int = 64

    @property
    def shape(self) -> tuple[int, ...]:
        """One channel, bands and frames."""
        return (1, self.mels, num_frames(self.rate, self.seconds))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Four bytes."""
        return np.dtype(np.float32)

    @property
    def settings(self) -> str:
        """What the spectrograms depend on."""
        return f"audio-{_VERSION}-{self.rate}-{self.seconds}-{self.mels}"

    @property
    def what(self) -> str:
        """Sounds."""
        return "sounds"

    def decode(self, content: bytes) -> NDArray[Any]:
        """The spectrogram of a file."""
        return log_mel_of(content, rate=self.rate, seconds=self.seconds, mels=self.mels)

    def sample(self) -> Mapping[str, Any]:
        """A made-up sound: a tone that rises."""
        seconds = np.arange(SAMPLES) / RATE_HZ
        return {self.column: wav(np.rint(9000.0 * np.sin(2.0 * np.pi * (300.0 + 400.0 * seconds) * seconds)))}


class AudioSpec(FileSpec):
    """A column of sounds, as spectrograms."""

    kind: Literal["audio"] = "audio"
    rate: int = Field(16_000, ge=4_000, le=96_000)
    seconds: float = Field(2.0, ge=0.05, le=60.0)
    mels: int = Field(64, ge=8, le=256)

    def restore(self, state: State) -> AudioFeature:
        """Rebuild from the spec alone."""
        settings = (self.column, self.root, self.pattern, self.on_error, self.rate, self.seconds, self.mels)
        return AudioFeature(
            f"audio:{settings!r}", self.column, self.place, self.on_error, self.rate, self.seconds, self.mels
        )

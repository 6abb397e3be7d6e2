"""Short chimes, written as WAV by hand: each flavor has its own pitch and its own mixture of overtones."""

from __future__ import annotations

import struct

import numpy as np

from towerkit.data.shop.portable import Floats, Integers

RATE_HZ = 8000
SAMPLES = 2000
"""A quarter of a second."""

_PITCH_HZ = (262.0, 330.0, 392.0, 494.0, 587.0, 698.0)
_OVERTONES = (
    (1.0, 0.5, 0.1, 0.0),
    (1.0, 0.0, 0.6, 0.0),
    (0.6, 0.9, 0.0, 0.3),
    (1.0, 0.2, 0.2, 0.8),
    (1.0, 0.0, 0.0, 0.0),
    (0.7, 0.4, 0.7, 0.4),
)
"""Loudness of the first four harmonics, by flavor."""


def make_sounds(flavor: Integers, generator: np.random.Generator) -> list[bytes]:
    """One WAV file for each snack: 8 kHz, mono, 16 bits; detuned by up to four percent and a little noisy.

    Args:
        flavor: ``[snacks]`` positions in the list of flavors.
        generator: Detunes, fades and adds the noise.
    """
    count = len(flavor)
    pitch = np.array(_PITCH_HZ)[flavor] * (1.0 + generator.integers(-40, 41, count) / 1000.0)
    fade = generator.integers(8, 21, count)[:, None]
    noise = generator.integers(-900, 901, (count, SAMPLES))
    seconds = np.arange(SAMPLES) / RATE_HZ
    tone = np.zeros((count, SAMPLES))
    for harmonic in range(4):
        loudness = np.array(_OVERTONES)[flavor, harmonic][:, None]
        tone = tone + loudness * np.sin(2.0 * np.pi * (harmonic + 1) * pitch[:, None] * seconds)
    return [wav(row) for row in np.rint(9000.0 * tone * np.exp(-fade * seconds) + noise)]


def wav(samples: Floats) -> bytes:
    """The WAV file of ``[samples]`` values between -32,768 and 32,767."""
    content = np.clip(samples, -32768, 32767).astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, RATE_HZ, RATE_HZ * 2, 2, 16)  # plain samples, one channel, two bytes each
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body

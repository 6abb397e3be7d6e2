"""A sound file to a log-mel spectrogram of one length: a picture of which frequencies are loud when."""

from __future__ import annotations

import io
import struct
import wave
from functools import cache
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towerkit.features.cells import Unusable

WINDOW_S, STEP_S = 0.025, 0.010
"""Of the spectrogram, as is usual for speech."""
RATES_HZ = (1_000, 384_000)
"""The least and the most samples a second that a file may have."""
_FLOOR, _HALF_RANGE_DB = 1e-10, 40.0
_LOWEST_HZ = 20.0

Floats = NDArray[np.float64]


def num_frames(rate: int, seconds: float) -> int:
    """Columns of the spectrogram of so many seconds."""
    window, step = round(WINDOW_S * rate), round(STEP_S * rate)
    return max(1, 1 + (round(seconds * rate) - window) // step)


def log_mel_of(content: bytes, *, rate: int, seconds: float, mels: int) -> NDArray[np.float32]:
    """Decode a sound and turn it into decibels by frequency and time.

    Channels are averaged, the sound is resampled, what is longer is cut at the end, what is shorter goes on in silence.

    Args:
        content: Of a WAV file with whole or float samples.
        rate: Samples a second to which it is resampled.
        seconds: Length of what is looked at.
        mels: Bands of frequencies, each as wide as the ear tells apart (O'Shaughnessy, 1987).

    Returns:
        ``[1, mels, frames]``: 0 at 40 dB below full loudness, 1 at full loudness, -1 where it is silent.

    Raises:
        Unusable: If it is no WAV file, holds no sound, or numbers that are none.
    """
    samples, own_rate = samples_of(content)
    own = samples[: int(np.ceil(seconds * own_rate)) + own_rate // 10]  # a little more, for the edge of the resampling
    if own_rate != rate:
        from scipy.signal import resample_poly  # takes half a second to import

        common = gcd(rate, own_rate)
        own = resample_poly(own, rate // common, own_rate // common)
    wanted = round(seconds * rate)
    heard = np.zeros(max(wanted, round(WINDOW_S * rate)))
    heard[: min(len(own), wanted)] = own[:wanted]
    return _log_mel(heard, rate, mels)[None].astype(np.float32)


def samples_of(content: bytes) -> tuple[Floats, int]:
    """The samples of a WAV file between -1 and 1, channels averaged, and how many there are a second.

    Raises:
        Unusable: As in :func:`log_mel_of`.
    """
    if not (content[:4] in (b"RIFF", b"RIFX", b"RF64") and content[8:12] == b"WAVE"):
        raise Unusable("is no WAV file")
    from scipy.io import wavfile  # only who has sounds pays for it

    try:
        rate, samples = wavfile.read(io.BytesIO(content))
    except (
        ValueError,
        struct.error,
        EOFError,
        wave.Error,
        OverflowError,
        TypeError,
        UnboundLocalError,
        ZeroDivisionError,
    ) as error:
        raise Unusable(
            f"is a damaged WAV file ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise Unusable(f"has {rate:,} samples a second, and {RATES_HZ[0]:,} to {RATES_HZ[1]:,} are allowed")
    if not samples.size:
        raise Unusable("holds no sound")
    found = _scaled(samples)
    found = found.mean(axis=1) if found.ndim == 2 else found
    if not np.isfinite(found).all():
        raise Unusable("holds samples that are no finite numbers")
    return np.clip(found, -1.0, 1.0), int(rate)


def _scaled(samples: NDArray[Any]) -> Floats:
    """Whole samples by their range; those of 8 bits have their middle at 128."""
    if np.issubdtype(samples.dtype, np.floating):
        return samples.astype(np.float64)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float64) - 128.0) / 128.0
    return samples.astype(np.float64) / -float(np.iinfo(samples.dtype).min)


def _log_mel(samples: Floats, rate: int, mels: int) -> Floats:
    window, step = round(WINDOW_S * rate), round(STEP_S * rate)
    points = 1 << (window - 1).bit_length()
    starts = step * np.arange(1 + (len(samples) - window) // step)
    frames = samples[starts[:, None] + np.arange(window)] * np.hanning(window)  # [frames, window]
    power = np.abs(np.fft.rfft(frames, points)) ** 2 / (window / 4.0) ** 2  # a full sine gives about 1
    bands = mel_bands(rate, points, mels) @ power.T  # [mels, frames]
    decibels = 10.0 * np.log10(np.maximum(bands, _FLOOR))
    return np.clip((decibels + _HALF_RANGE_DB) / _HALF_RANGE_DB, -1.0, 2.0)


@cache
def mel_bands(rate: int, points: int, mels: int) -> Floats:
    """Triangles over the frequencies of a Fourier transform, evenly spaced in mel: ``2595 log10(1 + f / 700)``.

    Args:
        rate: Samples a second.
        points: Of the transform.
        mels: Triangles.

    Returns:
        ``[mels, points / 2 + 1]``, each with its peak at 1 unless it is narrower than the distance of two frequencies.
    """
    frequencies = np.fft.rfftfreq(points, 1.0 / rate)
    lowest, highest = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (_LOWEST_HZ, rate / 2.0))
    edges = 700.0 * (10.0 ** (np.linspace(lowest, highest, mels + 2) / 2595.0) - 1.0)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    bands = np.maximum(0.0, np.minimum(rising, falling))
    nearest = np.abs(frequencies - edges[1:-1, None]).argmin(axis=1)
    empty = bands.sum(axis=1) == 0.0  # narrower than the distance of two frequencies
    bands[empty, nearest[empty]] = 1.0
    return bands

"""From a WAV file to a log-mel spectrogram.

Invariants:
- a pure tone is loudest in the band of its frequency, at every rate of the file; a full one is near 1, silence is -1;
- 8, 16, 24 and 32 bits, floats and two channels of the same tone agree; a short sound goes on in silence, a long one is cut;
- the bands cover every frequency between the lowest and half the rate, and none is empty;
- what is no WAV file, damaged, empty or not finite has a reason; any bytes give a spectrogram or a reason.
"""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import scipy.io.wavfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from towerkit.data.shop import shop_table
from towerkit.features.cells import Unusable
from towerkit.features.sounds import log_mel_of, mel_bands, num_frames, samples_of

RATE, SECONDS, MELS = 16_000, 0.5, 40
pytestmark = pytest.mark.filterwarnings("ignore::scipy.io.wavfile.WavFileWarning")


def tone(hz: float, rate: int = RATE, seconds: float = SECONDS, loudness: float = 0.9) -> NDArray[np.float64]:
    return loudness * np.sin(2.0 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def file_of(samples: NDArray[np.float64], rate: int = RATE, kind: type = np.int16) -> bytes:
    out = io.BytesIO()
    if issubclass(kind, np.floating):
        scipy.io.wavfile.write(out, rate, samples.astype(kind))
    elif kind is np.uint8:
        scipy.io.wavfile.write(out, rate, np.rint(127.0 * samples + 128.0).astype(np.uint8))
    else:
        scipy.io.wavfile.write(out, rate, np.rint(np.iinfo(kind).max * samples).astype(kind))
    return out.getvalue()


def spectrum(content: bytes) -> NDArray[np.float32]:
    found = log_mel_of(content, rate=RATE, seconds=SECONDS, mels=MELS)
    assert found.shape == (1, MELS, num_frames(RATE, SECONDS)) and found.dtype == np.float32
    assert np.isfinite(found).all() and found.min() >= -1.0
    return found[0]


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("hz", [200.0, 1_000.0, 3_000.0])
def test_a_tone_is_loudest_in_its_band(hz: float, rate: int) -> None:
    found = spectrum(file_of(tone(hz, rate), rate))[:, 5:-5]
    points = 512
    band = mel_bands(RATE, points, MELS)[:, round(hz * points / RATE)].argmax()
    assert set(np.abs(found.argmax(axis=0) - band).tolist()) <= {0, 1}
    assert found.max() == pytest.approx(1.0, abs=0.15)


def test_silence_and_what_follows_a_short_sound() -> None:
    assert (spectrum(file_of(np.zeros(8_000))) == -1.0).all()
    short = spectrum(file_of(tone(500.0, seconds=0.1)))
    assert short[:, :5].max() > 0.8 and (short[:, 15:] == -1.0).all()
    long = spectrum(file_of(np.concatenate([tone(500.0), tone(3_000.0, seconds=5.0)])))
    np.testing.assert_allclose(long[:, :-1], spectrum(file_of(tone(500.0)))[:, :-1], atol=1e-3)
    assert spectrum(file_of(np.array([0.5]))).shape == (MELS, num_frames(RATE, SECONDS))


def test_every_form_of_the_same_tone_agrees() -> None:
    wanted = spectrum(file_of(tone(700.0)))
    for kind in (np.int32, np.float32, np.float64):
        np.testing.assert_allclose(spectrum(file_of(tone(700.0), kind=kind)).max(), wanted.max(), atol=1e-3)
    loud = wanted > 0.5
    np.testing.assert_allclose(spectrum(file_of(tone(700.0), kind=np.uint8))[loud], wanted[loud], atol=0.02)
    both = np.stack([tone(700.0), tone(700.0)], axis=1)
    np.testing.assert_allclose(spectrum(file_of(both)), wanted, atol=1e-6)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:  # 24 bits, which only the standard library writes
        file.setparams((1, 3, RATE, 0, "NONE", ""))
        file.writeframes(
            (np.rint(8_388_607 * tone(700.0)).astype("<i4") << 8).view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
        )
    np.testing.assert_allclose(spectrum(out.getvalue())[loud], wanted[loud], atol=1e-3)


def test_the_sounds_of_the_shop() -> None:
    content = shop_table("snacks", size="small")["sound"][0].as_py()
    samples, rate = samples_of(content)
    assert (len(samples), rate) == (2000, 8000)
    with wave.open(io.BytesIO(content)) as file:
        own = np.frombuffer(file.readframes(2000), "<i2")
    np.testing.assert_allclose(samples, own / 32768.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(4_000, 96_000), st.sampled_from([128, 512, 1024]), st.integers(8, 128))
def test_no_band_is_empty_and_none_is_above_one(rate: int, points: int, mels: int) -> None:
    bands = mel_bands(rate, points, mels)
    assert bands.shape == (mels, points // 2 + 1)
    assert (bands.sum(axis=1) > 0).all() and bands.max() <= 1.0 and bands.min() >= 0.0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no WAV file"),
        (b"ID3 some mp3", "no WAV file"),
        (b"RIFF\x24\x00\x00\x00WAVE", "damaged WAV file"),
        (file_of(np.zeros(0)), "holds no sound"),
        (file_of(np.full(100, np.nan), kind=np.float32), "no finite numbers"),
        (file_of(np.zeros(100), rate=10), "has 10 samples a second, and 1,000 to 384,000 are allowed"),
    ],
)
def test_what_is_no_sound_has_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        log_mel_of(content, rate=RATE, seconds=SECONDS, mels=MELS)


REAL = file_of(tone(300.0, seconds=0.05))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 255), st.integers(0, len(REAL)))
def test_any_damage_gives_a_spectrogram_or_a_reason(place: int, value: int, cut: int) -> None:
    for content in (REAL[:place] + bytes([value]) + REAL[place + 1 :], REAL[:cut]):
        try:
            spectrum(content)
        except Unusable as reason:
            assert str(reason)

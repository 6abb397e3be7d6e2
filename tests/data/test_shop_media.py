"""Pictures and sounds of the shop.

Invariants: every PNG has valid checksums and decodes to 24 x 24 RGB pixels; shape follows category, and color
follows color; every WAV opens with the standard library; pitch follows flavor; arithmetic helpers do what they say.
"""

from __future__ import annotations

import io
import struct
import wave
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from towerkit.data.shop import shop_table
from towerkit.data.shop.pictures import png
from towerkit.data.shop.portable import draw_by_weight, ranks
from towerkit.data.shop.words import COLORS, FLAVORS


def decode(file: bytes) -> NDArray[np.uint8]:
    """A reader of unfiltered RGB files, which checks every checksum."""
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, {}
    while place < len(file):
        (length,) = struct.unpack(">I", file[place : place + 4])
        name, content = file[place + 4 : place + 8], file[place + 8 : place + 8 + length]
        assert struct.unpack(">I", file[place + 8 + length : place + 12 + length])[0] == zlib.crc32(name + content)
        chunks[name], place = content, place + 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert kind == [8, 2, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_png_round_trip(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(decode(png(pixels)), pixels)


def test_pictures_show_the_color_in_the_middle_of_full_shapes() -> None:
    table = shop_table("products", size="small")
    pictures = np.stack([decode(file) for file in table["image"].to_pylist()])
    assert pictures.shape == (80, 24, 24, 3)
    full = np.isin(table["category"].to_pylist(), ["lighting", "kitchen", "stationery"])  # disc, square, diamond
    middle = pictures[:, 10:14, 10:14].mean(axis=(1, 2))
    meant = np.array([COLORS[color] for color in table["color"].to_pylist()])
    assert full.sum() >= 24 and np.abs(middle - meant)[full].max() < 12.0


def test_pictures_tell_the_category() -> None:
    table = shop_table("products")
    pictures = np.stack([decode(file) for file in table["image"].to_pylist()]).astype(float)
    meant = np.array([COLORS[color] for color in table["color"].to_pylist()])
    inside = (np.abs(pictures - meant[:, None, None, :]).max(axis=3) < 12).reshape(len(pictures), -1).astype(float)
    labels = np.unique(table["category"].to_pylist(), return_inverse=True)[1]
    distance = np.abs(inside[200:, None] - inside[None, :200]).sum(axis=2)
    assert (labels[distance.argmin(axis=1)] == labels[200:]).mean() > 0.7  # the nearest neighbor; chance is 0.125


def test_sounds_open_and_their_pitch_follows_the_flavor() -> None:
    table = shop_table("snacks")
    spectra = []
    for file in table["sound"].to_pylist():
        with wave.open(io.BytesIO(file)) as sound:
            assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (8000, 1, 2)
            assert sound.getnframes() == 2000
            samples = np.frombuffer(sound.readframes(2000), "<i2").astype(float)
        assert 3000 < np.abs(samples).max() <= 32767
        spectra.append(np.abs(np.fft.rfft(samples)))
    labels = np.array([list(FLAVORS).index(flavor) for flavor in table["flavor"].to_pylist()])
    hz = np.argmax(np.array(spectra), axis=1) * 4.0
    assert np.median(hz[labels == 0]) == pytest.approx(262, abs=16)
    assert np.median(hz[labels == 4]) == pytest.approx(587, abs=28)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any), min_size=1, max_size=5))
def test_drawing_by_weight_never_takes_a_zero(table: list[list[int]]) -> None:
    weights = np.array(table, dtype=np.int64)
    row = np.repeat(np.arange(len(weights)), 20)
    column = draw_by_weight(weights, row, np.random.default_rng(0))
    assert (weights[row, column] > 0).all()


def test_drawing_by_weight_keeps_the_proportions() -> None:
    weights = np.array([[1, 0, 3], [8, 1, 1]], dtype=np.int64)
    column = draw_by_weight(weights, np.repeat([0, 1], 40_000), np.random.default_rng(0))
    shares = np.stack([np.bincount(part, minlength=3) for part in column.reshape(2, -1)]) / 40_000
    assert shares == pytest.approx(weights / weights.sum(axis=1, keepdims=True), abs=0.01)


def test_ranks_are_spread_evenly() -> None:
    assert ranks(np.array([3.0, 1.0, 2.0, 2.0])).tolist() == [0.875, 0.125, 0.375, 0.625]

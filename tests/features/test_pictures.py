"""From a picture file to pixels.

Invariants:
- of its own size a lossless picture comes back as it was; a plain color stays that color at any size and fit;
- ``crop`` keeps the middle, ``pad`` puts white beside, ``stretch`` keeps everything;
- grey, palettes, transparency (white shows through), 16 bits, CMYK and the first frame of an animation are read;
- the orientation that a camera noted is applied;
- what is cut short, too large by its header, empty, or another format has a reason, and never an error of another library;
- any bytes give pixels or a reason, and so does a real file with any byte changed.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from towerkit.data.shop.pictures import png
from towerkit.features.cells import Unusable
from towerkit.features.pictures import FORMATS, MAX_PIXELS, pixels_of

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the decoders; the feature silences them around its threads


def file_of(picture: Any, how: str = "PNG", **settings: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, how, **settings)
    return out.getvalue()


def grey_steps() -> Any:
    """Left black, right white."""
    return Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 2, axis=0))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(8, 20))
def test_a_picture_of_the_right_size_is_not_changed(seed: int, size: int) -> None:
    given = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    for fit in ("crop", "pad", "stretch"):
        assert np.array_equal(pixels_of(png(given), size, fit=fit), given.transpose(2, 0, 1))


@pytest.mark.parametrize("how", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_a_plain_color_stays_at_any_size(how: str) -> None:
    content = file_of(Image.new("RGB", (40, 100), (200, 40, 60)), how)
    for size in (8, 33, 64):
        for fit in ("crop", "stretch"):
            found = pixels_of(content, size, fit=fit)  # type: ignore[arg-type]
            assert found.shape == (3, size, size) and found.dtype == np.uint8
            assert np.abs(found.astype(int) - np.array([200, 40, 60])[:, None, None]).max() <= 3


def test_the_three_ways_to_a_square() -> None:
    halves = np.zeros((10, 30, 3), np.uint8)
    halves[:, 10:20] = (255, 0, 0)
    content = png(halves)
    assert (pixels_of(content, 10, fit="crop") == np.array([255, 0, 0], np.uint8)[:, None, None]).mean() > 0.75
    padded = pixels_of(content, 30, fit="pad")
    assert (padded[:, :9] == 255).all() and (padded[:, 21:] == 255).all() and (padded[1, 12:18] == 0).all()
    stretched = pixels_of(content, 30, fit="stretch")
    assert (stretched[0, :, 12:18] == 255).all() and (stretched[:, :, :8] == 0).all()


def test_modes() -> None:
    white, black = np.full(3, 255), np.zeros(3)
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert (pixels_of(file_of(clear), 8).mean(axis=(1, 2)) == white).all()
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([9, 99, 199])
    assert pixels_of(file_of(palette), 8)[:, 0, 0].tolist() == [9, 99, 199]
    assert (pixels_of(file_of(palette, transparency=0), 8) == 255).all()
    assert (pixels_of(file_of(Image.new("LA", (8, 8), (7, 255))), 8) == 7).all()
    assert (pixels_of(file_of(Image.new("1", (8, 8), 1)), 8) == 255).all()
    cmyk = file_of(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG")
    assert np.abs(pixels_of(cmyk, 8).mean(axis=(1, 2)) - black).max() <= 2
    deep = Image.fromarray(np.full((8, 8), 257 * 100, np.uint16))
    assert (pixels_of(file_of(deep), 8) == 100).all()
    assert (pixels_of(file_of(deep, "TIFF"), 8) == 100).all()
    assert (pixels_of(file_of(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"), 8) == 128).all()
    wide = Image.fromarray(np.array([[-5.0, 5.0]], np.float32))
    assert pixels_of(file_of(wide, "TIFF"), 8, fit="stretch")[0, 0, [0, -1]].tolist() == [0, 255]
    with pytest.raises(Unusable, match="not finite"):
        pixels_of(file_of(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"), 8)


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ((250, 0, 0), (0, 250, 0))]
    for how in ("GIF", "WEBP", "PNG", "TIFF"):
        lossless = {"lossless": True} if how == "WEBP" else {}
        content = file_of(frames[0], how, save_all=True, append_images=frames[1:], **lossless)
        assert pixels_of(content, 8)[:, 4, 4].tolist() == [250, 0, 0], how


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_the_orientation_of_the_camera(orientation: int, turns: int) -> None:
    given = np.zeros((16, 16, 3), np.uint8)
    given[:8, :8] = 255
    note = Image.Exif()
    note[0x0112] = orientation
    found = pixels_of(file_of(Image.fromarray(given), "JPEG", exif=note, quality=100, subsampling=0), 16)
    wanted = np.rot90(given, turns).transpose(2, 0, 1)
    assert np.abs(found.astype(int) - wanted).mean() < 5


def header_only(width: int, height: int) -> bytes:
    """A PNG that promises much and holds a line."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\x00" * 100))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (header_only(8_000, 7_000), "has 8,000 x 7,000 pixels, and 50,000,000 are allowed"),
        (header_only(60_000, 60_000), f"has more than the {MAX_PIXELS:,} pixels that are allowed"),
        (header_only(80, 80), "is damaged"),
        (png(np.zeros((30, 30, 3), np.uint8))[:600], "is damaged"),
        (file_of(Image.new("RGB", (60, 60), (1, 2, 3)), "JPEG")[:400], "is damaged|no picture"),
        (b"GIF89a", "no picture in one of the formats PNG, JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture"),
        (b"hello", "no picture"),
        (b"", "no picture"),
    ],
)
def test_what_is_no_picture_has_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        pixels_of(content, 16)


REAL = [file_of(grey_steps().resize((20, 20)).convert("RGB"), how) for how in FORMATS]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(REAL), st.data())
def test_any_damage_gives_pixels_or_a_reason(content: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(content) - 1))
    changed = content[:place] + bytes([data.draw(st.integers(0, 255))]) + content[place + 1 :]
    cut = data.draw(st.integers(0, len(content)))
    for each in (changed, content[:cut], data.draw(st.binary(max_size=60))):
        try:
            assert pixels_of(each, 12).shape == (3, 12, 12)
        except Unusable as reason:
            assert str(reason)

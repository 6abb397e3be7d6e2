"""Little drawn pictures, written as PNG by hand: the shape says what kind of thing it is, the color is its color."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from towerkit.data.shop.portable import Floats, Integers

SIDE = 24
"""Pixels along each edge."""

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]

# A shape is a rule on coordinates that run from about -1 to 1 over the drawn thing.
SHAPES: tuple[Callable[[Floats, Floats], Mask], ...] = (
    lambda x, y: x * x + y * y < 1.0,  # disc
    lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.85,  # square
    lambda x, y: (y < 0.9) & (2.0 * np.abs(x) < y + 1.0),  # triangle
    lambda x, y: np.abs(x) + np.abs(y) < 1.1,  # diamond
    lambda x, y: np.minimum(np.abs(x), np.abs(y)) + 0.7 * (np.maximum(np.abs(x), np.abs(y)) > 1.0) < 0.3,  # cross
    lambda x, y: np.abs(x * x + y * y - 0.7) < 0.35,  # ring
    lambda x, y: (np.abs(x) < 0.9) & (np.abs(np.abs(y) - 0.55) < 0.28),  # two bars
    lambda x, y: (x * x + y * y < 1.0) & ((x - 0.5) * (x - 0.5) + y * y > 0.6),  # crescent
)


def draw_pictures(shape: Integers, color: Integers, generator: np.random.Generator) -> list[bytes]:
    """One PNG for each thing: a colored shape, a little off center, on a light and grainy ground.

    Args:
        shape: ``[things]`` positions in :data:`SHAPES`.
        color: ``[things, 3]`` red, green and blue, 0 to 255.
        generator: Places the shapes and makes the grain.

    Returns:
        ``[things]`` PNG files of 24 x 24 pixels.
    """
    count = len(shape)
    center = generator.integers(-12, 13, (count, 2)) / 4.0
    radius = generator.integers(28, 41, count) / 4.0
    ground = generator.integers(205, 246, count)
    grain = generator.integers(-10, 11, (count, SIDE, SIDE, 3))
    axis = np.arange(SIDE) - (SIDE - 1) / 2.0
    pictures = []
    for one in range(count):
        x = np.broadcast_to((axis[None, :] - center[one, 0]) / radius[one], (SIDE, SIDE))
        y = np.broadcast_to((axis[:, None] - center[one, 1]) / radius[one], (SIDE, SIDE))
        inside = SHAPES[shape[one]](x, y)[:, :, None]
        plain = np.where(inside, color[one], ground[one])
        pictures.append(png(np.clip(plain + grain[one], 0, 255).astype(np.uint8)))
    return pictures


def png(pixels: Pixels) -> bytes:
    """The PNG file of an ``[height, width, 3]`` array.

    The pixels are stored without compression, as one deflate block of at most 65,535 bytes: compressed bytes would
    depend on the zlib in use.
    """
    height, width, _ = pixels.shape
    rows = b"".join(b"\x00" + row.tobytes() for row in pixels)  # zero: the row is not filtered
    stored = (
        b"\x78\x01\x01"
        + struct.pack("<HH", len(rows), len(rows) ^ 0xFFFF)
        + rows
        + struct.pack(">I", zlib.adler32(rows))
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # eight bits a channel, RGB
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", stored) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

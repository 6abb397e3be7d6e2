"""A picture file to pixels of one size, by Pillow: with limits, upright, in three colors, never an exception of its own."""

from __future__ import annotations

import io
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from towerkit.core.optional import optional_import
from towerkit.features.cells import Unusable
from towerkit.pretrained.reading import Fit, Resample

Pixels: TypeAlias = NDArray[np.uint8]
MAX_PIXELS = 50_000_000
"""Of a picture as its header tells; a small file can promise more than a memory holds."""
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
"""Other formats of Pillow start programs or are no pictures of things."""
_WHITE = (255, 255, 255)


@cache
def pillow() -> Any:
    """The package, with what is used of it imported.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """
    for name in ("PIL.Image", "PIL.ImageOps"):
        optional_import(name, extra="image")
    return optional_import("PIL", extra="image")


def pixels_of(content: bytes, size: int, *, fit: Fit = "crop", resample: Resample = "bicubic") -> Pixels:
    """Decode and resize a picture.

    The orientation that a camera noted is applied; of an animation the first frame counts; what is transparent becomes
    white; grey, palettes, 16 bits and CMYK become three colors of 8 bits.

    Args:
        content: Of a PNG, JPEG, GIF, WebP, BMP or TIFF file.
        size: Pixels along each edge of what is given back.
        fit: ``crop`` cuts off what exceeds the square in the middle, ``pad`` puts white beside the picture, ``stretch`` neither.
        resample: How pixels are interpolated; all of them count when the picture shrinks.

    Returns:
        ``[3, size, size]``.

    Raises:
        Unusable: If it is no such file, cut short, or larger than :data:`MAX_PIXELS`.
    """
    pil = pillow()
    try:
        with pil.Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise Unusable(f"has {width:,} x {height:,} pixels, and {MAX_PIXELS:,} are allowed")
            picture.draft("RGB", (2 * size, 2 * size))  # a large JPEG is decoded at a half, fourth or eighth
            picture.load()
            return _prepared(pil, _upright(pil, picture), size, fit, resample)
    except Unusable:
        raise
    except pil.UnidentifiedImageError:
        raise Unusable(f"is no picture in one of the formats {', '.join(FORMATS)}") from None
    except pil.Image.DecompressionBombError:
        raise Unusable(f"has more than the {MAX_PIXELS:,} pixels that are allowed") from None
    except MemoryError:
        raise Unusable("needs more memory than there is") from None
    except Exception as error:  # damaged files reach every corner of the decoders
        raise Unusable(f"is damaged ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if len(text) <= 100 else text[:99] + "…"


def _upright(pil: Any, picture: Any) -> Any:
    try:
        return pil.ImageOps.exif_transpose(picture)
    except Exception:  # a broken note of the camera is no reason to lose the picture
        return picture


def _prepared(pil: Any, picture: Any, size: int, fit: Fit, resample: Resample) -> Pixels:
    picture, how = _in_color(pil, picture), pil.Image.Resampling[resample.upper()]
    if fit == "stretch":
        picture = picture.resize((size, size), how)
    elif fit == "crop":
        picture = pil.ImageOps.fit(picture, (size, size), how)
    else:
        picture = pil.ImageOps.pad(picture, (size, size), how, color=_WHITE)
    return np.ascontiguousarray(np.asarray(picture, np.uint8).transpose(2, 0, 1))


def _in_color(pil: Any, picture: Any) -> Any:
    """Three colors of 8 bits."""
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith(("I", "F")):
        return pil.Image.fromarray(_eight_bits(np.asarray(picture))).convert("RGB")
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        above = picture.convert("RGBA")
        return pil.Image.alpha_composite(pil.Image.new("RGBA", above.size, (*_WHITE, 255)), above).convert("RGB")
    return picture.convert("RGB")


def _eight_bits(values: NDArray[Any]) -> Pixels:
    """Grey of 16 bits, or from 0 to 1; other values are spread from their least to their largest."""
    found = values.astype(np.float64)
    if not np.isfinite(found).all():
        raise Unusable("holds values that are not finite")
    low, high = float(found.min()), float(found.max())
    white = 65535.0 if np.issubdtype(values.dtype, np.integer) else 1.0
    if low < 0.0 or high > white:
        found, white = found - low, (high - low) or 1.0
    return np.rint(255.0 * found / white).astype(np.uint8)

"""Everything drawn and written can be seen.

- Words and links have a contrast of 4.5 to 1 with the page and with panels, series one of 3 to 1 with the page (WCAG 2.2).
- The number in the fullest cell of a heat map keeps 4.5 to 1.
- Every series has a color of its own.
"""

from __future__ import annotations

import pytest

from towerkit.reporting.palette import DARK, LIGHT, Palette, page_style

RGB = tuple[float, float, float]


def rgb(color: str) -> RGB:
    red, green, blue = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def luminance(color: RGB) -> float:
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: RGB, other: RGB) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_formula_by_hand() -> None:
    assert contrast(rgb("#ffffff"), rgb("#000000")) == pytest.approx(21.0)
    assert contrast(rgb("#777777"), rgb("#ffffff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast(palette: Palette) -> None:
    page, panel = rgb(palette.page), rgb(palette.panel)
    for color in (palette.words, palette.muted, palette.link):
        assert min(contrast(rgb(color), page), contrast(rgb(color), panel)) >= 4.5, color
    for color in palette.series:
        assert contrast(rgb(color), page) >= 3.0, color
    for color in (palette.series[2], palette.series[7]):  # the words "right" and "wrong"
        assert contrast(rgb(color), panel) >= 4.5, color
    full = rgb(palette.series[0])
    red, green, blue = (
        palette.shade * one + (1 - palette.shade) * other for one, other in zip(full, page, strict=True)
    )
    assert contrast(rgb(palette.words), (red, green, blue)) >= 4.5
    assert len(set(palette.series)) == len(LIGHT.series)


def test_the_style_sheet_loads_nothing() -> None:
    style = page_style()
    assert "url(" not in style and "@import" not in style and "<" not in style

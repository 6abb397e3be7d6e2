"""Colors and style sheets. Series differ by color, by the shape of their marks and by their dashes: no one needs to see colors.

The colors of a series keep a contrast of 3 to 1 with the page, and words one of 4.5 to 1 (WCAG 2.2, 1.4.3 and 1.4.11), on a
light page and on a dark one; a test computes them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """Colors of one page."""

    page: str
    words: str
    muted: str
    """Axes and remarks."""
    grid: str
    panel: str
    link: str
    series: tuple[str, ...]
    shade: float
    """The most that a cell of a heat map is filled with, so that its number stays readable."""


LIGHT = Palette(
    page="#ffffff",
    words="#1c2127",
    muted="#59636e",
    grid="#d8dee4",
    panel="#f5f7f9",
    link="#0b5cad",
    series=("#0069ad", "#b8480a", "#00795a", "#8a3f85", "#806000", "#4d5661", "#177a8c", "#b3123d"),
    shade=0.55,
)
DARK = Palette(
    page="#14181d",
    words="#e6eaee",
    muted="#a3adb8",
    grid="#38414b",
    panel="#1d232a",
    link="#7cc0ff",
    series=("#5ab4ee", "#f58a4b", "#38c79c", "#d797cf", "#dcb63f", "#b3bcc6", "#6bd0e0", "#ff7f95"),
    shade=0.4,
)
NUM_SERIES = len(LIGHT.series)

_CHART = """
svg.chart text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
svg.chart .b{font-weight:600}
svg.chart .small{font-size:11px}
svg.chart .ln{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
svg.chart .thin{stroke-width:1}
svg.chart .fl{fill:currentColor;stroke:none}
svg.chart .soft{opacity:.35}
svg.chart .ax{fill:none;stroke-width:1}
"""
_DASHES = ("none", "6 3", "2 3", "8 3 2 3", "4 2", "1 3", "10 4", "6 2 2 2")


def chart_style(palette: Palette = LIGHT) -> str:
    """The style sheet of drawings alone, for one palette."""
    dashes = "".join(f"svg.chart .d{n}{{stroke-dasharray:{dash}}}" for n, dash in enumerate(_DASHES))
    return _CHART + dashes + chart_colors(palette)


def chart_colors(palette: Palette) -> str:
    """What differs between a light and a dark drawing."""
    series = "".join(f"svg.chart .s{n}{{color:{color}}}" for n, color in enumerate(palette.series))
    return (
        f"svg.chart text{{fill:{palette.words}}}svg.chart .m{{fill:{palette.muted}}}svg.chart .ax{{stroke:{palette.muted}}}"
        f"svg.chart .gr{{stroke:{palette.grid}}}svg.chart .bg{{fill:{palette.page}}}"
        f"svg.chart .none{{color:{palette.muted}}}{series}"
        + "".join(f"svg.chart .h{n}{{fill-opacity:{palette.shade * n / 10:.3f}}}" for n in range(11))
    )


_PAGE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
header,main,nav,footer{max-width:1120px;margin:0 auto;padding:0 16px}
header{padding-top:24px}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 8px;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:40px 0 12px;padding-top:12px;border-top:1px solid;overflow-wrap:anywhere}
h3{font-size:1.05rem;margin:24px 0 8px;overflow-wrap:anywhere}
h4,article h3{font-size:1rem;margin:0 0 4px;overflow-wrap:anywhere}
p{margin:8px 0;max-width:78ch;overflow-wrap:anywhere}
p.note{padding:8px 12px;border-left:3px solid}
nav ul{list-style:none;padding:0;margin:8px 0;display:flex;flex-wrap:wrap;gap:2px 18px}
nav li a{display:inline-block;padding:4px 0}
a:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:3px solid;outline-offset:2px}
.scroll{overflow-x:auto;max-width:100%;margin:8px 0}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:4px 0}
th,td{padding:4px 12px 4px 0;text-align:left;vertical-align:top;border-bottom:1px solid}
th{font-weight:600}
th[scope=col]{vertical-align:bottom}
th[scope=row]{white-space:nowrap}
th.long{white-space:normal!important;min-width:14em;overflow-wrap:break-word}
td{white-space:nowrap}
td.long{white-space:normal;min-width:14em;max-width:34em;overflow-wrap:anywhere}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:16px 32px;margin:12px 0}
figure{margin:0;max-width:560px}
figure.wide{grid-column:1/-1;max-width:100%}
figure.wide .scroll svg{min-width:560px}
figcaption{font-weight:600;margin-bottom:4px;overflow-wrap:anywhere}
figure p{font-size:.875rem;margin:4px 0}
svg.chart{display:block;width:100%;height:auto}
details{margin:4px 0}
summary{cursor:pointer;font-size:.875rem;padding:4px 0}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,460px),1fr));gap:16px}
.lists{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,200px),1fr));gap:0 20px}
article{padding:12px 16px;border:1px solid;border-radius:6px;font-size:.875rem;overflow-wrap:anywhere;min-width:0}
article div>h4,article h5{font-size:.875rem;margin:8px 0 2px}
article ol,article ul{margin:2px 0;padding-left:1.6em}
article dl{margin:4px 0;display:grid;grid-template-columns:minmax(5em,auto) 1fr;gap:2px 10px}
article dd{margin:0;min-width:0}
.tag{font-weight:600}
footer{padding:32px 16px;font-size:.875rem}
@media print{nav{display:none}figure,article{break-inside:avoid}}
"""


def _page_colors(palette: Palette) -> str:
    return (
        f"body{{background:{palette.page};color:{palette.words}}}a,summary{{color:{palette.link}}}"
        f"th,td,h2{{border-color:{palette.grid}}}article{{border-color:{palette.grid};background:{palette.panel}}}"
        f"p.note{{border-color:{palette.series[1]};background:{palette.panel}}}"
        f".muted,figure p,footer{{color:{palette.muted}}}.tag{{color:{palette.series[2]}}}"
        f".wrong{{color:{palette.series[7]}}}"
    ) + chart_colors(palette)


def page_style() -> str:
    """The style sheet of a page: light, or dark where the reader's screen is; on paper light."""
    dark = f"@media screen and (prefers-color-scheme:dark){{{_page_colors(DARK)}}}"
    return f":root{{color-scheme:light dark}}{_PAGE}{chart_style()}{_page_colors(LIGHT)}{dark}"

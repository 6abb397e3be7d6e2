"""The style sheet and the modules that pages load. Their addresses hold a hash of their content, so that browsers keep them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from towerkit.reporting.palette import DARK, LIGHT, Palette, page_style

_KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


@cache
def assets() -> dict[str, bytes]:
    """Name -> content of every file that a page may load."""
    found = {
        each.name: each.read_bytes()
        for each in files("towerkit.studio").joinpath("static").iterdir()
        if each.name.rpartition(".")[2] in _KINDS
    }
    colors = f":root{{{_variables(LIGHT)}}}@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    found["studio.css"] = (page_style() + colors).encode() + found["studio.css"]
    return found


def _variables(palette: Palette) -> str:
    """The colors by name, for our own sheet and for what is drawn on a canvas."""
    named = {
        "page": palette.page,
        "words": palette.words,
        "muted": palette.muted,
        "grid": palette.grid,
        "panel": palette.panel,
        "accent": palette.link,
        "clear": palette.series[2],
        "wrong": palette.series[7],
        **{f"series-{number}": color for number, color in enumerate(palette.series)},
    }
    return "".join(f"--{name}:{color};" for name, color in named.items())


@cache
def edition() -> str:
    """Changes with any of the files: modules import each other by plain names within one edition."""
    digest = hashlib.sha256()
    for name, content in sorted(assets().items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:12]


def address(name: str) -> str:
    """Where a page finds a file."""
    return f"/static/{edition()}/{name}"


def kind_of(name: str) -> str:
    """The type of a file's content."""
    return _KINDS[name.rpartition(".")[2]]

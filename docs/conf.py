"""Sphinx settings: pages in Markdown, the reference from docstrings, no network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

# Autodoc writes into pydantic's BaseModel what its source says of it, after which no model that takes further keys can be made.
import towerkit.serving.background
import towerkit.serving.server  # noqa: F401

_version_file = Path(__file__).resolve().parents[1] / "src" / "towerkit" / "_version.py"

project = "towerkit"
author = "The towerkit authors"
copyright = "2026, The towerkit authors"
release = re.findall(r'__version__ = "(.+)"', _version_file.read_text(encoding="utf-8"))[0]
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx.ext.apidoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}  # .rst: only what apidoc generates
exclude_patterns = ["_build"]

# $…$ is mathematics; a heading gets an anchor that other pages can link to.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# One page per module, written anew into docs/reference/ (ignored by git) at each build.
apidoc_modules = [
    {
        "path": "../src/towerkit",
        "destination": "reference",
        "separate_modules": True,
        "module_first": True,
        "automodule_options": {"members", "show-inheritance"},
    }
]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Reference"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

html_theme = "furo"
html_title = f"towerkit {release}"

# Two modules may each have a class of the same name; the nearer one is linked. The reference stands in no table of contents of the
# index: the navigation is made anew for each page, and with hundreds of modules in it that took nine minutes.
suppress_warnings = ["ref.python", "toc.not_included"]


def show_tables_as_written(app: Sphinx, what: str, name: str, value: object, options: Any, lines: list[str]) -> None:
    """Keep a table that a docstring draws with ``|`` as it is read in an editor."""
    shown: list[str] = []
    inside = False
    for line in lines:
        row = line.lstrip().startswith("|")
        indent = line[: len(line) - len(line.lstrip())]
        if row and not inside:
            shown += ["", f"{indent}::", ""]
        if inside and not row:
            shown.append("")
        shown.append(f"    {line}" if row else line)
        inside = row
    lines[:] = shown


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", show_tables_as_written)

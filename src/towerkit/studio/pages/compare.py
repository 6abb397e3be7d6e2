"""Runs beside each other: what differs in their specs, in their figures, and in the segments that both were measured by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from towerkit.reporting.blocks import Part, Section, Words, section_markup
from towerkit.reporting.chart import Grid
from towerkit.reporting.markup import element, foreign, joined
from towerkit.reporting.sections.about import nested_keys
from towerkit.reporting.sections.comparison import comparison_section
from towerkit.studio.frame import View, run_address
from towerkit.studio.opened import Opened

MOST = 8


def compare_page(several: Sequence[Opened]) -> View:
    """Two Runs or more; the first is what the others are compared with.

    Args:
        several: Opened, two to eight.
    """
    subjects = [replace(each.subject, is_alone=False) for each in several]
    links = [element("a", {"href": run_address(each.entry.id)}, foreign(each.entry.name)) for each in several]
    crumbs = element("p", {"class": "choices"}, *links)
    sections = [section_markup(comparison_section(subjects)), section_markup(_specs(several))]
    title = " and ".join(each.entry.name for each in several) if len(several) == 2 else f"{len(several)} Runs compared"
    return View(title, joined([crumbs, *sections]), about="Differences are taken from the first Run.")


def _is_one_sided(name: str, settings: Sequence[dict[str, str]]) -> bool:
    """Whether some have a setting that says something, and others do not have it."""
    found = [each.get(name) in (None, "None", "") for each in settings]
    return any(found) and not all(found)


def _specs(several: Sequence[Opened]) -> Section:
    """The settings that are not the same in all of them."""
    settings = [dict(nested_keys(each.run.spec)) for each in several]
    names = list(dict.fromkeys(name for each in settings for name in each))
    rows = [
        (name, *(each.get(name, "·") for each in settings))
        for name in names
        if len({each.get(name) for each in settings} - {None, "None", ""}) > 1 or _is_one_sided(name, settings)
    ]
    if not rows:
        return Section("specs", "Specs", (Part("", (Words("The specs are the same, every default included."),)),))
    told = Words(f"{len(rows):,} of {len(names):,} settings differ; a point stands for one that a Run does not have.")
    grid = Grid(("setting", *(each.entry.name for each in several)), tuple(rows), "Settings that differ")
    return Section("specs", "Specs", (Part("", (told, grid)),))

"""What a Run was trained on: its tables, parts and columns, what was odd about them, and what looks like a leak."""

from __future__ import annotations

from typing import Any

from towerkit.core.errors import TowerkitError
from towerkit.doctor.finding import Finding
from towerkit.doctor.trained_run import findings_of
from towerkit.reporting.blocks import Folded, Part, Section, Words, section_markup
from towerkit.reporting.chart import Grid
from towerkit.reporting.markup import joined
from towerkit.reporting.sections.about import about_section
from towerkit.studio.frame import View
from towerkit.studio.opened import Opened

_LEAK = "leakage"


def data_page(opened: Opened) -> View:
    """The card of the data, leaks, and the doctor's findings."""
    sections = [_leaks(opened), about_section(opened.subject), _findings(opened)]
    body = joined([section_markup(each) for each in sections])
    return View(opened.entry.name, body, run=opened.entry.id, topic="data")


def _found(opened: Opened) -> list[Finding] | str:
    known: Any = opened.kept.get("findings")
    if known is None:
        try:
            known = findings_of(opened.run)
        except TowerkitError as error:
            known = str(error)
        opened.kept["findings"] = known
    return known


def _leaks(opened: Opened) -> Section:
    found = _found(opened)
    leaks = [each for each in found if each.check.startswith(_LEAK)] if not isinstance(found, str) else []
    odd = [each for each in leaks if each.is_odd]
    if odd:
        words = [Words(f"{each.measured}. {each.next}", is_note=True) for each in odd]
    else:
        looked = "; ".join(f"{each.check.partition(': ')[2]}: {each.measured}" for each in leaks)
        words = [Words(f"Nothing looks like a leak{f' ({looked})' if looked else ''}.")]
    return Section("leaks", "Leaks", (Part("", tuple(words)),))


def _findings(opened: Opened) -> Section:
    """Everything that ``towerkit doctor`` says of the Run."""
    found = _found(opened)
    if isinstance(found, str):
        return Section("doctor", "What the doctor finds", (Part("", (Words(found, is_note=True),)),))
    odd = [each for each in found if each.is_odd]
    rows = tuple(("odd" if each.is_odd else "ok", each.check, each.measured, each.normal, each.next) for each in found)
    told = Words(f"{len(found)} things were looked at, {len(odd)} of them {'is' if len(odd) == 1 else 'are'} odd.")
    head = ("", "check", "measured", "normal", "what to do")
    few = [Grid(head, tuple(row for row in rows if row[0] == "odd"), "What is odd")] if odd else []
    return Section("doctor", "What the doctor finds", (Part("", (told, *few, Folded("Everything", Grid(head, rows)))),))

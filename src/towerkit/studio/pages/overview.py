"""A Run at a glance: its figures beside its baselines, how it learned, segments, and what stands behind each task."""

from __future__ import annotations

from towerkit.reporting.blocks import section_markup
from towerkit.reporting.markup import element, foreign, joined
from towerkit.reporting.sections.cost import size_rows
from towerkit.reporting.sections.figures import figures_section, segments_section
from towerkit.reporting.sections.learning import learning_section
from towerkit.reporting.sections.tasks import tasks_section
from towerkit.studio.frame import View
from towerkit.studio.opened import Opened


def overview_page(opened: Opened) -> View:
    """What a report says of a Run, without what the other pages show."""
    subject = opened.subject
    sections = [figures_section(subject), learning_section(subject), segments_section(subject), tasks_section(subject)]
    drawn = [section_markup(each) for each in sections if each is not None]
    facts = [("kind", opened.run.kind), ("trained", opened.run.manifest.created), *size_rows(subject)]
    listed = [joined([element("dt", {}, foreign(name)), element("dd", {}, foreign(value))]) for name, value in facts]
    body = joined([element("dl", {"class": "facts"}, *listed), *drawn])
    return View(opened.entry.name, body, run=opened.entry.id)

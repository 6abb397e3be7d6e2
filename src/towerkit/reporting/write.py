"""From Runs to a file: the sections of a report in order, its page, and its drawings as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from towerkit.core.errors import RunError, SpecError, TowerkitError
from towerkit.core.optional import optional_import
from towerkit.core.remarks import collecting
from towerkit.models.joint_retriever import JointRetriever
from towerkit.reporting.blocks import Part, Section, Words
from towerkit.reporting.chart import Chart
from towerkit.reporting.kept import kept_sections
from towerkit.reporting.page import page
from towerkit.reporting.sections.about import about_section
from towerkit.reporting.sections.comparison import comparison_section
from towerkit.reporting.sections.cost import cost_section
from towerkit.reporting.sections.embedding_map import map_section
from towerkit.reporting.sections.figures import figures_section, segments_section
from towerkit.reporting.sections.learning import learning_section
from towerkit.reporting.sections.predictions import predictions_section
from towerkit.reporting.sections.recommendations import recommendations
from towerkit.reporting.sections.tasks import tasks_section
from towerkit.reporting.subject import Subject, subjects_of
from towerkit.run import Run
from towerkit.storage.atomic import atomic_write_bytes
from towerkit.trained import RankingModel


@dataclass(frozen=True)
class Report:
    """What was written."""

    path: Path
    bytes: int
    sections: tuple[str, ...]
    figures: tuple[str, ...]
    """The names of all drawings: those of their files, and of their places in the page."""
    files: tuple[Path, ...]
    """Drawings that were written as files of their own."""
    notes: tuple[str, ...]
    """What is not in it, and why."""


def write_report(
    runs: Sequence[Run],
    out: Path,
    *,
    kept: Sequence[Path] = (),
    plots: Path | None = None,
    png: bool = False,
    base: Path | None = None,
    examples: int = 20,
    points: int = 1500,
    measure: bool = True,
    seed: int = 0,
) -> Report:
    """Write a report about one or several Runs: one file of HTML that needs no network and runs no script.

    Args:
        runs: Opened; the first one is what the others are compared with.
        out: The file to write.
        kept: Files that ``ablate``, ``tune`` and ``crossval`` wrote as JSON.
        plots: A folder for each drawing as a file of its own, in SVG.
        png: The same in PNG too; needs the extra ``report``.
        base: The folder that relative paths of the Runs' data start from; the one that the program runs in when not given.
        examples: Queries or rows that are shown; none with 0.
        points: The most that an embedding map shows.
        measure: Measure how long an answer takes.
        seed: Draws examples and points.

    Raises:
        RunError: If a file cannot be written, or a Run cannot be read.
        DataError: If a kept file cannot be read.
        MissingExtraError: If PNG files are asked for and what draws them is not installed.
        SpecError: If there is nothing to report, or PNG files have no folder.
    """
    if not runs and not kept:
        raise SpecError(
            "A report is about one Run or more, or about what was kept of ablate, tune or crossval. Name one."
        )
    if png and plots is None:
        raise SpecError("PNG files need a folder: give --plots DIR (plots=) too.")
    draw = _drawer() if png else None
    subjects = subjects_of(runs, (base or Path()).resolve())
    sections = [comparison_section(subjects)] if len(subjects) > 1 else []
    for subject in subjects:
        sections += _sections(subject, examples=examples, points=points, measure=measure, seed=seed)
    sections += kept_sections(kept)
    title = " · ".join(subject.name for subject in subjects) or "towerkit report"
    content = page(title, _about(subjects), sections).encode()
    atomic_write_bytes(out, content)
    charts = [chart for section in sections for chart in section.charts()]
    files = () if plots is None else tuple(_files(charts, plots, draw))
    notes = tuple(f"{each.name}: its data was not read again: {each.why_not}" for each in subjects if each.data is None)
    return Report(
        out, len(content), tuple(each.name for each in sections), tuple(each.name for each in charts), files, notes
    )


def _about(subjects: Sequence[Subject]) -> list[str]:
    found = []
    for subject in subjects:
        protocol = subject.run.evaluation.protocol
        told = "" if subject.is_alone else f"{subject.name}: "
        found.append(f"{told}a {subject.run.kind}, measured on the {protocol['part']} part.")
    return found


def _sections(subject: Subject, *, examples: int, points: int, measure: bool, seed: int) -> Iterator[Section]:
    """All sections about one Run."""
    yield figures_section(subject)
    yield about_section(subject)
    yield learning_section(subject)
    for found in (segments_section(subject), tasks_section(subject)):
        if found is not None:
            yield found
    shown, asked = _examples(subject, examples, seed)
    yield from shown
    yield map_section(subject, points, seed)
    yield cost_section(subject, asked, measure=measure)


def _examples(subject: Subject, count: int, seed: int) -> tuple[list[Section], dict[str, tuple[float, ...]]]:
    """Examples, and how long each answer took; where the model cannot be asked so, why."""
    if not count:
        return [], {}
    try:
        with collecting():  # what is odd about rows was told when they were measured
            if isinstance(subject.run.model, RankingModel | JointRetriever):
                section, asked = recommendations(subject, count, seed)
                return [section], asked
            return [predictions_section(subject, count, seed)], {}
    except TowerkitError as error:
        words = Words(f"No examples: {error}", is_note=True)
        return [Section(subject.anchor("examples"), subject.title("Examples"), (Part("", (words,)),))], {}


def _files(charts: Sequence[Chart], folder: Path, draw: Callable[..., bytes] | None) -> Iterator[Path]:
    """Write each drawing.

    Raises:
        RunError: If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made ({error.strerror}). Give --plots another folder.") from None
    for chart in charts:
        path = folder / f"{chart.name}.svg"
        atomic_write_bytes(path, chart.alone().encode())
        yield path
        if draw is not None:
            picture = path.with_suffix(".png")
            atomic_write_bytes(picture, bytes(draw(svg_string=chart.alone(), zoom=2)))
            yield picture


def _drawer() -> Callable[..., bytes]:
    """What turns SVG into PNG."""
    draw: Callable[..., bytes] = optional_import("resvg_py", extra="report").svg_to_bytes
    return draw

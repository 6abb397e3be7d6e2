"""What a report is about: a Run, and the rows that it was measured on, where they can be read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towerkit.ablation.opening import check_same_rows, dataset_of, spec_of
from towerkit.core.errors import RunError, TowerkitError
from towerkit.core.remarks import collecting
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.measurable import held_out_part
from towerkit.reporting.chart import slug
from towerkit.run import Run
from towerkit.storage.hashes import content_hash, read_json


@dataclass(frozen=True)
class HeldOut:
    """The data of a Run, read again."""

    dataset: Dataset
    rows: Rows
    """Of the part that was measured."""
    learned: Rows
    """What the model has learned from."""


@dataclass(frozen=True)
class Subject:
    """A Run that is reported."""

    name: str
    """What to call it; unique among those of a report."""
    run: Run
    about: dict[str, Any]
    """The content of ``data.json``."""
    data: HeldOut | None
    why_not: str = ""
    """Why its data is not there."""
    is_alone: bool = True
    """Whether the report is about no other Run."""

    def title(self, topic: str) -> str:
        """The title of a section about it."""
        return topic if self.is_alone else f"{self.name}: {topic.lower()}"

    def anchor(self, topic: str) -> str:
        """A name that no other section or drawing of the report has."""
        return slug(topic) if self.is_alone else f"{slug(self.name)}-{slug(topic)}"


def subjects_of(runs: Sequence[Run], base: Path) -> list[Subject]:
    """Runs with their data; what cannot be read is left out, and why is kept.

    Args:
        runs: Opened.
        base: The folder that relative paths of their data start from.
    """
    read: dict[str, Dataset] = {}
    names = _names(runs)
    found = []
    for name, run in zip(names, runs, strict=True):
        about = read_json(run.path / "data.json")
        try:
            data, why_not = _data(run, base, read), ""
        except TowerkitError as error:
            data, why_not = None, str(error)
        found.append(Subject(name, run, about, data, why_not, is_alone=len(runs) == 1))
    return found


def _names(runs: Sequence[Run]) -> list[str]:
    """The names of the folders; the paths where two folders have one name, numbered where a Run is given twice."""
    short = [run.path.resolve().name for run in runs]
    names = [str(run.path) if short.count(name) > 1 else name for name, run in zip(short, runs, strict=True)]
    return [f"{name} ({place + 1})" if names.count(name) > 1 else name for place, name in enumerate(names)]


def _data(run: Run, base: Path, read: dict[str, Dataset]) -> HeldOut:
    """Read the tables of a Run, and see that they are those that it was trained and measured on.

    Raises:
        TowerkitError: If they are not there, or are others.
    """
    spec = spec_of(run)
    if run.spec.get("data") is None:
        raise RunError(f"{run.path} was trained on tables in memory, so it does not know where its rows are.")
    if (run.spec["data"].get("examples") or {}).get("stream") is not None:
        raise RunError(f"The rows of {run.path} are a log that is streamed.")
    key = content_hash({"data": run.spec.get("data"), "seed": spec.training.seed})
    if key not in read:
        with collecting():
            found = dataset_of(run, base)
        assert isinstance(found, Dataset)
        read[key] = found
    dataset = read[key]
    check_same_rows(run, dataset)
    _, rows, final = held_out_part(dataset)
    refitted = spec.training.refit and len(dataset.parts.test) > 0
    return HeldOut(dataset, rows, final.parts.train if refitted else dataset.parts.train)

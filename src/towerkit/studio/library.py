"""The Runs of a folder, and the trainings that are on their way there. Only small files are read, each once until it changes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towerkit.core.errors import RunError, TowerkitError
from towerkit.metrics.intervals import Interval
from towerkit.metrics.shown import headline
from towerkit.metrics.tasks import higher_is_better
from towerkit.storage.atomic import MANIFEST_NAME
from towerkit.storage.hashes import read_json
from towerkit.storage.manifest import Manifest, read_manifest

_DEEPEST = 3
_CHECKPOINT = ".checkpoint"


@dataclass(frozen=True)
class Entry:
    """A Run as it stands in a list; its model is not opened."""

    id: str
    """Of its pages: the path below the folder, with ``~`` between its parts."""
    path: Path
    kind: str
    created: str
    metrics: Mapping[str, Interval]
    baselines: Mapping[str, Mapping[str, Interval]]
    seconds: float | None
    bytes: int
    problem: str = ""
    """Why it cannot be read, where it cannot."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.id.replace("~", "/")

    @property
    def headline(self) -> str:
        """The figure to show where there is room for one."""
        return headline(self.metrics) if self.metrics else ""

    def best_baseline(self, metric: str) -> tuple[str, Interval] | None:
        """The best baseline by one figure."""
        found = [(name, each[metric]) for name, each in self.baselines.items() if metric in each]
        known = [pair for pair in found if pair[1].value == pair[1].value]
        if not known:
            return None
        return (max if higher_is_better(metric) else min)(known, key=lambda pair: pair[1].value)


class Library:
    """The Runs below a folder.

    Args:
        root: The folder; looked through anew whenever it is asked.

    Raises:
        RunError: If there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise RunError(
                f"The studio shows a folder of Runs; received {root}, which is no folder. Give one that holds Runs."
            )
        self.root = root
        self._read: dict[Path, tuple[tuple[int, int], Entry]] = {}

    def entries(self) -> list[Entry]:
        """All Runs, the newest first."""
        found = [self._entry(folder) for folder, is_run in self._folders() if is_run]
        return sorted(found, key=lambda each: (each.created, each.id), reverse=True)

    def entry(self, name: str) -> Entry | None:
        """One Run by its id; None where there is none."""
        return next((each for each in self.entries() if each.id == name), None)

    def checkpoints(self) -> dict[str, Path]:
        """Id of the Run that is being trained -> the folder of its checkpoints."""
        return {self._id(folder).removesuffix(_CHECKPOINT): folder for folder, is_run in self._folders() if not is_run}

    def _folders(self) -> Iterator[tuple[Path, bool]]:
        """Folders of Runs, and of checkpoints; the folder itself may be a Run."""
        if (self.root / MANIFEST_NAME).is_file():
            yield self.root, True
            return
        waiting = [(self.root, 0)]
        while waiting:
            folder, depth = waiting.pop()
            for each in _folders_in(folder):
                if each.name.endswith(_CHECKPOINT):
                    yield each, False
                elif (each / MANIFEST_NAME).is_file():
                    yield each, True
                elif depth + 1 < _DEEPEST:
                    waiting.append((each, depth + 1))

    def _id(self, folder: Path) -> str:
        inside = folder.relative_to(self.root).parts
        return "~".join(inside) or folder.resolve().name

    def _entry(self, folder: Path) -> Entry:
        try:
            about = (folder / MANIFEST_NAME).stat()
            stamp = about.st_mtime_ns, about.st_size
        except OSError:
            stamp = 0, 0
        known = self._read.get(folder)
        if known is None or known[0] != stamp:
            known = stamp, _entry_of(folder, self._id(folder))
            self._read[folder] = known
        return known[1]


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            return [Path(each.path) for each in found if each.is_dir(follow_symlinks=True) and each.name[0] != "."]
    except OSError:
        return []


def _entry_of(folder: Path, name: str) -> Entry:
    try:
        manifest = read_manifest(folder)
        content = read_json(folder / "metrics.json")
        return _described(folder, name, manifest, content)
    except (TowerkitError, KeyError, TypeError, ValueError, AttributeError) as error:
        told = (
            str(error)
            if isinstance(error, TowerkitError)
            else f"its figures are not what this version knows ({error!r})"
        )
        return Entry(name, folder, "unreadable", "", {}, {}, None, 0, told)


def _described(folder: Path, name: str, manifest: Manifest, content: Mapping[str, Any]) -> Entry:
    baselines = {each: _figures(about["metrics"]) for each, about in content["baselines"].items()}
    size = sum(entry.bytes for entry in manifest.files.values())
    metrics = _figures(content["model"]["metrics"])
    return Entry(name, folder, manifest.kind, manifest.created, metrics, baselines, manifest.extra.get("seconds"), size)


def _figures(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Interval]:
    found = {}
    for name, one in metrics.items():
        value, low, high = (_number(one.get(key)) for key in ("value", "low", "high"))
        found[name] = Interval(value, low, high, int(one.get("n") or 0))
    return found


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)

"""Runs that pages have opened: verified once, kept while their folder does not change, asked by one thread at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from towerkit.core.errors import TowerkitError
from towerkit.reporting.subject import Subject, subjects_of
from towerkit.run import Run
from towerkit.serving.engine import Engine, engines_of
from towerkit.storage.atomic import MANIFEST_NAME
from towerkit.storage.hashes import read_json
from towerkit.studio.library import Entry, Library

_KEPT = 8


class Missing(Exception):
    """There is no such page.

    Args:
        what: What was looked for.
    """


@dataclass(eq=False)
class Opened:
    """A Run whose files were verified; what costs seconds is done when a page first needs it."""

    entry: Entry
    run: Run
    base: Path
    """Where relative paths of its data start."""
    kept: dict[object, object] = field(default_factory=dict)
    """What pages have worked out and want to keep as long as the Run is open."""

    @cached_property
    def subject(self) -> Subject:
        """What a report would be about, without reading the data again."""
        about = read_json(self.run.path / "data.json")
        return Subject(self.entry.name, self.run, about, None, "a page shows what the Run itself holds")

    @cached_property
    def with_data(self) -> Subject:
        """The same with the rows that it was measured on, where they can be read."""
        return subjects_of([self.run], self.base)[0]

    def why_no_rows(self) -> str:
        """Why the rows that it was measured on are not there; names no folder outside that of the Runs."""
        return self.with_data.why_not.replace(str(self.run.path), self.entry.name)

    @cached_property
    def engines(self) -> dict[str, Engine]:
        """Ranking -> what answers its questions; a Run with one has it under an empty name."""
        names = [name.lower() for name in self.run.rankings] or [""]
        return dict(zip(names, engines_of(self.entry.name, self.run), strict=True))


class Shelf:
    """The Runs that are open.

    Args:
        library: Where they are.
        base: The folder that relative paths of their data start from.
    """

    def __init__(self, library: Library, base: Path) -> None:
        self.library, self.base = library, base
        self.lock = threading.RLock()
        """Held by whoever asks a model, or opens one."""
        self._open: OrderedDict[tuple[Path, int], Opened] = OrderedDict()

    def open(self, name: str) -> Opened:
        """A Run by its id; hold the lock.

        Raises:
            Missing: If there is none.
            RunError: If it is damaged.
        """
        entry = self.library.entry(name)
        if entry is None:
            raise Missing(f"There is no Run {name.replace('~', '/')} in {self.library.root.name}.")
        key = entry.path, _stamp(entry.path)
        if key not in self._open:
            self._open[key] = Opened(entry, Run.load(entry.path), self.base)
            while len(self._open) > _KEPT:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return self._open[key]


def _stamp(folder: Path) -> int:
    try:
        return (folder / MANIFEST_NAME).stat().st_mtime_ns
    except OSError:
        return 0


def why(error: Exception) -> str:
    """What went wrong, for a page."""
    return str(error) if isinstance(error, TowerkitError | Missing) else f"{type(error).__name__}: {error}"

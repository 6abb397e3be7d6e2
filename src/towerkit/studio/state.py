"""What the pages are made of: the folder of Runs, those that are open, the trainings, and how a page or a piece of one is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fastapi.responses import HTMLResponse, JSONResponse

from towerkit.reporting.markup import Markup
from towerkit.studio.frame import View, document
from towerkit.studio.library import Library
from towerkit.studio.opened import Missing, Opened, Shelf
from towerkit.studio.service import ServiceLink
from towerkit.studio.trainings import Training, training_of

T = TypeVar("T")


class Studio:
    """What the pages are made of.

    Args:
        root: The folder of Runs.
        base: The folder that relative paths of the Runs' data start from.
        service: A running service that has a page of its own; None shows none.
    """

    def __init__(self, root: Path, base: Path, service: ServiceLink | None = None) -> None:
        self.library = Library(root)
        self.service = service
        self.shelf = Shelf(self.library, base)

    def with_run(self, name: str, make: Callable[[Opened], T]) -> T:
        """What a function makes of a Run; one at a time."""
        with self.shelf.lock:
            return make(self.shelf.open(name))

    def with_runs(self, names: list[str], make: Callable[[list[Opened]], T]) -> T:
        """What a function makes of several Runs; one at a time."""
        with self.shelf.lock:
            return make([self.shelf.open(name) for name in names])

    def trainings(self) -> list[Training]:
        """Those that are not over, the running ones first."""
        found = [training_of(name, folder) for name, folder in sorted(self.library.checkpoints().items())]
        return sorted(found, key=lambda each: each.process is None)

    def training(self, name: str) -> Training:
        """One of them.

        Raises:
            Missing: If there is none: it may have written its Run.
        """
        folder = self.library.checkpoints().get(name)
        if folder is None:
            raise Missing(f"There is no training of {name.replace('~', '/')}; it may be over.")
        return training_of(name, folder)


class Show:
    """How pages are told."""

    def __init__(self, *, account: bool, service: bool) -> None:
        self.account, self.service = account, service

    def page(self, view: View, status: int = 200) -> HTMLResponse:
        """A whole page."""
        return HTMLResponse(document(view, service=self.service, account=self.account), status)

    def part(self, markup: Markup) -> JSONResponse:
        """A piece that a module of ours puts into its page."""
        return JSONResponse({"html": markup})

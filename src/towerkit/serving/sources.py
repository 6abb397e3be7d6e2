"""Where served Runs come from: folders and links that a service was started with, and names in a folder of candidates."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from towerkit.core.errors import RunError
from towerkit.serving.problems import Problem
from towerkit.serving.settings import check_name


@dataclass(frozen=True)
class Source:
    """A Run that the service was started with."""

    name: str
    path: Path

    def folder(self) -> Path:
        """Where a link points now.

        Raises:
            RunError: If it points to itself.
        """
        try:
            self.path.stat()
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise RunError(
                    f"A Run is a folder, or a link to one; received {self.path}, a link that leads back to itself. "
                    "Point it to the folder of a Run."
                ) from None
        return self.path.resolve()


def source_of(text: str) -> Source:
    """``NAME=FOLDER``, or a folder that gives its own name.

    Raises:
        SpecError: If the name is none.

    Example:
        >>> source_of("runs/shop").name, source_of("home=runs/shop-7").name
        ('shop', 'home')
    """
    name, sign, folder = text.partition("=")
    if not sign:
        name, folder = Path(text).name, text
    return Source(check_name(name), Path(folder))


def folder_of(candidates: Path | None, name: str) -> Path:
    """The folder of a candidate inside the one that the service was started with.

    Args:
        candidates: That folder.
        name: A checked name, never a path.

    Raises:
        Problem: If there is no such folder, or none was given at the start.
    """
    if candidates is None:
        raise Problem(
            409, "Candidates stand in the folder of --candidates.", "the service has none", "Start it with one."
        )
    folder = candidates / name
    if not folder.is_dir():
        raise Problem(404, "A candidate is a folder in that of --candidates.", name, "Put it there first.")
    return folder

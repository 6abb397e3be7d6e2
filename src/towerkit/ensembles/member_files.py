"""The files of a member that was saved before: it goes into another Run as it is, byte for byte."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from towerkit.core.errors import RunError
from towerkit.ensembles.run_spec import TrainedRun

HELD_OUT = "held-out.safetensors"
"""What the combiner of a fusion was fitted on."""


@dataclass(frozen=True)
class MemberFiles:
    """Where they are."""

    folder: Path
    names: tuple[str, ...]
    """Below the folder, as POSIX paths."""

    def copy(self, folder: Path) -> None:
        """Write the same bytes elsewhere.

        Raises:
            RunError: If one cannot be read or written.
        """
        for name in self.names:
            target = folder / PurePosixPath(name)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / PurePosixPath(name), target)
            except OSError as error:
                raise RunError(f"{self.folder / name} cannot be copied to {target} ({error.strerror}).") from error


def files_below(run: TrainedRun, below: str) -> MemberFiles:
    """Those of a Run below a folder. What its combiner was fitted on stays behind: a member is never taken apart again.

    Args:
        run: Checked.
        below: A folder of the Run, ending in a slash.
    """
    names = (name.removeprefix(below) for name in run.manifest.files if name.startswith(below))
    return MemberFiles(run.folder / below, tuple(sorted(name for name in names if name != HELD_OUT)))

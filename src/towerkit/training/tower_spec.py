"""How each tower is trained: where it starts, and how fast it moves."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, model_validator

from towerkit.core.spec import Spec


class TowerStartSpec(Spec):
    """A tower of a trained Run, whose weights and vocabularies a tower begins with."""

    path: str
    """The folder of the Run, from where the program runs, or from the spec file; ``${VARIABLES}`` are filled in."""
    tower: str | None = None
    """Its name there, such as ``candidate.words``; that of the tower that starts when not given."""
    project: bool = False
    """Bring id vectors of another width to this one: onto their strongest directions, or beside new ones at random."""

    @property
    def folder(self) -> Path:
        """The folder."""
        return Path(os.path.expandvars(self.path)).expanduser()


class TowerTrainingSpec(Spec):
    """How a tower is trained."""

    start: TowerStartSpec | None = None
    """At random, or as its kind says, when not given."""
    freeze: bool = False
    """Leave it as it starts."""
    lr_factor: float = Field(1.0, gt=0.0, le=1000.0)
    """Of the step size, for all its parameters."""
    lr_decay: float = Field(1.0, gt=0.0, le=1.0)
    """Of the step size, once more for each layer further from the output."""
    unfreeze: int | None = Field(None, ge=1)
    """Epochs from one layer to the next: the last one moves from the start, the one below it so many epochs later, and so on; all
    from the start when not given."""

    @model_validator(mode="after")
    def _moves_or_not(self) -> TowerTrainingSpec:
        paces = {"lr_factor": self.lr_factor, "lr_decay": self.lr_decay, "unfreeze": self.unfreeze}
        for key, value in paces.items():
            if self.freeze and value != (None if key == "unfreeze" else 1.0):
                raise ValueError(f"'{key}' is for a tower that is trained; received {value} with freeze. Remove one.")
        return self

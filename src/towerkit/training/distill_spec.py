"""Whom a two-tower learns from, beside its data."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from towerkit.core.spec import Spec


class DistillSpec(Spec):
    """A trained Run whose ranking of each batch's candidates is learned beside the positives."""

    path: str
    """The folder of the Run, a ranker, a two-tower, or a late fusion that ranks; from where the program runs, or from the spec
    file."""
    weight: float = Field(1.0, gt=0.0, le=1000.0)
    """Of the distance to its ranking, beside the loss of the positives."""
    temperature: float = Field(2.0, gt=0.0, le=100.0)
    """How soft both rankings are made: the higher, the more is heard of candidates that are ranked low."""
    candidates: int = Field(128, ge=2, le=65536)
    """Of a batch, that the Run is asked to score for each of its queries."""

    @property
    def folder(self) -> Path:
        """The folder."""
        return Path(os.path.expandvars(self.path)).expanduser()

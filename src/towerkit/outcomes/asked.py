"""What is asked of every kind of model, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import overload

from towerkit.core.world import ALONE, World
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.data.stream.log import Log
from towerkit.ensembles.fit_late import Known
from towerkit.evaluation.result import Evaluation
from towerkit.measurable import held_out_part
from towerkit.presets.fusions import ChosenFusion
from towerkit.spec import ModelingSpec
from towerkit.trained import Model
from towerkit.training.carry import Base
from towerkit.training.checkpoint import Checkpoints
from towerkit.training.loop import History
from towerkit.training.progress import Progress


@dataclass(frozen=True)
class Asked:
    """A training that is asked for.

    Args:
        spec: The model, its training and evaluation.
        progress: Told after each step and epoch.
        checkpoints: Where the training is saved, and gone on from.
        base: A trained Run to go on from.
        known: Members of a late fusion that are there already.
        world: The processes that train together, of which this is the first.
    """

    spec: ModelingSpec
    progress: Progress
    checkpoints: Checkpoints | None = None
    base: Base | None = None
    known: Mapping[str, Known] | None = None
    world: World = ALONE

    @overload
    def learned(self, dataset: Dataset) -> Rows: ...

    @overload
    def learned(self, dataset: Log) -> Rows | range: ...

    def learned(self, dataset: Dataset | Log) -> Rows | range:
        """The rows that the final model has learned from: with a refit, those of validation too."""
        return (held_out_part(dataset)[2] if self.spec.training.refit else dataset).parts.train


@dataclass(frozen=True)
class Outcome:
    """A trained model with everything that was measured."""

    model: Model
    evaluation: Evaluation
    baselines: Mapping[str, Evaluation]
    history: History
    seconds: float = 0.0
    base: Base | None = None
    """What the training went on from."""
    replaces: Mapping[str, str] | None = None
    """Of a fusion with a new member: the Run it comes from, the member that went, and what was fitted."""
    chosen: ChosenFusion | None = None
    """Where the spec left the fusion to validation: what was chosen, and the spec that was trained."""

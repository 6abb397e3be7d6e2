"""What a configuration is worth: its training under validation, and nothing else. Test rows are not read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from towerkit.core.errors import SpecError, TrainingError
from towerkit.core.remarks import collecting
from towerkit.data.dataset import Dataset
from towerkit.data.stream.log import Log
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.measurable import check_measurable
from towerkit.outcomes.recipes import log_recipe_of, recipe_of
from towerkit.presets.fusions import chooses_fusion
from towerkit.spec import ModelingSpec, plain
from towerkit.storage.hashes import content_hash
from towerkit.training.fit import fit_recipe
from towerkit.training.loop import Selection
from towerkit.training.progress import Progress, Silent
from towerkit.tuning.fused import fused_selection, measure_fused

Report = Callable[[int, float], bool]
"""Epoch, best figure so far -> whether to give up."""


class GivenUp(Exception):
    """A trial that is not worth its time any more; it ends between two epochs."""


@dataclass(frozen=True)
class Measured:
    """What a trial found."""

    value: float
    """The best validation figure."""
    best_epoch: int
    epochs: int
    seconds: float
    curve: str | None
    """SHA-256 of loss and figures of every epoch: the final training of the same spec goes through the same ones. None of a late
    fusion, whose trials learn from fewer rows than the final one."""


def selection_of(spec: ModelingSpec, dataset: Dataset | Log) -> Selection:
    """The validation figure that trials are compared by; the one that chooses the epoch.

    Args:
        spec: The default configuration.
        dataset: Its data.

    Raises:
        SpecError: If there are no validation rows, or the model is one whose trainings have no such figure.
    """
    if not len(dataset.parts.validation):
        raise SpecError(
            "Tuning compares trials on validation rows, and the split holds none out. Set data.split.validation above 0."
        )
    if isinstance(spec.model, LateFusionSpec):
        check_measurable(spec, dataset)
        return fused_selection(spec)
    if chooses_fusion(spec.model):
        raise SpecError(
            "backbone: {kind: auto} chooses a fusion itself, in each trial anew. Search over fusions in its place: "
            "backbone: {choice: [{kind: gated}, {kind: concat}]}."
        )
    check_measurable(spec, dataset)
    recipe: Any = log_recipe_of(spec, dataset) if isinstance(dataset, Log) else recipe_of(spec, dataset)
    found: Selection = recipe.selection
    return found


def measure(spec: ModelingSpec, dataset: Dataset | Log, report: Report, progress: Progress) -> Measured:
    """Train a configuration under validation.

    Args:
        spec: What the trial is.
        dataset: Its data.
        report: Told of each validation.
        progress: Told of each epoch.

    Raises:
        GivenUp: If the report said so.
        TrainingError: If no epoch had a figure that is a number.
    """
    started = time.perf_counter()
    if isinstance(spec.model, LateFusionSpec):
        assert isinstance(dataset, Dataset)  # no fusion may be streamed
        value, outcome = measure_fused(spec, dataset, progress)
        epochs = len(outcome.history.records)
        return Measured(value, outcome.history.best_epoch, epochs, time.perf_counter() - started, None)
    selection = selection_of(spec, dataset)
    recipe: Any = log_recipe_of(spec, dataset) if isinstance(dataset, Log) else recipe_of(spec, dataset)
    training = spec.training.model_copy(update={"refit": False, "track": ()})
    with collecting():
        found = fit_recipe(recipe, dataset, training, _Reporting(selection, report, progress))
    history = found.history
    if history.best is None:
        raise TrainingError(
            f"the validation figure {selection.metric} was no number in any of {len(history.records)} epochs."
        )
    return Measured(
        history.best,
        history.best_epoch,
        len(history.records),
        time.perf_counter() - started,
        curve_hash(history.records),
    )


def curve_hash(records: list[dict[str, Any]]) -> str:
    """SHA-256 of what a training under validation went through; its times are left out.

    Args:
        records: Of its epochs, in order; those of a refit behind them are left out.
    """
    kept = [{key: _exact(value) for key, value in each.items() if key != "seconds"} for each in records]
    return content_hash([each for each in kept if each.get("stage") == "train"])


def spec_hash(spec: ModelingSpec) -> str:
    """SHA-256 of a spec with every default written out."""
    return content_hash(plain(spec))


def _exact(value: Any) -> Any:
    """A number as its bits, so that nothing is rounded; what a history file has no number for, as it has it."""
    if not isinstance(value, float):
        return value
    return value.hex() if math.isfinite(value) else None


class _Reporting(Silent):
    """Reports the best figure so far after each validation, and ends the training where it is told to."""

    def __init__(self, selection: Selection, report: Report, progress: Progress) -> None:
        self._selection, self._report, self._progress = selection, report, progress
        self._best: float | None = None

    def waits(self, what: str) -> None:
        """Pass on."""
        self._progress.waits(what)

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """Report one epoch and pass it on."""
        self._progress.epoch(record, stage=stage, epochs=epochs, is_best=is_best)
        figure = record.get(f"validation/{self._selection.metric}", math.nan)
        if self._selection.better(figure, self._best):
            self._best = figure
        if figure == figure and self._best is not None and self._report(int(record["epoch"]), self._best):
            raise GivenUp

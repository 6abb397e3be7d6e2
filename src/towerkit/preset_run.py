"""From pairs to a Run without a spec: choose on validation, fit on all training rows, evaluate once, write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from towerkit.data.dataset import Dataset
from towerkit.experiment import Outcome, train_and_evaluate
from towerkit.measurable import check_measurable
from towerkit.presets import choose
from towerkit.run import Run
from towerkit.run_writer import write_run
from towerkit.spec import ModelingSpec
from towerkit.storage.atomic import check_target
from towerkit.training.progress import Progress


def preset_run(
    folder: Path,
    spec: ModelingSpec,
    dataset: Dataset,
    progress: Progress,
    *,
    held: frozenset[str] = frozenset(),
    budget_s: float | None = None,
    overwrite: bool = False,
) -> tuple[Run, Outcome]:
    """Choose the settings of a preset on validation, fit them on all training rows, evaluate once and write a Run.

    The Run is an ordinary one: its spec has what was chosen, and its history begins with what was tried.

    Args:
        folder: The Run's folder; must not exist, unless ``overwrite``.
        spec: Where the preset starts; see :func:`towerkit.presets.start_of`.
        dataset: Raw tables with their split.
        progress: Told of each trial, and at the end.
        held: Settings of the towers that are not searched.
        budget_s: Seconds for the whole: the search ends after half of them.
        overwrite: Replace an existing Run.

    Raises:
        SpecError: If the model is not one that the preset chooses settings of.
        DataError: If the pairs cannot be used.
        RunError: If the folder cannot be written.
    """
    check_target(folder, overwrite)
    check_measurable(spec, dataset)
    chosen = choose(spec, dataset, progress, held=held, budget_s=None if budget_s is None else budget_s / 2)
    outcome = train_and_evaluate(chosen.spec, chosen.dataset, progress)
    outcome.history.records[:0] = chosen.records
    outcome = replace(outcome, seconds=outcome.seconds + chosen.seconds)
    return write_run(folder, chosen.spec, dataset, outcome, overwrite=overwrite), outcome

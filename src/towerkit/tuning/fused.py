"""What a late fusion is worth in a search: trained whole on a part of the training rows, measured on the validation rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from towerkit.baselines.tasks import constant
from towerkit.core.errors import TrainingError
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Parts
from towerkit.ensembles.fit_late import rows_of
from towerkit.ensembles.late import LateFusion
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.evaluation.selection import ranking_selection
from towerkit.experiment import Outcome, train_and_evaluate
from towerkit.features.labels import is_known
from towerkit.presets.nested import nested
from towerkit.presets.relative_loss import relative_losses
from towerkit.spec import ModelingSpec
from towerkit.training.loop import Selection
from towerkit.training.progress import Progress

LOSS = "relative loss"
"""Of a fusion that predicts: the mean over its tasks of the loss as a share of that of the answer that looks at no column."""


def fused_selection(spec: ModelingSpec) -> Selection:
    """The figure that trials of a late fusion are compared by.

    Args:
        spec: With a late fusion.
    """
    assert isinstance(spec.model, LateFusionSpec)
    return ranking_selection(spec.evaluation) if spec.model.ranks else Selection(LOSS, higher_is_better=False)


def measure_fused(spec: ModelingSpec, dataset: Dataset, progress: Progress) -> tuple[float, Outcome]:
    """Train a late fusion without the validation rows, and measure it on them.

    Members choose their epochs, and the combiner its weights, by rows that are cut out of the training part.

    Args:
        spec: What the trial is.
        dataset: Its data; test rows are not read.
        progress: Told of each epoch of each member.

    Raises:
        TrainingError: If the figure is no number.
    """
    cut = nested(dataset, spec.training.seed)
    held_out = dataset.parts.validation
    inner = dataset.with_parts(Parts(cut.parts.train, cut.parts.validation, held_out))
    training = spec.training.model_copy(update={"refit": False, "track": ()})
    outcome = train_and_evaluate(spec.model_copy(update={"training": training}), inner, progress)
    value = _loss(outcome, inner) if isinstance(outcome.model, LateFusion) else _figure(spec, outcome)
    if value != value:
        raise TrainingError("the figure of the validation rows is no number.")
    return value, outcome


def _figure(spec: ModelingSpec, outcome: Outcome) -> float:
    return float(outcome.evaluation.metrics[ranking_selection(spec.evaluation).metric].value)


def _loss(outcome: Outcome, dataset: Dataset) -> float:
    model = outcome.model
    assert isinstance(model, LateFusion)
    rows = dataset.parts.test
    truth = {task: labels.encode(dataset.labelled(labels.column, rows)) for task, labels in model.tasks.items()}
    constants = {}
    for task, labels in model.tasks.items():
        learned = labels.encode(dataset.labelled(labels.column, dataset.parts.train))
        constants[task] = constant(labels, learned[is_known(learned)], None)
    shares = dict.fromkeys(model.tasks, 1.0)
    answers = model.predict(replace(rows_of(dataset, rows)))
    return float(np.mean(relative_losses(answers, truth, constants, model.tasks, shares)))
